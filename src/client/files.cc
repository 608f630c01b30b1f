// SPDX-License-Identifier: Apache-2.0
//
// Descriptors: open, close, dup, fcntl. The kernel's table is the truth; ours follows it.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
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

long open_ours(const Place& place, int flags, mode_t mode, Rest& rest) {
  protocol::OpenRequest words;
  words.target =
      place.target((flags & O_NOFOLLOW) == 0 ? std::uint32_t{protocol::Target::kFollow} : 0U);
  words.flags = static_cast<std::uint32_t>(flags);
  words.mode = static_cast<std::uint16_t>(mode & 07777U);
  words.umask = current_umask();
  OpenRecord* record = nullptr;
  if (const long error = open_place(place, words, rest, record); error != 0) {
    return error == -ENXIO ? open_fifo(place, flags, rest) : error;
  }
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
  for (;;) {
    protocol::LockWords answer;
    const long result = lock_once(record, descriptor, protocol::Operation::kLock, words, answer);
    // The service is gone, and the lock with it. Nobody expects giving one back to fail: SQLite
    // would believe for ever that it has it.
    if (result == -EIO && words.type == 2) return 0;
    if (result != -EAGAIN || !waits) return result;
    const timespec pause{0, nanoseconds};
    if (raw::syscall(SYS_nanosleep, &pause, nullptr) == -EINTR) return -EINTR;
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

long close(int descriptor) {
  if (state.active) {
    if (is_own_descriptor(descriptor)) return -EBADF;
    if (find(descriptor) != nullptr) {
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
      // O_LARGEFILE: as a 64-bit kernel reports it.
      return command == F_GETFL ? static_cast<long>(request.answer_word() | 0100000) : 0;
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
