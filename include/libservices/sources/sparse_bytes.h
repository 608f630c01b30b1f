// SPDX-License-Identifier: Apache-2.0
//
// The content of one file in memory: pages of 4 KiB, of which only those that were written exist.
//
// THREADS: const members may run at once; the owner orders everything else.
// OWNS: its pages, each of which is taken from a `PageBudget` that several files share.
#ifndef LIBSERVICES_SOURCES_SPARSE_BYTES_H_
#define LIBSERVICES_SOURCES_SPARSE_BYTES_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "absl/container/btree_map.h"

namespace libservices::internal {

inline constexpr std::uint64_t kPageBytes = 4096;

class PageBudget {
 public:
  explicit PageBudget(std::uint64_t pages) : pages_(pages) {}

  bool take() {
    if (used_.fetch_add(1, std::memory_order_relaxed) < pages_) return true;
    used_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  // Pages that there are already, whatever the budget is.
  void charge(std::uint64_t pages) { used_.fetch_add(pages, std::memory_order_relaxed); }
  void give_back(std::uint64_t pages) { used_.fetch_sub(pages, std::memory_order_relaxed); }
  std::uint64_t pages() const { return pages_; }
  bool is_limited() const { return pages_ < UINT64_MAX / kPageBytes; }
  std::uint64_t used() const {
    return std::min(pages_, used_.load(std::memory_order_relaxed));
  }

 private:
  const std::uint64_t pages_;
  std::atomic<std::uint64_t> used_{0};  // a count by itself: nothing else is published with it
};

class SparseBytes {
 public:
  explicit SparseBytes(std::shared_ptr<PageBudget> budget) : budget_(std::move(budget)) {}
  ~SparseBytes() { budget_->give_back(pages_.size()); }
  SparseBytes(const SparseBytes&) = delete;
  SparseBytes& operator=(const SparseBytes&) = delete;

  std::uint64_t pages() const { return pages_.size(); }

  // Fills all of `into`; what was never written is zero.
  void read(std::uint64_t offset, std::span<std::byte> into) const {
    auto page = pages_.lower_bound(offset / kPageBytes);
    while (!into.empty()) {
      const std::uint64_t begin = offset % kPageBytes;
      const std::size_t count = std::min<std::uint64_t>(kPageBytes - begin, into.size());
      if (page != pages_.end() && page->first == offset / kPageBytes) {
        std::memcpy(into.data(), page->second->data() + begin, count);
        ++page;
      } else {
        std::memset(into.data(), 0, count);
      }
      into = into.subspan(count);
      offset += count;
    }
  }

  // How much was written: less than `from.size()` when the budget is at its end.
  std::size_t write(std::uint64_t offset, std::span<const std::byte> from) {
    std::size_t written = 0;
    while (written < from.size()) {
      const std::uint64_t begin = (offset + written) % kPageBytes;
      const std::size_t count =
          std::min<std::uint64_t>(kPageBytes - begin, from.size() - written);
      Page* page = ensure((offset + written) / kPageBytes);
      if (page == nullptr) break;
      std::memcpy(page->data() + begin, from.data() + written, count);
      written += count;
    }
    return written;
  }

  // Makes pages exist for [offset, offset + length). False when the budget is at its end.
  bool allocate(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return true;
    for (std::uint64_t i = offset / kPageBytes; i <= (offset + length - 1) / kPageBytes; ++i) {
      if (ensure(i) == nullptr) return false;
    }
    return true;
  }

  // Zeros in [offset, offset + length); whole pages in it cease to exist.
  void erase(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return;
    const std::uint64_t end = offset + length;
    auto page = pages_.lower_bound(offset / kPageBytes);
    while (page != pages_.end() && page->first * kPageBytes < end) {
      const std::uint64_t start = page->first * kPageBytes;
      const std::uint64_t from = std::max(offset, start) - start;
      const std::uint64_t to = std::min(end - start, kPageBytes);
      if (from == 0 && to == kPageBytes) {
        page = pages_.erase(page);
        budget_->give_back(1);
      } else {
        std::memset(page->second->data() + from, 0, to - from);
        ++page;
      }
    }
  }

  // Drops everything behind `size`.
  void truncate(std::uint64_t size) {
    const std::uint64_t kept = (size + kPageBytes - 1) / kPageBytes;
    auto first = pages_.lower_bound(kept);
    std::uint64_t dropped = 0;
    for (auto page = first; page != pages_.end(); ++page) ++dropped;
    pages_.erase(first, pages_.end());
    budget_->give_back(dropped);
    if (size % kPageBytes != 0) erase(size, kPageBytes - size % kPageBytes);
  }

  // The first existing byte at or behind `offset`, UINT64_MAX if there is none.
  std::uint64_t next_data(std::uint64_t offset) const {
    auto page = pages_.lower_bound(offset / kPageBytes);
    if (page == pages_.end()) return UINT64_MAX;
    return std::max(offset, page->first * kPageBytes);
  }

  std::uint64_t next_hole(std::uint64_t offset) const {
    std::uint64_t index = offset / kPageBytes;
    for (auto page = pages_.find(index); page != pages_.end() && page->first == index; ++page) {
      ++index;
    }
    return std::max(offset, index * kPageBytes);
  }

 private:
  using Page = std::array<std::byte, kPageBytes>;

  // Null when there is no page to be had.
  Page* ensure(std::uint64_t index) {
    auto at = pages_.lower_bound(index);
    if (at != pages_.end() && at->first == index) return at->second.get();
    if (!budget_->take()) return nullptr;
    std::unique_ptr<Page> fresh(new (std::nothrow) Page());
    if (!fresh) {
      budget_->give_back(1);
      return nullptr;
    }
    return pages_.emplace_hint(at, index, std::move(fresh))->second.get();
  }

  std::shared_ptr<PageBudget> budget_;
  absl::btree_map<std::uint64_t, std::unique_ptr<Page>> pages_;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_SOURCES_SPARSE_BYTES_H_
