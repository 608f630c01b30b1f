// SPDX-License-Identifier: Apache-2.0
//
// The bounded dentry cache of a `Filesystem`: (directory, name) → object, or "there is none".
//
// A set-associative table of fixed size: a name can only be in the bucket of its hash, and a new
// name takes the place of one there that was not used lately. So it never grows, never rehashes,
// and a lookup touches two cache lines under one striped lock.
//
// THREADS: all members may be called at once. Objects that fall out are released outside the lock.
#ifndef LIBSERVICES_INTERNAL_NAME_CACHE_H_
#define LIBSERVICES_INTERNAL_NAME_CACHE_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/internal/spin_lock.h"

namespace libservices::internal {

template <class Object>
class NameCache {
 public:
  using Pointer = std::shared_ptr<Object>;

  // Room for at least `capacity` names.
  explicit NameCache(std::size_t capacity)
      : buckets_(std::bit_ceil(std::max<std::size_t>(capacity / kWays, kStripes))) {}

  // nullopt: not known. A null pointer: known to be missing. `filled` is what put() was given.
  struct Hit {
    Pointer object;
    std::uint64_t filled;
  };
  std::optional<Hit> find(std::uint64_t directory, std::string_view name) {
    const std::uint64_t hash = hash_of(directory, name);
    Bucket& bucket = bucket_of(hash);
    std::lock_guard lock(stripe_of(hash));
    const int way = way_of(bucket, hash, directory, name);
    if (way < 0) return std::nullopt;
    bucket.used |= static_cast<std::uint8_t>(1U << way);
    return Hit{bucket.slots[way].object, bucket.slots[way].filled};
  }

  void put(std::uint64_t directory, std::string_view name, Pointer object, std::uint64_t filled) {
    const std::uint64_t hash = hash_of(directory, name);
    Bucket& bucket = bucket_of(hash);
    std::lock_guard lock(stripe_of(hash));
    int way = way_of(bucket, hash, directory, name);
    if (way < 0) {
      way = victim(bucket);
      bucket.hashes[way] = hash;
      bucket.slots[way].directory = directory;
      bucket.slots[way].name.assign(name);
    }
    bucket.used |= static_cast<std::uint8_t>(1U << way);
    bucket.slots[way].filled = filled;
    object.swap(bucket.slots[way].object);  // the old object is released behind the lock
    // `object` is a parameter: it is destroyed after `lock`.
  }

  void erase(std::uint64_t directory, std::string_view name) {
    const std::uint64_t hash = hash_of(directory, name);
    Bucket& bucket = bucket_of(hash);
    Pointer released;
    std::lock_guard lock(stripe_of(hash));
    const int way = way_of(bucket, hash, directory, name);
    if (way < 0) return;
    bucket.hashes[way] = 0;
    released.swap(bucket.slots[way].object);
  }

  void clear() {
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      std::array<Pointer, kWays> released;
      std::lock_guard lock(stripes_[i % kStripes]);
      for (std::size_t way = 0; way < kWays; ++way) {
        buckets_[i].hashes[way] = 0;
        released[way].swap(buckets_[i].slots[way].object);
      }
    }
  }

  std::size_t size() const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      std::lock_guard lock(stripes_[i % kStripes]);
      for (std::uint64_t hash : buckets_[i].hashes) count += hash != 0 ? 1 : 0;
    }
    return count;
  }

 private:
  static constexpr std::size_t kWays = 8;
  static constexpr std::size_t kStripes = 64;

  struct alignas(64) Stripe : SpinLock {};
  struct Slot {
    std::uint64_t directory = 0;
    std::uint64_t filled = 0;
    Pointer object;
    std::string name;
  };
  struct Bucket {
    std::array<std::uint64_t, kWays> hashes{};  // 0 = free
    std::uint8_t used = 0;                      // bit of a way: used since the hand passed
    std::uint8_t hand = 0;
    std::array<Slot, kWays> slots;
  };

  static std::uint64_t hash_of(std::uint64_t directory, std::string_view name) {
    std::uint64_t hash = std::hash<std::string_view>{}(name) ^ (directory * 0x9e3779b97f4a7c15ULL);
    hash ^= hash >> 32U;
    hash *= 0xd6e8feb86659fd93ULL;
    hash ^= hash >> 29U;
    return hash == 0 ? 1 : hash;
  }
  std::size_t index_of(std::uint64_t hash) const { return hash & (buckets_.size() - 1); }
  Bucket& bucket_of(std::uint64_t hash) { return buckets_[index_of(hash)]; }
  Stripe& stripe_of(std::uint64_t hash) { return stripes_[index_of(hash) % kStripes]; }

  static int way_of(const Bucket& bucket, std::uint64_t hash, std::uint64_t directory,
                    std::string_view name) {
    for (std::size_t way = 0; way < kWays; ++way) {
      if (bucket.hashes[way] == hash && bucket.slots[way].directory == directory &&
          bucket.slots[way].name == name) {
        return static_cast<int>(way);
      }
    }
    return -1;
  }

  static int victim(Bucket& bucket) {
    for (std::size_t way = 0; way < kWays; ++way) {
      if (bucket.hashes[way] == 0) return static_cast<int>(way);
    }
    for (;;) {
      const unsigned way = bucket.hand++ % kWays;
      if ((bucket.used & (1U << way)) == 0) return static_cast<int>(way);
      bucket.used &= static_cast<std::uint8_t>(~(1U << way));
    }
  }

  std::vector<Bucket> buckets_;  // a power of two; bucket i is guarded by stripes_[i % kStripes]
  mutable std::array<Stripe, kStripes> stripes_;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_NAME_CACHE_H_
