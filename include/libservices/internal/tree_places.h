// SPDX-License-Identifier: Apache-2.0
//
// Where directories, and objects that somebody watches, are in the tree: the parent and name of
// each, guarded by the tree's places_mutex_. Included by tree.h alone.
#ifndef LIBSERVICES_INTERNAL_TREE_PLACES_H_
#define LIBSERVICES_INTERNAL_TREE_PLACES_H_

#include "libservices/internal/tree.h"

namespace libservices::internal {

template <ReadableService Stack>
void Tree<Stack>::place(const Pointer& inode, const Pointer& parent, std::string_view name) {
  {
    std::shared_lock lock(places_mutex_);
    if (inode->parent == parent && inode->name == name && !inode->removed &&
        (!Events<Object>::is_watched(*parent) || (inode->watched.load() & kWatchedEntry) != 0)) {
      return;
    }
  }
  Pointer former;  // released behind the lock
  std::unique_lock lock(places_mutex_);
  if (inode == root_) return;
  former = std::exchange(inode->parent, parent);
  inode->name.assign(name);
  inode->removed = false;
  if (Events<Object>::is_watched(*parent)) inode->watched.fetch_or(kWatchedEntry);
}

template <ReadableService Stack>
void Tree<Stack>::displace(Object& inode, const Object& parent, std::string_view name) {
  Pointer former;
  std::unique_lock lock(places_mutex_);
  if (inode.parent.get() == &parent && inode.name == name) former = std::move(inode.parent);
}

template <ReadableService Stack>
bool Tree<Stack>::is_within(const Pointer& directory, const Pointer& ancestor) {
  std::shared_lock lock(places_mutex_);
  for (const Object* at = directory.get(); at != nullptr; at = at->parent.get()) {
    if (at == ancestor.get()) return true;
  }
  return false;
}

template <ReadableService Stack>
typename Tree<Stack>::Pointer Tree<Stack>::parent_of(const Pointer& directory) {
  std::shared_lock lock(places_mutex_);
  return directory->parent ? directory->parent : (directory == root_ ? root_ : nullptr);
}

template <ReadableService Stack>
Result<std::string> Tree<Stack>::path_of(const Pointer& directory) {
  std::shared_lock lock(places_mutex_);
  std::string path;
  for (const Object* at = directory.get(); at != root_.get(); at = at->parent.get()) {
    if (at->removed || !at->parent) return Errno{ENOENT};
    path.insert(0, "/" + at->name);
  }
  return path.empty() ? std::string("/") : path;
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_TREE_PLACES_H_
