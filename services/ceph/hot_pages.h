// SPDX-License-Identifier: Apache-2.0
//
// Pages of files that never change, kept where no lock of libcephfs's is in the way.
//
// libcephfs answers reads from its own cache, one thread after the other. Who reads small pieces of
// an image, again and again and from several threads, is answered from here. A page comes in when
// it was read whole. Nothing takes pages out but others that are read, so what is kept must never
// change: `Ceph` uses this for directories that are told to be `unchanging`, and not in snapshots,
// whose files have the inode numbers of those outside.
// THREADS: all functions at once.
#ifndef LIBSERVICES_SERVICES_CEPH_HOT_PAGES_H_
#define LIBSERVICES_SERVICES_CEPH_HOT_PAGES_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace libservices::ceph_internal {

class HotPages {
 public:
  static constexpr std::uint64_t kPage = 4096;
  // Larger reads take so long to copy that a lock before them is nothing.
  static constexpr std::uint64_t kLargestRead = 8 * kPage;

  // Memory is taken as pages come in.
  explicit HotPages(std::uint64_t bytes) : most_(bytes / kPage / kShards) {}

  bool takes(std::uint64_t size) const { return most_ != 0 && size <= kLargestRead; }

  // Whether all of it is here.
  bool read(std::uint64_t file, std::uint64_t offset, std::span<std::byte> into) {
    while (!into.empty()) {
      const Key key{file, offset / kPage};
      const std::uint64_t begin = offset % kPage;
      const std::size_t size = std::min<std::uint64_t>(into.size(), kPage - begin);
      Shard& shard = shard_of(key);
      std::shared_lock lock(shard.mutex);
      const auto found = shard.places.find(key);
      if (found == shard.places.end()) return false;
      Page& page = *found->second;
      std::memcpy(into.data(), page.bytes.data() + begin, size);
      // Not written when it is as before: the line stays shared between the threads that read it.
      if (!page.used.load(std::memory_order_relaxed)) {
        page.used.store(true, std::memory_order_relaxed);
      }
      into = into.subspan(size);
      offset += size;
    }
    return true;
  }

  // The pages that lie in what was read from `offset` on.
  void keep(std::uint64_t file, std::uint64_t offset, std::span<const std::byte> read) {
    const std::uint64_t skipped = (kPage - offset % kPage) % kPage;
    for (std::uint64_t at = skipped; at + kPage <= read.size(); at += kPage) {
      put({file, (offset + at) / kPage}, read.subspan(at, kPage));
    }
  }

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // of a file, its page
  struct Page {
    Key key{};
    std::atomic<bool> used{false};  // since the hand of the clock came by
    std::array<std::byte, kPage> bytes;
  };
  struct alignas(64) Shard {
    std::shared_mutex mutex;  // guards what follows, and the bytes of its pages
    absl::flat_hash_map<Key, Page*> places;
    std::deque<Page> pages;
    std::size_t hand = 0;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(const Key& key) {
    // Neighbours lie in different ones.
    return shards_[(key.first * 0x9e3779b97f4a7c15 + key.second) % kShards];
  }

  void put(const Key& key, std::span<const std::byte> bytes) {
    Shard& shard = shard_of(key);
    std::lock_guard lock(shard.mutex);
    if (shard.places.contains(key)) return;
    Page* page = nullptr;
    if (shard.pages.size() < most_) {
      page = &shard.pages.emplace_back();
    } else {
      page = &next_unused(shard);
      shard.places.erase(page->key);
    }
    page->key = key;
    std::memcpy(page->bytes.data(), bytes.data(), kPage);
    shard.places.emplace(key, page);
  }

  // REQUIRES: the shard's mutex, exclusively, and a page in it.
  static Page& next_unused(Shard& shard) {
    for (;;) {
      Page& page = shard.pages[shard.hand];
      shard.hand = (shard.hand + 1) % shard.pages.size();
      if (!page.used.exchange(false, std::memory_order_relaxed)) return page;
    }
  }

  const std::size_t most_;  // of a shard
  std::array<Shard, kShards> shards_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_HOT_PAGES_H_
