// SPDX-License-Identifier: Apache-2.0
//
// What a name in a directory of a union leads to. The upper is asked first; a whiteout there ends
// it. Then the parts in the lowers are searched for, and files in the upper that are marks may hide
// them (marks.h, lower_search.h). What was found becomes a record (found_records.h).
//
// THREADS: all functions at once, with the directory's `entries` held shared or exclusively.
#ifndef LIBSERVICES_SERVICES_UNION_LOOKUP_H_
#define LIBSERVICES_SERVICES_UNION_LOOKUP_H_

#include <fcntl.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/capabilities.h"
#include "services/union/branches.h"
#include "services/union/found_records.h"
#include "services/union/known_names.h"
#include "services/union/lower_search.h"
#include "services/union/marks.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class Lookup {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;
  using Search = LowerSearch<Lower>;
  using Found = FoundName<R>;

  Lookup(B& branches, LinkIndex<Upper, Lower>& index)
      : branches_(branches), records_(branches, index) {}

  B& branches() { return branches_; }
  const KnownNames::Room& room() const { return room_; }

  // ERRORS: of a branch that fails; not ENOENT.
  Result<Found> find(const Context& context, const Pointer& directory, std::string_view name) {
    Found found;
    if (is_mark_file(name) || directory->removed.load()) return found;
    std::optional<Entry<UpperNode>> in_upper;
    Marks marks;
    const auto directory_node = directory->upper();
    if (directory_node && directory->upper_names.first_place(name)) {
      auto entry = branches_.upper().lookup(context, *directory_node, name);
      if (entry.ok()) {
        // Of each, whether the directory says that there are marks in it or not: overlayfs may have
        // moved it here.
        if (!is_whiteout(entry->attributes)) {
          LIBSERVICES_TRY(marks, marks_of(context, branches_.upper(), entry->node));
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
          return list_names(context, branches_.upper(), *directory_node, 0, take);
        });
      }
    }
    Search search(context, branches_.lowers(), branches_.root()->lowers, directory->lowers, name);
    LIBSERVICES_CHECK_OK(
        search_below(context, *directory, name, directory_node, in_upper, marks, search));
    if (!in_upper && search.parts().empty()) return found;
    if (!in_upper) return records_.below(context, directory, name, search);
    return records_.above(directory, name, *std::move(in_upper), marks, search, std::move(found));
  }

  // Whether the lowers show something under `name`, were it not for the upper.
  Result<bool> in_lowers(const Context& context, const R& directory, std::string_view name) {
    const auto place = directory.lower_names.first_place(name);
    if (!place) return false;
    for (std::size_t i = *place; i < directory.lowers.size(); ++i) {
      const auto& part = directory.lowers[i];
      auto entry = branches_.lower(part.branch).lookup(context, part.node, name);
      if (entry.ok()) return !is_whiteout(entry->attributes);
      if (entry.error() != Errno{ENOENT}) return entry.error();
    }
    return false;
  }

 private:
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
              if (!list_names(context, branches_.lower(part.branch), part.node, i, take))
                return false;
            }
            return true;
          });
    }
    return {};
  }

  // Whether files that are marks in the upper hide what the lowers have.
  Result<bool> hidden_by_upper(const Context& context, const R& directory,
                               const std::optional<UpperNode>& directory_node,
                               const std::optional<Entry<UpperNode>>& object,
                               std::string_view name) {
    // A name is known if its mark is there.
    if (directory_node && directory.upper_names.first_place(name)) {
      LIBSERVICES_TRY(const bool hidden, has_name(context, branches_.upper(), *directory_node,
                                                  std::string(kWhiteoutFile).append(name)));
      if (hidden) return true;
    }
    if (object && object->attributes.is_directory()) {
      for (const std::string_view mark : kOpaqueFiles) {
        LIBSERVICES_TRY(const bool opaque,
                        has_name(context, branches_.upper(), object->node, std::string(mark)));
        if (opaque) return true;
      }
    }
    return false;
  }

  // Whether `take` got all names of the directory, each with `place`.
  template <class Branch, class Take>
  static bool list_names(const Context& context, Branch& branch,
                         const typename Branch::Node& directory, std::size_t place, Take&& take) {
    auto opened = branch.open(context, directory, OpenFlags{O_RDONLY | O_DIRECTORY});
    if (!opened.ok()) return false;
    bool whole = true;
    auto listed =
        branch.readdir(context, opened->file, 0, Listing::kNames, [&](const DirEntry& entry) {
          const bool mark = is_mark_file(entry.name);
          return whole = take(mark ? entry.name.substr(kWhiteoutFile.size()) : entry.name, place);
        });
    (void)branch.close(context, opened->file);
    return listed.ok() && whole;
  }

  B& branches_;
  FoundRecords<Upper, Lower> records_;
  KnownNames::Room room_ = KnownNames::make_room();
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LOOKUP_H_
