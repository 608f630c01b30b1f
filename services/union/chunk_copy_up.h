// SPDX-License-Identifier: Apache-2.0
//
// The copy-up of chunks: parts of a file that was copied up without its content, or with some of
// it, come into the upper (ranges.h).
//
// First what is below of a chunk is written to the upper's file, where it does not count yet, then
// the caller's bytes, then the mark. A death of the service between two of these steps leaves the
// file as it was. So does a power cut: until the next fsync the chunk's mark is in doubt, and
// settle() finds out.
//
// REQUIRES, of every function: the file's PartialContent::mutex is held exclusively.
#ifndef LIBSERVICES_SERVICES_UNION_CHUNK_COPY_UP_H_
#define LIBSERVICES_SERVICES_UNION_CHUNK_COPY_UP_H_

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/lower_content.h"
#include "services/union/partial_marks.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class ChunkCopyUp {
 public:
  using Marks = PartialMarks<Upper, Lower>;
  using Partial = typename Marks::Partial;
  using Files = LowerFiles<Lower>;
  using UpperFile = typename Upper::File;
  using UpperNode = typename Upper::Node;
  using C = const Context&;

  // `durable`: the union writes through to storage what its Config says.
  ChunkCopyUp(Upper& upper, LowerContent<Lower> lower_content, Marks marks, bool durable)
      : upper_(upper), lower_content_(lower_content), marks_(marks), durable_(durable) {}

  // What of `begin` to `end` is below is written to the upper's file, which does not count yet.
  Result<void> fill(C context, Partial& partial, Files& files, UpperFile& file, std::uint64_t begin,
                    std::uint64_t end) {
    constexpr std::uint64_t kMostAtOnce = 1U << 20U;
    std::vector<std::byte> buffer;
    end = std::min(end, partial.map.limit());
    while (begin < end) {
      const auto piece = partial.map.piece_at(begin);
      const std::uint64_t stop = std::min({end, piece.end, begin + kMostAtOnce});
      if (!piece.here) {
        buffer.resize(stop - begin);
        LIBSERVICES_CHECK_OK(
            lower_content_.read_whole(context, partial.sources, files, begin, buffer));
        LIBSERVICES_CHECK_OK(put(context, file, begin, buffer));
      }
      begin = stop;
    }
    return {};
  }

  // Of the chunks at both ends of what will be written, the rest.
  Result<void> fill_around(C context, Partial& partial, Files& files, UpperFile& file,
                           std::uint64_t offset, std::uint64_t end) {
    const std::uint64_t mask = partial.map.chunk_bytes() - 1;
    LIBSERVICES_CHECK_OK(fill(context, partial, files, file, offset & ~mask, offset));
    return fill(context, partial, files, file, end, (end + mask) & ~mask);
  }

  // REQUIRES: the bytes are in the upper's file.
  Result<void> bring(C context, const UpperNode& node, Partial& partial, Files& files,
                     UpperFile& file, std::uint64_t offset, std::uint64_t end) {
    if (partial.map.is_here(offset, end)) return {};
    const RangeMap before = partial.map;
    auto done = bring_only(context, partial, files, file, offset, end);
    if (done.ok() && durable_ && !KnowsDataEpoch<Upper>) {
      // Bytes are lost with the service: they must be on storage before their mark.
      done = upper_.fsync(context, file, SyncScope::kData);
      partial.map.set_synced(partial.map.unsynced());
    }
    if (done.ok()) done = marks_.save(context, node, partial);
    if (!done.ok()) partial.map = before;
    return done;
  }
  // As bring(), without saving the map.
  Result<void> bring_only(C context, Partial& partial, Files& files, UpperFile& file,
                          std::uint64_t offset, std::uint64_t end) {
    partial.map.bring(offset, end);
    while (partial.map.encode(0).size() > RangeMap::kMostBytes) {
      LIBSERVICES_CHECK_OK(widen(context, partial, files, file));
    }
    if (!durable_) partial.map.set_synced(partial.map.unsynced());
    return {};
  }

  // Everything comes here, and the marks go.
  Result<void> complete(C context, const UpperNode& node, Partial& partial, Files& files,
                        UpperFile& file) {
    LIBSERVICES_CHECK_OK(marks_.save_if_needed(context, node, partial));
    LIBSERVICES_CHECK_OK(fill(context, partial, files, file, 0, partial.map.limit()));
    if (durable_) {
      LIBSERVICES_CHECK_OK(upper_.fsync(context, file, SyncScope::kAll));
    }
    partial.map.bring(0, partial.map.limit());
    partial.map.set_synced(partial.map.unsynced());
    marks_.finish(context, node, partial);
    return {};
  }

  // After a restart in another data epoch: whether chunks whose bytes may be lost have reached
  // storage. The map says it then, and is not saved.
  Result<void> settle(C context, Partial& partial, Files& files, UpperFile& file) {
    const std::uint64_t size = partial.map.chunk_bytes();
    const ChunkSet doubtful = partial.map.take_unsynced();
    if constexpr (OffersSeek<Upper>) {
      for (const auto& [first, last] : doubtful.runs()) {
        const std::uint64_t end = std::min(last * size, partial.map.limit());
        bool any = false;
        for (std::uint64_t at = first * size; at < end;) {
          auto data = upper_.seek(context, file, at, SeekTarget::kData);
          if (!data.ok() && data.error() != Errno{ENXIO}) return data.error();
          const std::uint64_t begins = data.ok() ? std::min(*data, end) : end;
          if (!any && begins == end) break;  // nothing of it was written: all is below
          any = true;
          LIBSERVICES_CHECK_OK(fill(context, partial, files, file, at, begins));
          if (begins == end) break;
          LIBSERVICES_TRY(at, upper_.seek(context, file, begins, SeekTarget::kHole));
        }
        if (any) partial.map.bring(first * size, end);
      }
    }
    return upper_.fsync(context, file, SyncScope::kAll);
  }

 private:
  // Writes all of it; zeros become a hole.
  Result<void> put(C context, UpperFile& file, std::uint64_t offset,
                   std::span<const std::byte> from) {
    if constexpr (OffersFallocate<Upper>) {
      const bool zeros = std::all_of(from.begin(), from.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
      if (zeros && from.size() >= kSmallestHole) {
        const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        if (upper_.fallocate(context, file, punch, offset, from.size()).ok()) return {};
      }
    }
    LIBSERVICES_TRY(const std::size_t count, upper_.write(context, file, offset, from));
    if (count < from.size()) return Errno{ENOSPC};
    return {};
  }

  // Chunks of twice the size, so that the map becomes shorter.
  Result<void> widen(C context, Partial& partial, Files& files, UpperFile& file) {
    const std::uint64_t size = partial.map.chunk_bytes();
    std::vector<std::uint64_t> missing;  // the other halves
    for (const auto& [first, end] : partial.map.here().runs()) {
      if (first % 2 != 0) missing.push_back(first - 1);
      if (end % 2 != 0) missing.push_back(end);
    }
    for (const std::uint64_t chunk : missing) {
      LIBSERVICES_CHECK_OK(fill(context, partial, files, file, chunk * size, (chunk + 1) * size));
      partial.map.bring(chunk * size, (chunk + 1) * size);
    }
    partial.map.coarsen();
    return {};
  }

  static constexpr std::size_t kSmallestHole = 65536;

  Upper& upper_;
  LowerContent<Lower> lower_content_;
  Marks marks_;
  const bool durable_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_CHUNK_COPY_UP_H_
