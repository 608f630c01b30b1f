// SPDX-License-Identifier: Apache-2.0
//
// Which files have changes that the cluster may not have, and of which such changes were lost.
//
// A client that is shut out loses them, and libcephfs tells nobody: fsync must not succeed then,
// whoever calls it. So each file that is written has a `Writes` here, by its inode number, until it
// is synchronised; also when it is closed before that.
#ifndef LIBSERVICES_SERVICES_CEPH_UNSYNCED_H_
#define LIBSERVICES_SERVICES_CEPH_UNSYNCED_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace libservices::ceph_internal {

class Writes {
 public:
  // Around a change: what begins or ends after a synchronisation has begun needs another one.
  void count() { counted_.fetch_add(1); }
  std::uint64_t counted() const { return counted_.load(); }
  void synchronised(std::uint64_t counted) {
    std::uint64_t before = synced_.load();
    while (before < counted && !synced_.compare_exchange_weak(before, counted)) {
    }
  }
  bool pending() const { return counted_.load() != synced_.load(); }
  // The last generation of mounts that something was lost with; 0: none.
  std::uint64_t lost() const { return lost_.load(); }
  void lose(std::uint64_t generation) {
    synced_.store(counted_.load());
    lost_.store(generation);
  }
  // True for the first one who asks after a loss.
  bool tell() { return tell(lost()); }
  // Of what is lost with that generation, or will turn out to be.
  bool tell(std::uint64_t generation) {
    std::uint64_t before = told_.load();
    while (before < generation) {
      if (told_.compare_exchange_weak(before, generation)) return true;
    }
    return false;
  }
  bool is_told() const { return lost() <= told_.load(); }

 private:
  std::atomic<std::uint64_t> counted_{0};
  std::atomic<std::uint64_t> synced_{0};
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<std::uint64_t> told_{0};  // the last generation of whose losses somebody was told
};
using WritesPtr = std::shared_ptr<Writes>;

// THREADS: all members from any thread.
class Unsynced {
 public:
  // So many files are known that were closed before they were synchronised; then all are.
  static constexpr std::size_t kMost = 65536;

  WritesPtr of(std::uint64_t inode);
  // Null where nothing is known of it.
  WritesPtr find(std::uint64_t inode) const;
  // A file that was written is closed. True if it is time to synchronise everything.
  bool release(std::uint64_t inode, WritesPtr&& writes);
  // Everything that was written on a mount of this generation is gone.
  void lose(std::uint64_t generation);

  // All that is known, for who synchronises everything, and then says so.
  using Everything = std::vector<std::pair<WritesPtr, std::uint64_t>>;
  Everything everything() const;
  void synchronised(Everything all);

 private:
  // Nobody has it open, and there is nothing to tell.
  static bool is_done(const WritesPtr& writes) {
    return writes.use_count() == 1 && !writes->pending() && writes->is_told();
  }

  mutable std::mutex mutex_;  // guards what follows
  std::size_t most_ = kMost;  // more than what stays for other reasons
  absl::flat_hash_map<std::uint64_t, WritesPtr> files_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_UNSYNCED_H_
