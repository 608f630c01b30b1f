// SPDX-License-Identifier: Apache-2.0
//
// `RangeMap`: which bytes of a file that was copied up in part are in the upper branch.
//
// The file is cut into chunks of one size, a power of two. A chunk is *here*, in the upper, or
// still *below*. What lies at or behind `limit` is always here: the lower file ends there, or the
// file was once cut there. So an append needs no map, and a truncation no more than a lower limit.
//
// A chunk that was brought here since the last fsync is *unsynced*. In another data epoch
// (capabilities.h) than the one of the map its mark is in doubt: after a power cut the chunk's
// bytes may not have reached storage although the mark has: chunk_copy_up.h looks what is there.
// What fsync acknowledged is synced, and always here.
//
// On disk (little endian): version 1, log2 of the chunk size, 6 bytes 0, limit, epoch, Stamp, then
// the runs of synced chunks and those of unsynced ones: a count, and for each run the chunks
// between it and the one before, and its length, all as LEB128.
#ifndef LIBSERVICES_SERVICES_UNION_RANGES_H_
#define LIBSERVICES_SERVICES_UNION_RANGES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "libservices/attributes.h"

namespace libservices::union_internal {

// A set of chunk numbers, as runs.
class ChunkSet {
 public:
  bool contains(std::uint64_t chunk) const { return end_of_run(chunk) > chunk; }
  // The end of the run that `chunk` is in, or `chunk` itself.
  std::uint64_t end_of_run(std::uint64_t chunk) const {
    auto next = runs_.upper_bound(chunk);
    if (next == runs_.begin()) return chunk;
    return std::max(chunk, std::prev(next)->second);
  }
  // The begin of the first run behind `chunk`, or UINT64_MAX.
  std::uint64_t next_run(std::uint64_t chunk) const {
    const auto next = runs_.upper_bound(chunk);
    return next == runs_.end() ? UINT64_MAX : next->first;
  }
  void add(std::uint64_t first, std::uint64_t end) {
    if (first >= end) return;
    auto at = runs_.upper_bound(first);
    if (at != runs_.begin() && std::prev(at)->second >= first) {
      at = std::prev(at);
      first = at->first;
      end = std::max(end, at->second);
      at = runs_.erase(at);
    }
    while (at != runs_.end() && at->first <= end) {
      end = std::max(end, at->second);
      at = runs_.erase(at);
    }
    runs_[first] = end;
  }
  // Everything at and behind `end` goes.
  void cut(std::uint64_t end) {
    runs_.erase(runs_.lower_bound(end), runs_.end());
    if (!runs_.empty()) {
      auto last = std::prev(runs_.end());
      last->second = std::min(last->second, end);
    }
  }
  void add(const ChunkSet& other) {
    for (const auto& [first, end] : other.runs_) add(first, end);
  }
  // What is in here and not in `other`.
  ChunkSet without(const ChunkSet& other) const {
    ChunkSet rest;
    for (const auto& [first, end] : runs_) {
      for (std::uint64_t at = first; at < end;) {
        if (const std::uint64_t skipped = other.end_of_run(at); skipped > at) {
          at = skipped;
          continue;
        }
        const std::uint64_t stop = std::min(end, other.next_run(at));
        rest.add(at, stop);
        at = stop;
      }
    }
    return rest;
  }
  bool empty() const { return runs_.empty(); }
  const std::map<std::uint64_t, std::uint64_t>& runs() const { return runs_; }  // first → end

 private:
  std::map<std::uint64_t, std::uint64_t> runs_;
};

class RangeMap {
 public:
  static constexpr unsigned kSmallestShift = 12;
  static constexpr unsigned kLargestShift = 40;
  // An encoded map is never longer, so that it fits where extended attributes are small (ext4).
  static constexpr std::size_t kMostBytes = 2048;

  // Which lower file it was: another size or time, and the bytes below are not those meant.
  struct Stamp {
    std::uint64_t size = 0;
    Timestamp mtime;

    bool matches(const Attributes& lower) const {
      return lower.size == size && lower.mtime == mtime;
    }
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  RangeMap(unsigned shift, const Attributes& lower)
      : shift_(shift), limit_(lower.size), stamp_{lower.size, lower.mtime} {}

  std::uint64_t chunk_bytes() const { return std::uint64_t{1} << shift_; }
  std::uint64_t limit() const { return limit_; }
  std::uint64_t epoch() const { return epoch_; }  // of a decoded map
  const Stamp& stamp() const { return stamp_; }

  struct Piece {
    bool here;
    std::uint64_t end;  // UINT64_MAX: everything behind
  };
  // The bytes from `offset` on that are in one place.
  Piece piece_at(std::uint64_t offset) const {
    if (offset >= limit_) return {true, UINT64_MAX};
    const std::uint64_t chunk = offset >> shift_;
    if (const std::uint64_t end = here_.end_of_run(chunk); end > chunk) {
      return {true, end << shift_ >= limit_ ? UINT64_MAX : end << shift_};
    }
    const std::uint64_t next = here_.next_run(chunk);
    const std::uint64_t end = next >> (64 - shift_) != 0 ? limit_ : next << shift_;
    return {false, std::min(end, limit_)};
  }
  bool is_here(std::uint64_t offset, std::uint64_t end) const {
    return offset >= end || (piece_at(offset).here && piece_at(offset).end >= end);
  }
  // Nothing is left below.
  bool is_whole() const { return is_here(0, UINT64_MAX); }
  bool has_unsynced() const { return !unsynced_.empty(); }
  // The unsynced chunks, which are below from now on.
  ChunkSet take_unsynced() {
    here_ = here_.without(unsynced_);
    return std::exchange(unsynced_, {});
  }
  // The chunks that `offset` to `end` touches are here, from now on.
  void bring(std::uint64_t offset, std::uint64_t end) {
    end = std::min(end, limit_);
    if (offset >= end) return;
    const std::uint64_t first = offset >> shift_;
    const std::uint64_t last = (end + chunk_bytes() - 1) >> shift_;
    // Only those that were not: synced ones stay so.
    ChunkSet brought;
    brought.add(first, last);
    unsynced_.add(brought.without(here_));
    here_.add(first, last);
  }
  const ChunkSet& unsynced() const { return unsynced_; }
  void set_synced(const ChunkSet& chunks) { unsynced_ = unsynced_.without(chunks); }
  void cut(std::uint64_t size) {
    limit_ = std::min(limit_, size);
    const std::uint64_t end = (limit_ + chunk_bytes() - 1) >> shift_;
    here_.cut(end);
    unsynced_.cut(end);
  }
  // With chunks of twice the size. REQUIRES: no such chunk is here in part.
  void coarsen() {
    ++shift_;
    for (ChunkSet* const set : {&here_, &unsynced_}) {
      ChunkSet wider;  // a chunk that is unsynced in part counts as unsynced
      for (const auto& [first, end] : set->runs()) wider.add(first / 2, (end + 1) / 2);
      *set = std::move(wider);
    }
  }
  // The chunks that are here.
  const ChunkSet& here() const { return here_; }

  std::vector<std::byte> encode(std::uint64_t epoch) const {
    std::vector<std::byte> out(kHeaderBytes);
    out[0] = std::byte{1};
    out[1] = static_cast<std::byte>(shift_);
    const std::uint64_t words[] = {limit_, epoch, stamp_.size,
                                   static_cast<std::uint64_t>(stamp_.mtime.seconds),
                                   stamp_.mtime.nanoseconds};
    std::memcpy(out.data() + 8, words, sizeof words);
    const ChunkSet synced = here_.without(unsynced_);
    for (const ChunkSet* const set : {&synced, &unsynced_}) {
      put(out, set->runs().size());
      std::uint64_t at = 0;
      for (const auto& [first, end] : set->runs()) {
        put(out, first - at);
        put(out, end - first);
        at = end;
      }
    }
    return out;
  }

  // Empty: it is none of ours, or damaged.
  static std::optional<RangeMap> decode(std::span<const std::byte> in) {
    if (in.size() < kHeaderBytes || in[0] != std::byte{1}) return std::nullopt;
    const auto shift = std::to_integer<unsigned>(in[1]);
    if (shift < kSmallestShift || shift > kLargestShift) return std::nullopt;
    std::uint64_t words[5];
    std::memcpy(words, in.data() + 8, sizeof words);
    Attributes lower;
    lower.size = words[2];
    lower.mtime = {static_cast<std::int64_t>(words[3]), static_cast<std::uint32_t>(words[4]), 0};
    RangeMap map(shift, lower);
    if (words[0] > map.limit_) return std::nullopt;
    map.limit_ = words[0];
    map.epoch_ = words[1];
    in = in.subspan(kHeaderBytes);
    for (const bool synced : {true, false}) {
      std::uint64_t count = 0;
      if (!take(in, count)) return std::nullopt;
      for (std::uint64_t at = 0; count > 0; --count) {
        std::uint64_t gap = 0;
        std::uint64_t length = 0;
        constexpr std::uint64_t kMost = std::uint64_t{1} << 52U;
        if (!take(in, gap) || !take(in, length) || gap > kMost || length > kMost) {
          return std::nullopt;
        }
        at += gap;
        map.here_.add(at, at + length);
        if (!synced) map.unsynced_.add(at, at + length);
        at += length;
        if (at > kMost) return std::nullopt;
      }
    }
    return map;
  }

 private:
  static constexpr std::size_t kHeaderBytes = 8 + 5 * 8;

  static void put(std::vector<std::byte>& out, std::uint64_t number) {
    for (; number >= 0x80; number >>= 7U) {
      out.push_back(static_cast<std::byte>((number & 0x7fU) | 0x80U));
    }
    out.push_back(static_cast<std::byte>(number));
  }
  static bool take(std::span<const std::byte>& in, std::uint64_t& number) {
    number = 0;
    for (unsigned shift = 0; !in.empty() && shift < 63; shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(in.front());
      in = in.subspan(1);
      number |= (byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return true;
    }
    return false;
  }

  unsigned shift_;
  std::uint64_t limit_;
  std::uint64_t epoch_ = 0;
  Stamp stamp_;
  ChunkSet here_;      // all that count
  ChunkSet unsynced_;  // those of them that are not synced
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_RANGES_H_
