// SPDX-License-Identifier: Apache-2.0
#include "services/local/descriptors.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>

namespace libservices::local_internal {
namespace {

constexpr int kFind = O_PATH | O_NOFOLLOW | O_CLOEXEC;

Timestamp time_of(const statx_timestamp& time) { return {time.tv_sec, time.tv_nsec, 0}; }

}  // namespace

Result<Attributes> attributes_of(int directory, const char* name) {
  struct statx seen {};
  const int flags =
      AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == '\0' ? AT_EMPTY_PATH : 0);
  if (::statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, &seen) != 0) {
    return last_errno();
  }
  Attributes attributes;
  attributes.device = makedev(seen.stx_dev_major, seen.stx_dev_minor);
  attributes.inode = seen.stx_ino;
  attributes.mode = seen.stx_mode;
  attributes.links = seen.stx_nlink;
  attributes.uid = seen.stx_uid;
  attributes.gid = seen.stx_gid;
  attributes.special_device = makedev(seen.stx_rdev_major, seen.stx_rdev_minor);
  attributes.size = seen.stx_size;
  attributes.blocks = seen.stx_blocks;
  attributes.block_size = seen.stx_blksize;
  attributes.atime = time_of(seen.stx_atime);
  attributes.mtime = time_of(seen.stx_mtime);
  attributes.ctime = time_of(seen.stx_ctime);
  if ((seen.stx_mask & STATX_BTIME) != 0) attributes.btime = time_of(seen.stx_btime);
  return attributes;
}

ObjectPtr Descriptors::intern(const Attributes& seen, DescriptorPtr descriptor, ObjectPtr parent,
                              std::string_view name) {
  const ObjectKey key{seen.device, seen.inode};
  ObjectPtr object;
  {
    Shard& shard = shard_of(key);
    ObjectPtr known;  // released behind the lock: the last reference takes it again
    std::lock_guard lock(shard.mutex);
    auto& weak = shard.objects[key];
    known = weak.lock();
    // The host may have given the number to a new object meanwhile.
    if (known && known->type == (seen.mode & S_IFMT) && known->born == seen.btime) {
      object = std::move(known);
    } else {
      object = ObjectPtr(new Object(*this, key, seen.mode & S_IFMT, seen.btime),
                         [](Object* made) { made->owner.forget(made); });
      weak = object;
    }
  }
  ObjectPtr old_parent;  // may be the last reference to it
  bool fresh = false;
  {
    std::lock_guard lock(object->mutex);
    if (parent != nullptr) {
      old_parent = std::exchange(object->parent, std::move(parent));
      object->name.assign(name);
    }
    if (object->descriptor == nullptr && descriptor != nullptr) {
      object->descriptor = std::move(descriptor);
      fresh = true;
    }
  }
  if (fresh) keep(object);
  return object;
}

ObjectPtr Descriptors::known(const ObjectKey& key) const {
  Shard& shard = shard_of(key);
  std::lock_guard lock(shard.mutex);
  const auto found = shard.objects.find(key);
  return found != shard.objects.end() ? found->second.lock() : nullptr;
}

void Descriptors::forget(Object* object) {
  {
    Shard& shard = shard_of(object->key);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.objects.find(object->key);
    if (found != shard.objects.end() && found->second.expired()) shard.objects.erase(found);
  }
  delete object;
}

Result<DescriptorPtr> Descriptors::open(const ObjectPtr& object) {
  DescriptorPtr found;
  {
    std::lock_guard lock(object->mutex);
    if (object->descriptor != nullptr) return object->descriptor;
    LIBSERVICES_TRY(found, reopen(*object));
    object->descriptor = found;
  }
  keep(object);
  return found;
}

Result<void> Descriptors::pin(const ObjectPtr& object) {
  std::lock_guard lock(object->mutex);
  if (object->descriptor == nullptr) {
    LIBSERVICES_TRY(object->descriptor, reopen(*object));
  }
  object->pinned = true;
  return {};
}

// REQUIRES: object.mutex.
Result<DescriptorPtr> Descriptors::reopen(Object& object) {
  auto is_it = [&](int descriptor) {
    auto seen = attributes_of(descriptor, "");
    return seen.ok() && seen->device == object.key.device && seen->inode == object.key.inode &&
           (seen->mode & S_IFMT) == object.type && seen->btime == object.born;
  };
  if (object.parent == nullptr) return Errno{ESTALE};
  LIBSERVICES_TRY(const DescriptorPtr parent, open(object.parent));
  if (!object.handle.empty()) {
    auto* const handle = reinterpret_cast<file_handle*>(object.handle.data());
    auto opened =
        std::make_shared<Descriptor>(::open_by_handle_at(volume_, handle, O_PATH | O_CLOEXEC));
    if (opened->get() >= 0 && is_it(opened->get())) return opened;
  }
  auto opened =
      std::make_shared<Descriptor>(::openat(parent->get(), object.name.c_str(), kFind));
  if (opened->get() < 0) return errno == ENOENT ? Errno{ESTALE} : last_errno();
  if (!is_it(opened->get())) return Errno{ESTALE};
  return opened;
}

void Descriptors::keep(const ObjectPtr& object) {
  std::vector<ObjectPtr> oldest;
  {
    std::lock_guard lock(cache_mutex_);
    cache_.push_back(object);
    while (cache_.size() > limit_) {
      if (ObjectPtr old = cache_.front().lock()) oldest.push_back(std::move(old));
      cache_.pop_front();
    }
  }
  for (const ObjectPtr& old : oldest) {
    if (old == object || give_up(*old)) continue;
    std::lock_guard lock(cache_mutex_);
    cache_.push_back(old);  // in use just now
  }
}

// False: another thread has the object. Waiting for it could wait in a circle.
bool Descriptors::give_up(Object& object) {
  DescriptorPtr released;
  std::unique_lock lock(object.mutex, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  if (object.pinned || object.descriptor == nullptr || object.parent == nullptr) return true;
  if (object.handle.empty()) {
    std::vector<unsigned char> bytes(sizeof(file_handle) + MAX_HANDLE_SZ);
    auto* const handle = reinterpret_cast<file_handle*>(bytes.data());
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (::name_to_handle_at(object.descriptor->get(), "", handle, &mount, AT_EMPTY_PATH) == 0) {
      bytes.resize(sizeof(file_handle) + handle->handle_bytes);
      object.handle = std::move(bytes);
    }
  }
  released.swap(object.descriptor);
  return true;
}

}  // namespace libservices::local_internal
