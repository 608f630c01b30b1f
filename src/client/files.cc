// SPDX-License-Identifier: Apache-2.0
//
// Descriptors: open, close, dup, fcntl. The kernel's table is the truth; ours follows it.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/signals.h"
#include "src/client/special.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

// The umask as the process last set it; 0x1000: not known yet.
std::atomic<std::uint32_t> known_umask{0x1000};

}  // namespace

std::uint16_t current_umask() {
  std::uint32_t mask = known_umask.load(std::memory_order_relaxed);
  if (mask == 0x1000) {
    // Asking is setting. Done once, at the first file that is made.
    mask = static_cast<std::uint32_t>(raw::syscall(SYS_umask, 077));
    raw::syscall(SYS_umask, mask);
    known_umask.store(mask, std::memory_order_relaxed);
  }
  return static_cast<std::uint16_t>(mask);
}

namespace {

// ENXIO for a fifo.
long open_file(const Place& place, int flags, mode_t mode, Rest& rest) {
  const Whole whole;
  protocol::OpenRequest words;
  words.target =
      place.target((flags & O_NOFOLLOW) == 0 ? std::uint32_t{protocol::Target::kFollow} : 0U);
  words.flags = static_cast<std::uint32_t>(flags);
  words.mode = static_cast<std::uint16_t>(mode & 07777U);
  words.umask = current_umask();
  OpenRecord* record = nullptr;
  if (const long error = open_place(place, words, rest, record); error != 0) return error;
  const long descriptor = raw::syscall(SYS_fcntl, record->stock_descriptor,
                                       (flags & O_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  if (descriptor < 0 || static_cast<std::uint64_t>(descriptor) >= state.most_descriptors) {
    if (descriptor >= 0) raw::syscall(SYS_close, descriptor);
    (void)release(*record);
    return descriptor < 0 ? descriptor : -EMFILE;
  }
  state.files[descriptor].store(record, std::memory_order_release);
  return descriptor;
}

long open_ours(const Place& place, int flags, mode_t mode, Rest& rest) {
  const long opened = open_file(place, flags, mode, rest);
  return opened == -ENXIO ? open_fifo(place, flags, rest) : opened;
}

// After a kernel duplicate of `from` at `to`: the table follows. Replaces what was at `to`.
void follow_duplicate(OpenRecord* record, int to) {
  if (static_cast<std::uint32_t>(to) >= state.most_descriptors) return;
  OpenRecord* const old = state.files[to].exchange(record, std::memory_order_acq_rel);
  if (old != nullptr) (void)release(*old);
}

long lock_once(OpenRecord& record, int descriptor, protocol::Operation operation,
               protocol::LockWords words, protocol::LockWords& answer) {
  if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
  Request request(operation, record.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  const long result = request.run();
  if (result == 0) answer = request.answer<protocol::LockWords>();
  return result;
}

// A lock that others hold is asked for again and again, at most 20 ms apart; a signal with a
// handler ends the waiting, as it ends the system call.
long lock_until(OpenRecord& record, int descriptor, const protocol::LockWords& words, bool waits) {
  long nanoseconds = 50'000;
  const Interruption interruption;
  for (;;) {
    protocol::LockWords answer;
    const long result = lock_once(record, descriptor, protocol::Operation::kLock, words, answer);
    // The service is gone, and the lock with it. Nobody expects giving one back to fail: SQLite
    // would believe for ever that it has it.
    if (result == -EIO && words.type == 2) return 0;
    if (result != -EAGAIN || !waits) return result;
    const timespec pause{0, nanoseconds};
    if (interruption.has_come() || raw::syscall(SYS_nanosleep, &pause, nullptr) == -EINTR) {
      return -EINTR;
    }
    if (nanoseconds < 20'000'000)
      nanoseconds = nanoseconds * 2 < 20'000'000 ? nanoseconds * 2 : 20'000'000;
  }
}

// fcntl's record locks on a file of ours.
long record_lock(OpenRecord& record, int descriptor, int command, struct flock& lock) {
  const bool open_file =
      command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  const bool asks = command == F_GETLK || command == F_OFD_GETLK;
  const bool waits = command == F_SETLKW || command == F_OFD_SETLKW;
  std::int64_t start = lock.l_start;
  if (lock.l_whence == SEEK_CUR) {
    const long offset = calls::lseek(descriptor, 0, SEEK_CUR);
    if (offset < 0) return offset;
    start += offset;
  } else if (lock.l_whence == SEEK_END) {
    struct stat status;
    if (const long error = calls::fstat(descriptor, &status); error != 0) return error;
    start += status.st_size;
  } else if (lock.l_whence != SEEK_SET) {
    return -EINVAL;
  }
  std::int64_t end = lock.l_len == 0 ? INT64_MAX : start + lock.l_len - 1;
  if (lock.l_len < 0) {
    end = start - 1;
    start += lock.l_len;
  }
  if (start < 0 || end < start) return -EINVAL;
  protocol::LockWords words;
  words.owner = open_file ? 1 : 0;
  switch (lock.l_type) {
    case F_RDLCK:
      words.type = 0;
      break;
    case F_WRLCK:
      words.type = 1;
      break;
    case F_UNLCK:
      words.type = 2;
      break;
    default:
      return -EINVAL;
  }
  words.start = static_cast<std::uint64_t>(start);
  words.end = end == INT64_MAX ? UINT64_MAX : static_cast<std::uint64_t>(end);
  if (!asks) return lock_until(record, descriptor, words, waits);
  protocol::LockWords found;
  if (const long error =
          lock_once(record, descriptor, protocol::Operation::kTestLock, words, found);
      error != 0) {
    return error;
  }
  if (found.type == 2) {
    lock.l_type = F_UNLCK;
    return 0;
  }
  lock.l_type = found.type == 1 ? F_WRLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(found.start);
  lock.l_len = found.end == UINT64_MAX ? 0 : static_cast<off_t>(found.end - found.start + 1);
  lock.l_pid = open_file ? -1 : static_cast<pid_t>(found.pid);
  return 0;
}

}  // namespace

long umask(mode_t mask) {
  known_umask.store(mask & 0777U, std::memory_order_relaxed);
  return raw::syscall(SYS_umask, mask);
}

long open(int directory, const char* path, int flags, mode_t mode) {
  return with_path(
      directory, path,
      [&](const Place& place, Rest& rest) { return open_ours(place, flags, mode, rest); },
      [&](int at, const char* name) { return raw::syscall(SYS_openat, at, name, flags, mode); },
      (flags & O_NOFOLLOW) == 0);
}

namespace {

constexpr std::uint64_t kBounds = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
constexpr std::uint64_t kKnownResolve =
    kBounds | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_CACHED;

// Whether a walk begins in a directory of ours, and not on a way to it.
bool begins_in_ours(int directory, const char* path) {
  if (path[0] == '/') return false;
  return (directory == AT_FDCWD ? state.working_directory.load(std::memory_order_acquire)
                                : find(directory)) != nullptr;
}

// What a newer kernel than we know may have taken for good. 0, or -errno.
long check_how(const open_how& how, const void* given, std::size_t size) {
  if ((how.resolve & ~kKnownResolve) != 0 || how.flags > INT32_MAX) return refused(-EINVAL);
  const char* const bytes = static_cast<const char*>(given);
  for (std::size_t i = sizeof how; i < size; ++i) {
    if (bytes[i] != 0) return refused(-E2BIG);
  }
  return 0;
}

// An open at a place of ours that the walk came to, `inside` from a directory of ours.
long open_as(Place& place, const open_how& how, bool inside, bool absolute, Rest& rest) {
  const std::uint64_t resolve = how.resolve;
  if ((resolve & RESOLVE_CACHED) != 0) return -EAGAIN;  // nobody knows what a service has at hand
  if (!inside && (resolve & RESOLVE_NO_XDEV) != 0) return -EXDEV;
  if (!inside && (resolve & kBounds) != 0) return absolute ? -EXDEV : refused(-ENOSYS);
  using Target = protocol::Target;
  place.way = ((resolve & RESOLVE_BENEATH) != 0 ? std::uint32_t{Target::kBeneath} : 0U) |
              ((resolve & RESOLVE_IN_ROOT) != 0 ? std::uint32_t{Target::kInRoot} : 0U) |
              ((resolve & RESOLVE_NO_SYMLINKS) != 0 ? std::uint32_t{Target::kNoLinks} : 0U);
  const long result =
      open_ours(place, static_cast<int>(how.flags), static_cast<mode_t>(how.mode), rest);
  return result == -protocol::kOutside && (resolve & RESOLVE_NO_XDEV) != 0 ? -EXDEV : result;
}

}  // namespace

// As with_path(), but what leads from one tree to the other must be allowed. Bounds are kept by the
// service, for one walk: a directory of the kernel's cannot be the bounds of a walk into a mount.
long openat2(int directory, const char* path, const open_how* how, std::size_t size) {
  const auto kernel = [&](int at, const char* name) {
    return raw::syscall(SYS_openat2, at, name, how, size);
  };
  if (!state.active || path == nullptr) return kernel(directory, path);
  // Whether `how` is well formed the kernel knows, and there is no such file.
  if (const long formal = kernel(AT_FDCWD, ""); formal != -ENOENT) return formal;
  if (const long error = check_text(path); error != 0) return error;
  open_how given;
  __builtin_memcpy(&given, how, sizeof given);
  const bool follow = (given.flags & O_NOFOLLOW) == 0;
  if ((given.resolve & RESOLVE_IN_ROOT) != 0 && path[0] == '/') {
    while (*path == '/') ++path;
    if (*path == '\0') path = ".";
  }
  char absolute[2 * kPathBytes];
  for (int leaves = 0; leaves < kMostLeaves; ++leaves) {
    const OwnLink link = own_link(path);
    if (link.record != nullptr && (link.rest[0] != '\0' || follow)) {
      if ((given.resolve & (RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)) != 0) return -ELOOP;
    }
    Place place;
    const long kind = resolve(directory, path, place, follow);
    if (kind < 0) return kind;
    if (kind == 0) {
      const long result = kernel(directory, path);
      if (result != -ENOENT || !leads_across(directory, path, absolute)) return result;
      if ((given.resolve & RESOLVE_NO_XDEV) != 0) return -EXDEV;
      if ((given.resolve & kBounds) != 0) return refused(-ENOSYS);
    } else {
      if (const long error = check_how(given, how, size); error != 0) return error;
      Rest rest;
      const long result =
          open_as(place, given, begins_in_ours(directory, path), path[0] == '/', rest);
      if (result != -protocol::kOutside) return result;
      follow_outside(place, rest.text, rest.bytes, absolute);
    }
    directory = AT_FDCWD;
    path = absolute;
  }
  return -ELOOP;
}

long close(int descriptor) {
  if (state.active) {
    if (is_own_descriptor(descriptor)) return -EBADF;
    if (find(descriptor) != nullptr) {
      const Whole whole;
      // Out of the table before the kernel may give the number to another thread.
      OpenRecord* const record =
          state.files[descriptor].exchange(nullptr, std::memory_order_acq_rel);
      raw::syscall(SYS_close, descriptor);
      return record != nullptr ? release(*record) : -EBADF;
    }
  }
  return raw::syscall(SYS_close, descriptor);
}

long close_range(unsigned first, unsigned last, unsigned flags) {
  if (!state.active) return raw::syscall(SYS_close_range, first, last, flags);
  if (first > last) return -EINVAL;
  constexpr unsigned kUnshare = 1U << 1U;
  constexpr unsigned kCloexec = 1U << 2U;
  if ((flags & ~(kUnshare | kCloexec)) != 0) return -EINVAL;
  const unsigned end = last < state.most_descriptors ? last : state.most_descriptors - 1;
  if ((flags & kCloexec) == 0) {
    for (unsigned i = first; i <= end; ++i) {
      if (state.files[i].load(std::memory_order_relaxed) != nullptr) {
        (void)close(static_cast<int>(i));
      }
    }
  }
  // The kernel's, in the gaps between our own.
  unsigned from = first;
  for (unsigned i = first; i <= end; ++i) {
    if (!is_own_descriptor(static_cast<int>(i))) continue;
    if (i > from) raw::syscall(SYS_close_range, from, i - 1, flags);
    from = i + 1;
  }
  return from <= last ? raw::syscall(SYS_close_range, from, last, flags) : 0;
}

long dup(int descriptor) { return fcntl(descriptor, F_DUPFD, 0); }

long dup3(int from, int to, int flags) {
  const bool is_dup2 = flags == -1;
  auto kernel = [&] {
    return is_dup2 ? raw::syscall(SYS_dup2, from, to) : raw::syscall(SYS_dup3, from, to, flags);
  };
  if (!state.active) return kernel();
  if (is_own_descriptor(from) || is_own_descriptor(to)) return -EBADF;
  OpenRecord* const record = find(from);
  if (from == to || (record == nullptr && find(to) == nullptr)) return kernel();
  const Whole whole;
  if (record != nullptr) record->descriptors.fetch_add(1, std::memory_order_acq_rel);
  const long result = kernel();
  if (result < 0) {
    if (record != nullptr) (void)release(*record);
    return result;
  }
  follow_duplicate(record, to);
  return result;
}

long fcntl(int descriptor, int command, unsigned long argument) {
  auto kernel = [&] { return raw::syscall(SYS_fcntl, descriptor, command, argument); };
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    if (state.active && is_own_descriptor(descriptor)) return -EBADF;
    return kernel();
  }
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      const Whole whole;
      record->descriptors.fetch_add(1, std::memory_order_acq_rel);
      const long result = kernel();
      if (result < 0 || static_cast<std::uint64_t>(result) >= state.most_descriptors) {
        if (result >= 0) raw::syscall(SYS_close, result);
        (void)release(*record);
        return result < 0 ? result : -EMFILE;
      }
      follow_duplicate(record, static_cast<int>(result));
      return result;
    }
    case F_GETFD:
    case F_SETFD:
      return kernel();
    case F_GETFL:
    case F_SETFL: {
      protocol::FlagsRequest words;
      if (const long error = handle_of(*record, descriptor, words.handle); error != 0) {
        return error;
      }
      words.flags = static_cast<std::uint32_t>(argument);
      Request request(
          command == F_GETFL ? protocol::Operation::kGetFlags : protocol::Operation::kSetFlags,
          record->instance);
      if (!request.ok()) return request.error();
      request.set(words);
      if (const long error = request.run(); error != 0) return error;
      if (command == F_SETFL) return 0;
      // O_LARGEFILE: as a 64-bit kernel reports it.
      return static_cast<long>(request.answer_word()) |
             ((record->flags & O_PATH) == 0 ? 0100000 : 0);
    }
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: {
      auto* const lock = reinterpret_cast<struct flock*>(argument);
      const bool asks = command == F_GETLK || command == F_OFD_GETLK;
      if (asks ? !writable(lock, sizeof *lock) : !readable(lock, sizeof *lock)) return -EFAULT;
      return record_lock(*record, descriptor, command, *lock);
    }
    case F_GETOWN:
    case F_GETSIG:
      return 0;
    // Nobody is told of what other processes do.
    case F_GETLEASE:
      return F_UNLCK;
    case F_SETLEASE:
      return argument == F_UNLCK ? -EAGAIN : refused(-EINVAL);
    case F_NOTIFY:
      if ((argument & ~std::uint64_t{DN_MULTISHOT}) == 0) return 0;
      return S_ISDIR(record->mode) ? refused(-EINVAL) : -ENOTDIR;
    default:
      return -EINVAL;
  }
}

long flock(int descriptor, int operation) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_flock, descriptor, operation);
  protocol::LockWords words;
  words.owner = 2;
  words.end = UINT64_MAX;
  switch (operation & ~4 /* LOCK_NB */) {
    case 1 /* LOCK_SH */:
      words.type = 0;
      break;
    case 2 /* LOCK_EX */:
      words.type = 1;
      break;
    case 8 /* LOCK_UN */:
      words.type = 2;
      break;
    default:
      return -EINVAL;
  }
  return lock_until(*record, descriptor, words, (operation & 4) == 0);
}

// The other process knows nothing of it, and may close its own as the only one: the service is told
// at once.
long pidfd_getfd(int process, int number, unsigned flags) {
  if (is_ours(process)) return -EBADF;
  const long taken = raw::syscall(SYS_pidfd_getfd, process, number, flags);
  if (taken < 0) return taken;
  const int descriptor = static_cast<int>(taken);
  adopt_received(descriptor);
  OpenRecord* const record = find(descriptor);
  protocol::Handle handle = 0;
  if (record != nullptr) {
    if (const long error = handle_of(*record, descriptor, handle); error != 0) {
      (void)close(descriptor);
      return error;
    }
  }
  return taken;
}

bool is_ours(int descriptor) { return find(descriptor) != nullptr; }

}  // namespace libservices::client::calls
