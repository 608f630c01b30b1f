// SPDX-License-Identifier: Apache-2.0
//
// The renames of `Union`: what they check and lock; changes.h does them. Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_RENAME_H_
#define LIBSERVICES_SERVICES_UNION_UNION_RENAME_H_

#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "services/union/places.h"
#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rename(C context, const Node& directory, std::string_view name,
                                         const Node& new_directory, std::string_view new_name,
                                         RenameMode mode) {
  constexpr int kMostTimes = 100;  // what moves can be replaced by others between two looks
  for (int times = 1;; ++times) {
    auto renamed = rename_once(context, directory, name, new_directory, new_name, mode);
    if (renamed.ok() || renamed.error() != Errno{EAGAIN} || times == kMostTimes) return renamed;
  }
}

// What is to be renamed comes up first, without the directories' locks.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::raise(C context, const Node& record) {
  if (record->is_directory() && !record->lowers.empty() && !redirect_) return Errno{EXDEV};
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, record));
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rename_once(C context, const Node& directory,
                                              std::string_view name, const Node& new_directory,
                                              std::string_view new_name, RenameMode mode) {
  if (!directory->is_directory() || !new_directory->is_directory()) return Errno{ENOTDIR};
  if (mode == RenameMode::kLeaveWhiteout) return Errno{EINVAL};
  if (union_internal::is_mark_file(new_name)) return Errno{EINVAL};
  LIBSERVICES_TRY(const auto source, lookup(context, directory, name));
  std::vector<Node> rising{source.node};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_TRY(const auto other, lookup(context, new_directory, new_name));
    rising.push_back(other.node);
  }
  for (const Node& record : rising) LIBSERVICES_CHECK_OK(raise(context, record));
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, directory));
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, new_directory));
  // Parents before children, as rmdir does; only one rename at a time holds two directories.
  std::unique_lock<std::mutex> renaming(rename_mutex_, std::defer_lock);
  std::unique_lock first(directory->entries, std::defer_lock);
  std::unique_lock second(new_directory->entries, std::defer_lock);
  if (directory == new_directory) {
    first.lock();
  } else {
    renaming.lock();
    if (union_internal::is_within(directory, new_directory)) first.swap(second);
    first.lock();
    second.lock();
  }
  LIBSERVICES_TRY(auto from, lookup_.find(context, directory, name));
  LIBSERVICES_TRY(auto to, lookup_.find(context, new_directory, new_name));
  if (!from.record) return Errno{ENOENT};
  if (from.record != source.node) return Errno{EAGAIN};
  if (mode == RenameMode::kNoReplace && to.record) return Errno{EEXIST};
  if (mode == RenameMode::kExchange && !to.record) return Errno{ENOENT};
  if (mode == RenameMode::kExchange && to.record != rising.back()) return Errno{EAGAIN};
  if (from.record == to.record) return {};
  if (union_internal::is_within(new_directory, from.record)) return Errno{EINVAL};
  std::unique_lock<std::shared_mutex> replaced;  // nothing is made in it meanwhile
  if (to.record && mode == RenameMode::kExchange) {
    if (union_internal::is_within(directory, to.record)) return Errno{EINVAL};
  } else if (to.record) {
    if (to.attributes.is_protected()) return Errno{EPERM};
    if (from.record->is_directory() != to.record->is_directory()) {
      return Errno{from.record->is_directory() ? ENOTDIR : EISDIR};
    }
    if (to.record->is_directory()) {
      if (union_internal::is_within(directory, to.record)) return Errno{ENOTEMPTY};
      replaced = std::unique_lock(to.record->entries);
      LIBSERVICES_TRY(const bool empty, union_internal::is_empty(context, lookup_, to.record));
      if (!empty) return Errno{ENOTEMPTY};
    } else if (index_.will_have(*to.record, to.attributes)) {
      copy_up_.ensure_indexed(context, to.record);
    }
  }
  LIBSERVICES_CHECK_OK(give_name(context, directory, name, from));
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_CHECK_OK(give_name(context, new_directory, new_name, to));
  }
  const typename Changes::Side old_side{directory, name, from};
  const typename Changes::Side new_side{new_directory, new_name, to};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_CHECK_OK(changes_.exchange(context, old_side, new_side));
    union_internal::place(to.record, directory, name);
  } else {
    LIBSERVICES_CHECK_OK(changes_.move(context, old_side, new_side));
    if (to.record) gone(context, new_directory, new_name, to);
  }
  union_internal::place(from.record, new_directory, new_name);
  return {};
}

// What is renamed is in the upper by its name: one of several that a lower file has may not be.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::give_name(C context, const Node& directory, std::string_view name,
                                            Found& found) {
  if (found.in_upper) return {};
  LIBSERVICES_CHECK_OK(copy_up_.give_name(context, directory, name, found.record));
  LIBSERVICES_TRY(found, lookup_.find(context, directory, name));
  return found.in_upper ? Result<void>() : Errno{EIO};
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_RENAME_H_
