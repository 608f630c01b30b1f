// SPDX-License-Identifier: Apache-2.0
//
// The members of `Memory` that work on names: lookup, listing and every change of the tree.
// Included by memory.h alone.
#ifndef LIBSERVICES_SOURCES_MEMORY_NAMES_H_
#define LIBSERVICES_SOURCES_MEMORY_NAMES_H_

#include <cstring>
#include <string>
#include <vector>

#include "libservices/sources/memory.h"

namespace libservices {

inline Result<Entry<Memory::Node>> Memory::lookup(const Context&, const Node& directory,
                                                  std::string_view name) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  if (name.size() > kMaxNameBytes) return Errno{ENAMETOOLONG};
  std::shared_lock lock(tree_mutex_);
  const internal::MemoryEntry* found = directory.object_->directory->find(name);
  if (found == nullptr) return Errno{ENOENT};
  return entry(found->object);
}

inline Result<void> Memory::readdir(const Context&, File& file, std::uint64_t after,
                                    Listing wanted, EntrySink sink) {
  struct Copied {
    std::string name;
    std::uint64_t cookie;
    Attributes attributes;
  };
  constexpr std::size_t kAtOnce = 128;
  if (!file.object_->is_directory()) return Errno{ENOTDIR};
  std::vector<Copied> copied;
  do {
    copied.clear();
    {
      std::shared_lock lock(tree_mutex_);
      file.object_->directory->visit_after(after, [&](const internal::MemoryEntry& found) {
        copied.push_back({found.name, found.cookie, found.object->snapshot()});
        return copied.size() < kAtOnce;
      });
    }
    for (const Copied& at : copied) {
      DirEntry shown;
      shown.name = at.name;
      shown.inode = at.attributes.inode;
      shown.type = static_cast<std::uint8_t>((at.attributes.mode & S_IFMT) >> 12U);  // IFTODT
      shown.cookie = after = at.cookie;
      if (wanted == Listing::kAttributes) shown.attributes = &at.attributes;
      if (!sink(shown)) return {};
    }
  } while (copied.size() == kAtOnce);
  return {};
}

inline Result<void> Memory::check_new_name(const Node& directory, std::string_view name) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  if (name.size() > kMaxNameBytes) return Errno{ENAMETOOLONG};
  if (directory.object_->directory->removed) return Errno{ENOENT};
  return {};
}

inline Result<Entry<Memory::Node>> Memory::make_named(const Node& directory, std::string_view name,
                                                      const NewNode& fresh, std::uint32_t type,
                                                      std::string_view target) {
  std::unique_lock lock(tree_mutex_);
  LIBSERVICES_CHECK_OK(check_new_name(directory, name));
  Object& parent = *directory.object_;
  if (parent.directory->find(name) != nullptr) return Errno{EEXIST};
  LIBSERVICES_TRY(Pointer object, make_object(fresh, type));
  if (object->is_directory()) {
    object->directory->parent = &parent;
  } else {
    object->attributes.links = 1;
  }
  if (object->is_symlink()) {
    object->target.assign(target);
    object->attributes.size = target.size();
  }
  parent.directory->add(name, object);
  parent.entries_changed(object->is_directory() ? 1 : 0);
  return entry(object);
}

inline Result<Created<Memory::Node, Memory::File>> Memory::tmpfile(const Context&,
                                                                   const Node& directory,
                                                                   const NewNode& fresh,
                                                                   OpenFlags flags) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  LIBSERVICES_TRY(Pointer object, make_object(fresh, S_IFREG));
  object->may_be_named = !flags.has(O_EXCL);
  File file(object, flags);
  return Created<Node, File>{Node(object), std::move(file), object->snapshot()};
}

inline Result<Entry<Memory::Node>> Memory::mknod(const Context&, const Node& directory,
                                                 std::string_view name, const NewNode& fresh) {
  const std::uint32_t type = (fresh.mode & S_IFMT) == 0 ? S_IFREG : fresh.mode & S_IFMT;
  if (S_ISDIR(type)) return Errno{EPERM};
  if (S_ISLNK(type)) return Errno{EINVAL};
  return make_named(directory, name, fresh, type, {});
}

inline Result<Entry<Memory::Node>> Memory::symlink(const Context&, const Node& directory,
                                                   std::string_view name, std::string_view target,
                                                   const NewNode& fresh) {
  if (target.empty()) return Errno{ENOENT};
  if (target.size() > kMaxTargetBytes) return Errno{ENAMETOOLONG};
  return make_named(directory, name, fresh, S_IFLNK, target);
}

inline Result<std::size_t> Memory::readlink(const Context&, const Node& node,
                                            std::span<char> into) {
  if (!node.object_->is_symlink()) return Errno{EINVAL};
  const std::string& target = node.object_->target;
  const std::size_t count = std::min(target.size(), into.size());
  std::memcpy(into.data(), target.data(), count);
  return count;
}

inline Result<Entry<Memory::Node>> Memory::link(const Context&, const Node& node,
                                                const Node& directory, std::string_view name) {
  if (node.object_->is_directory()) return Errno{EPERM};
  std::unique_lock lock(tree_mutex_);
  LIBSERVICES_CHECK_OK(check_new_name(directory, name));
  if (directory.object_->directory->find(name) != nullptr) return Errno{EEXIST};
  {
    std::unique_lock object_lock(node.object_->mutex);
    Attributes& a = node.object_->attributes;
    if (a.links == 0 && !node.object_->may_be_named) return Errno{ENOENT};
    node.object_->may_be_named = false;
    ++a.links;
    a.ctime = Timestamp::now();
  }
  directory.object_->directory->add(name, node.object_);
  directory.object_->entries_changed(0);
  return entry(node.object_);
}

inline void Memory::drop_links(Object& object) {
  if (object.is_directory()) {
    object.directory->removed = true;
    object.directory->parent = nullptr;
  }
  object.change_links(object.is_directory() ? -2 : -1);
}

inline void Memory::drop_entry(Object& directory, std::string_view name) {
  const Pointer gone = directory.directory->remove(name);
  drop_links(*gone);
  directory.entries_changed(gone->is_directory() ? -1 : 0);
}

inline Result<void> Memory::unlink(const Context&, const Node& directory, std::string_view name) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  if (name.size() > kMaxNameBytes) return Errno{ENAMETOOLONG};
  Pointer gone;  // its pages are given back without the lock
  std::unique_lock lock(tree_mutex_);
  const internal::MemoryEntry* found = directory.object_->directory->find(name);
  if (found == nullptr) return Errno{ENOENT};
  if (found->object->is_directory()) return Errno{EISDIR};
  gone = found->object;
  drop_entry(*directory.object_, name);
  lock.unlock();
  return {};
}

inline Result<void> Memory::rmdir(const Context&, const Node& directory, std::string_view name) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  if (name.size() > kMaxNameBytes) return Errno{ENAMETOOLONG};
  std::unique_lock lock(tree_mutex_);
  const internal::MemoryEntry* found = directory.object_->directory->find(name);
  if (found == nullptr) return Errno{ENOENT};
  if (!found->object->is_directory()) return Errno{ENOTDIR};
  if (!found->object->directory->empty()) return Errno{ENOTEMPTY};
  drop_entry(*directory.object_, name);
  return {};
}

inline Result<void> Memory::exchange(Object& from, internal::MemoryEntry& entry, Object& to,
                                     internal::MemoryEntry& other) {
  if (other.object->is_directory() && is_within(&from, other.object.get())) return Errno{EINVAL};
  const int moved = static_cast<int>(other.object->is_directory()) -
                    static_cast<int>(entry.object->is_directory());
  std::swap(entry.object, other.object);
  if (entry.object->is_directory()) entry.object->directory->parent = &from;
  if (other.object->is_directory()) other.object->directory->parent = &to;
  entry.object->change_links(0);
  other.object->change_links(0);
  from.entries_changed(&from == &to ? 0 : moved);
  to.entries_changed(&from == &to ? 0 : -moved);
  return {};
}

inline Result<void> Memory::rename(const Context&, const Node& directory, std::string_view name,
                                   const Node& new_directory, std::string_view new_name,
                                   RenameMode mode) {
  if (!directory.object_->is_directory()) return Errno{ENOTDIR};
  if (name.size() > kMaxNameBytes) return Errno{ENAMETOOLONG};
  Pointer gone;  // its pages are given back without the lock
  std::unique_lock lock(tree_mutex_);
  LIBSERVICES_CHECK_OK(check_new_name(new_directory, new_name));
  Object& from = *directory.object_;
  Object& to = *new_directory.object_;
  internal::MemoryEntry* found = from.directory->find(name);
  internal::MemoryEntry* other = to.directory->find(new_name);
  if (found == nullptr) return Errno{ENOENT};
  if (mode == RenameMode::kNoReplace && other != nullptr) return Errno{EEXIST};
  if (mode == RenameMode::kExchange && other == nullptr) return Errno{ENOENT};
  const Pointer object = found->object;
  if (object->is_directory() && is_within(&to, object.get())) return Errno{EINVAL};
  if (other != nullptr && other->object == object) return {};  // links of one file, or one name
  if (mode == RenameMode::kExchange) return exchange(from, *found, to, *other);
  Pointer whiteout;
  if (mode == RenameMode::kLeaveWhiteout) {
    LIBSERVICES_TRY(whiteout, make_object({.mode = 0, .special_device = 0}, S_IFCHR));
  }
  if (other != nullptr) {
    gone = other->object;
    if (gone->is_directory()) {
      if (is_within(&from, gone.get())) return Errno{ENOTEMPTY};
      if (!object->is_directory()) return Errno{EISDIR};
      if (!gone->directory->empty()) return Errno{ENOTEMPTY};
    } else if (object->is_directory()) {
      return Errno{ENOTDIR};
    }
    other->object = object;  // the name keeps its place in a listing
    drop_links(*gone);
  } else {
    to.directory->add(new_name, object);
  }
  from.directory->remove(name);
  if (whiteout) from.directory->add(name, whiteout);
  if (object->is_directory()) object->directory->parent = &to;
  object->change_links(0);
  const int moved = object->is_directory() ? 1 : 0;
  const int replaced = gone && gone->is_directory() ? 1 : 0;
  from.entries_changed(-moved);
  to.entries_changed(moved - replaced);
  lock.unlock();
  return {};
}

}  // namespace libservices

#endif  // LIBSERVICES_SOURCES_MEMORY_NAMES_H_
