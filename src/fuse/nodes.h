// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of a filesystem instance: objects by node id, with the number of times that
// it was told of each, and open files by handle.
//
// A node id is the object's number of `Reference`: however many names and lookups lead to an object,
// the kernel has one inode for it, with one page cache. An object that the kernel knows stays known
// to the filesystem, so its number stays too.
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
  // Tells the kernel of the object once more.
  void add(const Reference& reference) {
    OpenFilePtr released;  // behind the lock
    Shard& shard = shard_of(reference.object);
    std::lock_guard lock(shard.mutex);
    Known& known = shard.known[reference.object];
    ++known.lookups;
    if (known.file == nullptr) {
      known.file = reference.file;
      count_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  // The kernel has forgotten `lookups` of them.
  void forget(std::uint64_t object, std::uint64_t lookups) {
    OpenFilePtr released;
    Shard& shard = shard_of(object);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.known.find(object);
    if (found == shard.known.end()) return;
    if (found->second.lookups > lookups) {
      found->second.lookups -= lookups;
      return;
    }
    released = std::move(found->second.file);
    shard.known.erase(found);
    count_.fetch_sub(1, std::memory_order_relaxed);
  }
  // Null: the kernel was not told of it.
  OpenFilePtr find(std::uint64_t object) const {
    const Shard& shard = shard_of(object);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.known.find(object);
    return found == shard.known.end() ? nullptr : found->second.file;
  }
  bool knows(std::uint64_t object) const {
    const Shard& shard = shard_of(object);
    std::lock_guard lock(shard.mutex);
    return shard.known.contains(object);
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
  struct Known {
    OpenFilePtr file;
    std::uint64_t lookups = 0;
  };
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    absl::flat_hash_map<std::uint64_t, Known> known;
  };
  Shard& shard_of(std::uint64_t object) { return shards_[object % shards_.size()]; }
  const Shard& shard_of(std::uint64_t object) const { return shards_[object % shards_.size()]; }

  std::array<Shard, 32> shards_;
  std::atomic<std::uint64_t> count_{0};
};

// An open file of the kernel.
struct Handle {
  OpenFilePtr file;    // until the kernel releases it, after its last request
  std::uint64_t object = 0;
  Passthrough::Way way = Passthrough::Way::kNone;
  std::mutex listing;  // held while its offset and a listing are one step
};
using HandlePtr = std::shared_ptr<Handle>;

class Handles {
 public:
  std::uint64_t add(OpenFilePtr file, std::uint64_t object, Passthrough::Way way) {
    auto handle = std::make_shared<Handle>();
    handle->file = std::move(file);
    handle->object = object;
    handle->way = way;
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
