// SPDX-License-Identifier: Apache-2.0
//
// An open file of a union: the branch's open file, which changes to the upper's when the object is
// copied up, so a descriptor that was opened before sees what is written after.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_FILE_H_
#define LIBSERVICES_SERVICES_UNION_UNION_FILE_H_

#include <dirent.h>

#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "services/union/branches.h"

namespace libservices::union_internal {

// A merged listing: the names at the time when it was begun. Cookies are places in it.
struct MergedListing {
  struct Item {
    std::string name;
    std::uint64_t inode;
    std::uint8_t type;
  };
  std::vector<Item> items;
};

template <class Upper, class Lower>
class UnionFile {
 public:
  using Pointer = typename Branches<Upper, Lower>::Pointer;

  struct State {
    Pointer record;
    OpenFlags flags;
    // Held shared to use the branches' files, exclusively to change which they are.
    std::shared_mutex mutex;
    std::optional<typename Upper::File> upper;
    std::optional<typename Lower::File> lower;
    std::uint32_t lower_branch = 0;
    std::uint64_t device = 0;  // of a directory in its branch
    std::mutex listing_mutex;  // guards listing
    std::optional<MergedListing> listing;
  };

  UnionFile() = default;
  UnionFile(UnionFile&&) noexcept = default;
  UnionFile& operator=(UnionFile&&) noexcept = default;

  std::unique_ptr<State> state = std::make_unique<State>();
};

// The branch's entry as the union lists it. False: it is a whiteout.
template <class Upper, class Lower, class Branch>
Result<bool> shows(Branches<Upper, Lower>& branches, const Context& context, std::uint32_t branch,
                   Branch& service, const typename Branch::Node& directory, std::uint64_t device,
                   const DirEntry& entry, MergedListing::Item& item) {
  if (entry.type == DT_CHR || entry.type == DT_UNKNOWN) {
    auto found = service.lookup(context, directory, entry.name);
    if (!found.ok() && found.error() != Errno{ENOENT}) return found.error();
    if (!found.ok() || is_whiteout(found->attributes)) return false;
  }
  item.name.assign(entry.name);
  item.inode = branches.table().number_of({branch, device, entry.inode});
  item.type = entry.type;
  return true;
}

// Reads one branch's part of a directory into `listing`; names in `seen` are hidden by an upper
// part, and the names of this one are added to it.
template <class Upper, class Lower, class Branch>
Result<void> list_part(Branches<Upper, Lower>& branches, const Context& context,
                       std::uint32_t branch, Branch& service,
                       const typename Branch::Node& directory, bool last,
                       std::unordered_set<std::string>& seen, MergedListing& listing) {
  LIBSERVICES_TRY(auto opened, service.open(context, directory, OpenFlags{O_RDONLY | O_DIRECTORY}));
  Result<void> failed;
  auto listed =
      service.readdir(context, opened.file, 0, Listing::kNames, [&](const DirEntry& entry) {
        std::string name(entry.name);
        if (seen.contains(name)) return true;
        MergedListing::Item item;
        auto shown = shows(branches, context, branch, service, directory, opened.attributes.device,
                           entry, item);
        if (!shown.ok()) {
          failed = shown.error();
          return false;
        }
        if (*shown) listing.items.push_back(std::move(item));
        if (!last) seen.insert(std::move(name));
        return true;
      });
  (void)service.close(context, opened.file);
  return listed.ok() ? failed : listed;
}

// The whole directory as callers see it. A branch that fails fails the listing.
template <class Upper, class Lower>
Result<MergedListing> merge(Branches<Upper, Lower>& branches, const Context& context,
                            const typename Branches<Upper, Lower>::R& record) {
  MergedListing listing;
  std::unordered_set<std::string> seen;
  if (auto node = record.upper()) {
    LIBSERVICES_CHECK_OK(list_part(branches, context, 0, branches.upper(), *node,
                                   record.lowers.empty(), seen, listing));
  }
  for (std::size_t i = 0; i < record.lowers.size(); ++i) {
    const auto& part = record.lowers[i];
    LIBSERVICES_CHECK_OK(list_part(branches, context, part.branch, branches.lower(part.branch),
                                   part.node, i + 1 == record.lowers.size(), seen, listing));
  }
  return listing;
}

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_UNION_FILE_H_
