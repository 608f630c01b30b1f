// SPDX-License-Identifier: Apache-2.0
//
// Handles of files that were read and closed, for whoever opens them next.
//
// SOURCE: libcephfs 16.2 tells the MDS of an open that wants rights which the MDS does not know to
// be wanted, and of a close that wants them no more, though it has them all along (Client::_open,
// Client::check_caps). A file that is opened and closed again and again then costs two messages
// each time. So a handle stays open for one to two rounds, and what it wants stays wanted. THREADS:
// all functions at once.
#ifndef LIBSERVICES_SERVICES_CEPH_IDLE_HANDLES_H_
#define LIBSERVICES_SERVICES_CEPH_IDLE_HANDLES_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace libservices::ceph_internal {

// `Owner`: that with which a handle ends, and who it was opened for. Comparable.
template <class Handle, class Owner>
class IdleHandles {
 public:
  static constexpr std::size_t kMost = 1024;

  // Null when there is none of this owner's.
  Handle* take(std::uint64_t file, const Owner& owner) {
    Shard& shard = shard_of(file);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.idle.find(file);
    if (found == shard.idle.end() || !(found->second.owner == owner)) return nullptr;
    Handle* const handle = found->second.handle;
    shard.idle.erase(found);
    count_.fetch_sub(1);
    return handle;
  }

  // False: there is no place for it, and it stays the caller's.
  bool keep(std::uint64_t file, const Owner& owner, Handle* handle) {
    Shard& shard = shard_of(file);
    const std::lock_guard lock(shard.mutex);
    if (shard.idle.size() >= kMost / kShards) return false;
    if (!shard.idle.try_emplace(file, Idle{owner, handle, true}).second) return false;
    count_.fetch_add(1);
    return true;
  }

  bool empty() const { return count_.load() == 0; }

  // One round is over: those that came before it, or all, which are the caller's from now on.
  enum class Which : std::uint8_t { kOld, kAll };
  std::vector<std::pair<Owner, Handle*>> end(Which which) {
    std::vector<std::pair<Owner, Handle*>> ended;
    for (Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      absl::erase_if(shard.idle, [&](auto& entry) {
        Idle& idle = entry.second;
        if (which == Which::kOld && std::exchange(idle.is_new, false)) return false;
        ended.emplace_back(idle.owner, idle.handle);
        return true;
      });
    }
    count_.fetch_sub(ended.size());
    return ended;
  }

 private:
  struct Idle {
    Owner owner;
    Handle* handle;
    bool is_new;  // in this round
  };
  struct alignas(64) Shard {
    std::mutex mutex;
    absl::flat_hash_map<std::uint64_t, Idle> idle;
  };
  static constexpr std::size_t kShards = 16;

  Shard& shard_of(std::uint64_t file) { return shards_[file % kShards]; }

  std::array<Shard, kShards> shards_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_IDLE_HANDLES_H_
