// SPDX-License-Identifier: Apache-2.0
//
// The content of files in the lower branches. A file there consists of one part, or of several from
// the top: each has some ranges of bytes itself, and the next one has the rest.
//
// `LowerFiles` are the lower files of one open file, each opened when it is first read;
// `LowerContent` reads them.
// THREADS: all functions at once, but for set_first() and close(). The lowers are called with
// LowerFiles::mutex_ held to open a file, and with none to read it.
#ifndef LIBSERVICES_SERVICES_UNION_LOWER_CONTENT_H_
#define LIBSERVICES_SERVICES_UNION_LOWER_CONTENT_H_

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/records.h"

namespace libservices::union_internal {

template <class Lower>
class LowerFiles {
 public:
  using Part = LowerPart<typename Lower::Node>;
  using Lowers = std::vector<std::unique_ptr<Lower>>;
  using File = typename Lower::File;

  // The first part's, opened already. Before others use this.
  void set_first(File file) { first_ = std::make_unique<File>(std::move(file)); }

  // `parts` are the same as long as this is used.
  Result<File*> file(const Context& context, Lowers& lowers, const std::vector<Part>& parts,
                     std::size_t level) {
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
  Result<void> close(const Context& context, Lowers& lowers, const std::vector<Part>& parts) {
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

template <class Lower>
class LowerContent {
 public:
  using Files = LowerFiles<Lower>;
  using Lowers = typename Files::Lowers;
  using Part = typename Files::Part;
  using C = const Context&;

  // `lowers`: of the union, from the top.
  explicit LowerContent(Lowers& lowers) : lowers_(lowers) {}

  // `size`: of the file.
  Result<std::size_t> read(C context, const std::vector<Part>& parts, Files& files,
                           std::uint64_t size, std::uint64_t offset, std::span<std::byte> into) {
    if (offset >= size) return std::size_t{0};
    into = into.first(std::min<std::uint64_t>(into.size(), size - offset));
    LIBSERVICES_CHECK_OK(read_whole(context, parts, files, offset, into));
    return into.size();
  }
  // As read(), all of `into`. ERRORS: EIO when the file has become shorter.
  // REQUIRES: offset + into.size() is not behind the end of what the parts stand for.
  Result<void> read_whole(C context, const std::vector<Part>& parts, Files& files,
                          std::uint64_t offset, std::span<std::byte> into) {
    return read_from(context, parts, files, 0, offset, into);
  }

  Result<std::uint64_t> seek(C context, const std::vector<Part>& parts, Files& files,
                             std::uint64_t size, std::uint64_t offset, SeekTarget target) {
    if (offset >= size) return Errno{ENXIO};
    auto found = seek_until(context, parts, files, offset, size, target);
    const bool none = !found.ok() && found.error() == Errno{ENXIO};
    return none && target == SeekTarget::kHole ? Result<std::uint64_t>(size) : found;
  }
  // As seek(), up to `end`: ENXIO, or a place at or behind `end`, when there is none before.
  Result<std::uint64_t> seek_until(C context, const std::vector<Part>& parts, Files& files,
                                   std::uint64_t offset, std::uint64_t end, SeekTarget target) {
    return seek_from(context, parts, files, 0, offset, end, target);
  }
  Result<void> close(C context, const std::vector<Part>& parts, Files& files) {
    return files.close(context, lowers_, parts);
  }

 private:
  Lower& lower(std::uint32_t branch) { return *lowers_[branch - 1]; }

  // What part `level` and those below it have.
  Result<void> read_from(C context, const std::vector<Part>& parts, Files& files, std::size_t level,
                         std::uint64_t offset, std::span<std::byte> into) {
    if (level >= parts.size()) return Errno{EIO};  // what lies below cannot be found
    while (!into.empty()) {
      RangeMap::Piece piece{true, UINT64_MAX};
      if (parts[level].ranges) piece = parts[level].ranges->piece_at(offset);
      const auto part = into.first(std::min<std::uint64_t>(into.size(), piece.end - offset));
      if (piece.here) {
        LIBSERVICES_TRY(auto* const file, files.file(context, lowers_, parts, level));
        LIBSERVICES_TRY(const std::size_t count,
                        lower(parts[level].branch).read(context, *file, offset, part));
        if (count < part.size()) return Errno{EIO};  // it has become shorter
      } else {
        LIBSERVICES_CHECK_OK(read_from(context, parts, files, level + 1, offset, part));
      }
      offset += part.size();
      into = into.subspan(part.size());
    }
    return {};
  }

  Result<std::uint64_t> seek_from(C context, const std::vector<Part>& parts, Files& files,
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
          LIBSERVICES_TRY(auto* const file, files.file(context, lowers_, parts, level));
          found = lower(parts[level].branch).seek(context, *file, offset, target);
        } else {
          found = seek_from(context, parts, files, level + 1, offset, stop, target);
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

  Lowers& lowers_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_LOWER_CONTENT_H_
