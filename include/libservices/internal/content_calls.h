// SPDX-License-Identifier: Apache-2.0
//
// The longer calls of `Content<Stack>`: writing at the offset, seek, listing, copying and locking.
// Included by content.h alone.
#ifndef LIBSERVICES_INTERNAL_CONTENT_CALLS_H_
#define LIBSERVICES_INTERNAL_CONTENT_CALLS_H_

#include "absl/cleanup/cleanup.h"
#include "libservices/internal/content.h"

namespace libservices::internal {

template <ReadableService Stack>
Result<std::uint64_t> Content<Stack>::lseek(const Context& context, OpenFile& file,
                                            std::int64_t offset, int whence) {
  auto& open = state(file);
  if (!open.file) return Errno{EBADF};
  std::lock_guard lock(open.offset_mutex());
  if (open.inode->is_directory()) {  // the offset is a cookie
    if (whence == SEEK_CUR && offset == 0) return open.offset();
    if (whence != SEEK_SET) return Errno{EINVAL};
    return open.move(static_cast<std::uint64_t>(offset), context);
  }
  std::uint64_t start = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      start = open.offset();
      break;
    case SEEK_END: {
      LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *open.inode));
      start = now.size;
      break;
    }
    case SEEK_DATA:
    case SEEK_HOLE: {
      LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *open.inode));
      if (offset < 0 || static_cast<std::uint64_t>(offset) >= now.size) return Errno{ENXIO};
      const auto from = static_cast<std::uint64_t>(offset);
      if constexpr (OffersSeek<Stack>) {
        LIBSERVICES_TRY(const std::uint64_t found,
                        tree_.stack().seek(context, *open.file, from,
                                           whence == SEEK_DATA ? SeekTarget::kData
                                                               : SeekTarget::kHole));
        return open.move(found, context);
      } else {  // one run of data, with the hole that every file has behind its end
        return open.move(whence == SEEK_DATA ? from : now.size, context);
      }
    }
    default:
      return Errno{EINVAL};
  }
  std::int64_t target = 0;
  if (__builtin_add_overflow(static_cast<std::int64_t>(start), offset, &target)) {
    return Errno{EOVERFLOW};
  }
  if (target < 0) return Errno{EINVAL};
  return open.move(static_cast<std::uint64_t>(target), context);
}

template <ReadableService Stack>
Result<std::size_t> Content<Stack>::write(const Context& context, OpenFile& file,
                                          std::span<const std::byte> from, Placing placing) {
  auto& open = state(file);
  std::lock_guard lock(open.offset_mutex());
  if (!appends(open, placing) || from.empty()) {
    LIBSERVICES_TRY(const std::size_t count, write_at(context, open, open.offset(), from, placing));
    open.move(open.offset() + count, context);
    return count;
  }
  LIBSERVICES_TRY(const Appended appended, append(context, open, from));
  open.moved(appended.end - appended.count, appended.end, context);
  return appended.count;
}

// One read of the stack, or several when somebody waits for the first bytes of many.
template <ReadableService Stack>
Result<std::size_t> Content<Stack>::read_parts(const Context& context, State& open,
                                               std::uint64_t offset, std::span<std::byte> into) {
  for (std::size_t done = 0;;) {
    const bool last = context.read_progress == nullptr || into.size() - done <= context.read_part;
    const auto part = into.subspan(done, last ? std::dynamic_extent : context.read_part);
    const auto count = tree_.stack().read(context, *open.file, offset + done, part);
    if (!count.ok() && done == 0) return count;
    if (!count.ok()) return done;  // an error after some bytes comes with the next call
    done += *count;
    if (last || *count < part.size()) return done;
    context.read_progress->store(static_cast<std::uint32_t>(done), std::memory_order_release);
  }
}

template <ReadableService Stack>
Result<Backing> Content<Stack>::backing(const Context& context, OpenFile& file) {
  auto& open = state(file);
  if (!open.file || open.inode->is_directory()) return Errno{EBADF};
  if constexpr (OffersBacking<Stack>) {
    if (open.flags().writes()) {
      // Nobody sees the writes that would take set-id bits away.
      LIBSERVICES_CHECK_OK(drop_set_id(context, *open.inode));
      LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *open.inode, false));
      Identity by_ids = context.caller;
      by_ids.is_allowed = false;  // to write, that is; whom set-id bits would serve the ids say
      open.set_written_outside(!owns(by_ids, now));
    }
    return tree_.stack().backing(context, *open.file, BackingUse::kWhileOpen);
  }
  return Errno{EOPNOTSUPP};
}

// Set-id bits stay: Linux does not take them away either from what is written through a mapping.
template <ReadableService Stack>
Result<Backing> Content<Stack>::map(const Context& context, OpenFile& file, Mapping mapping) {
  auto& open = state(file);
  if (!open.file) return Errno{EBADF};
  if (open.inode->type != S_IFREG) return Errno{ENODEV};
  const bool writes = mapping == Mapping::kWrites;
  if (!open.flags().reads() || (writes && !open.flags().writes())) return Errno{EACCES};
  if constexpr (OffersBacking<Stack>) {
    LIBSERVICES_TRY(const Backing backing,
                    tree_.stack().backing(context, *open.file, BackingUse::kLasting));
    if (writes && !open.inode->mapped.exchange(true)) {
      tree_.remember_mapped(open.inode->key.number);
      content_changed(*open.inode, 0, kToTheEnd);  // nobody shall go on with what he has kept
    }
    return backing;
  }
  return Errno{EOPNOTSUPP};
}

template <ReadableService Stack>
Result<void> Content<Stack>::readdir(const Context& context, OpenFile& file, Listing wanted,
                                     EntrySink sink) {
  auto& open = state(file);
  if (!open.file || !open.flags().reads()) return Errno{EBADF};
  if (!open.inode->is_directory()) return Errno{ENOTDIR};
  std::lock_guard lock(open.offset_mutex());
  std::uint64_t position = open.offset();
  const absl::Cleanup keep_position = [&] { open.move(position, context); };
  {
    std::shared_lock places(tree_.places_mutex());
    if (open.inode->removed) return Errno{ENOENT};
  }
  const absl::Cleanup tell = [&] { tree_.events().tell(FileEvent::kAccess, *open.inode); };
  auto give = [&](std::string_view name, const typename T::Object& object, std::uint64_t cookie) {
    if (!sink(DirEntry{.name = name, .inode = object.key.number, .type = DT_DIR,
                       .cookie = cookie})) {
      return false;
    }
    position = cookie;
    return true;
  };
  if (position < kDot && !give(".", *open.inode, kDot)) return {};
  if (position < kDotDot) {
    const Pointer parent = tree_.parent_of(open.inode);
    if (!give("..", parent ? *parent : *open.inode, kDotDot)) return {};
  }
  return tree_.stack().readdir(context, *open.file, cookie_of(position), wanted,
                               [&](const DirEntry& below) {
                                 DirEntry entry = below;
                                 entry.cookie = offset_of(below.cookie);
                                 if (!sink(entry)) return false;
                                 position = entry.cookie;
                                 return true;
                               });
}

template <ReadableService Stack>
Result<std::uint64_t> Content<Stack>::copy_range(const Context& context, OpenFile& from,
                                                 std::uint64_t from_offset, OpenFile& to,
                                                 std::uint64_t to_offset, std::uint64_t length) {
  auto& source = state(from);
  auto& target = state(to);
  if (!source.file || !target.file) return Errno{EBADF};
  if (source.inode->is_directory() || target.inode->is_directory()) return Errno{EISDIR};
  if (!source.flags().reads() || !target.flags().writes() || target.flags().has(O_APPEND)) {
    return Errno{EBADF};
  }
  if (from_offset > kMostBytes || to_offset > kMostBytes || length > kMostBytes - to_offset) {
    return Errno{from_offset > kMostBytes ? EINVAL : EFBIG};
  }
  LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *source.inode));
  length = from_offset < now.size ? std::min(length, now.size - from_offset) : 0;
  if (length == 0) return std::uint64_t{0};
  const bool overlap = source.inode == target.inode && from_offset < to_offset + length &&
                       to_offset < from_offset + length;
  if (overlap) return Errno{EINVAL};
  if constexpr (WritableService<Stack> && OffersCopyRange<Stack>) {
    LIBSERVICES_CHECK_OK(drop_set_id(context, *target.inode));
    std::shared_lock lock(target.inode->content);
    auto copied = tree_.stack().copy_range(context, *source.file, from_offset, *target.file,
                                           to_offset, length);
    content_changed(*target.inode, to_offset, kToTheEnd);
    if (copied.ok() && *copied != 0) {
      tree_.events().tell(FileEvent::kAccess, *source.inode);
      tree_.events().tell(FileEvent::kModify, *target.inode);
    }
    return copied;
  }
  std::vector<std::byte> buffer(std::min<std::uint64_t>(length, 1U << 20U));
  std::uint64_t done = 0;
  while (done < length) {
    const auto chunk = std::min<std::uint64_t>(buffer.size(), length - done);
    LIBSERVICES_TRY(const std::size_t count, pread(context, from, from_offset + done,
                                                   std::span(buffer).first(chunk)));
    if (count == 0) break;
    auto written = write_at(context, target, to_offset + done, std::span(buffer).first(count));
    if (!written.ok()) {
      if (done == 0) return written.error();
      break;
    }
    done += *written;
    if (*written < count) break;
  }
  return done;
}

template <ReadableService Stack>
Result<void> Content<Stack>::lock(const Context& context, OpenFile& file,
                                  const LockRequest& request) {
  auto& open = state(file);
  if (!open.file) return Errno{EBADF};
  if (request.owner != LockRequest::Owner::kFlock) {
    const bool shared = request.type == LockRequest::Type::kShared;
    const bool exclusive = request.type == LockRequest::Type::kExclusive;
    if (shared && !open.flags().reads()) return Errno{EBADF};
    if (exclusive && !open.flags().writes()) return Errno{EBADF};
  }
  if (request.end < request.start) return Errno{EINVAL};
  if (request.type != LockRequest::Type::kUnlock &&
      !open.inode->has_locks.exchange(true, std::memory_order_relaxed)) {
    remember_locked(open.inode);
  }
  const LockTable::Owner owner = LockTable::owner_of(request, context.process, &file);
  return with_lock_storage(context, [&](LockTable::Storage storage) {
    return open.inode->locks.set(owner, request, file, storage);
  });
}

template <ReadableService Stack>
Result<LockRequest> Content<Stack>::test_lock(const Context& context, OpenFile& file,
                                              const LockRequest& request) {
  auto& open = state(file);
  if (!open.file) return Errno{EBADF};
  const LockTable::Owner owner = LockTable::owner_of(request, context.process, &file);
  const LockRequest found = open.inode->locks.test(owner, request);
  if constexpr (OffersLocks<Stack>) {
    if (found.type == LockRequest::Type::kUnlock) {
      return tree_.stack().test_lock(context, *open.file, LockTable::number_of(owner), request);
    }
  }
  return found;
}

// Calls `use` with how the storage is told of locks.
template <ReadableService Stack>
template <class Call>
auto Content<Stack>::with_lock_storage(const Context& context, Call use) {
  if constexpr (OffersLocks<Stack>) {
    return use([&](OpenFile& through, std::uint64_t owner, const LockRequest& request) {
      return tree_.stack().lock(context, *state(through).file, owner, request);
    });
  } else {
    return use(LockTable::no_storage);
  }
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_CONTENT_CALLS_H_
