// SPDX-License-Identifier: Apache-2.0
//
// TreeChanges::rename: POSIX's checks, in the order in which Linux makes them, the locks of both
// directories, and what the name cache knows afterwards. Included by tree_changes.h alone.
//
// Lock order: Tree::rename_mutex() when an object changes its parent, then `entries` of the parent
// that is above the other one.
#ifndef LIBSERVICES_INTERNAL_TREE_RENAME_H_
#define LIBSERVICES_INTERNAL_TREE_RENAME_H_

#include <mutex>
#include <shared_mutex>
#include <utility>

#include "libservices/internal/tree_changes.h"

namespace libservices::internal {

template <ReadableService Stack>
Result<void> TreeChanges<Stack>::rename(const Context& context, const Walked& from,
                                        const Walked& to, RenameMode mode) {
  if (from.last != T::Last::kName) return Errno{EBUSY};
  if (to.last != T::Last::kName) {
    return Errno{mode == RenameMode::kNoReplace ? EEXIST : EBUSY};
  }
  if (!from.target.inode) return Errno{ENOENT};
  if (mode == RenameMode::kNoReplace && to.target.inode) return Errno{EEXIST};
  if (mode == RenameMode::kExchange && !to.target.inode) return Errno{ENOENT};
  const bool moves_directory = from.target.attributes.is_directory();
  const Walked& comes_to = mode == RenameMode::kExchange ? to : from;
  const bool to_needs_directory =
      to.trailing_slash && !comes_to.target.attributes.is_directory();
  if ((from.trailing_slash && !moves_directory) || to_needs_directory) return Errno{ENOTDIR};
  const bool other_parent = from.parent.inode != to.parent.inode;
  if constexpr (WritableService<Stack>) {
    std::unique_lock renaming(tree_.rename_mutex(), std::defer_lock);
    if (other_parent) {
      renaming.lock();
      if (moves_directory && tree_.is_within(to.parent.inode, from.target.inode)) {
        return Errno{EINVAL};
      }
      if (to.target.inode && tree_.is_within(from.parent.inode, to.target.inode)) {
        return Errno{mode == RenameMode::kExchange ? EINVAL : ENOTEMPTY};
      }
    }
    if (from.target.inode == to.target.inode) return {};
    LIBSERVICES_CHECK_OK(may_remove(context, from));
    LIBSERVICES_CHECK_OK(still_there(to.parent));  // before permissions, as Linux
    LIBSERVICES_CHECK_OK(to.target.inode ? may_remove(context, to)
                                         : may_change(context, to.parent));
    const bool replaces = to.target.inode && mode != RenameMode::kExchange;
    if (replaces && moves_directory != to.target.attributes.is_directory()) {
      return Errno{moves_directory ? ENOTDIR : EISDIR};
    }
    if (other_parent && moves_directory) {  // its ".." changes
      LIBSERVICES_CHECK_OK(tree_.check(context, from.target, W_OK));
    }
    if (other_parent && mode == RenameMode::kExchange && to.target.attributes.is_directory()) {
      LIBSERVICES_CHECK_OK(tree_.check(context, to.target, W_OK));
    }
    // Parents before children, as rmdir does; only one rename at a time holds two directories.
    auto* first = from.parent.inode.get();
    auto* second = to.parent.inode.get();
    if (other_parent && tree_.is_within(from.parent.inode, to.parent.inode)) {
      std::swap(first, second);
    }
    std::unique_lock lock_first(first->entries);
    std::unique_lock lock_second(second->entries, std::defer_lock);
    if (other_parent) lock_second.lock();
    LIBSERVICES_CHECK_OK(still_there(to.parent));
    LIBSERVICES_TRY(Here moved, tree_.step_locked(context, from.parent.inode, from.name));
    auto replaced = tree_.step_locked(context, to.parent.inode, to.name);
    const auto renamed = tree_.stack().rename(context, from.parent.inode->node, from.name,
                                              to.parent.inode->node, to.name, mode);
    // Two names of one object: POSIX's rename has left both in place.
    const bool nothing = mode != RenameMode::kExchange && replaced.ok() &&
                         replaced->inode == moved.inode;
    tree_.drop_name(from.parent.inode, from.name);
    tree_.drop_name(to.parent.inode, to.name);
    tree_.tell_name(*from.parent.inode, from.name);
    tree_.tell_name(*to.parent.inode, to.name);
    if (!renamed.ok()) return renamed;  // it may have been done in part
    if (replaced.ok() && mode != RenameMode::kExchange && replaced->attributes.is_directory()) {
      std::unique_lock places(tree_.places_mutex());
      replaced->inode->removed = true;
    }
    const auto place = [this](const Pointer& inode, const Pointer& parent, std::string_view name) {
      if (inode->is_directory() || T::is_placed(*parent, *inode)) {
        tree_.place(inode, parent, name);
      }
    };
    if (!nothing) place(moved.inode, to.parent.inode, to.name);
    if (mode == RenameMode::kExchange && replaced.ok()) {
      place(replaced->inode, from.parent.inode, from.name);
    }
    moved.inode->attributes.content_changed();
    tree_.tell_attributes(*moved.inode);
    if (replaced.ok()) {
      replaced->inode->attributes.content_changed();
      tree_.tell_attributes(*replaced->inode);
    }
    changed(*from.parent.inode);
    changed(*to.parent.inode);
    if (nothing) return {};
    const bool exchange = mode == RenameMode::kExchange;
    tree_.events().tell_renamed(*from.parent.inode, from.name, *to.parent.inode, to.name,
                                moves_directory,
                                replaced.ok() && replaced->inode->is_directory(), exchange);
    if (replaced.ok() && exchange) tree_.events().tell_moved(*replaced->inode);
    if (replaced.ok() && !exchange) {
      lost_name(context, *replaced->inode, *to.parent.inode, to.name);
    }
    tree_.events().tell_moved(*moved.inode);
    return {};
  }
  return Errno{EROFS};
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_TREE_RENAME_H_
