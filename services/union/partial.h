// SPDX-License-Identifier: Apache-2.0
//
// The content of files that are in several branches: of those that were copied up in part
// (ranges.h), and of lower files without their own content.
//
// A write brings the chunks that it touches into the upper: first what the caller does not write
// of them, from below, then the caller's bytes, then the mark. A death of the service between two
// of these steps leaves the file as it was. So does a power cut (ranges.h), and what fsync
// acknowledged is never in doubt, since the mark is on storage after the bytes.
//
// Lock order: UnionFile's State::mutex → PartialContent::mutex → Sources::mutex.
#ifndef LIBSERVICES_SERVICES_UNION_PARTIAL_H_
#define LIBSERVICES_SERVICES_UNION_PARTIAL_H_

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/union/branches.h"

namespace libservices::union_internal {

// The lower files of one open file, each opened when it is first read.
template <class Lower>
class Sources {
 public:
  using Part = LowerPart<typename Lower::Node>;
  using File = typename Lower::File;

  // The first part's, opened already. Before others use this.
  void set_first(File file) { first_ = std::make_unique<File>(std::move(file)); }

  // `parts` are the same as long as this is used.
  Result<File*> file(const Context& context, std::vector<std::unique_ptr<Lower>>& lowers,
                     const std::vector<Part>& parts, std::size_t level) {
    if (level == 0 && first_) return first_.get();
    std::lock_guard lock(mutex_);
    if (files_.size() < parts.size()) files_.resize(parts.size());
    if (!files_[level]) {
      const Part& part = parts[level];
      Lower& lower = *lowers[part.branch - 1];
      LIBSERVICES_TRY(auto opened, lower.open(context, part.node, OpenFlags{O_RDONLY}));
      files_[level] = std::make_unique<File>(std::move(opened.file));
    }
    return files_[level].get();
  }
  Result<void> close(const Context& context, std::vector<std::unique_ptr<Lower>>& lowers,
                     const std::vector<Part>& parts) {
    std::lock_guard lock(mutex_);
    Result<void> closed;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (!files_[i]) continue;
      auto one = lowers[parts[i].branch - 1]->close(context, *files_[i]);
      if (!one.ok()) closed = one;
    }
    files_.clear();
    if (first_) {
      auto one = lowers[parts[0].branch - 1]->close(context, *first_);
      if (!one.ok()) closed = one;
    }
    first_.reset();
    return closed;
  }

 private:
  std::unique_ptr<File> first_;
  std::mutex mutex_;  // guards files_
  std::vector<std::unique_ptr<File>> files_;
};

template <class Upper, class Lower>
class PartialFiles {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Partial = typename B::Partial;
  using Part = LowerPart<typename Lower::Node>;
  using UpperFile = typename Upper::File;
  using UpperNode = typename Upper::Node;
  using Open = Sources<Lower>;
  using C = const Context&;

  PartialFiles(B& branches, bool durable) : branches_(branches), durable_(durable) {}

  // After start; the name space of the upper's marks.
  void use_marks(std::string_view prefix) { prefix_ = std::string(prefix); }
  std::string mark(std::string_view name) const { return prefix_ + std::string(name); }

  // A lower file of several parts. `size`: its own.
  Result<std::size_t> read_lower(C context, const std::vector<Part>& parts, Open& open,
                                 std::uint64_t size, std::uint64_t offset,
                                 std::span<std::byte> into) {
    if (offset >= size) return std::size_t{0};
    into = into.first(std::min<std::uint64_t>(into.size(), size - offset));
    LIBSERVICES_CHECK_OK(read_below(context, parts, open, 0, offset, into));
    return into.size();
  }

  Result<std::uint64_t> seek_lower(C context, const std::vector<Part>& parts, Open& open,
                                   std::uint64_t size, std::uint64_t offset, SeekTarget target) {
    if (offset >= size) return Errno{ENXIO};
    auto found = seek_below(context, parts, open, 0, offset, size, target);
    const bool none = !found.ok() && found.error() == Errno{ENXIO};
    return none && target == SeekTarget::kHole ? Result<std::uint64_t>(size) : found;
  }

  Result<std::size_t> read(C context, Partial& partial, Open& open, UpperFile& file,
                           std::uint64_t offset, std::span<std::byte> into) {
    std::shared_lock lock(partial.mutex);
    std::size_t done = 0;
    while (done < into.size()) {
      const auto piece = partial.map.piece_at(offset + done);
      const auto rest = into.subspan(done);
      const auto part =
          rest.first(std::min<std::uint64_t>(rest.size(), piece.end - (offset + done)));
      if (piece.here) {
        LIBSERVICES_TRY(const std::size_t count,
                        branches_.upper().read(context, file, offset + done, part));
        done += count;
        if (count < part.size()) break;
      } else {
        LIBSERVICES_CHECK_OK(
            read_below(context, partial.sources, open, 0, offset + done, part));
        done += part.size();
      }
    }
    return done;
  }

  Result<std::size_t> write(C context, const UpperNode& node, Partial& partial, Open& open,
                            UpperFile& file, std::uint64_t offset,
                            std::span<const std::byte> from) {
    const std::uint64_t end = offset + from.size();
    {
      std::shared_lock lock(partial.mutex);
      if (partial.saved && partial.map.is_here(offset, end)) {
        return branches_.upper().write(context, file, offset, from);
      }
    }
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(save_if_needed(context, node, partial));
    LIBSERVICES_CHECK_OK(fill_around(context, partial, open, file, offset, end));
    LIBSERVICES_TRY(std::size_t count, branches_.upper().write(context, file, offset, from));
    if (count < from.size()) {  // a chunk is brought in whole or not at all
      const std::uint64_t reached = (offset + count) & ~(partial.map.chunk_bytes() - 1);
      if (!partial.map.is_here(offset + count, offset + count + 1)) {
        count = reached > offset ? reached - offset : 0;
      }
      if (count == 0) return Errno{ENOSPC};
    }
    LIBSERVICES_CHECK_OK(bring(context, node, partial, open, file, offset, offset + count));
    return count;
  }

  // What is behind the end is in the upper anyway.
  Result<std::uint64_t> append(C context, const UpperNode& node, Partial& partial, UpperFile& file,
                               std::span<const std::byte> from, std::size_t& written) {
    std::shared_lock lock(partial.mutex);
    if (!partial.saved) {
      lock.unlock();
      std::unique_lock alone(partial.mutex);
      LIBSERVICES_CHECK_OK(save_if_needed(context, node, partial));
      return branches_.upper().append(context, file, from, written);
    }
    return branches_.upper().append(context, file, from, written);
  }

  // `change` sets the size of the upper's file, and what else shall be changed.
  template <class Change>
  Result<Attributes> resize(C context, const UpperNode& node, Partial& partial, std::uint64_t size,
                            Change&& change) {
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(save_if_needed(context, node, partial));
    LIBSERVICES_TRY(const Attributes seen, change());
    if (size >= partial.map.limit()) return seen;
    partial.map.cut(size);
    partial.saved = false;  // if that cannot be changed now, it is before the file grows again
    if (size == 0) {
      finish(context, node, partial);
    } else {
      (void)save(context, node, partial);
    }
    return seen;
  }

  Result<void> fallocate(C context, const UpperNode& node, Partial& partial, Open& open,
                         UpperFile& file, int mode, std::uint64_t offset, std::uint64_t length) {
    std::unique_lock lock(partial.mutex);
    LIBSERVICES_CHECK_OK(save_if_needed(context, node, partial));
    const std::uint64_t end = offset + length;
    if ((mode & ~FALLOC_FL_KEEP_SIZE) == 0) {
      // The blocks shall be there when they are written: so they are brought here.
      const std::uint64_t mask = partial.map.chunk_bytes() - 1;
      LIBSERVICES_CHECK_OK(
          fill(context, partial, open, file, offset & ~mask, (end + mask) & ~mask));
      LIBSERVICES_CHECK_OK(branches_.upper().fallocate(context, file, mode, offset, length));
      return bring(context, node, partial, open, file, offset, end);
    }
    if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0) {
      LIBSERVICES_CHECK_OK(complete_locked(context, node, partial, open, file));
      return branches_.upper().fallocate(context, file, mode, offset, length);
    }
    LIBSERVICES_CHECK_OK(fill_around(context, partial, open, file, offset, end));
    LIBSERVICES_CHECK_OK(branches_.upper().fallocate(context, file, mode, offset, length));
    if (partial.map.is_here(offset, end)) return {};
    // A hole looks like bytes that did not reach storage, should the power fail.
    if (durable_) {
      LIBSERVICES_CHECK_OK(branches_.upper().fsync(context, file, SyncScope::kAll));
    }
    LIBSERVICES_CHECK_OK(bring_only(context, partial, open, file, offset, end));
    if (durable_) partial.map.set_synced(partial.map.unsynced());
    return save(context, node, partial);
  }

  Result<std::uint64_t> seek(C context, Partial& partial, Open& open, UpperFile& file,
                             std::uint64_t offset, SeekTarget target) {
    std::shared_lock lock(partial.mutex);
    for (std::uint64_t at = offset;;) {
      const auto piece = partial.map.piece_at(at);
      auto found = piece.here
                       ? branches_.upper().seek(context, file, at, target)
                       : seek_below(context, partial.sources, open, 0, at, piece.end, target);
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
    LIBSERVICES_CHECK_OK(branches_.upper().fsync(context, file, scope));
    if (chunks.empty()) return {};
    {
      std::unique_lock lock(partial.mutex);
      if (partial.map.chunk_bytes() != chunk_bytes) {  // a writer made them larger meanwhile
        LIBSERVICES_CHECK_OK(branches_.upper().fsync(context, file, scope));
        chunks = partial.map.unsynced();
      }
      partial.map.set_synced(chunks);
      if (partial.map.is_whole() && !partial.map.has_unsynced()) {
        finish(context, node, partial);
      } else {
        LIBSERVICES_CHECK_OK(save(context, node, partial));
      }
    }
    return branches_.upper().fsync(context, file, SyncScope::kAll);
  }

  // Everything comes here, and the marks go.
  Result<void> complete(C context, const UpperNode& node, Partial& partial) {
    LIBSERVICES_TRY(auto opened, branches_.upper().open(context, node, OpenFlags{O_RDWR}));
    Open open;
    Result<void> done;
    {
      std::unique_lock lock(partial.mutex);
      done = complete_locked(context, node, partial, open, opened.file);
    }
    (void)open.close(context, branches_.lowers(), partial.sources);
    auto closed = branches_.upper().close(context, opened.file);
    return done.ok() ? closed : done;
  }

  // After a restart: whether chunks whose bytes may be lost have reached storage.
  Result<void> settle(C context, const UpperNode& node, Partial& partial) {
    std::unique_lock lock(partial.mutex);
    if (partial.settled) return {};
    if (!partial.map.has_unsynced() || partial.map.epoch() == epoch()) {
      partial.settled = true;
      return {};
    }
    LIBSERVICES_TRY(auto opened, branches_.upper().open(context, node, OpenFlags{O_RDWR}));
    Open open;
    Result<void> done = settle_locked(context, partial, open, opened.file);
    if (done.ok()) done = save(context, node, partial);
    partial.settled = done.ok();
    (void)open.close(context, branches_.lowers(), partial.sources);
    (void)branches_.upper().close(context, opened.file);
    return done;
  }

  // The marks of a file that has been copied up without content.
  Result<void> mark_new(C context, const UpperNode& node, const RangeMap& map,
                        const std::string& lower_path) {
    LIBSERVICES_CHECK_OK(set(context, node, kRanges, map.encode(epoch())));
    LIBSERVICES_CHECK_OK(
        set(context, node, kRedirect, std::as_bytes(std::span(lower_path))));
    return set(context, node, kMetacopy, {});
  }
  Result<void> set(C context, const UpperNode& node, std::string_view name,
                   std::span<const std::byte> value) {
    return branches_.upper().setxattr(context, node, mark(name), value,
                                      XattrMode::kCreateOrReplace);
  }

 private:
  // REQUIRES: offset + into.size() is not behind the end of what part `level` stands for.
  Result<void> read_below(C context, const std::vector<Part>& parts, Open& open, std::size_t level,
                          std::uint64_t offset, std::span<std::byte> into) {
    if (level >= parts.size()) return Errno{EIO};  // what lies below cannot be found
    while (!into.empty()) {
      RangeMap::Piece piece{true, UINT64_MAX};
      if (parts[level].ranges) piece = parts[level].ranges->piece_at(offset);
      const auto part = into.first(std::min<std::uint64_t>(into.size(), piece.end - offset));
      if (piece.here) {
        LIBSERVICES_TRY(typename Lower::File* const file,
                        open.file(context, branches_.lowers(), parts, level));
        Lower& lower = branches_.lower(parts[level].branch);
        LIBSERVICES_TRY(const std::size_t count, lower.read(context, *file, offset, part));
        if (count < part.size()) return Errno{EIO};  // it has become shorter
      } else {
        LIBSERVICES_CHECK_OK(read_below(context, parts, open, level + 1, offset, part));
      }
      offset += part.size();
      into = into.subspan(part.size());
    }
    return {};
  }

  // As seek, up to `end`: ENXIO, or a place at or behind `end`, when there is none before.
  Result<std::uint64_t> seek_below(C context, const std::vector<Part>& parts, Open& open,
                                   std::size_t level, std::uint64_t offset, std::uint64_t end,
                                   SeekTarget target) {
    if constexpr (OffersSeek<Lower>) {
      if (level >= parts.size()) return Errno{EIO};
      while (offset < end) {
        RangeMap::Piece piece{true, UINT64_MAX};
        if (parts[level].ranges) piece = parts[level].ranges->piece_at(offset);
        const std::uint64_t stop = std::min(end, piece.end);
        Result<std::uint64_t> found = Errno{ENXIO};
        if (piece.here) {
          LIBSERVICES_TRY(typename Lower::File* const file,
                          open.file(context, branches_.lowers(), parts, level));
          found = branches_.lower(parts[level].branch).seek(context, *file, offset, target);
        } else {
          found = seek_below(context, parts, open, level + 1, offset, stop, target);
        }
        if (!found.ok() && found.error() != Errno{ENXIO}) return found;
        if (found.ok() && *found < stop) return found;
        offset = stop;
      }
      return Errno{ENXIO};
    } else {
      return target == SeekTarget::kData ? Result<std::uint64_t>(offset) : Errno{ENXIO};
    }
  }

  // What of `begin` to `end` is below is written to the upper's file, which does not count yet.
  Result<void> fill(C context, Partial& partial, Open& open, UpperFile& file, std::uint64_t begin,
                    std::uint64_t end) {
    constexpr std::uint64_t kMostAtOnce = 1U << 20U;
    std::vector<std::byte> buffer;
    end = std::min(end, partial.map.limit());
    while (begin < end) {
      const auto piece = partial.map.piece_at(begin);
      const std::uint64_t stop = std::min({end, piece.end, begin + kMostAtOnce});
      if (!piece.here) {
        buffer.resize(stop - begin);
        LIBSERVICES_CHECK_OK(read_below(context, partial.sources, open, 0, begin, buffer));
        LIBSERVICES_CHECK_OK(put(context, file, begin, buffer));
      }
      begin = stop;
    }
    return {};
  }

  // Writes all of it; zeros become a hole.
  Result<void> put(C context, UpperFile& file, std::uint64_t offset,
                   std::span<const std::byte> from) {
    if constexpr (OffersFallocate<Upper>) {
      const bool zeros = std::all_of(from.begin(), from.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
      if (zeros && from.size() >= kSmallestHole) {
        const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        if (branches_.upper().fallocate(context, file, punch, offset, from.size()).ok()) return {};
      }
    }
    LIBSERVICES_TRY(const std::size_t count, branches_.upper().write(context, file, offset, from));
    if (count < from.size()) return Errno{ENOSPC};
    return {};
  }

  // Of the chunks at both ends of what will be written, the rest.
  Result<void> fill_around(C context, Partial& partial, Open& open, UpperFile& file,
                           std::uint64_t offset, std::uint64_t end) {
    const std::uint64_t mask = partial.map.chunk_bytes() - 1;
    LIBSERVICES_CHECK_OK(fill(context, partial, open, file, offset & ~mask, offset));
    return fill(context, partial, open, file, end, (end + mask) & ~mask);
  }

  Result<void> bring_only(C context, Partial& partial, Open& open, UpperFile& file,
                          std::uint64_t offset, std::uint64_t end) {
    partial.map.bring(offset, end);
    while (partial.map.encode(0).size() > RangeMap::kMostBytes) {
      LIBSERVICES_CHECK_OK(widen(context, partial, open, file));
    }
    if (!durable_) partial.map.set_synced(partial.map.unsynced());
    return {};
  }

  // REQUIRES: the bytes are in the upper's file.
  Result<void> bring(C context, const UpperNode& node, Partial& partial, Open& open,
                     UpperFile& file, std::uint64_t offset, std::uint64_t end) {
    if (partial.map.is_here(offset, end)) return {};
    const RangeMap before = partial.map;
    auto done = bring_only(context, partial, open, file, offset, end);
    if (done.ok() && durable_ && !KnowsDataEpoch<Upper>) {
      // Bytes are lost with the service: they must be on storage before their mark.
      done = branches_.upper().fsync(context, file, SyncScope::kData);
      partial.map.set_synced(partial.map.unsynced());
    }
    if (done.ok()) done = save(context, node, partial);
    if (!done.ok()) partial.map = before;
    return done;
  }

  // Chunks of twice the size, so that the map becomes shorter.
  Result<void> widen(C context, Partial& partial, Open& open, UpperFile& file) {
    const std::uint64_t size = partial.map.chunk_bytes();
    std::vector<std::uint64_t> missing;  // the other halves
    for (const auto& [first, end] : partial.map.here().runs()) {
      if (first % 2 != 0) missing.push_back(first - 1);
      if (end % 2 != 0) missing.push_back(end);
    }
    for (const std::uint64_t chunk : missing) {
      LIBSERVICES_CHECK_OK(
          fill(context, partial, open, file, chunk * size, (chunk + 1) * size));
      partial.map.bring(chunk * size, (chunk + 1) * size);
    }
    partial.map.coarsen();
    return {};
  }

  Result<void> save_if_needed(C context, const UpperNode& node, Partial& partial) {
    return partial.saved ? Result<void>() : save(context, node, partial);
  }
  Result<void> save(C context, const UpperNode& node, Partial& partial) {
    LIBSERVICES_CHECK_OK(set(context, node, kRanges, partial.map.encode(epoch())));
    partial.saved = true;
    return {};
  }

  // Nothing is below any more. If a mark stays, it says no more than that all is here.
  void finish(C context, const UpperNode& node, Partial& partial) {
    if (!save(context, node, partial).ok()) return;
    if (!branches_.upper().removexattr(context, node, mark(kMetacopy)).ok()) return;
    (void)branches_.upper().removexattr(context, node, mark(kRedirect));
    (void)branches_.upper().removexattr(context, node, mark(kRanges));
    partial.whole.store(true);
  }

  Result<void> complete_locked(C context, const UpperNode& node, Partial& partial, Open& open,
                               UpperFile& file) {
    LIBSERVICES_CHECK_OK(save_if_needed(context, node, partial));
    LIBSERVICES_CHECK_OK(fill(context, partial, open, file, 0, partial.map.limit()));
    if (durable_) {
      LIBSERVICES_CHECK_OK(branches_.upper().fsync(context, file, SyncScope::kAll));
    }
    partial.map.bring(0, partial.map.limit());
    partial.map.set_synced(partial.map.unsynced());
    finish(context, node, partial);
    return {};
  }

  Result<void> settle_locked(C context, Partial& partial, Open& open, UpperFile& file) {
    const std::uint64_t size = partial.map.chunk_bytes();
    const ChunkSet doubtful = partial.map.take_unsynced();
    if constexpr (OffersSeek<Upper>) {
      for (const auto& [first, last] : doubtful.runs()) {
        const std::uint64_t end = std::min(last * size, partial.map.limit());
        bool any = false;
        for (std::uint64_t at = first * size; at < end;) {
          auto data = branches_.upper().seek(context, file, at, SeekTarget::kData);
          if (!data.ok() && data.error() != Errno{ENXIO}) return data.error();
          const std::uint64_t begins = data.ok() ? std::min(*data, end) : end;
          if (!any && begins == end) break;  // nothing of it was written: all is below
          any = true;
          LIBSERVICES_CHECK_OK(fill(context, partial, open, file, at, begins));
          if (begins == end) break;
          LIBSERVICES_TRY(at, branches_.upper().seek(context, file, begins, SeekTarget::kHole));
        }
        if (any) partial.map.bring(first * size, end);
      }
    }
    return branches_.upper().fsync(context, file, SyncScope::kAll);
  }

  std::uint64_t epoch() {
    if constexpr (KnowsDataEpoch<Upper>) return branches_.upper().data_epoch();
    return 0;
  }

  static constexpr std::size_t kSmallestHole = 65536;

  B& branches_;
  const bool durable_;
  std::string prefix_ = std::string(kTrusted);
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_PARTIAL_H_
