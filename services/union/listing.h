// SPDX-License-Identifier: Apache-2.0
//
// `UnionListing`: the entries of a directory of a union, branch after branch.
//
// A part's entries are handed on as its branch lists them, less what is hidden (hidden_entries.h).
// The names above are noted when their part is listed, so an entry that is copied up meanwhile is
// still listed once. Cookies count the entries, and lead back to any of them (listing_places.h).
//
// THREADS: one at a time.
#ifndef LIBSERVICES_SERVICES_UNION_LISTING_H_
#define LIBSERVICES_SERVICES_UNION_LISTING_H_

#include <dirent.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <shared_mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "services/union/hidden_entries.h"
#include "services/union/listing_places.h"
#include "services/union/lookup.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class UnionListing {
 public:
  using B = Branches<Upper, Lower>;
  using Pointer = typename B::Pointer;
  using C = const Context&;

  enum class Purpose : std::uint8_t { kEntries, kNames };  // kNames: inode numbers are 0

  // REQUIRES: with kEntries the record's `entries` are not held while it lists.
  UnionListing(Lookup<Upper, Lower>& lookup, Pointer record, Purpose purpose = Purpose::kEntries)
      : lookup_(&lookup),
        branches_(&lookup.branches()),
        record_(std::move(record)),
        purpose_(purpose) {}

  // ERRORS: of the first branch that fails; nothing is left out instead.
  Result<void> list(C context, std::uint64_t after, Listing wanted, EntrySink sink) {
    if (after == 0 || !started_) {
      LIBSERVICES_CHECK_OK(start(context));
    }
    if (parts() == 1) {
      place_ = after;
      part_ = 0;
    } else if (after != places_.handed_out()) {
      LIBSERVICES_CHECK_OK(go_back(context, after));
    }
    while (part_ < parts()) {
      bool more = true;
      LIBSERVICES_CHECK_OK(list_part(context, wanted, sink, more));
      if (!more) return {};
      ++part_;
      place_ = 0;
    }
    return {};
  }
  Result<void> close(C context) {
    Result<void> closed;
    if (upper_file_) closed = branches_->upper().close(context, *upper_file_);
    upper_file_.reset();
    if (lower_file_) {
      auto lower = branches_->lower(open_branch_).close(context, *lower_file_);
      if (!lower.ok()) closed = lower;
    }
    lower_file_.reset();
    return closed;
  }

 private:
  std::size_t parts() const {
    return record_->removed.load() ? 0 : record_->lowers.size() + (has_upper_ ? 1 : 0);
  }

  Result<void> start(C context) {
    LIBSERVICES_CHECK_OK(close(context));
    started_ = true;
    has_upper_ = record_->has_upper();
    part_ = 0;
    place_ = 0;
    places_ = {};
    hidden_.emplace(*branches_, record_, parts(), has_upper_);
    listed_.assign(parts(), false);
    return {};
  }

  // To behind the entry of cookie `after`.
  Result<void> go_back(C context, std::uint64_t after) {
    auto back = places_.go_back(after);
    part_ = back.from.part;
    place_ = back.from.cookie;
    if (back.skip == 0) return {};
    const auto skip = [&](const DirEntry&) { return back.skip != 0 && back.skip-- != 0; };
    while (part_ < parts()) {
      bool more = true;
      LIBSERVICES_CHECK_OK(list_part(context, Listing::kNames, skip, more));
      if (!more) return {};
      ++part_;
      place_ = 0;
    }
    return {};
  }

  Result<void> list_part(C context, Listing wanted, EntrySink sink, bool& more) {
    if (has_upper_ && part_ == 0) {
      const auto node = record_->upper();
      if (!upper_file_) {
        LIBSERVICES_TRY(auto opened,
                        branches_->upper().open(context, *node, OpenFlags{O_RDONLY | O_DIRECTORY}));
        upper_file_ = std::move(opened.file);
        device_ = opened.attributes.device;
      }
      return list_branch(context, 0, branches_->upper(), *node, *upper_file_,
                         record_->whiteouts_inside.load(), wanted, sink, more);
    }
    const auto& part = record_->lowers[part_ - (has_upper_ ? 1 : 0)];
    Lower& branch = branches_->lower(part.branch);
    if (!lower_file_ || open_branch_ != part.branch) {
      if (lower_file_) {
        LIBSERVICES_CHECK_OK(branches_->lower(open_branch_).close(context, *lower_file_));
        lower_file_.reset();
      }
      LIBSERVICES_TRY(auto opened,
                      branch.open(context, part.node, OpenFlags{O_RDONLY | O_DIRECTORY}));
      lower_file_ = std::move(opened.file);
      open_branch_ = part.branch;
      device_ = opened.attributes.device;
    }
    return list_branch(context, part.branch, branch, part.node, *lower_file_, part.whiteouts_inside,
                       wanted, sink, more);
  }

  template <class Branch>
  Result<void> list_branch(C context, std::uint32_t number, Branch& branch,
                           const typename Branch::Node& node, typename Branch::File& file,
                           bool whiteouts_inside, Listing wanted, EntrySink sink, bool& more) {
    Result<void> failed;
    const bool is_last = part_ + 1 == parts();
    const bool first_time = !listed_[part_];
    auto listed = branch.readdir(context, file, place_, wanted, [&](const DirEntry& entry) {
      auto shown = hidden_->shows(context, part_, branch, node, whiteouts_inside, entry);
      if (!shown.ok()) {
        failed = shown.error();
        return false;
      }
      if (*shown) {
        Attributes attributes;
        DirEntry out{entry.name, 0, entry.type,
                     parts() == 1 ? entry.cookie : places_.handed_out() + 1, nullptr};
        if (purpose_ == Purpose::kEntries) {
          failed = identify(context, number, branch, node, entry, out, attributes);
          if (!failed.ok()) return false;
        }
        if (!sink(out)) {
          more = false;
          return false;
        }
        if (parts() != 1) places_.add({static_cast<std::uint32_t>(part_), entry.cookie});
      }
      place_ = entry.cookie;
      if (!is_last && first_time) hidden_->add(part_, entry.name);
      return true;
    });
    if (!failed.ok()) return failed;
    if (listed.ok() && more) listed_[part_] = true;
    return listed;
  }

  // The number, and the attributes if the branch gave them and they are the union's.
  template <class Branch>
  Result<void> identify(C context, std::uint32_t number, Branch&, const typename Branch::Node& node,
                        const DirEntry& entry, DirEntry& out, Attributes& attributes) {
    const BranchKey key{number, device_, entry.inode};
    const auto known = branches_->table().known(key, DTTOIF(entry.type));
    // What its parts are is known, and its attributes are those of the part that is listed.
    if (known && known->has_upper() == (number == 0) && entry.attributes != nullptr) {
      out.inode = known->inode;
      attributes = branches_->shown(*known, *entry.attributes);
      out.attributes = &attributes;
      return {};
    }
    if constexpr (std::is_same_v<Branch, Upper>) {
      if (number == 0) {
        LIBSERVICES_TRY(out.inode, number_above(context, node, entry));
        return {};
      }
    }
    if (known) {
      out.inode = known->inode;
      return {};
    }
    out.inode = branches_->table().number_of(key);
    if (entry.attributes == nullptr) return {};
    const bool merges = entry.attributes->is_directory() && part_ + 1 < parts();
    if (merges || (!entry.attributes->is_directory() && entry.attributes->links > 1)) return {};
    attributes = *entry.attributes;
    attributes.device = branches_->device();
    attributes.inode = out.inode;
    out.attributes = &attributes;
    return {};
  }

  Result<std::uint64_t> number_above(C context, const typename Upper::Node& node,
                                     const DirEntry& entry) {
    if (entry.type == DT_DIR && (!record_->lowers.empty() || record_->impure.load())) {
      // A merged directory has the number of its topmost lower part.
      std::shared_lock lock(record_->entries);
      LIBSERVICES_TRY(const auto found, lookup_->find(context, record_, entry.name));
      if (found.record) return found.record->inode;
    }
    const BranchKey key{0, device_, entry.inode};
    if (auto known = branches_->table().known(key, DTTOIF(entry.type))) return known->inode;
    return branches_->number_in_upper(context, *record_, node, entry.name, device_, entry.inode);
  }

  Lookup<Upper, Lower>* lookup_;
  B* branches_;
  Pointer record_;
  Purpose purpose_;
  bool started_ = false;
  bool has_upper_ = false;
  std::optional<typename Upper::File> upper_file_;
  std::optional<typename Lower::File> lower_file_;
  std::uint32_t open_branch_ = 0;
  std::uint64_t device_ = 0;  // of the part that is being listed
  std::size_t part_ = 0;      // where the listing is
  std::uint64_t place_ = 0;   // the branch's cookie in that part
  ListingPlaces places_;
  std::optional<HiddenEntries<Upper, Lower>> hidden_;  // once it has started
  std::vector<bool> listed_;  // the part was listed to its end, so its names are known to hidden_
};

// Whether callers see nothing in the directory. REQUIRES: its `entries` are held.
template <class Upper, class Lower>
Result<bool> is_empty(const Context& context, Lookup<Upper, Lower>& lookup,
                      const typename Lookup<Upper, Lower>::Pointer& record) {
  using Entries = UnionListing<Upper, Lower>;
  Entries entries(lookup, record, Entries::Purpose::kNames);
  bool empty = true;
  auto listed = entries.list(context, 0, Listing::kNames, [&](const DirEntry& entry) {
    empty = entry.name == "." || entry.name == "..";
    return empty;
  });
  (void)entries.close(context);
  if (!listed.ok()) return listed.error();
  return empty;
}

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LISTING_H_
