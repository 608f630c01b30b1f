// SPDX-License-Identifier: Apache-2.0
//
// Which object a lookup has found: its record, known already or made of the parts it consists of.
//
// An object is known by each branch object of its: so the names of a file with hard links lead to
// one record, and to the copy in the upper when one of them was copied up (link_index.h).
#ifndef LIBSERVICES_SERVICES_UNION_FOUND_RECORDS_H_
#define LIBSERVICES_SERVICES_UNION_FOUND_RECORDS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "services/union/branches.h"
#include "services/union/link_index.h"
#include "services/union/lower_search.h"
#include "services/union/marks.h"
#include "services/union/places.h"

namespace libservices::union_internal {

// What a name leads to: the union's entry, and what stands in the upper: nothing, a whiteout, or
// the object itself.
template <class R>
struct FoundName {
  std::shared_ptr<R> record;  // null: no such name in the union
  Attributes attributes;
  std::optional<Attributes> in_upper;  // as the upper has them, under this name
  bool whiteout_in_upper = false;
};

template <class Upper, class Lower>
class FoundRecords {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;
  using Partial = typename B::Partial;
  using Search = LowerSearch<Lower>;
  using Found = FoundName<R>;

  FoundRecords(B& branches, LinkIndex<Upper, Lower>& index)
      : branches_(branches), table_(branches.table()), index_(index) {}

  // An object of which the upper has no name here. REQUIRES: the search has found parts.
  Result<Found> below(const Context& context, const Pointer& directory, std::string_view name,
                      Search& search) {
    Found found;
    const Attributes& first = search.first();
    const BranchKey key{search.parts().front().branch, first.device, first.inode};
    const std::uint32_t type = first.mode & S_IFMT;
    found.record = table_.known(key, type);
    if (!found.record && !first.is_directory() && first.links > 1 && branches_.keeps_index()) {
      LIBSERVICES_TRY(found.record, find_indexed(context, key, first, search));
    }
    if (!found.record) {
      found.record =
          table_.intern(key, std::nullopt, table_.number_of(key), type, [&](std::uint64_t number) {
            auto record = std::make_shared<R>(number, first);
            record->lowers = std::move(search.parts());
            return record;
          });
    }
    place(found.record, directory, name);
    if (found.record->has_upper()) {
      // Known by another name that was copied up: a hard link of the lower branch.
      LIBSERVICES_TRY(found.attributes, branches_.getattr(context, *found.record));
    } else {
      found.attributes = branches_.shown(*found.record, first);
    }
    return found;
  }

  // The object of which the upper has `entry` with `marks`, and the lowers what was found.
  Found above(const Pointer& directory, std::string_view name, Entry<UpperNode> entry,
              const Marks& marks, Search& search, Found found) {
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
    } else if (const auto origin = branches_.origin_key(marks)) {
      number = table_.number_of(*origin);
      if (marks.origin->links > 1) alias = origin;
    }
    found.record = table_.intern(key, alias, number, type, [&](std::uint64_t known) {
      Pointer record = make_above(known, entry, marks, search);
      if (seen.is_directory() && !marks.redirect.empty()) {
        record->redirect = marks.redirect.front() == '/'
                               ? marks.redirect
                               : lower_path_of(branches_.root(), directory, marks.redirect);
      }
      return record;
    });
    place(found.record, directory, name);
    found.attributes = branches_.shown(*found.record, seen);
    return found;
  }

 private:
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
    if (marks.origin && marks.origin->links > 1 && branches_.keeps_index()) {
      record->lower_links = marks.origin->links;
      record->names_hidden = marks.origin->hidden;
      record->indexed = true;
    }
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

  // The record of a lower object of which another name was copied up, or null.
  Result<Pointer> find_indexed(const Context& context, const BranchKey& key,
                               const Attributes& first, Search& search) {
    const auto origin = branches_.origin_of(key.branch, first);
    if (!origin || !branches_.has_upper()) return Pointer();
    LIBSERVICES_TRY(const auto copy, index_.find(context, *origin, first.mode & S_IFMT));
    if (!copy) return Pointer();
    const Attributes& seen = copy->entry.attributes;
    return table_.intern(
        {0, seen.device, seen.inode}, key, table_.number_of(key), first.mode & S_IFMT,
        [&](std::uint64_t number) { return make_above(number, copy->entry, copy->marks, search); });
  }

  B& branches_;
  typename B::Table& table_;
  LinkIndex<Upper, Lower>& index_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_FOUND_RECORDS_H_
