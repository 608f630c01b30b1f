// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of a filesystem instance: objects by node id, with the number of times that
// it was told of each, and open files by handle.
//
// A node id is the object's number of `Reference`: however many names and lookups lead to an
// object, the kernel has one inode for it, with one page cache. An object that the kernel knows
// stays known to the filesystem, so its number stays too. It gets another id when its inode at the
// kernel cannot follow a change (passthrough.h).
//
// THREADS: all members at once.
#ifndef LIBSERVICES_SRC_FUSE_NODES_H_
#define LIBSERVICES_SRC_FUSE_NODES_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/any_filesystem.h"
#include "src/fuse/passthrough.h"

namespace libservices::fuse {

class Nodes {
 public:
  // Tells the kernel of the object once more: its node id.
  std::uint64_t add(const Reference& reference) {
    std::unique_lock renewed(renewed_mutex_, std::defer_lock);
    if (any_renewed_.load(std::memory_order_acquire)) renewed.lock();
    const std::uint64_t id = renewed ? id_of_locked(reference.object) : reference.object;
    Shard& shard = shard_of(id);
    std::lock_guard lock(shard.mutex);
    Known& known = shard.known[id];
    ++known.lookups;
    if (known.file == nullptr) {
      known.file = reference.file;
      count_.fetch_add(1, std::memory_order_relaxed);
    }
    return id;
  }
  // The kernel has forgotten `lookups` of them.
  void forget(std::uint64_t id, std::uint64_t lookups) {
    OpenFilePtr released;  // behind the locks
    std::unique_lock renewed(renewed_mutex_, std::defer_lock);
    if (any_renewed_.load(std::memory_order_acquire)) renewed.lock();
    {
      Shard& shard = shard_of(id);
      std::lock_guard lock(shard.mutex);
      const auto found = shard.known.find(id);
      if (found == shard.known.end()) return;
      if (found->second.lookups > lookups) {
        found->second.lookups -= lookups;
        return;
      }
      released = std::move(found->second.file);
      shard.known.erase(found);
      count_.fetch_sub(1, std::memory_order_relaxed);
    }
    if (renewed) forget_renewed(id);
  }
  // Null: the kernel was not told of it.
  OpenFilePtr find(std::uint64_t id) const {
    const Shard& shard = shard_of(id);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.known.find(id);
    return found == shard.known.end() ? nullptr : found->second.file;
  }

  // From now on the kernel is told of the object under another id, as of one that it does not know:
  // the inode that it has goes on with what the object was. False: that is so already.
  bool renew(std::uint64_t id) {
    std::lock_guard lock(renewed_mutex_);
    const std::uint64_t object = object_of_locked(id);
    Renewed& renewed = renewed_[object];
    if (renewed.ids.empty()) renewed.ids.push_back(object);
    if (renewed.ids.back() != id) return false;
    const std::uint64_t next = kFirstRenewed + renewals_++;
    renewed.ids.push_back(next);
    objects_[next] = object;
    any_renewed_.store(true, std::memory_order_release);
    return true;
  }
  // False: the kernel shall look the object up again.
  bool is_current(std::uint64_t id) const {
    if (!any_renewed_.load(std::memory_order_acquire)) return true;
    std::lock_guard lock(renewed_mutex_);
    return id_of_locked(object_of_locked(id)) == id;
  }
  // Those by which the kernel knows the object.
  std::vector<std::uint64_t> ids_of(std::uint64_t object) const {
    std::vector<std::uint64_t> ids{object};
    if (any_renewed_.load(std::memory_order_acquire)) {
      std::lock_guard lock(renewed_mutex_);
      const auto found = renewed_.find(object);
      if (found != renewed_.end()) ids = found->second.ids;
    }
    std::erase_if(ids, [this](std::uint64_t id) { return !knows(id); });
    return ids;
  }

  // All of them.
  std::vector<std::uint64_t> ids() const {
    std::vector<std::uint64_t> ids;
    for (const Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      for (const auto& [id, known] : shard.known) ids.push_back(id);
    }
    return ids;
  }

  void clear() {
    for (Shard& shard : shards_) {
      absl::flat_hash_map<std::uint64_t, Known> released;
      std::lock_guard lock(shard.mutex);
      released.swap(shard.known);
    }
    count_.store(0, std::memory_order_relaxed);
  }
  std::uint64_t size() const { return count_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kFirstRenewed = std::uint64_t{1} << 62U;  // beyond all objects

  struct Known {
    OpenFilePtr file;
    std::uint64_t lookups = 0;
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    absl::flat_hash_map<std::uint64_t, Known> known;
  };
  struct Renewed {
    std::vector<std::uint64_t> ids;  // the last one is what the kernel is told
  };

  Shard& shard_of(std::uint64_t id) { return shards_[id % shards_.size()]; }
  const Shard& shard_of(std::uint64_t id) const { return shards_[id % shards_.size()]; }
  bool knows(std::uint64_t id) const { return find(id) != nullptr; }

  // REQUIRES of the following: renewed_mutex_.
  std::uint64_t id_of_locked(std::uint64_t object) const {
    const auto found = renewed_.find(object);
    return found == renewed_.end() ? object : found->second.ids.back();
  }
  std::uint64_t object_of_locked(std::uint64_t id) const {
    const auto found = objects_.find(id);
    return found == objects_.end() ? id : found->second;
  }
  // An id may come back only when no inode of an earlier time is left.
  void forget_renewed(std::uint64_t id) {
    const std::uint64_t object = object_of_locked(id);
    const auto found = renewed_.find(object);
    if (found == renewed_.end()) return;
    for (const std::uint64_t one : found->second.ids) {
      if (knows(one)) return;
    }
    for (const std::uint64_t one : found->second.ids) objects_.erase(one);
    renewed_.erase(found);
    if (renewed_.empty()) any_renewed_.store(false, std::memory_order_release);
  }

  std::array<Shard, 32> shards_;
  std::atomic<std::uint64_t> count_{0};
  std::atomic<bool> any_renewed_{false};
  mutable std::mutex renewed_mutex_;                     // before a shard's; guards what follows
  absl::flat_hash_map<std::uint64_t, Renewed> renewed_;  // by object
  absl::flat_hash_map<std::uint64_t, std::uint64_t> objects_;  // by renewed id
  std::uint64_t renewals_ = 0;
};

// An open file of the kernel.
struct Handle {
  Handle() = default;
  ~Handle() {
    if (closer != nullptr) (void)closer->close(Context{}, std::move(file));
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  OpenFilePtr file;
  // Who closes it with the last reference: a call that was given up may go on after the release.
  AnyFilesystem* closer = nullptr;
  std::uint64_t node = 0;
  Passthrough::Way way = Passthrough::Way::kNone;
  bool only_reads = false;
  bool moves_offset = false;  // its reads and writes move the open file's own: others have it too
  std::mutex listing;         // held while its offset and a listing are one step
};
using HandlePtr = std::shared_ptr<Handle>;

class Handles {
 public:
  std::uint64_t add(OpenFilePtr file, std::uint64_t node, Passthrough::Way way, bool only_reads) {
    auto handle = std::make_shared<Handle>();
    handle->file = std::move(file);
    handle->node = node;
    handle->way = way;
    handle->only_reads = only_reads;
    std::lock_guard lock(mutex_);
    if (free_.empty()) {
      handles_.push_back(std::move(handle));
      return handles_.size();
    }
    const std::uint64_t number = free_.back();
    free_.pop_back();
    handles_[number - 1] = std::move(handle);
    return number;
  }
  // The same open file as somebody else's.
  std::uint64_t add_shared(OpenFilePtr file, std::uint64_t node) {
    const std::uint64_t number = add(std::move(file), node, Passthrough::Way::kNone, false);
    find(number)->moves_offset = true;
    return number;
  }
  HandlePtr find(std::uint64_t number) const {
    std::lock_guard lock(mutex_);
    return number - 1 < handles_.size() ? handles_[number - 1] : nullptr;
  }
  HandlePtr remove(std::uint64_t number) {
    std::lock_guard lock(mutex_);
    if (number - 1 >= handles_.size() || handles_[number - 1] == nullptr) return nullptr;
    free_.push_back(number);
    return std::exchange(handles_[number - 1], nullptr);
  }
  std::vector<HandlePtr> remove_all() {
    std::lock_guard lock(mutex_);
    free_.clear();
    return std::exchange(handles_, {});
  }
  std::uint64_t size() const {
    std::lock_guard lock(mutex_);
    return handles_.size() - free_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<HandlePtr> handles_;  // the handle's number is its place + 1
  std::vector<std::uint64_t> free_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_NODES_H_
