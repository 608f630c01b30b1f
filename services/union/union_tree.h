// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Union` that change the tree: what they check and lock; changes.h does it. Included
// by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
#define LIBSERVICES_SERVICES_UNION_UNION_TREE_H_

#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
template <class Make>
auto Union<Upper, Lower>::add(C context, const Node& directory, std::string_view name,
                              bool is_directory, Make&& make) -> Result<Entry<Node>> {
  if (!directory->is_directory()) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const auto node, copy_up_.ensure(context, directory));
  std::unique_lock lock(directory->entries);
  typename Internal::Found now;
  if (!directory->lowers.empty()) {  // else the upper alone says whether the name is free
    LIBSERVICES_TRY(now, branches_.find(context, directory, name));
    if (now.record) return Errno{EEXIST};
  }
  LIBSERVICES_TRY(const auto made,
                  changes_.add(context, *directory, node, name, now, is_directory, make));
  Node record = known_upper(made);
  Internal::place(record, directory, name);
  const Attributes seen = branches_.shown(*record, made.attributes);
  return Entry<Node>{std::move(record), seen};
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::create(C context, const Node& directory, std::string_view name,
                                 const NewNode& fresh, OpenFlags flags)
    -> Result<Created<Node, File>> {
  std::optional<typename Upper::File> file;
  auto made = add(context, directory, name, false,
                  [&](const auto& in, std::string_view as) -> Result<Entry<typename Upper::Node>> {
                    LIBSERVICES_TRY(auto created, upper().create(context, in, as, fresh, flags));
                    file = std::move(created.file);
                    return Entry<typename Upper::Node>{created.node, created.attributes};
                  });
  if (!made.ok()) {
    if (file) (void)upper().close(context, *file);
    return made.error();
  }
  return Created<Node, File>{made->node, upper_file(made->node, flags, *std::move(file)),
                             made->attributes};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::unlink(C context, const Node& directory, std::string_view name) {
  return remove(context, directory, name, false);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rmdir(C context, const Node& directory, std::string_view name) {
  return remove(context, directory, name, true);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::remove(C context, const Node& directory, std::string_view name,
                                         bool is_directory) {
  if (!directory->is_directory()) return Errno{ENOTDIR};
  std::unique_lock lock(directory->entries);
  LIBSERVICES_TRY(const auto now, branches_.find(context, directory, name));
  if (!now.record) return Errno{ENOENT};
  if (is_directory != now.record->is_directory()) return Errno{is_directory ? ENOTDIR : EISDIR};
  std::unique_lock<std::shared_mutex> inside;
  if (is_directory) {
    inside = std::unique_lock(now.record->entries);
    LIBSERVICES_TRY(const auto listing, union_internal::merge(branches_, context, *now.record));
    if (!listing.items.empty()) return Errno{ENOTEMPTY};
  }
  // No copy-up puts it back meanwhile, or in the way of the whiteout.
  std::lock_guard copying(now.record->copy_up);
  std::optional<union_internal::BranchKey> last;  // the upper object that ends here
  if (now.in_upper && (is_directory || now.in_upper->links <= 1)) {
    last = {0, now.in_upper->device, now.in_upper->inode};
  }
  LIBSERVICES_CHECK_OK(changes_.remove(context, directory, name, now));
  if (last) branches_.table().forget(*last);
  Internal::unplace(now.record, directory, name);
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rename(C context, const Node& directory, std::string_view name,
                                         const Node& new_directory, std::string_view new_name,
                                         RenameMode mode) {
  if (!directory->is_directory() || !new_directory->is_directory()) return Errno{ENOTDIR};
  // What moves comes up first, without the directories' locks: it may be large.
  LIBSERVICES_TRY(const auto source, lookup(context, directory, name));
  if (source.node->is_directory() && !source.node->lowers.empty()) return Errno{EXDEV};
  std::vector<Node> rising{source.node, directory, new_directory};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_TRY(const auto other, lookup(context, new_directory, new_name));
    if (other.node->is_directory() && !other.node->lowers.empty()) return Errno{EXDEV};
    rising.push_back(other.node);
  }
  for (const Node& record : rising) {
    auto ensured = copy_up_.ensure(context, record);
    if (!ensured.ok()) return ensured.error();
  }
  // Parents before children, as rmdir does; only one rename at a time holds two directories.
  std::unique_lock<std::mutex> renaming(rename_mutex_, std::defer_lock);
  std::unique_lock first(directory->entries, std::defer_lock);
  std::unique_lock second(new_directory->entries, std::defer_lock);
  if (directory == new_directory) {
    first.lock();
  } else {
    renaming.lock();
    if (Internal::is_within(directory, new_directory)) first.swap(second);
    first.lock();
    second.lock();
  }
  LIBSERVICES_TRY(const auto from, branches_.find(context, directory, name));
  LIBSERVICES_TRY(const auto to, branches_.find(context, new_directory, new_name));
  if (!from.record) return Errno{ENOENT};
  if (from.record != source.node) return Errno{EAGAIN};  // replaced meanwhile: the caller's race
  if (mode == RenameMode::kNoReplace && to.record) return Errno{EEXIST};
  if (mode == RenameMode::kExchange && !to.record) return Errno{ENOENT};
  if (mode == RenameMode::kExchange && to.record != rising.back()) return Errno{EAGAIN};
  if (from.record == to.record) return {};
  if (Internal::is_within(new_directory, from.record)) return Errno{EINVAL};
  std::optional<union_internal::BranchKey> last;
  if (mode != RenameMode::kExchange && to.record) {
    if (from.record->is_directory() != to.record->is_directory()) {
      return Errno{from.record->is_directory() ? ENOTDIR : EISDIR};
    }
    if (to.record->is_directory()) {
      LIBSERVICES_TRY(const auto listing, union_internal::merge(branches_, context, *to.record));
      if (!listing.items.empty()) return Errno{ENOTEMPTY};
    }
    if (to.in_upper && (to.record->is_directory() || to.in_upper->links <= 1)) {
      last = {0, to.in_upper->device, to.in_upper->inode};
    }
  }
  const typename Changes::Side old_side{directory, name, from};
  const typename Changes::Side new_side{new_directory, new_name, to};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_CHECK_OK(changes_.exchange(context, old_side, new_side));
    Internal::place(to.record, directory, name);
  } else {
    LIBSERVICES_CHECK_OK(changes_.move(context, old_side, new_side));
    if (last) branches_.table().forget(*last);
    if (to.record) Internal::unplace(to.record, new_directory, new_name);
  }
  Internal::place(from.record, new_directory, new_name);
  return {};
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
