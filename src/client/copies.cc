// SPDX-License-Identifier: Apache-2.0
//
// From file to file: copy_file_range, sendfile, splice.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

// One that is given, and can be moved; or none.
bool is_offset(off_t* offset) { return offset == nullptr || writable(offset, sizeof *offset); }

// As the kernel: no call moves more.
constexpr std::size_t kMostInCall = 0x7ffff000;

// Copies through a buffer, when one side is the kernel's. Advances what it is given.
long copy_through(int from, off_t* from_offset, int to, off_t* to_offset, std::size_t size) {
  char buffer[65536];
  std::size_t done = 0;
  while (done < size) {
    const std::size_t part = size - done < sizeof buffer ? size - done : sizeof buffer;
    const long got =
        from_offset != nullptr ? pread(from, buffer, part, *from_offset) : read(from, buffer, part);
    if (got <= 0) return done != 0 ? static_cast<long>(done) : got;
    long put = 0;
    while (put < got) {
      const auto left = static_cast<std::size_t>(got - put);
      const long wrote = to_offset != nullptr ? pwrite(to, buffer + put, left, *to_offset)
                                              : write(to, buffer + put, left);
      if (wrote < 0) {
        // What was read and not written is given back, where there is an offset to move.
        if (from_offset == nullptr) (void)lseek(from, put - got, SEEK_CUR);
        done += static_cast<std::size_t>(put);
        return done != 0 ? static_cast<long>(done) : wrote;
      }
      put += wrote;
      if (from_offset != nullptr) *from_offset += wrote;
      if (to_offset != nullptr) *to_offset += wrote;
    }
    done += static_cast<std::size_t>(got);
  }
  return static_cast<long>(done);
}

}  // namespace

long copy_file_range(int from, off_t* from_offset, int to, off_t* to_offset, std::size_t size,
                     unsigned flags) {
  OpenRecord* const source = find(from);
  OpenRecord* const target = find(to);
  if (source == nullptr && target == nullptr) {
    return raw::syscall(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags);
  }
  if (flags != 0) return -EINVAL;
  if (source == nullptr || target == nullptr || source->instance != target->instance) {
    return -EXDEV;
  }
  if (!is_offset(from_offset) || !is_offset(to_offset)) return -EFAULT;
  protocol::CopyRangeRequest words;
  if (const long error = handle_of(*source, from, words.from); error != 0) return error;
  if (const long error = handle_of(*target, to, words.to); error != 0) return error;
  if (from_offset != nullptr) words.from_offset = static_cast<std::uint64_t>(*from_offset);
  if (to_offset != nullptr) words.to_offset = static_cast<std::uint64_t>(*to_offset);
  if (size > kMostInCall) size = kMostInCall;
  if (const long error =
          keep_limit(*target, to, to_offset != nullptr ? words.to_offset : protocol::kCurrentOffset,
                     Placing::kByFlags, size);
      error != 0) {
    return error;
  }
  words.length = size;
  Request request(protocol::Operation::kCopyRange, source->instance);
  if (!request.ok()) return request.error();
  request.set(words);
  if (const long error = request.run(); error != 0) return error;
  const long copied = static_cast<long>(request.answer_word());
  if (from_offset != nullptr) *from_offset += copied;
  if (to_offset != nullptr) *to_offset += copied;
  return copied;
}

long sendfile(int to, int from, off_t* offset, std::size_t size) {
  if (find(from) == nullptr && find(to) == nullptr) {
    return raw::syscall(SYS_sendfile, to, from, offset, size);
  }
  if (!is_offset(offset)) return -EFAULT;
  return copy_through(from, offset, to, nullptr, size < kMostInCall ? size : kMostInCall);
}

namespace {

constexpr unsigned kSpliceNonblock = 2;  // SPLICE_F_NONBLOCK
constexpr std::size_t kMostSpliced = 65536;

// Whether it is a pipe of the kernel's: 0, or -errno.
long check_pipe(int descriptor) {
  struct stat attributes;
  if (const long error = raw::syscall(SYS_fstat, descriptor, &attributes); error != 0) return error;
  return S_ISFIFO(attributes.st_mode) ? 0 : -EINVAL;
}

// Waits until a pipe can be read or written, unless that shall not be waited for.
long wait_for_pipe(int descriptor, short event, unsigned flags) {
  pollfd one{descriptor, event, 0};
  timespec now{};
  const long ready =
      raw::syscall(SYS_ppoll, &one, 1, (flags & kSpliceNonblock) != 0 ? &now : nullptr, nullptr, 0);
  if (ready < 0) return ready;
  return ready == 0 ? -EAGAIN : 0;
}

// The pages of `memory` go into the pipe, as many as it has room for: it must not be used again.
long give_pages(int pipe, void* memory, std::size_t bytes, unsigned flags) {
  for (;;) {
    if (const long error = wait_for_pipe(pipe, POLLOUT, flags); error != 0) return error;
    const iovec part{memory, bytes};
    const long put = raw::syscall(SYS_vmsplice, pipe, &part, 1, kSpliceNonblock);
    if (put != -EAGAIN || (flags & kSpliceNonblock) != 0) return put;
  }
}

long splice_to_pipe(int from, off_t* offset, int pipe, std::size_t size, unsigned flags) {
  const long memory = raw::syscall(SYS_mmap, nullptr, kMostSpliced, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return memory;
  auto* const bytes = reinterpret_cast<void*>(memory);
  const long got = offset != nullptr ? pread(from, bytes, size, *offset) : read(from, bytes, size);
  long put = got;
  if (got > 0) {
    put = give_pages(pipe, bytes, static_cast<std::size_t>(got), flags);
    const long done = put > 0 ? put : 0;
    if (offset != nullptr) {
      *offset += done;
    } else if (done < got) {
      (void)lseek(from, done - got, SEEK_CUR);
    }
  }
  raw::syscall(SYS_munmap, memory, kMostSpliced);
  return put;
}

long splice_from_pipe(int pipe, int to, off_t* offset, std::size_t size, unsigned flags) {
  const long modes = fcntl(to, F_GETFL, 0);
  if (modes < 0) return modes;
  if ((modes & O_APPEND) != 0) return -EINVAL;
  if (const long error = wait_for_pipe(pipe, POLLIN, flags); error != 0) return error;
  // What is written is a copy, and leaves the pipe when it has been written.
  int ends[2];
  if (const long error = raw::syscall(SYS_pipe2, ends, O_CLOEXEC); error != 0) return error;
  long done = raw::syscall(SYS_tee, pipe, ends[1], size, kSpliceNonblock);
  if (done > 0) {
    char buffer[kMostSpliced];
    done = raw::syscall(SYS_read, ends[0], buffer, done);
    if (done > 0) {
      const auto bytes = static_cast<std::size_t>(done);
      done = offset != nullptr ? pwrite(to, buffer, bytes, *offset) : write(to, buffer, bytes);
    }
    for (long left = done; left > 0;) {
      const long taken = raw::syscall(SYS_read, pipe, buffer, left);
      if (taken <= 0) break;
      left -= taken;
    }
    if (done > 0 && offset != nullptr) *offset += done;
  }
  raw::syscall(SYS_close, ends[0]);
  raw::syscall(SYS_close, ends[1]);
  return done;
}

}  // namespace

long splice(int from, off_t* from_offset, int to, off_t* to_offset, std::size_t size,
            unsigned flags) {
  const bool reads = find(from) != nullptr;
  const bool writes = find(to) != nullptr;
  if (!reads && !writes) {
    return raw::syscall(SYS_splice, from, from_offset, to, to_offset, size, flags);
  }
  if (size == 0) return 0;
  if ((flags & ~0xfU) != 0 || (reads && writes)) return -EINVAL;
  if (const long error = check_pipe(reads ? to : from); error != 0) return error;
  if ((reads ? to_offset : from_offset) != nullptr) return -ESPIPE;
  if (!is_offset(reads ? from_offset : to_offset)) return -EFAULT;
  const std::size_t part = size < kMostSpliced ? size : kMostSpliced;
  return reads ? splice_to_pipe(from, from_offset, to, part, flags)
               : splice_from_pipe(from, to, to_offset, part, flags);
}

}  // namespace libservices::client::calls
