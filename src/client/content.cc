// SPDX-License-Identifier: Apache-2.0
//
// Content: read and write in every form, seek, listing.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

// The most file bytes of one request.
constexpr std::size_t kMostAtOnce = 1U << 20U;
// As the kernel: no call moves more.
constexpr std::size_t kMostInCall = 0x7ffff000;

// One request's worth. -errno, or the count.
long read_some(OpenRecord& record, int descriptor, void* into, std::size_t size,
               std::uint64_t offset) {
  protocol::ReadRequest words;
  if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
  words.offset = offset;
  words.count = size;
  Request request(protocol::Operation::kRead, record.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  return request.run(into, size);
}

// The size that files may grow to; 0: not known yet.
std::atomic<std::uint64_t> most_file_bytes{0};

long write_some(OpenRecord& record, int descriptor, const void* from, std::size_t size,
                std::uint64_t offset, Placing placing) {
  protocol::WriteRequest words;
  if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
  if (const long error = keep_limit(record, descriptor, offset, placing, size); error != 0) {
    return error;
  }
  words.offset = offset;
  words.placing = placing;
  Request request(protocol::Operation::kWrite, record.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  request.add(from, size);
  if (const long error = request.run(); error != 0) return error;
  const std::uint64_t count = request.answer_word();
  return count <= size ? static_cast<long>(count) : -EIO;
}

// Moves `size` bytes in requests of at most 1 MiB. `offset` is kCurrentOffset or an offset.
template <class Byte, class Some>
long in_parts(Byte* bytes, std::size_t size, std::uint64_t offset, Some&& some) {
  if (size > kMostInCall) size = kMostInCall;
  std::size_t done = 0;
  do {
    const std::size_t part = size - done < kMostAtOnce ? size - done : kMostAtOnce;
    const std::uint64_t at =
        offset == protocol::kCurrentOffset ? offset : offset + static_cast<std::uint64_t>(done);
    const long moved = some(bytes + done, part, at);
    if (moved < 0) return done != 0 ? static_cast<long>(done) : moved;
    done += static_cast<std::size_t>(moved);
    if (static_cast<std::size_t>(moved) < part) break;
  } while (done < size);
  return static_cast<long>(done);
}

long read_checked(OpenRecord& record, int descriptor, void* into, std::size_t size,
                  std::uint64_t offset) {
  return in_parts(static_cast<char*>(into), size, offset,
                  [&](char* at, std::size_t part, std::uint64_t from) {
                    return read_some(record, descriptor, at, part, from);
                  });
}

// As the kernel: up to the first byte that cannot be used; when that is the first of all, what is
// wrong with the file goes first.
long read_all(OpenRecord& record, int descriptor, void* into, std::size_t size,
              std::uint64_t offset) {
  if (is_beyond(into, size)) return -EFAULT;
  const std::size_t good = writable_part(into, size < kMostInCall ? size : kMostInCall);
  const long got = read_checked(record, descriptor, into, good, offset);
  return good == 0 && size != 0 && got == 0 ? -EFAULT : got;
}

long write_all(OpenRecord& record, int descriptor, const void* from, std::size_t size,
               std::uint64_t offset, Placing placing = Placing::kByFlags) {
  if (is_beyond(from, size)) return -EFAULT;
  const std::size_t good = readable_part(from, size < kMostInCall ? size : kMostInCall);
  const long put = in_parts(static_cast<const char*>(from), good, offset,
                            [&](const char* at, std::size_t part, std::uint64_t to) {
                              return write_some(record, descriptor, at, part, to, placing);
                            });
  return good == 0 && size != 0 && put == 0 ? -EFAULT : put;
}

// Their whole length, and how much of it can be used. -errno.
long usable_parts(const iovec* parts, int count, Use use, std::size_t& size, std::size_t& good) {
  if (!readable(parts, static_cast<std::size_t>(count) * sizeof *parts)) return -EFAULT;
  size = good = 0;
  for (int i = 0; i < count; ++i) {
    const std::size_t part = parts[i].iov_len;
    if (part <= PTRDIFF_MAX && is_beyond(parts[i].iov_base, part)) return -EFAULT;
    if (good == size && size <= kMostInCall) {
      good += usable_part(reinterpret_cast<std::uintptr_t>(parts[i].iov_base), part, use);
    }
    if (__builtin_add_overflow(size, part, &size) || size > PTRDIFF_MAX) return -EINVAL;
  }
  return 0;
}

// One request for all parts, so that no other reader of the offset comes between them.
long read_scattered(OpenRecord& record, int descriptor, const iovec* parts, int count,
                    std::size_t size, std::uint64_t offset) {
  protocol::ReadRequest words;
  if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
  words.offset = offset;
  words.count = size;
  Request request(protocol::Operation::kRead, record.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  if (const long error = request.run(); error != 0) return error;
  const std::size_t got = request.output_bytes();
  if (got > size) return -EIO;
  std::size_t done = 0;
  for (int i = 0; i < count && done < got; ++i) {
    const std::size_t part = parts[i].iov_len < got - done ? parts[i].iov_len : got - done;
    ipc::copy_bytes(parts[i].iov_base, request.output() + done, part, copies());
    done += part;
  }
  return static_cast<long>(got);
}

// An O_PATH descriptor is no open file to read or write.
bool is_path_only(const OpenRecord& record) { return (record.flags & O_PATH) != 0; }

// What an open file was opened for is known once it is adopted. 0, or -errno.
long check_access(OpenRecord& record, int descriptor, int access) {
  protocol::Handle handle = 0;
  if (const long error = handle_of(record, descriptor, handle); error != 0) return error;
  const OpenFlags flags{static_cast<int>(record.flags)};
  return (access == O_RDONLY ? flags.reads() : flags.writes()) ? 0 : -EBADF;
}

// Reading and writing with flags goes by an offset, or by -1 for the current one.
constexpr int kReadFlags = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;
constexpr int kWriteFlags = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND;
constexpr int kNoAppend = 0x20;  // RWF_NOAPPEND

// What the kernel says of a transfer of `size` bytes that it does not begin. `known`: flags that
// mean something, or may be passed over.
long check_transfer(std::size_t size, int flags, int known) {
  if (size == 0) return 0;
  if ((flags & ~(known | kNoAppend)) != 0) return -EOPNOTSUPP;
  return (flags & RWF_APPEND) != 0 && (flags & kNoAppend) != 0 ? -EINVAL : 0;
}

std::uint64_t offset_of(off_t offset) {
  return offset < 0 ? protocol::kCurrentOffset : static_cast<std::uint64_t>(offset);
}

}  // namespace

long read(int descriptor, void* into, std::size_t size) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_read, descriptor, into, size);
  return read_all(*record, descriptor, into, size, protocol::kCurrentOffset);
}

long write(int descriptor, const void* from, std::size_t size) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_write, descriptor, from, size);
  return write_all(*record, descriptor, from, size, protocol::kCurrentOffset);
}

long pread(int descriptor, void* into, std::size_t size, off_t offset) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_pread64, descriptor, into, size, offset);
  if (offset < 0) return -EINVAL;
  return read_all(*record, descriptor, into, size, static_cast<std::uint64_t>(offset));
}

long pwrite(int descriptor, const void* from, std::size_t size, off_t offset) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_pwrite64, descriptor, from, size, offset);
  if (offset < 0) return -EINVAL;
  return write_all(*record, descriptor, from, size, static_cast<std::uint64_t>(offset));
}

long readv(int descriptor, const iovec* parts, int count, off_t offset, int flags) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    return raw::syscall(SYS_preadv2, descriptor, parts, count, offset, 0, flags);
  }
  if (offset < -1) return -EINVAL;
  if (const long error = check_access(*record, descriptor, O_RDONLY); error != 0) return error;
  if (count < 0 || count > 1024) return -EINVAL;
  std::size_t size = 0;
  std::size_t good = 0;
  if (const long error = usable_parts(parts, count, Use::kWrite, size, good); error != 0) {
    return error;
  }
  if (const long error = check_transfer(size, flags, kReadFlags); error != 0) return error;
  if (count > 1 && size <= kMostAtOnce) {
    const long got = read_scattered(*record, descriptor, parts, count, good, offset_of(offset));
    return good == 0 && size != 0 && got == 0 ? -EFAULT : got;
  }
  long total = 0;
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len == 0) continue;
    const long got = read_all(
        *record, descriptor, parts[i].iov_base, parts[i].iov_len,
        offset < 0 ? protocol::kCurrentOffset : static_cast<std::uint64_t>(offset + total));
    if (got < 0) return total != 0 ? total : got;
    total += got;
    if (static_cast<std::size_t>(got) < parts[i].iov_len) break;
  }
  return total;
}

long writev(int descriptor, const iovec* parts, int count, off_t offset, int flags) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    return raw::syscall(SYS_pwritev2, descriptor, parts, count, offset, 0, flags);
  }
  if (offset < -1) return -EINVAL;
  if (const long error = check_access(*record, descriptor, O_WRONLY); error != 0) return error;
  if (count < 0 || count > 1024) return -EINVAL;
  std::size_t size = 0;
  std::size_t good = 0;
  if (const long error = usable_parts(parts, count, Use::kRead, size, good); error != 0) {
    return error;
  }
  if (const long error = check_transfer(size, flags, kWriteFlags); error != 0) return error;
  const Placing placing = (flags & RWF_APPEND) != 0  ? Placing::kAtEnd
                          : (flags & kNoAppend) != 0 ? Placing::kAtOffset
                                                     : Placing::kByFlags;
  // One request, so that the parts are not torn apart by another writer.
  protocol::WriteRequest words;
  if (const long error = handle_of(*record, descriptor, words.handle); error != 0) return error;
  long total = 0;
  if (size <= kMostAtOnce && file_limit() == RLIM_INFINITY) {
    words.offset = offset_of(offset);
    words.placing = placing;
    Request request(protocol::Operation::kWrite, record->instance);
    if (!request.ok()) return request.error();
    request.set(words);
    std::size_t left = good;
    for (int i = 0; i < count && left != 0; ++i) {
      const std::size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
      request.add(parts[i].iov_base, part);
      left -= part;
    }
    const long error = request.run();
    total = error != 0 ? error : static_cast<long>(request.answer_word());
    if (total == 0 && good == 0 && size != 0) return -EFAULT;
  } else {
    for (int i = 0; i < count; ++i) {
      const long put = write_all(
          *record, descriptor, parts[i].iov_base, parts[i].iov_len,
          offset < 0 ? protocol::kCurrentOffset : static_cast<std::uint64_t>(offset + total),
          placing);
      if (put < 0) return total != 0 ? total : put;
      total += put;
      if (static_cast<std::size_t>(put) < parts[i].iov_len) break;
    }
  }
  if (total > 0 && (flags & (RWF_DSYNC | RWF_SYNC)) != 0) {
    if (const long error = fsync(descriptor, (flags & RWF_SYNC) == 0); error != 0) return error;
  }
  return total;
}

// Cuts a write of `size` bytes at `offset` where files end: 0, or -EFBIG and the signal.
long keep_limit(OpenRecord& record, int descriptor, std::uint64_t offset, Placing placing,
                std::size_t& size) {
  const std::uint64_t limit = file_limit();
  if (limit == RLIM_INFINITY || size == 0 || !S_ISREG(record.mode)) return 0;
  if (placing == Placing::kByFlags) {
    const long flags = calls::fcntl(descriptor, F_GETFL, 0);
    if (flags < 0) return flags;
    if ((flags & O_APPEND) != 0) placing = Placing::kAtEnd;
  }
  if (placing == Placing::kAtEnd) {
    struct stat status;
    if (const long error = calls::fstat(descriptor, &status); error != 0) return error;
    offset = static_cast<std::uint64_t>(status.st_size);
  } else if (offset == protocol::kCurrentOffset) {
    const long at = calls::lseek(descriptor, 0, SEEK_CUR);
    if (at < 0) return at;
    offset = static_cast<std::uint64_t>(at);
  }
  if (offset >= limit) return beyond_limit();
  if (size > limit - offset) size = static_cast<std::size_t>(limit - offset);
  return 0;
}

std::uint64_t file_limit() {
  std::uint64_t limit = most_file_bytes.load(std::memory_order_relaxed);
  if (limit == 0) {
    rlimit found{};
    raw::syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &found);
    // A limit of nothing is asked for each time.
    limit = found.rlim_cur;
    most_file_bytes.store(limit, std::memory_order_relaxed);
  }
  return limit;
}

long beyond_limit() {
  raw::syscall(SYS_tgkill, raw::syscall(SYS_getpid), raw::syscall(SYS_gettid), SIGXFSZ);
  return -EFBIG;
}

void forget_limits() { most_file_bytes.store(0, std::memory_order_relaxed); }

long lseek(int descriptor, off_t offset, int whence) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_lseek, descriptor, offset, whence);
  if (is_path_only(*record)) return -EBADF;
  record->listed.store(0, std::memory_order_relaxed);
  protocol::SeekRequest words;
  if (const long error = handle_of(*record, descriptor, words.handle); error != 0) return error;
  words.offset = offset;
  words.whence = whence;
  Request request(protocol::Operation::kSeek, record->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  const long error = request.run();
  return error != 0 ? error : static_cast<long>(request.answer_word());
}

long ftruncate(int descriptor, off_t size) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_ftruncate, descriptor, size);
  if (size < 0) return -EINVAL;
  if (static_cast<std::uint64_t>(size) > file_limit()) {
    struct stat status;
    if (const long error = calls::fstat(descriptor, &status); error != 0) return error;
    if (size > status.st_size) return beyond_limit();
  }
  protocol::SetattrRequest words;
  if (const long error = handle_of(*record, descriptor, words.target.base); error != 0) {
    return error;
  }
  words.target.flags = protocol::Target::kItself;
  words.changes.which = AttributeChanges::kSize;
  words.changes.size = static_cast<std::uint64_t>(size);
  Request request(protocol::Operation::kSetattr, record->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  return request.run();
}

long fallocate(int descriptor, int mode, off_t offset, off_t size) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_fallocate, descriptor, mode, offset, size);
  if (is_path_only(*record)) return -EBADF;
  if (offset < 0 || size <= 0) return -EINVAL;
  if (mode == 0 &&
      static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(size) > file_limit()) {
    return beyond_limit();
  }
  protocol::FallocateRequest words;
  if (const long error = handle_of(*record, descriptor, words.handle); error != 0) return error;
  words.mode = mode;
  words.offset = static_cast<std::uint64_t>(offset);
  words.length = static_cast<std::uint64_t>(size);
  Request request(protocol::Operation::kFallocate, record->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  return request.run();
}

long fsync(int descriptor, bool data_only) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    return raw::syscall(data_only ? SYS_fdatasync : SYS_fsync, descriptor);
  }
  protocol::FsyncRequest words;
  if (const long error = handle_of(*record, descriptor, words.handle); error != 0) return error;
  words.data_only = data_only ? 1 : 0;
  Request request(protocol::Operation::kFsync, record->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  return request.run();
}

// The file itself, then all that the kernel keeps for the service.
long syncfs(int descriptor) {
  if (!is_ours(descriptor)) return raw::syscall(SYS_syncfs, descriptor);
  if (const long error = fsync(descriptor, false); error != 0) return error;
  return raw::syscall(SYS_sync);
}

long getdents64(int descriptor, void* into, std::size_t size, Memory memory) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_getdents64, descriptor, into, size);
  // Every listing is asked for once more at its end. While the offset is ours alone, we know it.
  if (record->listed.load(std::memory_order_relaxed) != 0 &&
      record->exclusive.load(std::memory_order_relaxed) != 0) {
    return 0;
  }
  protocol::ReaddirRequest words;
  if (const long error = handle_of(*record, descriptor, words.handle); error != 0) return error;
  const std::size_t some = size < kMostAtOnce ? size : kMostAtOnce;
  const std::size_t good = memory == Memory::kOfLibrary ? some : writable_part(into, some);
  if (good == 0 && size != 0) return -EFAULT;
  words.count = good;
  Request request(protocol::Operation::kReaddir, record->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  const long result = request.run(into, good);
  if (result >= 0 && request.answer_word() != 0) {
    record->listed.store(1, std::memory_order_relaxed);
  }
  return result;
}

}  // namespace libservices::client::calls
