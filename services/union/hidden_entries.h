// SPDX-License-Identifier: Apache-2.0
//
// Which entries of a merged directory's parts callers do not see: marks, and names that a part
// above has, or hides.
//
// What is hidden is known by 64-bit hashes of the names in the parts above, and looked up there
// when a hash is met again: memory grows by 8 to 18 bytes with each name above the last part, and
// with nothing else.
//
// THREADS: one at a time.
#ifndef LIBSERVICES_SERVICES_UNION_HIDDEN_ENTRIES_H_
#define LIBSERVICES_SERVICES_UNION_HIDDEN_ENTRIES_H_

#include <dirent.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "services/union/branches.h"
#include "services/union/lower_search.h"
#include "services/union/marks.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class HiddenEntries {
 public:
  using B = Branches<Upper, Lower>;
  using Pointer = typename B::Pointer;
  using C = const Context&;

  // The parts of `record`, from the top; `has_upper`: the first of `parts` is in the upper.
  HiddenEntries(B& branches, Pointer record, std::size_t parts, bool has_upper)
      : branches_(&branches), record_(std::move(record)), above_(parts), has_upper_(has_upper) {}

  // `part` has the name: in the parts below, it is hidden.
  void add(std::size_t part, std::string_view name) {
    if (is_mark_file(name)) {
      name.remove_prefix(kWhiteoutFile.size());
      above_[part].marks.insert(hash_of(name));
    }
    above_[part].names.insert(hash_of(name));
  }

  // False: the entry of `part` is a mark, or hidden by a part above.
  // REQUIRES: every name of the parts above was added.
  template <class Branch>
  Result<bool> shows(C context, std::size_t part, Branch& branch, const typename Branch::Node& node,
                     bool whiteouts_inside, const DirEntry& entry) {
    if (is_mark_file(entry.name)) return false;
    const bool may_be_white = entry.type == DT_CHR || entry.type == DT_UNKNOWN ||
                              (whiteouts_inside && entry.type == DT_REG);
    if (may_be_white) {
      auto found = branch.lookup(context, node, entry.name);
      if (!found.ok() && found.error() != Errno{ENOENT}) return found.error();
      if (!found.ok() || is_whiteout(found->attributes)) return false;
      if (whiteouts_inside && found->attributes.is_regular() && found->attributes.size == 0) {
        LIBSERVICES_TRY(const Marks marks, marks_of(context, branch, found->node));
        if (marks.whiteout) return false;
      }
    }
    if (part == 0) return true;
    const std::uint64_t hash = hash_of(entry.name);
    for (std::size_t i = 0; i < part; ++i) {
      if (!above_[i].names.contains(hash)) continue;
      LIBSERVICES_TRY(const bool is_there,
                      is_above(context, i, entry.name, above_[i].marks.contains(hash)));
      if (is_there) return false;
    }
    return true;
  }

 private:
  struct Above {
    absl::flat_hash_set<std::uint64_t> names;  // what is hidden below
    absl::flat_hash_set<std::uint64_t> marks;  // those of them that are files `.wh.NAME`
  };

  static std::uint64_t hash_of(std::string_view name) { return absl::HashOf(name); }

  // Whether part `i` really has the name, or a mark for it.
  Result<bool> is_above(C context, std::size_t i, std::string_view name, bool mark) {
    const auto has = [&](auto& branch, const auto& node) -> Result<bool> {
      LIBSERVICES_TRY(const bool found, has_name(context, branch, node, std::string(name)));
      if (found || !mark) return found;
      return has_name(context, branch, node, std::string(kWhiteoutFile).append(name));
    };
    if (has_upper_ && i == 0) return has(branches_->upper(), *record_->upper());
    const auto& part = record_->lowers[i - (has_upper_ ? 1 : 0)];
    return has(branches_->lower(part.branch), part.node);
  }

  B* branches_;
  Pointer record_;
  std::vector<Above> above_;  // by part
  bool has_upper_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_HIDDEN_ENTRIES_H_
