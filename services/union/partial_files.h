// SPDX-License-Identifier: Apache-2.0
//
// The content of files that were copied up in part, as callers use it: what is here is read and
// written in the upper, and what is below is read there, and comes up first to be written.
//
// What fsync acknowledged is never in doubt, since the mark is on storage after the bytes.
// THREADS: all functions at once. Lock order: UnionFile's State::mutex → PartialContent::mutex →
// LowerFiles::mutex_.
#ifndef LIBSERVICES_SERVICES_UNION_PARTIAL_FILES_H_
#define LIBSERVICES_SERVICES_UNION_PARTIAL_FILES_H_

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <span>

#include "services/union/chunk_copy_up.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class PartialFiles {
 public:
  using Marks = PartialMarks<Upper, Lower>;
  using Partial = typename Marks::Partial;
  using Files = LowerFiles<Lower>;
  using UpperFile = typename Upper::File;
  using UpperNode = typename Upper::Node;
  using C = const Context&;

  PartialFiles(Upper& upper, LowerContent<Lower> lower_content, UpperMarks<Upper>& marks,
               bool durable)
      : upper_(upper),
        lower_content_(lower_content),
        marks_(upper, marks),
        chunks_(upper, lower_content, marks_, durable),
        durable_(durable) {}

  Result<std::size_t> read(C context, Partial& partial, Files& files, UpperFile& file,
                           std::uint64_t offset, std::span<std::byte> into) {
    std::shared_lock lock(partial.mutex);
    std::size_t done = 0;
    while (done < into.size()) {
      const auto piece = partial.map.piece_at(offset + done);
      const auto rest = into.subspan(done);
      const auto part =
          rest.first(std::min<std::uint64_t>(rest.size(), piece.end - (offset + done)));
      if (piece.here) {
        LIBSERVICES_TRY(const std::size_t count, upper_.read(context, file, offset + done, part));
        done += count;
        if (count < part.size()) break;
      } else {
        LIBSERVICES_CHECK_OK(
            lower_content_.read_whole(context, partial.sources, files, offset + done, part));
        done += part.size();
      }
    }
    return done;
  }

  Result<std::size_t> write(C context, const UpperNode& node, Partial& partial, Files& files,
                            UpperFile& file, std::uint64_t offset,
                            std::span<const std::byte> from) {
    const std::uint64_t end = offset + from.size();
    {
      std::shared_lock lock(partial.mutex);
      if (partial.saved && partial.map.is_here(offset, end)) {
        return upper_.write(context, file, offset, from);
      }
    }
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(marks_.save_if_needed(context, node, partial));
    LIBSERVICES_CHECK_OK(chunks_.fill_around(context, partial, files, file, offset, end));
    LIBSERVICES_TRY(std::size_t count, upper_.write(context, file, offset, from));
    if (count < from.size()) {  // a chunk is brought in whole or not at all
      const std::uint64_t reached = (offset + count) & ~(partial.map.chunk_bytes() - 1);
      if (!partial.map.is_here(offset + count, offset + count + 1)) {
        count = reached > offset ? reached - offset : 0;
      }
      if (count == 0) return Errno{ENOSPC};
    }
    LIBSERVICES_CHECK_OK(
        chunks_.bring(context, node, partial, files, file, offset, offset + count));
    return count;
  }

  // What is behind the end is in the upper anyway.
  Result<std::uint64_t> append(C context, const UpperNode& node, Partial& partial, UpperFile& file,
                               std::span<const std::byte> from, std::size_t& written) {
    std::shared_lock lock(partial.mutex);
    if (!partial.saved) {
      lock.unlock();
      std::unique_lock alone(partial.mutex);
      LIBSERVICES_CHECK_OK(marks_.save_if_needed(context, node, partial));
      return upper_.append(context, file, from, written);
    }
    return upper_.append(context, file, from, written);
  }

  // `change` sets the size of the upper's file, and what else shall be changed.
  template <class Change>
  Result<Attributes> resize(C context, const UpperNode& node, Partial& partial, std::uint64_t size,
                            Change&& change) {
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(marks_.save_if_needed(context, node, partial));
    LIBSERVICES_TRY(const Attributes seen, change());
    if (size >= partial.map.limit()) return seen;
    partial.map.cut(size);
    partial.saved = false;  // if that cannot be changed now, it is before the file grows again
    if (size == 0) {
      marks_.finish(context, node, partial);
    } else {
      (void)marks_.save(context, node, partial);
    }
    return seen;
  }

  Result<void> fallocate(C context, const UpperNode& node, Partial& partial, Files& files,
                         UpperFile& file, int mode, std::uint64_t offset, std::uint64_t length) {
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(marks_.save_if_needed(context, node, partial));
    const std::uint64_t end = offset + length;
    if ((mode & ~FALLOC_FL_KEEP_SIZE) == 0) {
      // The blocks shall be there when they are written: so they are brought here.
      const std::uint64_t mask = partial.map.chunk_bytes() - 1;
      LIBSERVICES_CHECK_OK(
          chunks_.fill(context, partial, files, file, offset & ~mask, (end + mask) & ~mask));
      LIBSERVICES_CHECK_OK(upper_.fallocate(context, file, mode, offset, length));
      return chunks_.bring(context, node, partial, files, file, offset, end);
    }
    if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0) {
      LIBSERVICES_CHECK_OK(chunks_.complete(context, node, partial, files, file));
      return upper_.fallocate(context, file, mode, offset, length);
    }
    LIBSERVICES_CHECK_OK(chunks_.fill_around(context, partial, files, file, offset, end));
    LIBSERVICES_CHECK_OK(upper_.fallocate(context, file, mode, offset, length));
    if (partial.map.is_here(offset, end)) return {};
    // A hole looks like bytes that did not reach storage, should the power fail.
    if (durable_) {
      LIBSERVICES_CHECK_OK(upper_.fsync(context, file, SyncScope::kAll));
    }
    LIBSERVICES_CHECK_OK(chunks_.bring_only(context, partial, files, file, offset, end));
    if (durable_) partial.map.set_synced(partial.map.unsynced());
    return marks_.save(context, node, partial);
  }

  Result<std::uint64_t> seek(C context, Partial& partial, Files& files, UpperFile& file,
                             std::uint64_t offset, SeekTarget target) {
    std::shared_lock lock(partial.mutex);
    for (std::uint64_t at = offset;;) {
      const auto piece = partial.map.piece_at(at);
      auto found = piece.here ? upper_.seek(context, file, at, target)
                              : lower_content_.seek_until(context, partial.sources, files, at,
                                                          piece.end, target);
      if (piece.end == UINT64_MAX) {
        // What is below ends where the file does: there is the hole behind the end.
        const bool at_end = !found.ok() && found.error() == Errno{ENXIO} && at > offset;
        return at_end && target == SeekTarget::kHole ? Result<std::uint64_t>(at) : found;
      }
      if (!found.ok() && found.error() != Errno{ENXIO}) return found;
      if (found.ok() && *found < piece.end) return found;
      at = piece.end;
    }
  }

  // With fsync the marks reach storage after what they stand for.
  Result<void> sync(C context, const UpperNode& node, Partial& partial, UpperFile& file,
                    SyncScope scope) {
    ChunkSet chunks;
    std::uint64_t chunk_bytes = 0;
    {
      std::shared_lock lock(partial.mutex);
      chunks = partial.map.unsynced();
      chunk_bytes = partial.map.chunk_bytes();
    }
    LIBSERVICES_CHECK_OK(upper_.fsync(context, file, scope));
    if (chunks.empty()) return {};
    {
      std::unique_lock lock(partial.mutex);
      if (partial.map.chunk_bytes() != chunk_bytes) {  // a writer made them larger meanwhile
        LIBSERVICES_CHECK_OK(upper_.fsync(context, file, scope));
        chunks = partial.map.unsynced();
      }
      partial.map.set_synced(chunks);
      if (partial.map.is_whole() && !partial.map.has_unsynced()) {
        marks_.finish(context, node, partial);
      } else {
        LIBSERVICES_CHECK_OK(marks_.save(context, node, partial));
      }
    }
    return upper_.fsync(context, file, SyncScope::kAll);
  }

  // Everything comes here, and the marks go.
  Result<void> complete(C context, const UpperNode& node, Partial& partial) {
    LIBSERVICES_TRY(auto opened, upper_.open(context, node, OpenFlags{O_RDWR}));
    Files files;
    Result<void> done;
    {
      std::unique_lock lock(partial.mutex);
      done = chunks_.complete(context, node, partial, files, opened.file);
    }
    (void)lower_content_.close(context, partial.sources, files);
    auto closed = upper_.close(context, opened.file);
    return done.ok() ? closed : done;
  }

  // After a restart: whether chunks whose bytes may be lost have reached storage.
  Result<void> settle(C context, const UpperNode& node, Partial& partial) {
    std::unique_lock lock(partial.mutex);
    if (partial.settled) return {};
    if (!partial.map.has_unsynced() || partial.map.epoch() == marks_.epoch()) {
      partial.settled = true;
      return {};
    }
    LIBSERVICES_TRY(auto opened, upper_.open(context, node, OpenFlags{O_RDWR}));
    Files files;
    Result<void> done = chunks_.settle(context, partial, files, opened.file);
    if (done.ok()) done = marks_.save(context, node, partial);
    partial.settled = done.ok();
    (void)lower_content_.close(context, partial.sources, files);
    (void)upper_.close(context, opened.file);
    return done;
  }

 private:
  Upper& upper_;
  LowerContent<Lower> lower_content_;
  Marks marks_;
  ChunkCopyUp<Upper, Lower> chunks_;
  const bool durable_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_PARTIAL_FILES_H_
