// SPDX-License-Identifier: Apache-2.0
//
// libc's functions on descriptors and contents: open to umask.
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <termios.h>
#include <unistd.h>

#include "src/client/addresses.h"
#include "src/client/signals.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr bool needs_mode(int flags) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

int open_at(int directory, const char* path, int flags, mode_t mode) {
  long opened = 0;
  if (__libc_single_threaded != 0 || calls::is_ours(directory, path) != 0) {
    test_cancel();
    opened = calls::open(directory, path, flags, mode);
  } else if (active() && client::check_text(path) == 0 && path[0] == '/' &&
             (path[1] == 'd' || path[1] == 'p')) {
    opened = calls::open(directory, path, flags, mode);  // perhaps /proc/self/fd/N
  } else {
    const Cancellable cancellable;
    opened = raw::syscall(SYS_openat, directory, path, flags, mode);
  }
  if (opened == -ENOENT && __libc_single_threaded == 0) {
    opened = calls::open(directory, path, flags, mode);  // perhaps a link into a mount
  }
  if (opened >= 0 && opened <= 2 && calls::is_ours(static_cast<int>(opened))) {
    prepare_standard_stream(static_cast<int>(opened));
  }
  return int_result(opened);
}

// A checked variant's caller knew the size of its buffer.
void check(std::size_t needed, std::size_t available) {
  if (needed > available) abort();
}

ssize_t read_parts(int descriptor, const iovec* parts, int count, off_t offset, int flags) {
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::readv(descriptor, parts, count, offset, flags));
  }
  const Cancellable cancellable;
  return result(calls::readv(descriptor, parts, count, offset, flags));
}

ssize_t write_parts(int descriptor, const iovec* parts, int count, off_t offset, int flags) {
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::writev(descriptor, parts, count, offset, flags));
  }
  const Cancellable cancellable;
  return result(calls::writev(descriptor, parts, count, offset, flags));
}

int sync_with(int descriptor, bool data_only) {
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return int_result(calls::fsync(descriptor, data_only));
  }
  const Cancellable cancellable;
  return int_result(calls::fsync(descriptor, data_only));
}

// A lock of ours: handlers with SA_RESTART, and libc's own, do not end the waiting for it.
template <class Wait>
long wait_for_lock(bool can_be_cancelled, Wait&& wait) {
  const client::Interruption interruption;
  for (;;) {
    if (can_be_cancelled) test_cancel();
    const long result = wait();
    if (result != -EINTR || interruption.has_come()) return result;
  }
}

int duplicate_to(int from, int to, int flags) {
  if (to >= 0 && to <= 2 && calls::is_ours(from)) prepare_standard_stream(to);
  return int_result(calls::dup3(from, to, flags));
}

}  // namespace

// --- open ---------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_open(const char* path, int flags, ...) {
  const Call call(Symbol::open);
  mode_t mode = 0;
  if (needs_mode(flags)) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_at(AT_FDCWD, path, flags, mode);
}

LIBSERVICES_EXPORT int ls_openat(int directory, const char* path, int flags, ...) {
  const Call call(Symbol::openat);
  mode_t mode = 0;
  if (needs_mode(flags)) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_at(directory, path, flags, mode);
}

LIBSERVICES_EXPORT int ls_open_2(const char* path, int flags) {
  const Call call(Symbol::open_2);
  check(needs_mode(flags), 0);
  return open_at(AT_FDCWD, path, flags, 0);
}

LIBSERVICES_EXPORT int ls_openat_2(int directory, const char* path, int flags) {
  const Call call(Symbol::openat_2);
  check(needs_mode(flags), 0);
  return open_at(directory, path, flags, 0);
}

LIBSERVICES_EXPORT int ls_creat(const char* path, mode_t mode) {
  const Call call(Symbol::creat);
  return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

// --- close, dup, fcntl --------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_close(int descriptor) {
  const Call call(Symbol::close);
  if (active()) {
    test_cancel();
    return int_result(calls::close(descriptor));
  }
  const Cancellable cancellable;
  return int_result(calls::close(descriptor));
}

LIBSERVICES_EXPORT void ls_closefrom(int first) {
  const Call call(Symbol::closefrom);
  (void)calls::close_range(first < 0 ? 0 : static_cast<unsigned>(first), ~0U, 0);
}

LIBSERVICES_EXPORT int ls_dup(int descriptor) {
  const Call call(Symbol::dup);
  const int copy = int_result(calls::dup(descriptor));
  if (copy >= 0 && copy <= 2 && calls::is_ours(copy)) prepare_standard_stream(copy);
  return copy;
}

LIBSERVICES_EXPORT int ls_dup2(int from, int to) {
  const Call call(Symbol::dup2);
  return duplicate_to(from, to, -1);
}

LIBSERVICES_EXPORT int ls_dup3(int from, int to, int flags) {
  const Call call(Symbol::dup3);
  return flags < 0 ? int_result(-EINVAL) : duplicate_to(from, to, flags);
}

LIBSERVICES_EXPORT int ls_fcntl(int descriptor, int command, ...) {
  const Call call(Symbol::fcntl);
  va_list arguments;
  va_start(arguments, command);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (calls::is_ours(descriptor)) {
    const bool waits = command == F_SETLKW || command == F_OFD_SETLKW;
    const auto call_ours = [&] { return calls::fcntl(descriptor, command, argument); };
    const int value = int_result(waits ? wait_for_lock(true, call_ours) : call_ours());
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && value >= 0 && value <= 2) {
      prepare_standard_stream(value);
    }
    return value;
  }
  if (command == F_GETOWN) {  // Whose result may be negative: libc asks in another way.
    struct {
      int type;
      int pid;
    } owner{};
    const long error =
        calls::fcntl(descriptor, 16 /* F_GETOWN_EX */, reinterpret_cast<unsigned long>(&owner));
    if (error < 0) return int_result(error);
    return owner.type == 2 ? -owner.pid : owner.pid;
  }
  if (command == F_SETLKW || command == F_OFD_SETLKW) {
    const Cancellable cancellable;
    return int_result(calls::fcntl(descriptor, command, argument));
  }
  return int_result(calls::fcntl(descriptor, command, argument));
}

// --- read, write, seek --------------------------------------------------------------------------

LIBSERVICES_EXPORT ssize_t ls_read(int descriptor, void* into, std::size_t size) {
  const Call call(Symbol::read);
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::read(descriptor, into, size));
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_read, descriptor, into, size));
}

LIBSERVICES_EXPORT ssize_t ls_read_chk(int descriptor, void* into, std::size_t size,
                                       std::size_t available) {
  const Call call(Symbol::read_chk);
  check(size, available);
  return ls_read(descriptor, into, size);
}

LIBSERVICES_EXPORT ssize_t ls_write(int descriptor, const void* from, std::size_t size) {
  const Call call(Symbol::write);
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::write(descriptor, from, size));
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_write, descriptor, from, size));
}

LIBSERVICES_EXPORT ssize_t ls_pread(int descriptor, void* into, std::size_t size, off_t offset) {
  const Call call(Symbol::pread);
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::pread(descriptor, into, size, offset));
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_pread64, descriptor, into, size, offset));
}

LIBSERVICES_EXPORT ssize_t ls_pread_chk(int descriptor, void* into, std::size_t size, off_t offset,
                                        std::size_t available) {
  const Call call(Symbol::pread_chk);
  check(size, available);
  return ls_pread(descriptor, into, size, offset);
}

LIBSERVICES_EXPORT ssize_t ls_pwrite(int descriptor, const void* from, std::size_t size,
                                     off_t offset) {
  const Call call(Symbol::pwrite);
  if (calls::is_ours(descriptor)) {
    test_cancel();
    return result(calls::pwrite(descriptor, from, size, offset));
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_pwrite64, descriptor, from, size, offset));
}

LIBSERVICES_EXPORT ssize_t ls_readv(int descriptor, const iovec* parts, int count) {
  const Call call(Symbol::readv);
  return read_parts(descriptor, parts, count, -1, 0);
}

LIBSERVICES_EXPORT ssize_t ls_writev(int descriptor, const iovec* parts, int count) {
  const Call call(Symbol::writev);
  return write_parts(descriptor, parts, count, -1, 0);
}

LIBSERVICES_EXPORT ssize_t ls_preadv(int descriptor, const iovec* parts, int count, off_t offset) {
  const Call call(Symbol::preadv);
  if (offset < 0) return result(-EINVAL);
  return read_parts(descriptor, parts, count, offset, 0);
}

LIBSERVICES_EXPORT ssize_t ls_pwritev(int descriptor, const iovec* parts, int count, off_t offset) {
  const Call call(Symbol::pwritev);
  if (offset < 0) return result(-EINVAL);
  return write_parts(descriptor, parts, count, offset, 0);
}

LIBSERVICES_EXPORT ssize_t ls_preadv2(int descriptor, const iovec* parts, int count, off_t offset,
                                      int flags) {
  const Call call(Symbol::preadv2);
  return read_parts(descriptor, parts, count, offset, flags);
}

LIBSERVICES_EXPORT ssize_t ls_pwritev2(int descriptor, const iovec* parts, int count, off_t offset,
                                       int flags) {
  const Call call(Symbol::pwritev2);
  return write_parts(descriptor, parts, count, offset, flags);
}

// --- size, space, synchronisation ---------------------------------------------------------------

LIBSERVICES_EXPORT int ls_posix_fallocate(int descriptor, off_t offset, off_t size) {
  const Call call(Symbol::posix_fallocate);
  if (!calls::is_ours(descriptor)) {
    return LIBSERVICES_REAL(posix_fallocate)(descriptor, offset, size);
  }
  if (offset < 0 || size <= 0) return EINVAL;
  const long reserved = calls::fallocate(descriptor, 0, offset, size);
  if (reserved != -EOPNOTSUPP) return static_cast<int>(-reserved);
  // Without reservation of space: at least as long as asked.
  struct stat attributes;
  if (const long error = calls::fstat(descriptor, &attributes); error != 0) {
    return static_cast<int>(-error);
  }
  if (!S_ISREG(attributes.st_mode)) return ENODEV;
  if (attributes.st_size >= offset + size) return 0;
  return static_cast<int>(-calls::ftruncate(descriptor, offset + size));
}

LIBSERVICES_EXPORT int ls_posix_fadvise(int descriptor, off_t offset, off_t size, int advice) {
  const Call call(Symbol::posix_fadvise);
  if (calls::is_ours(descriptor)) return advice < 0 || advice > 5 || size < 0 ? EINVAL : 0;
  return static_cast<int>(-raw::syscall(SYS_fadvise64, descriptor, offset, size, advice));
}

LIBSERVICES_EXPORT ssize_t ls_readahead(int descriptor, off_t offset, std::size_t size) {
  const Call call(Symbol::readahead);
  if (calls::is_ours(descriptor)) return 0;
  return result(raw::syscall(SYS_readahead, descriptor, offset, size));
}

LIBSERVICES_EXPORT int ls_fsync(int descriptor) {
  const Call call(Symbol::fsync);
  return sync_with(descriptor, false);
}

LIBSERVICES_EXPORT int ls_fdatasync(int descriptor) {
  const Call call(Symbol::fdatasync);
  return sync_with(descriptor, true);
}

LIBSERVICES_EXPORT int ls_sync_file_range(int descriptor, off_t offset, off_t size,
                                          unsigned flags) {
  const Call call(Symbol::sync_file_range);
  if (!calls::is_ours(descriptor)) {
    const Cancellable cancellable;
    return int_result(raw::syscall(SYS_sync_file_range, descriptor, offset, size, flags));
  }
  if (offset < 0 || size < 0 || (flags & ~7U) != 0) return int_result(-EINVAL);
  return int_result(calls::fsync(descriptor, true));
}

// --- from file to file --------------------------------------------------------------------------

LIBSERVICES_EXPORT ssize_t ls_sendfile(int to, int from, off_t* offset, std::size_t size) {
  const Call call(Symbol::sendfile);
  if (calls::is_ours(to) || calls::is_ours(from)) {
    return result(calls::sendfile(to, from, offset, size));
  }
  return result(raw::syscall(SYS_sendfile, to, from, offset, size));
}

LIBSERVICES_EXPORT ssize_t ls_splice(int from, off_t* from_offset, int to, off_t* to_offset,
                                     std::size_t size, unsigned flags) {
  const Call call(Symbol::splice);
  if (calls::is_ours(from) || calls::is_ours(to)) {
    return result(calls::splice(from, from_offset, to, to_offset, size, flags));
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_splice, from, from_offset, to, to_offset, size, flags));
}

// --- locks, ioctl, umask ------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_flock(int descriptor, int operation) {
  const Call call(Symbol::flock);
  const auto call_it = [&] { return calls::flock(descriptor, operation); };
  return int_result(calls::is_ours(descriptor) ? wait_for_lock(false, call_it) : call_it());
}

LIBSERVICES_EXPORT int ls_lockf(int descriptor, int command, off_t size) {
  const Call call(Symbol::lockf);
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(lockf)(descriptor, command, size);
  struct flock lock {};
  lock.l_whence = SEEK_CUR;
  lock.l_len = size;
  lock.l_type = command == F_ULOCK ? F_UNLCK : F_WRLCK;
  const auto argument = reinterpret_cast<unsigned long>(&lock);
  switch (command) {
    case F_ULOCK:
    case F_TLOCK:
      return int_result(calls::fcntl(descriptor, F_SETLK, argument));
    case F_LOCK:
      return int_result(
          wait_for_lock(true, [&] { return calls::fcntl(descriptor, F_SETLKW, argument); }));
    case F_TEST: {
      lock.l_type = F_RDLCK;
      if (const long error = calls::fcntl(descriptor, F_GETLK, argument); error != 0) {
        return int_result(error);
      }
      return lock.l_type == F_UNLCK || lock.l_pid == getpid() ? 0 : int_result(-EACCES);
    }
    default:
      return int_result(-EINVAL);
  }
}

LIBSERVICES_EXPORT int ls_ioctl(int descriptor, unsigned long command, ...) {
  const Call call(Symbol::ioctl);
  va_list arguments;
  va_start(arguments, command);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  return int_result(calls::ioctl(descriptor, command, argument));
}

LIBSERVICES_EXPORT int ls_isatty(int descriptor) {
  const Call call(Symbol::isatty);
  if (calls::is_ours(descriptor)) {
    errno = ENOTTY;
    return 0;
  }
  return LIBSERVICES_REAL(isatty)(descriptor);
}

LIBSERVICES_EXPORT int ls_tcgetattr(int descriptor, termios* into) {
  const Call call(Symbol::tcgetattr);
  if (calls::is_ours(descriptor)) return int_result(-ENOTTY);
  return LIBSERVICES_REAL(tcgetattr)(descriptor, into);
}

LIBSERVICES_EXPORT mode_t ls_umask(mode_t mask) {
  const Call call(Symbol::umask);
  return static_cast<mode_t>(calls::umask(mask));
}

}  // namespace libservices::preload
