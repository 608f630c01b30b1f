// SPDX-License-Identifier: Apache-2.0
//
// What is known of objects' access control lists, so that a permission check of an object without
// one asks the stack for nothing.
//
// `KnownLists` stands in each inode and holds while the stack changes only through this instance.
// Where others may change it, an inode does not outlive a call, and a list changes behind our back:
// there `BareObjects` remembers which objects had none, as of their ctime.
#ifndef LIBSERVICES_INTERNAL_KNOWN_LISTS_H_
#define LIBSERVICES_INTERNAL_KNOWN_LISTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "libservices/access_list.h"
#include "libservices/attributes.h"
#include "libservices/internal/spin_lock.h"

namespace libservices::internal {

// Null list: the object has none. `refused`: nor can it have one.
struct KnownList {
  std::shared_ptr<const AccessList> list;
  bool refused = false;
};

class KnownLists {
 public:
  using Kind = AccessList::Kind;

  // For sure; takes no lock.
  bool has_none(Kind kind) const {
    return (none_.load(std::memory_order_acquire) & bit_of(kind)) != 0;
  }
  std::optional<KnownList> find(Kind kind) const {
    std::lock_guard lock(lock_);
    return slots_[index_of(kind)];
  }

  // Taken before the stack is asked. An answer that a change has overtaken is not kept.
  std::uint64_t ticket() const { return version_.load(std::memory_order_acquire); }
  void store(Kind kind, KnownList known, std::uint64_t ticket) {
    std::lock_guard lock(lock_);
    if (version_.load(std::memory_order_relaxed) != ticket) return;
    if (known.list == nullptr) none_.fetch_or(bit_of(kind), std::memory_order_release);
    slots_[index_of(kind)] = std::move(known);
  }

  // Before a change of either list and after it.
  void forget() {
    std::lock_guard lock(lock_);
    version_.fetch_add(1, std::memory_order_acq_rel);
    none_.store(0, std::memory_order_release);
    slots_ = {};
  }

 private:
  static constexpr std::size_t index_of(Kind kind) { return static_cast<std::size_t>(kind); }
  static constexpr std::uint32_t bit_of(Kind kind) { return 1U << index_of(kind); }

  mutable SpinLock lock_;  // guards slots_ and writes of the others
  std::atomic<std::uint32_t> none_{0};
  std::atomic<std::uint64_t> version_{0};
  std::array<std::optional<KnownList>, 2> slots_;
};

// THREADS: all at once.
class BareObjects {
 public:
  using Kind = AccessList::Kind;

  std::optional<KnownList> find(Kind kind, const Attributes& seen) const {
    const Shard& shard = shard_of(kind, seen);
    const Entry& entry = shard.entry_of(seen);
    std::lock_guard lock(shard.lock);
    if (!entry.is(seen)) return std::nullopt;
    return KnownList{nullptr, entry.refused};
  }

  // `seen`: from before the stack was asked for the list. A change within the same tick of the
  // storage's clock would leave ctime as it is, so what has just changed is not remembered.
  void store(Kind kind, const Attributes& seen, bool refused) {
    constexpr std::int64_t kCoarsestTick = 2;  // seconds: ext4 with small inodes has 1
    if (seen.ctime.seconds + kCoarsestTick >= Timestamp::now().seconds) return;
    Shard& shard = shard_of(kind, seen);
    Entry& entry = shard.entry_of(seen);
    std::lock_guard lock(shard.lock);
    entry = {seen.device, seen.inode, seen.ctime.seconds, seen.ctime.nanoseconds, refused};
  }

 private:
  struct Entry {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = UINT32_MAX;  // no object's
    bool refused = false;

    bool is(const Attributes& seen) const {
      return device == seen.device && inode == seen.inode && seconds == seen.ctime.seconds &&
             nanoseconds == seen.ctime.nanoseconds;
    }
  };
  static constexpr std::size_t kShards = 64;  // for each kind
  static constexpr std::size_t kEntries = 64;
  static std::uint64_t hash(const Attributes& seen) {
    return (seen.inode ^ seen.device) * 0x9e3779b97f4a7c15U >> 32U;  // Fibonacci hashing
  }
  struct Shard {
    mutable SpinLock lock;
    std::array<Entry, kEntries> entries;
    Entry& entry_of(const Attributes& seen) { return entries[hash(seen) / kShards % kEntries]; }
    const Entry& entry_of(const Attributes& seen) const {
      return const_cast<Shard*>(this)->entry_of(seen);
    }
  };
  Shard& shard_of(Kind kind, const Attributes& seen) {
    return shards_[hash(seen) % kShards + (kind == Kind::kDefault ? kShards : 0)];
  }
  const Shard& shard_of(Kind kind, const Attributes& seen) const {
    return const_cast<BareObjects*>(this)->shard_of(kind, seen);
  }

  std::array<Shard, 2 * kShards> shards_;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_KNOWN_LISTS_H_
