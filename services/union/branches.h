// SPDX-License-Identifier: Apache-2.0
//
// The branches of a union and what is found in them: which parts an object consists of, and which
// object it is. How branches say what they hide: marks.h.
#ifndef LIBSERVICES_SERVICES_UNION_BRANCHES_H_
#define LIBSERVICES_SERVICES_UNION_BRANCHES_H_

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/lower_search.h"
#include "services/union/marks.h"
#include "services/union/records.h"

namespace libservices::union_internal {

// A branch that can say where its files are.
template <class S>
concept KnowsPlace = requires(const S& s) {
  { s.place() } -> std::convertible_to<std::string>;
};

template <class Upper, class Lower>
class Branches {
 public:
  using UpperNode = typename Upper::Node;
  using LowerNode = typename Lower::Node;
  using Table = RecordTable<UpperNode, LowerNode>;
  using R = typename Table::R;
  using Pointer = std::shared_ptr<R>;
  using Partial = typename R::Partial;
  using Search = LowerSearch<Lower>;

  Branches(typename Upper::Config upper, std::vector<typename Lower::Config> lowers,
           bool without_upper, bool index)
      : upper_(std::move(upper)), without_upper_(without_upper), index_(index) {
    for (auto& config : lowers) lowers_.push_back(std::make_unique<Lower>(std::move(config)));
  }

  Upper& upper() { return upper_; }
  bool has_upper() const { return !without_upper_; }
  bool keeps_index() const { return index_; }
  std::uint64_t device() const { return device_; }  // that callers see
  Lower& lower(std::uint32_t branch) { return *lowers_[branch - 1]; }
  std::vector<std::unique_ptr<Lower>>& lowers() { return lowers_; }
  Table& table() { return table_; }
  const Pointer& root() const { return root_; }

  Result<void> open_roots(const Context& context) {
    std::vector<std::uint64_t> devices{0};
    std::vector<typename R::InLower> parts;
    std::optional<Attributes> first;
    std::optional<UpperNode> upper_node;
    Marks upper_marks;
    if (!without_upper_) {
      LIBSERVICES_TRY(auto upper_root, upper_.root(context));
      LIBSERVICES_TRY(upper_marks, marks_of(context, upper_, upper_root.node));
      devices[0] = upper_root.attributes.device;
      first = upper_root.attributes;
      upper_node = std::move(upper_root.node);
    }
    identities_.assign(1, 0);
    for (std::uint32_t branch = 1; branch <= lowers_.size(); ++branch) {
      LIBSERVICES_TRY(auto lower_root, lower(branch).root(context));
      LIBSERVICES_TRY(const Marks marks, marks_of(context, lower(branch), lower_root.node));
      devices.push_back(lower_root.attributes.device);
      if (!first) first = lower_root.attributes;
      parts.push_back({branch, std::move(lower_root.node), marks.impure, marks.whiteouts_inside,
                       std::nullopt});
      identities_.push_back(identity_of(lower(branch), branch));
    }
    const std::uint32_t top = without_upper_ ? 1 : 0;
    device_ = devices[top];
    table_.set_devices(std::move(devices));
    root_ = std::make_shared<R>(table_.number_of({top, device_, first->inode}), *first);
    root_->in_upper = upper_node.has_value();
    root_->upper_node = std::move(upper_node);
    root_->impure = upper_marks.impure;
    root_->whiteouts_inside = upper_marks.whiteouts_inside;
    root_->lowers = std::move(parts);
    return {};
  }
  void close_roots() { root_.reset(); }

  // What callers see of a record's attributes.
  Attributes shown(const R& record, Attributes attributes) const {
    attributes.device = device_;
    attributes.inode = record.inode;
    attributes.btime = record.born;
    const std::uint32_t hidden = record.names_hidden.load();
    if (record.is_directory()) {
      // As overlayfs: parts of a merged directory have link counts of their own, and 1 says so.
      if (record.is_merged()) attributes.links = 1;
      if (record.removed.load()) attributes.links = 0;
    } else if (record.indexed.load(std::memory_order_acquire)) {
      const std::uint32_t below = record.lower_links - std::min(record.lower_links, hidden);
      attributes.links = attributes.links - std::min(attributes.links, 1U) + below;
    } else if (!record.has_upper()) {
      attributes.links -= std::min(attributes.links, hidden);
    }
    if (const auto partial = record.partial()) {
      attributes.blocks = std::max(attributes.blocks, partial->blocks);
    }
    return attributes;
  }

  Result<Attributes> getattr(const Context& context, const R& record) {
    if (auto node = record.upper()) {
      LIBSERVICES_TRY(const Attributes seen, upper_.getattr(context, *node));
      return shown(record, seen);
    }
    const auto& first = record.lowers.front();
    LIBSERVICES_TRY(const Attributes seen, lower(first.branch).getattr(context, first.node));
    return shown(record, seen);
  }

  // The union's entry, and what stands in the upper: ENOENT, a whiteout, or the object itself.
  struct Found {
    Pointer record;  // null: no such name in the union
    Attributes attributes;
    std::optional<Attributes> in_upper;  // as the upper has them, under this name
    bool whiteout_in_upper = false;
  };
  // REQUIRES: directory->entries held. ERRORS: of a branch that fails; not ENOENT.
  Result<Found> find(const Context& context, const Pointer& directory, std::string_view name) {
    Found found;
    if (is_mark_file(name) || directory->removed.load()) return found;
    std::optional<Entry<UpperNode>> in_upper;
    Marks marks;
    const auto directory_node = directory->upper();
    if (directory_node && directory->upper_names.first_place(name)) {
      auto entry = upper_.lookup(context, *directory_node, name);
      if (entry.ok()) {
        // Of each, whether the directory says that there are marks in it or not: overlayfs may have
        // moved it here.
        if (!is_whiteout(entry->attributes)) {
          LIBSERVICES_TRY(marks, marks_of(context, upper_, entry->node));
        }
        const bool white = marks.whiteout && directory->whiteouts_inside.load() &&
                           entry->attributes.is_regular() && entry->attributes.size == 0;
        if (white || is_whiteout(entry->attributes)) {
          found.whiteout_in_upper = true;
          return found;
        }
        found.in_upper = entry->attributes;
        in_upper = *std::move(entry);
      } else if (entry.error() != Errno{ENOENT}) {
        return entry.error();
      } else {
        directory->upper_names.missed(room_, 1, 1, [&](auto&& take) {
          return list_names(context, upper_, *directory_node, 0, take);
        });
      }
    }
    Search search(context, lowers_, root_->lowers, directory->lowers, name);
    LIBSERVICES_CHECK_OK(search_below(context, *directory, name, directory_node, in_upper, marks,
                                      search));
    if (!in_upper && search.parts().empty()) return found;
    if (!in_upper) return found_below(context, directory, name, search);
    return found_above(directory, name, *std::move(in_upper), marks, search, std::move(found));
  }

  // Whether the lowers show something under `name`, were it not for the upper.
  Result<bool> in_lowers(const Context& context, const R& directory, std::string_view name) {
    const auto place = directory.lower_names.first_place(name);
    if (!place) return false;
    for (std::size_t i = *place; i < directory.lowers.size(); ++i) {
      const auto& part = directory.lowers[i];
      auto entry = lower(part.branch).lookup(context, part.node, name);
      if (entry.ok()) return !is_whiteout(entry->attributes);
      if (entry.error() != Errno{ENOENT}) return entry.error();
    }
    return false;
  }

  // Where the parts of an object in the lowers are, from their roots, as a redirect says it. Empty:
  // it has no name any more.
  std::string lower_path_of(const Pointer& parent, std::string_view name) const {
    if (parent == root_) return "/" + std::string(name);
    const std::string above = lower_path_of(parent);
    return above.empty() ? above : above + "/" + std::string(name);
  }
  std::string lower_path_of(const Pointer& record) const {
    if (record == root_) return "/";
    Pointer parent;
    std::string name;
    {
      std::lock_guard lock(record->mutex);
      if (!record->redirect.empty()) return record->redirect;
      parent = record->parent;
      name = record->name;
    }
    return parent ? lower_path_of(parent, name) : std::string();
  }

  // Whether `at` is `ancestor` or below it.
  static bool is_within(Pointer at, const Pointer& ancestor) {
    while (at && at != ancestor) {
      Pointer parent;
      {
        std::lock_guard lock(at->mutex);
        parent = at->parent;
      }
      at = std::move(parent);
    }
    return at != nullptr;
  }

  static void place(const Pointer& record, const Pointer& parent, std::string_view name) {
    std::lock_guard lock(record->mutex);
    record->parent = parent;
    record->name.assign(name);
  }

  // `record` has lost the name.
  static void unplace(const Pointer& record, const Pointer& parent, std::string_view name) {
    std::lock_guard lock(record->mutex);
    if (record->parent == parent && record->name == name) record->parent = nullptr;
  }

  // The origin of what is copied up from `lower`, if its number will still mean it later.
  std::optional<Origin> origin_of(std::uint32_t branch, const Attributes& lower) const {
    if (lower.device != table_.device_of(branch)) return std::nullopt;
    return Origin{identities_[branch], lower.inode, lower.ctime, lower.links, 0};
  }
  // Where the index has the upper object of that origin.
  static std::string index_name(const Origin& origin) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string name;
    for (const std::uint64_t word : {origin.branch, origin.inode}) {
      for (int shift = 60; shift >= 0; shift -= 4) name += kDigits[word >> shift & 15U];
    }
    return name;
  }

  // The number that callers see for an upper object whose directory entry says `inode`.
  Result<std::uint64_t> number_in_upper(const Context& context, const R& directory,
                                        const UpperNode& node, std::string_view name,
                                        std::uint64_t device, std::uint64_t inode) {
    const BranchKey key{0, device, inode};
    const std::uint64_t plain = table_.number_of(key);
    if (!directory.impure.load(std::memory_order_relaxed)) return plain;
    auto entry = upper_.lookup(context, node, name);
    if (!entry.ok()) return entry.error() == Errno{ENOENT} ? Result<std::uint64_t>(plain)
                                                           : entry.error();
    LIBSERVICES_TRY(const Marks marks, marks_of(context, upper_, entry->node));
    const auto origin = origin_key(marks);
    return origin ? table_.number_of(*origin) : plain;
  }

 private:
  static std::uint64_t identity_of(const Lower& branch, std::uint32_t number) {
    if constexpr (KnowsPlace<Lower>) {
      std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
      for (const char byte : std::string(branch.place())) {
        hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
      }
      return hash | 1U << 16U;
    }
    return number;
  }

  // Whether files that are marks in the upper hide what the lowers have.
  Result<bool> hidden_by_upper(const Context& context, const R& directory,
                               const std::optional<UpperNode>& directory_node,
                               const std::optional<Entry<UpperNode>>& object,
                               std::string_view name) {
    // A name is known if its mark is there.
    if (directory_node && directory.upper_names.first_place(name)) {
      LIBSERVICES_TRY(const bool hidden, has_name(context, upper_, *directory_node,
                                                  std::string(kWhiteoutFile).append(name)));
      if (hidden) return true;
    }
    if (object && object->attributes.is_directory()) {
      for (const std::string_view mark : kOpaqueFiles) {
        LIBSERVICES_TRY(const bool opaque,
                        has_name(context, upper_, object->node, std::string(mark)));
        if (opaque) return true;
      }
    }
    return false;
  }

  Result<void> search_below(const Context& context, R& directory, std::string_view name,
                            const std::optional<UpperNode>& directory_node,
                            const std::optional<Entry<UpperNode>>& in_upper, const Marks& marks,
                            Search& search) {
    std::optional<RangeMap::Stamp> stamp;
    if (in_upper) {
      const bool is_directory = in_upper->attributes.is_directory();
      if (is_directory ? marks.opaque : !(in_upper->attributes.is_regular() && marks.metacopy)) {
        return {};
      }
      if (const auto map = RangeMap::decode(marks.ranges)) stamp = map->stamp();
      if (!marks.ranges.empty() && !stamp) return {};  // damaged: reading below fails
      search.go_on_from(is_directory ? Search::Want::kDirectory : Search::Want::kContent, marks,
                        stamp);
    }
    if (marks.redirect.empty()) {
      if (directory.lowers.empty()) return {};
      const auto place = directory.lower_names.first_place(name);
      if (!place) return {};
      search.skip_to(*place);
    }
    LIBSERVICES_CHECK_OK(search.run(
        [&]() { return hidden_by_upper(context, directory, directory_node, in_upper, name); }));
    if (search.asked() != 0 && marks.redirect.empty()) {
      directory.lower_names.missed(
          room_, search.asked(), directory.lowers.size(), [&](auto&& take) {
            for (std::size_t i = 0; i < directory.lowers.size(); ++i) {
              const auto& part = directory.lowers[i];
              if (!list_names(context, lower(part.branch), part.node, i, take)) return false;
            }
            return true;
          });
    }
    return {};
  }

  Result<Found> found_below(const Context& context, const Pointer& directory,
                            std::string_view name, Search& search) {
    Found found;
    const Attributes& first = search.first();
    const BranchKey key{search.parts().front().branch, first.device, first.inode};
    const std::uint32_t type = first.mode & S_IFMT;
    found.record = table_.known(key, type);
    if (!found.record && !first.is_directory() && first.links > 1 && index_) {
      LIBSERVICES_TRY(found.record, find_indexed(context, key, first, search));
    }
    if (!found.record) {
      found.record = table_.intern(key, std::nullopt, table_.number_of(key), type,
                                   [&](std::uint64_t number) {
                                     auto record = std::make_shared<R>(number, first);
                                     record->lowers = std::move(search.parts());
                                     return record;
                                   });
    }
    place(found.record, directory, name);
    if (found.record->has_upper()) {
      // Known by another name that was copied up: a hard link of the lower branch.
      LIBSERVICES_TRY(found.attributes, getattr(context, *found.record));
    } else {
      found.attributes = shown(*found.record, first);
    }
    return found;
  }

  Result<Found> found_above(const Pointer& directory, std::string_view name,
                            Entry<UpperNode> entry, const Marks& marks, Search& search,
                            Found found) {
    const Attributes& seen = entry.attributes;
    const BranchKey key{0, seen.device, seen.inode};
    const std::uint32_t type = seen.mode & S_IFMT;
    std::optional<BranchKey> alias;
    std::uint64_t number = table_.number_of(key);
    if (seen.is_directory()) {
      if (!search.parts().empty()) {
        const Attributes& first = search.first();
        number = table_.number_of({search.parts().front().branch, first.device, first.inode});
      }
    } else if (const auto origin = origin_key(marks)) {
      number = table_.number_of(*origin);
      if (marks.origin->links > 1) alias = origin;
    }
    found.record = table_.intern(key, alias, number, type, [&](std::uint64_t known) {
      Pointer record = make_above(known, entry, marks, search);
      if (seen.is_directory() && !marks.redirect.empty()) {
        record->redirect = marks.redirect.front() == '/'
                               ? marks.redirect
                               : lower_path_of(directory, marks.redirect);
      }
      return record;
    });
    place(found.record, directory, name);
    found.attributes = shown(*found.record, seen);
    return found;
  }

  Pointer make_above(std::uint64_t number, const Entry<UpperNode>& entry, const Marks& marks,
                     Search& search) {
    const Attributes& seen = entry.attributes;
    auto record = std::make_shared<R>(number, seen);
    record->upper_node = entry.node;
    record->in_upper = true;
    if (seen.is_directory()) {
      record->impure = marks.impure;
      record->whiteouts_inside = marks.whiteouts_inside;
      record->lowers = std::move(search.parts());
      return record;
    }
    record->marked = marks.origin || marks.metacopy;
    if (marks.origin && marks.origin->links > 1 && index_) set_indexed(*record, *marks.origin);
    if (seen.is_regular() && marks.metacopy) {
      auto map = ranges_of(marks, search.parts().empty() ? seen : search.first());
      if (!map) map.emplace(RangeMap::kSmallestShift, seen);  // damaged: reading below fails
      const std::uint64_t limit = map->limit();
      map->cut(seen.size);
      // A truncation was cut short if the limit is behind the end: before the file grows again, it
      // must be on disk.
      const bool saved = !marks.ranges.empty() && map->limit() == limit;
      record->partial_content = std::make_shared<Partial>(
          *std::move(map), std::move(search.parts()), (seen.size + 511) / 512);
      record->partial_content->saved = saved;
      record->partial_content->settled = !record->partial_content->map.has_unsynced();
      record->has_partial = true;
    }
    return record;
  }

  static void set_indexed(R& record, const Origin& origin) {
    record.lower_links = origin.links;
    record.names_hidden = origin.hidden;
    record.indexed = true;
  }

  // The lower object that an origin names, if its branch is one of ours, and its number may be
  // used: with the index off, the links of a lower file come apart at copy-up.
  std::optional<BranchKey> origin_key(const Marks& marks) const {
    if (!marks.origin || (marks.origin->links > 1 && !index_)) return std::nullopt;
    for (std::uint32_t branch = 1; branch < identities_.size(); ++branch) {
      if (identities_[branch] == marks.origin->branch) {
        return BranchKey{branch, table_.device_of(branch), marks.origin->inode};
      }
    }
    return std::nullopt;
  }

  // The record of a lower object of which another name was copied up, or null.
  Result<Pointer> find_indexed(const Context& context, const BranchKey& key,
                               const Attributes& first, Search& search) {
    const auto origin = origin_of(key.branch, first);
    if (!origin || without_upper_) return Pointer();
    if constexpr (requires { upper_.staging(context, Staging::kKept); }) {
      LIBSERVICES_TRY(const auto kept, upper_.staging(context, Staging::kKept));
      auto entry = upper_.lookup(context, kept, index_name(*origin));
      if (!entry.ok()) {
        return entry.error() == Errno{ENOENT} ? Result<Pointer>(Pointer()) : entry.error();
      }
      LIBSERVICES_TRY(const Marks marks, marks_of(context, upper_, entry->node));
      if (!marks.origin || marks.origin->ctime != origin->ctime ||
          (entry->attributes.mode & S_IFMT) != (first.mode & S_IFMT)) {
        return Pointer();  // of another file that once had the number
      }
      const BranchKey above{0, entry->attributes.device, entry->attributes.inode};
      return table_.intern(above, key, table_.number_of(key), first.mode & S_IFMT,
                           [&](std::uint64_t number) {
                             return make_above(number, *entry, marks, search);
                           });
    }
    return Pointer();
  }

  // Whether `take` got all names of the directory, each with `place`.
  template <class Branch, class Take>
  static bool list_names(const Context& context, Branch& branch,
                         const typename Branch::Node& directory, std::size_t place, Take&& take) {
    auto opened = branch.open(context, directory, OpenFlags{O_RDONLY | O_DIRECTORY});
    if (!opened.ok()) return false;
    bool whole = true;
    auto listed = branch.readdir(
        context, opened->file, 0, Listing::kNames, [&](const DirEntry& entry) {
          const bool mark = is_mark_file(entry.name);
          return whole = take(mark ? entry.name.substr(kWhiteoutFile.size()) : entry.name, place);
        });
    (void)branch.close(context, opened->file);
    return listed.ok() && whole;
  }

  Upper upper_;
  const bool without_upper_;
  const bool index_;
  std::vector<std::unique_ptr<Lower>> lowers_;  // unique_ptr: a libservice need not be movable
  std::vector<std::uint64_t> identities_;       // of the branches, lasting
  std::uint64_t device_ = 0;
  KnownNames::Room room_ = KnownNames::make_room();
  Table table_;
  Pointer root_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_BRANCHES_H_
