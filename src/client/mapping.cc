// SPDX-License-Identifier: Apache-2.0
//
// Mapping: by the kernel, of a descriptor that the service lends for it and that is closed at once.
// From then on the mapping is the kernel's matter, whatever becomes of the service.
//
// Where the service has no such descriptor, of a copy of the file.
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr long kNoExecution = 8;  // ST_NOEXEC
constexpr int kTypes = 0xf;       // of `flags`: which of the MAP_ that exclude each other
#ifndef MAP_SHARED_VALIDATE
constexpr int MAP_SHARED_VALIDATE = 3;
#endif

bool is_error(long result) { return result < 0 && result > -4096; }

// A descriptor of the file for this mapping alone, or -errno.
long lent_descriptor(OpenRecord& record, int descriptor, bool writes) {
  constexpr int kMostTimes = 100;  // services may die one after the other
  for (int times = 0; times < kMostTimes; ++times) {
    protocol::MapRequest words;
    if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
    words.writes = writes ? 1 : 0;
    long taken = 0;
    std::uint32_t session = 0;
    std::uint32_t number = 0;
    {
      Request request(protocol::Operation::kMap, record.instance);
      if (!request.ok()) return request.error();
      request.set(words);
      if (const long error = request.run(); error != 0) return error;
      session = request.session();
      number = static_cast<std::uint32_t>(request.answer_word());
    }
    taken = take_mapped(session, number);
    if (taken != -ESTALE) return taken;
  }
  return -EIO;
}

long new_memory() {
  constexpr unsigned kNoExecSeal = 8;  // MFD_NOEXEC_SEAL, since Linux 6.3
  const long made = raw::syscall(SYS_memfd_create, "libservices", MFD_CLOEXEC | kNoExecSeal);
  return made == -EINVAL ? raw::syscall(SYS_memfd_create, "libservices", MFD_CLOEXEC) : made;
}

// Fills `memory` with the file's bytes from `offset` on, as far as it goes: 0 or -errno.
long fill(long memory, int descriptor, std::size_t size, off_t offset) {
  struct stat now;
  if (const long error = calls::fstat(descriptor, &now); error != 0) return error;
  if (offset >= now.st_size) return 0;
  const auto left = static_cast<std::uint64_t>(now.st_size - offset);
  const std::size_t bytes = size < left ? size : left;
  if (const long error = raw::syscall(SYS_ftruncate, memory, bytes); error != 0) return error;
  const long mapped =
      raw::syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (is_error(mapped)) return mapped;
  std::size_t done = 0;
  long got = 0;
  while (done < bytes) {
    got = calls::pread(descriptor, reinterpret_cast<char*>(mapped) + done, bytes - done,
                       offset + static_cast<off_t>(done));
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  raw::syscall(SYS_munmap, mapped, bytes);
  if (got < 0) return got;
  // The file has become shorter meanwhile.
  return done == bytes ? 0 : raw::syscall(SYS_ftruncate, memory, done);
}

long open_anew(long descriptor) {
  NumberPath path;
  (void)path_by_number(static_cast<int>(descriptor), path);
  return raw::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

// A descriptor of memory with a copy of what is mapped; not to be written through if it is shared.
long copied_descriptor(int descriptor, std::size_t size, off_t offset, bool shared) {
  const long memory = new_memory();
  if (memory < 0) return memory;
  long result = fill(memory, descriptor, size, offset);
  if (result == 0 && !shared) return memory;
  if (result == 0) result = open_anew(memory);
  raw::syscall(SYS_close, memory);
  return result;
}

}  // namespace

long mmap(void* address, std::size_t size, int protection, int flags, int descriptor,
          off_t offset) {
  OpenRecord* const record = (flags & MAP_ANONYMOUS) != 0 ? nullptr : find(descriptor);
  if (record == nullptr) {
    return raw::syscall(SYS_mmap, address, size, protection, flags, descriptor, offset);
  }
  const Whole whole;
  if ((static_cast<std::uint64_t>(offset) & (kPageBytes - 1)) != 0) return -EINVAL;
  if ((record->flags & O_PATH) != 0) return -EBADF;
  const int type = flags & kTypes;
  if (size == 0 || (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE)) {
    return -EINVAL;
  }
  const bool shared = type != MAP_PRIVATE;
  const int access = static_cast<int>(record->flags & O_ACCMODE);
  if (access == O_WRONLY) return -EACCES;
  // mprotect may make writable later what is not yet.
  const bool writes = shared && access == O_RDWR;
  if (shared && !writes && (protection & PROT_WRITE) != 0) return -EACCES;
  if (!S_ISREG(record->mode)) return -ENODEV;

  long from = lent_descriptor(*record, descriptor, writes);
  if (from >= 0) {
    const long mapped = raw::syscall(SYS_mmap, address, size, protection, flags, from, offset);
    raw::syscall(SYS_close, from);
    // The host's mount may be one that nothing is executed from; ours is not.
    if (mapped != -EPERM || (protection & PROT_EXEC) == 0 || writes) return mapped;
  } else if (from != -EOPNOTSUPP) {
    return from;
  } else if (writes && (protection & PROT_WRITE) != 0) {
    return refused(-ENODEV);
  }
  from = copied_descriptor(descriptor, size, offset, shared);
  if (from < 0) return from;
  const long mapped = raw::syscall(SYS_mmap, address, size, protection, flags, from, 0);
  raw::syscall(SYS_close, from);
  return mapped;
}

long descriptor_to_load(int descriptor) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return -EBADF;
  const long lent = lent_descriptor(*record, descriptor, false);
  if (lent < 0 && lent != -EOPNOTSUPP) return lent;
  if (lent >= 0) {
    // The host's owners and modes may be others than those that we show.
    const long again = open_anew(lent);
    struct statfs volume;
    if (again >= 0 && raw::syscall(SYS_fstatfs, again, &volume) == 0 &&
        (volume.f_flags & kNoExecution) == 0) {
      raw::syscall(SYS_close, again);
      return lent;
    }
    if (again >= 0) raw::syscall(SYS_close, again);
    raw::syscall(SYS_close, lent);
  }
  struct stat now;
  if (const long error = calls::fstat(descriptor, &now); error != 0) return error;
  return copied_descriptor(descriptor, static_cast<std::size_t>(now.st_size), 0, false);
}

}  // namespace libservices::client::calls
