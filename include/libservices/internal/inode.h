// SPDX-License-Identifier: Apache-2.0
//
// An object of the tree as a `Filesystem` knows it, and the table that keeps it one object however
// many names, open files and threads lead to it.
#ifndef LIBSERVICES_INTERNAL_INODE_H_
#define LIBSERVICES_INTERNAL_INODE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "libservices/internal/lock_table.h"
#include "libservices/libservice.h"

namespace libservices::internal {

// The attributes that were last seen, and whether they still hold.
//
// Whoever asks the stack takes `ticket()` before and hands it to `store()` after: an answer that a
// change has overtaken is not kept. A change of the content leaves type, mode and owner true, so a
// walk through a busy directory need not ask again.
class AttributeCache {
 public:
  explicit AttributeCache(const Attributes& attributes) : attributes_(attributes) {}

  std::uint64_t ticket() const { return version_.load(std::memory_order_acquire); }

  // Everything, if nothing changed since it was stored at `oldest` or later.
  std::optional<Attributes> all(std::uint64_t oldest) const {
    std::lock_guard lock(mutex_);
    if (!fresh_ || stored_ < oldest) return std::nullopt;
    return attributes_;
  }
  // Type, mode and owner are true; size and times may be old.
  std::optional<Attributes> for_access(std::uint64_t oldest) const {
    std::lock_guard lock(mutex_);
    if (!access_fresh_ || stored_ < oldest) return std::nullopt;
    return attributes_;
  }

  void store(const Attributes& attributes, std::uint64_t ticket, std::uint64_t now) {
    std::lock_guard lock(mutex_);
    if (version_.load(std::memory_order_relaxed) != ticket) return;
    attributes_ = attributes;
    fresh_ = access_fresh_ = true;
    stored_ = now;
  }
  // The answer of a change itself: kept unless another change came between.
  void store_changed(const Attributes& attributes, std::uint64_t ticket, std::uint64_t now) {
    std::lock_guard lock(mutex_);
    const bool alone = version_.fetch_add(1, std::memory_order_acq_rel) == ticket;
    fresh_ = access_fresh_ = alone;
    if (alone) {
      attributes_ = attributes;
      stored_ = now;
    }
  }

  void content_changed() { forget(false); }
  void all_changed() { forget(true); }

  bool may_have_set_id() const {
    std::lock_guard lock(mutex_);
    return !access_fresh_ || (attributes_.mode & (S_ISUID | S_ISGID)) != 0;
  }

 private:
  void forget(bool access_too) {
    std::lock_guard lock(mutex_);
    version_.fetch_add(1, std::memory_order_acq_rel);
    fresh_ = false;
    if (access_too) access_fresh_ = false;
  }

  mutable std::mutex mutex_;
  std::atomic<std::uint64_t> version_{0};  // written under mutex_
  Attributes attributes_;                  // this and the rest: guarded by mutex_
  std::uint64_t stored_ = 0;               // nanoseconds of the steady clock
  bool fresh_ = false;
  bool access_fresh_ = false;
};

template <class Node>
struct Inode {
  struct Key {
    std::uint64_t device;
    std::uint64_t number;
    friend bool operator==(const Key&, const Key&) = default;
    template <class H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.device, key.number);
    }
  };

  Inode(Node node, const Attributes& attributes, std::uint64_t id)
      : node(std::move(node)),
        key{attributes.device, attributes.inode},
        id(id),
        type(attributes.mode & S_IFMT),
        born(attributes.btime),
        attributes(attributes) {}

  bool is_directory() const { return S_ISDIR(type); }

  const Node node;
  const Key key;
  const std::uint64_t id;  // never reused while the filesystem runs: the name cache's key
  const std::uint32_t type;
  const Timestamp born;
  AttributeCache attributes;

  // Directories: held shared to look up names at the stack and exclusively to change entries.
  std::shared_mutex entries;
  // Regular files: held shared to write at an offset and exclusively to append.
  std::shared_mutex content;
  std::atomic<bool> unread{true};    // the next read may move atime (Linux's relatime)
  std::atomic<bool> has_locks{false};
  LockTable locks;

  // Where a directory is, guarded by Tree's places_mutex_. Null parent: the root, or removed.
  std::shared_ptr<Inode> parent;
  std::string name;
  bool removed = false;
};

// One Inode for each object that something holds on to.
template <class Node>
class InodeTable {
 public:
  using Object = Inode<Node>;
  using Pointer = std::shared_ptr<Object>;

  // `made` says whether the object was not known before.
  struct Interned {
    Pointer object;
    bool made;
  };
  Interned intern(Node node, const Attributes& attributes) {
    const typename Object::Key key{attributes.device, attributes.inode};
    Shard& shard = shard_of(key);
    Pointer known;  // released behind the lock: the last reference takes it again
    std::lock_guard lock(shard.mutex);
    auto& weak = shard.objects[key];
    known = weak.lock();
    // A host may have given the number to a new object behind our back.
    if (known && known->type == (attributes.mode & S_IFMT) && known->born == attributes.btime) {
      return {known, false};
    }
    Pointer made(new Object(std::move(node), attributes, next_id_.fetch_add(1)),
                 [this](Object* object) { release(object); });
    weak = made;
    return {std::move(made), true};
  }

  std::size_t size() const {
    std::size_t count = 0;
    for (const Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      count += shard.objects.size();
    }
    return count;
  }

 private:
  struct Shard {
    mutable std::mutex mutex;
    absl::flat_hash_map<typename Object::Key, std::weak_ptr<Object>> objects;
  };

  Shard& shard_of(const typename Object::Key& key) {
    return shards_[(key.number ^ (key.number >> 7U) ^ key.device) % shards_.size()];
  }

  void release(Object* object) {
    {
      Shard& shard = shard_of(object->key);
      std::lock_guard lock(shard.mutex);
      auto found = shard.objects.find(object->key);
      if (found != shard.objects.end() && found->second.expired()) shard.objects.erase(found);
    }
    delete object;
  }

  std::array<Shard, 64> shards_;
  std::atomic<std::uint64_t> next_id_{1};
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_INODE_H_
