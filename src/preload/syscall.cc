// SPDX-License-Identifier: Apache-2.0
//
// syscall(): the numbers that are about files go the way of the functions of that name, all others
// to the kernel.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include "src/client/addresses.h"
#include "src/preload/asynchronous.h"
#include "src/preload/execute.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// An argument of a system call as what it is.
struct Word {
  long value;
  template <class T>
  operator T*() const {
    return reinterpret_cast<T*>(value);
  }
  operator int() const { return static_cast<int>(value); }
  operator unsigned() const { return static_cast<unsigned>(value); }
  operator long() const { return value; }
  operator unsigned long() const { return static_cast<unsigned long>(value); }
};

constexpr long kFchmodat2 = 452;
constexpr long kClone3 = 435;

// Functions of other sources here that do what the system call of that name does.
extern "C" {
int ls_poll(pollfd*, nfds_t, int);
int ls_ppoll(pollfd*, nfds_t, const timespec*, const sigset_t*);
int ls_select(int, fd_set*, fd_set*, fd_set*, timeval*);
int ls_epoll_ctl(int, int, int, void*);
ssize_t ls_sendmsg(int, const msghdr*, int);
int ls_sendmmsg(int, mmsghdr*, unsigned, int);
ssize_t ls_recvmsg(int, msghdr*, int);
int ls_recvmmsg(int, mmsghdr*, unsigned, int, timespec*);
int ls_getsockname(int, sockaddr*, socklen_t*);
int ls_getpeername(int, sockaddr*, socklen_t*);
ssize_t ls_tee(int, int, std::size_t, unsigned);
ssize_t ls_vmsplice(int, const iovec*, std::size_t, unsigned);
int ls_sync_file_range(int, off_t, off_t, unsigned);
ssize_t ls_readahead(int, off_t, std::size_t);
int ls_posix_fadvise(int, off_t, off_t, int);
int ls_utime(const char*, const utimbuf*);
int ls_utimes(const char*, const timeval*);
int ls_futimesat(int, const char*, const timeval*);
int ls_name_to_handle_at(int, const char*, void*, int*, int);
int ls_inotify_add_watch(int, const char*, std::uint32_t);
}

// What a function of libc's kind says as a system call says it.
long from_errno(long value) { return value == -1 ? -errno : value; }

// The process's own numbers are libc's to keep.
long fork_by_number(long number, const Word (&a)[6]) {
  const bool shares_memory =
      number == SYS_clone
          ? (a[0].value & CLONE_VM) != 0
          : number == kClone3 && (*static_cast<const std::uint64_t*>(a[0]) & CLONE_VM) != 0;
  if (shares_memory) {  // a thread, or something that nobody else can make right
    return raw::syscall(number, a[0].value, a[1].value, a[2].value, a[3].value, a[4].value);
  }
  client::share_all();
  const long child =
      raw::syscall(number, a[0].value, a[1].value, a[2].value, a[3].value, a[4].value);
  if (child == 0) begin_child();
  return child;
}

// Those that have a function of libc's which does the same.
bool dispatch_more(long number, const Word (&a)[6], long& result) {
  switch (number) {
#ifdef SYS_poll
    case SYS_poll:
      result = from_errno(ls_poll(a[0], a[1], a[2]));
      return true;
    case SYS_select:
      result = from_errno(ls_select(a[0], a[1], a[2], a[3], a[4]));
      return true;
    case SYS_utime:
      result = from_errno(ls_utime(a[0], a[1]));
      return true;
    case SYS_utimes:
      result = from_errno(ls_utimes(a[0], a[1]));
      return true;
    case SYS_futimesat:
      result = from_errno(ls_futimesat(a[0], a[1], a[2]));
      return true;
    case SYS_mknod:
      result = calls::mknodat(AT_FDCWD, a[0], a[1], a[2]);
      return true;
    case SYS_chown:
      result = calls::fchownat(AT_FDCWD, a[0], a[1], a[2], 0);
      return true;
    case SYS_lchown:
      result = calls::fchownat(AT_FDCWD, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW);
      return true;
    case SYS_getdents:  // records that no libc has asked for since Linux 2.4
      if (!calls::is_ours(static_cast<int>(a[0]))) return false;
      result = client::refused(-ENOSYS);
      return true;
    case SYS_fork:
    case SYS_vfork:
      result = fork_by_number(SYS_fork, a);
      return true;
#endif
    case SYS_clone:
    case kClone3:
      result = fork_by_number(number, a);
      return true;
    case SYS_ppoll:
      result = from_errno(ls_ppoll(a[0], a[1], a[2], a[3]));
      return true;
    case SYS_epoll_ctl:
      result = from_errno(ls_epoll_ctl(a[0], a[1], a[2], a[3]));
      return true;
    case SYS_sendmsg:
      result = from_errno(ls_sendmsg(a[0], a[1], a[2]));
      return true;
    case SYS_sendmmsg:
      result = from_errno(ls_sendmmsg(a[0], a[1], a[2], a[3]));
      return true;
    case SYS_recvmsg:
      result = from_errno(ls_recvmsg(a[0], a[1], a[2]));
      return true;
    case SYS_recvmmsg:
      result = from_errno(ls_recvmmsg(a[0], a[1], a[2], a[3], a[4]));
      return true;
    case SYS_getsockname:
      result = from_errno(ls_getsockname(a[0], a[1], a[2]));
      return true;
    case SYS_getpeername:
      result = from_errno(ls_getpeername(a[0], a[1], a[2]));
      return true;
    case SYS_splice:
      result = calls::splice(a[0], a[1], a[2], a[3], a[4], a[5]);
      return true;
    case SYS_tee:
      result = from_errno(ls_tee(a[0], a[1], a[2], a[3]));
      return true;
    case SYS_vmsplice:
      result = from_errno(ls_vmsplice(a[0], a[1], a[2], a[3]));
      return true;
    case SYS_sync_file_range:
      result = from_errno(ls_sync_file_range(a[0], a[1].value, a[2].value, a[3]));
      return true;
    case SYS_readahead:
      result = from_errno(ls_readahead(a[0], a[1].value, a[2]));
      return true;
    case SYS_fadvise64:
      result = -ls_posix_fadvise(a[0], a[1].value, a[2].value, a[3]);
      return true;
    case SYS_chroot:
      result = calls::chroot(a[0]);
      return true;
    case SYS_name_to_handle_at:
      result = from_errno(ls_name_to_handle_at(a[0], a[1], a[2], a[3], a[4]));
      return true;
    case SYS_inotify_add_watch:
      result = from_errno(ls_inotify_add_watch(a[0], a[1], a[2]));
      return true;
    case SYS_io_submit:
      result = submit_blocks(a[0], a[1], a[2]);
      return true;
    case SYS_io_getevents:
      result = take_events(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_io_pgetevents:
      result = take_events_masked(a[0], a[1], a[2], a[3], a[4], static_cast<const char*>(a[5]));
      return true;
    case SYS_io_uring_setup:
      if (!refuses_rings()) return false;
      result = -ENOSYS;
      return true;
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
      result = raw::syscall(number, a[0].value, a[1].value, a[2].value);
      if (result == 0) client::forget_session();
      return true;
    default:
      return false;
  }
}

// True when `number` is about files; then the answer is in `result`.
bool dispatch(long number, const Word (&a)[6], long& result) {
  switch (number) {
#ifdef SYS_open
    case SYS_open:
      result = calls::open(AT_FDCWD, a[0], a[1], a[2]);
      return true;
    case SYS_creat:
      result = calls::open(AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]);
      return true;
    case SYS_stat:
      result = calls::fstatat(AT_FDCWD, a[0], a[1], 0);
      return true;
    case SYS_lstat:
      result = calls::fstatat(AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW);
      return true;
    case SYS_access:
      result = calls::faccessat(AT_FDCWD, a[0], a[1], 0);
      return true;
    case SYS_dup2:
      result = calls::dup3(a[0], a[1], -1);
      return true;
    case SYS_mkdir:
      result = calls::mkdirat(AT_FDCWD, a[0], a[1]);
      return true;
    case SYS_rmdir:
      result = calls::unlinkat(AT_FDCWD, a[0], AT_REMOVEDIR);
      return true;
    case SYS_unlink:
      result = calls::unlinkat(AT_FDCWD, a[0], 0);
      return true;
    case SYS_rename:
      result = calls::renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], 0);
      return true;
    case SYS_readlink:
      result = calls::readlinkat(AT_FDCWD, a[0], a[1], a[2]);
      return true;
    case SYS_symlink:
      result = calls::symlinkat(a[0], AT_FDCWD, a[1]);
      return true;
    case SYS_link:
      result = calls::linkat(AT_FDCWD, a[0], AT_FDCWD, a[1], 0);
      return true;
    case SYS_chmod:
      result = calls::fchmodat(AT_FDCWD, a[0], a[1], 0);
      return true;
#endif
#ifdef SYS_renameat
    case SYS_renameat:
      result = calls::renameat2(a[0], a[1], a[2], a[3], 0);
      return true;
#endif
    case SYS_openat:
      result = calls::open(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_openat2:
      result = calls::openat2(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_close:
      result = calls::close(a[0]);
      return true;
    case SYS_close_range:
      result = calls::close_range(a[0], a[1], a[2]);
      return true;
    case SYS_dup:
      result = calls::dup(a[0]);
      return true;
    case SYS_dup3:
      result = a[2].value < 0 ? -EINVAL : calls::dup3(a[0], a[1], a[2]);
      return true;
    case SYS_pidfd_getfd:
      result = calls::pidfd_getfd(a[0], a[1], a[2]);
      return true;
    case SYS_fcntl:
      result = calls::fcntl(a[0], a[1], a[2]);
      return true;
    case SYS_ioctl:
      result = calls::ioctl(a[0], a[1], a[2]);
      return true;
    case SYS_flock:
      result = calls::flock(a[0], a[1]);
      return true;
    case SYS_umask:
      result = calls::umask(a[0]);
      return true;
    case SYS_read:
      result = calls::read(a[0], a[1], a[2]);
      return true;
    case SYS_write:
      result = calls::write(a[0], a[1], a[2]);
      return true;
    case SYS_pread64:
      result = calls::pread(a[0], a[1], a[2], a[3].value);
      return true;
    case SYS_pwrite64:
      result = calls::pwrite(a[0], a[1], a[2], a[3].value);
      return true;
    case SYS_readv:
      result = calls::readv(a[0], a[1], a[2], -1, 0);
      return true;
    case SYS_writev:
      result = calls::writev(a[0], a[1], a[2], -1, 0);
      return true;
    case SYS_preadv:
      result = a[3].value < 0 ? -EINVAL : calls::readv(a[0], a[1], a[2], a[3].value, 0);
      return true;
    case SYS_pwritev:
      result = a[3].value < 0 ? -EINVAL : calls::writev(a[0], a[1], a[2], a[3].value, 0);
      return true;
    case SYS_preadv2:
      result = calls::readv(a[0], a[1], a[2], a[3].value, a[5]);
      return true;
    case SYS_pwritev2:
      result = calls::writev(a[0], a[1], a[2], a[3].value, a[5]);
      return true;
    case SYS_lseek:
      result = calls::lseek(a[0], a[1].value, a[2]);
      return true;
    case SYS_ftruncate:
      result = calls::ftruncate(a[0], a[1].value);
      return true;
    case SYS_truncate:
      result = calls::truncate(a[0], a[1].value);
      return true;
    case SYS_fallocate:
      result = calls::fallocate(a[0], a[1], a[2].value, a[3].value);
      return true;
    case SYS_fsync:
      result = calls::fsync(a[0], false);
      return true;
    case SYS_fdatasync:
      result = calls::fsync(a[0], true);
      return true;
    case SYS_syncfs:
      result = calls::syncfs(a[0]);
      return true;
    case SYS_getdents64:
      result = calls::getdents64(a[0], a[1], a[2]);
      return true;
    case SYS_copy_file_range:
      result = calls::copy_file_range(a[0], a[1], a[2], a[3], a[4], a[5]);
      return true;
    case SYS_sendfile:
      result = calls::sendfile(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_newfstatat:
      result = calls::fstatat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_fstat:
      result = calls::fstat(a[0], a[1]);
      return true;
    case SYS_statx:
      result = calls::statx(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_statfs:
      result = calls::statfs(a[0], a[1]);
      return true;
    case SYS_fstatfs:
      result = calls::fstatfs(a[0], a[1]);
      return true;
    case SYS_faccessat:
      result = calls::faccessat(a[0], a[1], a[2], 0);
      return true;
    case SYS_faccessat2:
      result = calls::faccessat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_fchmod:
      result = calls::fchmod(a[0], a[1]);
      return true;
    case SYS_fchmodat:
      result = calls::fchmodat(a[0], a[1], a[2], 0);
      return true;
    case kFchmodat2:
      result = calls::fchmodat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_fchown:
      result = calls::fchown(a[0], a[1], a[2]);
      return true;
    case SYS_fchownat:
      result = calls::fchownat(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_utimensat:
      result = calls::utimensat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_mkdirat:
      result = calls::mkdirat(a[0], a[1], a[2]);
      return true;
    case SYS_mknodat:
      result = calls::mknodat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_symlinkat:
      result = calls::symlinkat(a[0], a[1], a[2]);
      return true;
    case SYS_readlinkat:
      result = calls::readlinkat(a[0], a[1], a[2], a[3]);
      return true;
    case SYS_linkat:
      result = calls::linkat(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_unlinkat:
      result = calls::unlinkat(a[0], a[1], a[2]);
      return true;
    case SYS_renameat2:
      result = calls::renameat2(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_getxattr:
      result = calls::getxattr(AT_FDCWD, a[0], true, a[1], a[2], a[3]);
      return true;
    case SYS_lgetxattr:
      result = calls::getxattr(AT_FDCWD, a[0], false, a[1], a[2], a[3]);
      return true;
    case SYS_fgetxattr:
      result = calls::getxattr(a[0], nullptr, true, a[1], a[2], a[3]);
      return true;
    case SYS_setxattr:
      result = calls::setxattr(AT_FDCWD, a[0], true, a[1], a[2], a[3], a[4]);
      return true;
    case SYS_lsetxattr:
      result = calls::setxattr(AT_FDCWD, a[0], false, a[1], a[2], a[3], a[4]);
      return true;
    case SYS_fsetxattr:
      result = calls::setxattr(a[0], nullptr, true, a[1], a[2], a[3], a[4]);
      return true;
    case SYS_listxattr:
      result = calls::listxattr(AT_FDCWD, a[0], true, a[1], a[2]);
      return true;
    case SYS_llistxattr:
      result = calls::listxattr(AT_FDCWD, a[0], false, a[1], a[2]);
      return true;
    case SYS_flistxattr:
      result = calls::listxattr(a[0], nullptr, true, a[1], a[2]);
      return true;
    case SYS_removexattr:
      result = calls::removexattr(AT_FDCWD, a[0], true, a[1]);
      return true;
    case SYS_lremovexattr:
      result = calls::removexattr(AT_FDCWD, a[0], false, a[1]);
      return true;
    case SYS_fremovexattr:
      result = calls::removexattr(a[0], nullptr, true, a[1]);
      return true;
    case SYS_chdir:
      result = calls::chdir(a[0]);
      return true;
    case SYS_fchdir:
      result = calls::fchdir(a[0]);
      return true;
    case SYS_getcwd:
      result = calls::getcwd(a[0], a[1]);
      return true;
    case SYS_execve:
      result = execute(AT_FDCWD, a[0], a[1], a[2], 0);
      return true;
    case SYS_execveat:
      result = execute(a[0], a[1], a[2], a[3], a[4]);
      return true;
    case SYS_mmap:
      if (!calls::is_ours(static_cast<int>(a[4].value))) return false;
      result = calls::mmap(a[0], a[1], a[2], a[3], a[4], a[5].value);
      return true;
    case SYS_bind:
      result = calls::bind(a[0], a[1], a[2]);
      return true;
    case SYS_connect:
      result = calls::connect(a[0], a[1], a[2]);
      return true;
    case SYS_sendto:
      result = calls::sendto(a[0], a[1], a[2], a[3], a[4], a[5]);
      return true;
    case SYS_munmap:
    case SYS_mremap:
    case SYS_mprotect:
      result = raw::syscall(number, a[0].value, a[1].value, a[2].value, a[3].value, a[4].value);
      client::forget_addresses();
      return true;
    default:
      return dispatch_more(number, a, result);
  }
}

}  // namespace

LIBSERVICES_EXPORT long ls_syscall(long number, ...) {
  const Call call(Symbol::syscall);
  va_list arguments;
  va_start(arguments, number);
  Word a[6];
  for (Word& word : a) word.value = va_arg(arguments, long);
  va_end(arguments);
  long value = 0;
  if (active() && dispatch(number, a, value)) return result(value);
  return result(
      raw::syscall(number, a[0].value, a[1].value, a[2].value, a[3].value, a[4].value, a[5].value));
}

}  // namespace libservices::preload
