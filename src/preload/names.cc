// SPDX-License-Identifier: Apache-2.0
//
// libc's functions on names and attributes: stat to rename, times, extended attributes.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

int stat_at(int directory, const char* path, struct stat* into, int flags) {
  return int_result(calls::fstatat(directory, path, into, flags));
}

// The versions of struct stat that a 64-bit libc knows.
int old_version(int version) { return version == 0 || version == 1 ? 0 : int_result(-EINVAL); }

void to_statvfs(const struct statfs& from, struct statvfs* into) {
  memset(into, 0, sizeof *into);
  into->f_bsize = static_cast<unsigned long>(from.f_bsize);
  into->f_frsize = static_cast<unsigned long>(from.f_frsize != 0 ? from.f_frsize : from.f_bsize);
  into->f_blocks = from.f_blocks;
  into->f_bfree = from.f_bfree;
  into->f_bavail = from.f_bavail;
  into->f_files = from.f_files;
  into->f_ffree = from.f_ffree;
  into->f_favail = from.f_ffree;
  memcpy(&into->f_fsid, &from.f_fsid, sizeof into->f_fsid);
  constexpr unsigned long kValid = 0x20;
  into->f_flag = static_cast<unsigned long>(from.f_flags) & ~kValid;
  into->f_namemax = static_cast<unsigned long>(from.f_namelen);
}

// Microseconds to nanoseconds. False when they are out of range.
bool to_timespecs(const timeval* from, timespec (&into)[2]) {
  for (int i = 0; i < 2; ++i) {
    if (from[i].tv_usec < 0 || from[i].tv_usec >= 1000000) return false;
    into[i] = {from[i].tv_sec, from[i].tv_usec * 1000};
  }
  return true;
}

int set_times(int directory, const char* path, const timeval* times, int flags) {
  if (times == nullptr) return int_result(calls::utimensat(directory, path, nullptr, flags));
  timespec precise[2];
  if (!to_timespecs(times, precise)) return int_result(-EINVAL);
  return int_result(calls::utimensat(directory, path, precise, flags));
}

}  // namespace

// --- stat ---------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_stat(const char* path, struct stat* into) {
  return stat_at(AT_FDCWD, path, into, 0);
}
LIBSERVICES_ALIAS_2(stat, stat64, ls_stat);

LIBSERVICES_EXPORT int ls_lstat(const char* path, struct stat* into) {
  return stat_at(AT_FDCWD, path, into, AT_SYMLINK_NOFOLLOW);
}
LIBSERVICES_ALIAS_2(lstat, lstat64, ls_lstat);

LIBSERVICES_EXPORT int ls_fstat(int descriptor, struct stat* into) {
  return int_result(calls::fstat(descriptor, into));
}
LIBSERVICES_ALIAS_2(fstat, fstat64, ls_fstat);

LIBSERVICES_EXPORT int ls_fstatat(int directory, const char* path, struct stat* into, int flags) {
  return stat_at(directory, path, into, flags);
}
LIBSERVICES_ALIAS_2(fstatat, fstatat64, ls_fstatat);

LIBSERVICES_EXPORT int ls_statx(int directory, const char* path, int flags, unsigned mask,
                                struct statx* into) {
  return int_result(calls::statx(directory, path, flags, mask, into));
}
LIBSERVICES_ALIAS(statx, ls_statx);

LIBSERVICES_EXPORT int ls_xstat(int version, const char* path, struct stat* into) {
  return old_version(version) != 0 ? -1 : stat_at(AT_FDCWD, path, into, 0);
}
LIBSERVICES_ALIAS_2(__xstat, __xstat64, ls_xstat);

LIBSERVICES_EXPORT int ls_lxstat(int version, const char* path, struct stat* into) {
  return old_version(version) != 0 ? -1 : stat_at(AT_FDCWD, path, into, AT_SYMLINK_NOFOLLOW);
}
LIBSERVICES_ALIAS_2(__lxstat, __lxstat64, ls_lxstat);

LIBSERVICES_EXPORT int ls_fxstat(int version, int descriptor, struct stat* into) {
  return old_version(version) != 0 ? -1 : ls_fstat(descriptor, into);
}
LIBSERVICES_ALIAS_2(__fxstat, __fxstat64, ls_fxstat);

LIBSERVICES_EXPORT int ls_fxstatat(int version, int directory, const char* path, struct stat* into,
                                   int flags) {
  return old_version(version) != 0 ? -1 : stat_at(directory, path, into, flags);
}
LIBSERVICES_ALIAS_2(__fxstatat, __fxstatat64, ls_fxstatat);

LIBSERVICES_EXPORT int ls_statfs(const char* path, struct statfs* into) {
  return int_result(calls::statfs(path, into));
}
LIBSERVICES_ALIAS_3(statfs, statfs64, __statfs, ls_statfs);

LIBSERVICES_EXPORT int ls_fstatfs(int descriptor, struct statfs* into) {
  return int_result(calls::fstatfs(descriptor, into));
}
LIBSERVICES_ALIAS_2(fstatfs, fstatfs64, ls_fstatfs);

LIBSERVICES_EXPORT int ls_statvfs(const char* path, struct statvfs* into) {
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(statvfs)(path, into);
  struct statfs volume {};
  if (const long error = calls::statfs(path, &volume); error != 0) return int_result(error);
  to_statvfs(volume, into);
  return 0;
}
LIBSERVICES_ALIAS_2(statvfs, statvfs64, ls_statvfs);

LIBSERVICES_EXPORT int ls_fstatvfs(int descriptor, struct statvfs* into) {
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(fstatvfs)(descriptor, into);
  struct statfs volume {};
  if (const long error = calls::fstatfs(descriptor, &volume); error != 0) {
    return int_result(error);
  }
  to_statvfs(volume, into);
  return 0;
}
LIBSERVICES_ALIAS_2(fstatvfs, fstatvfs64, ls_fstatvfs);

// --- access, mode, owner ------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_access(const char* path, int mode) {
  return int_result(calls::faccessat(AT_FDCWD, path, mode, 0));
}
LIBSERVICES_ALIAS(access, ls_access);

LIBSERVICES_EXPORT int ls_faccessat(int directory, const char* path, int mode, int flags) {
  if (!active()) return LIBSERVICES_REAL(faccessat)(directory, path, mode, flags);
  return int_result(calls::faccessat(directory, path, mode, flags));
}
LIBSERVICES_ALIAS(faccessat, ls_faccessat);

LIBSERVICES_EXPORT int ls_eaccess(const char* path, int mode) {
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(eaccess)(path, mode);
  return int_result(calls::faccessat(AT_FDCWD, path, mode, AT_EACCESS));
}
LIBSERVICES_ALIAS_2(eaccess, euidaccess, ls_eaccess);

LIBSERVICES_EXPORT int ls_chmod(const char* path, mode_t mode) {
  return int_result(calls::fchmodat(AT_FDCWD, path, mode, 0));
}
LIBSERVICES_ALIAS(chmod, ls_chmod);

LIBSERVICES_EXPORT int ls_fchmod(int descriptor, mode_t mode) {
  return int_result(calls::fchmod(descriptor, mode));
}
LIBSERVICES_ALIAS(fchmod, ls_fchmod);

// libc knows how to do without fchmodat2 on the kernel's files.
LIBSERVICES_EXPORT int ls_fchmodat(int directory, const char* path, mode_t mode, int flags) {
  if (flags != 0 && !leads_to_ours(directory, path)) {
    return LIBSERVICES_REAL(fchmodat)(directory, path, mode, flags);
  }
  return int_result(calls::fchmodat(directory, path, mode, flags));
}
LIBSERVICES_ALIAS(fchmodat, ls_fchmodat);

LIBSERVICES_EXPORT int ls_lchmod(const char* path, mode_t mode) {
  return ls_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}
LIBSERVICES_ALIAS(lchmod, ls_lchmod);

LIBSERVICES_EXPORT int ls_chown(const char* path, uid_t uid, gid_t gid) {
  return int_result(calls::fchownat(AT_FDCWD, path, uid, gid, 0));
}
LIBSERVICES_ALIAS(chown, ls_chown);

LIBSERVICES_EXPORT int ls_lchown(const char* path, uid_t uid, gid_t gid) {
  return int_result(calls::fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW));
}
LIBSERVICES_ALIAS(lchown, ls_lchown);

LIBSERVICES_EXPORT int ls_fchown(int descriptor, uid_t uid, gid_t gid) {
  return int_result(calls::fchown(descriptor, uid, gid));
}
LIBSERVICES_ALIAS(fchown, ls_fchown);

LIBSERVICES_EXPORT int ls_fchownat(int directory, const char* path, uid_t uid, gid_t gid,
                                   int flags) {
  return int_result(calls::fchownat(directory, path, uid, gid, flags));
}
LIBSERVICES_ALIAS(fchownat, ls_fchownat);

// --- times --------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_utimensat(int directory, const char* path, const timespec times[2],
                                    int flags) {
  if (path == nullptr) return int_result(-EINVAL);
  return int_result(calls::utimensat(directory, path, times, flags));
}
LIBSERVICES_ALIAS(utimensat, ls_utimensat);

LIBSERVICES_EXPORT int ls_futimens(int descriptor, const timespec times[2]) {
  if (descriptor < 0) return int_result(-EBADF);
  return int_result(calls::utimensat(descriptor, nullptr, times, 0));
}
LIBSERVICES_ALIAS(futimens, ls_futimens);

LIBSERVICES_EXPORT int ls_utime(const char* path, const utimbuf* times) {
  if (times == nullptr) return int_result(calls::utimensat(AT_FDCWD, path, nullptr, 0));
  const timespec precise[2] = {{times->actime, 0}, {times->modtime, 0}};
  return int_result(calls::utimensat(AT_FDCWD, path, precise, 0));
}
LIBSERVICES_ALIAS(utime, ls_utime);

LIBSERVICES_EXPORT int ls_utimes(const char* path, const timeval times[2]) {
  return set_times(AT_FDCWD, path, times, 0);
}
LIBSERVICES_ALIAS(utimes, ls_utimes);

LIBSERVICES_EXPORT int ls_lutimes(const char* path, const timeval times[2]) {
  return set_times(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}
LIBSERVICES_ALIAS(lutimes, ls_lutimes);

LIBSERVICES_EXPORT int ls_futimes(int descriptor, const timeval times[2]) {
  if (descriptor < 0) return int_result(-EBADF);
  return set_times(descriptor, nullptr, times, 0);
}
LIBSERVICES_ALIAS(futimes, ls_futimes);

LIBSERVICES_EXPORT int ls_futimesat(int directory, const char* path, const timeval times[2]) {
  return set_times(directory, path, times, 0);
}
LIBSERVICES_ALIAS(futimesat, ls_futimesat);

// --- new names, and their end -------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_mkdir(const char* path, mode_t mode) {
  return int_result(calls::mkdirat(AT_FDCWD, path, mode));
}
LIBSERVICES_ALIAS(mkdir, ls_mkdir);

LIBSERVICES_EXPORT int ls_mkdirat(int directory, const char* path, mode_t mode) {
  return int_result(calls::mkdirat(directory, path, mode));
}
LIBSERVICES_ALIAS(mkdirat, ls_mkdirat);

LIBSERVICES_EXPORT int ls_mknodat(int directory, const char* path, mode_t mode, dev_t device) {
  return int_result(calls::mknodat(directory, path, mode, device));
}
LIBSERVICES_ALIAS(mknodat, ls_mknodat);

LIBSERVICES_EXPORT int ls_mknod(const char* path, mode_t mode, dev_t device) {
  return ls_mknodat(AT_FDCWD, path, mode, device);
}
LIBSERVICES_ALIAS(mknod, ls_mknod);

LIBSERVICES_EXPORT int ls_xmknod(int version, const char* path, mode_t mode, dev_t* device) {
  return version != 0 ? int_result(-EINVAL) : ls_mknodat(AT_FDCWD, path, mode, *device);
}
LIBSERVICES_ALIAS(__xmknod, ls_xmknod);

LIBSERVICES_EXPORT int ls_xmknodat(int version, int directory, const char* path, mode_t mode,
                                   dev_t* device) {
  return version != 0 ? int_result(-EINVAL) : ls_mknodat(directory, path, mode, *device);
}
LIBSERVICES_ALIAS(__xmknodat, ls_xmknodat);

LIBSERVICES_EXPORT int ls_mkfifo(const char* path, mode_t mode) {
  return ls_mknodat(AT_FDCWD, path, mode | S_IFIFO, 0);
}
LIBSERVICES_ALIAS(mkfifo, ls_mkfifo);

LIBSERVICES_EXPORT int ls_mkfifoat(int directory, const char* path, mode_t mode) {
  return ls_mknodat(directory, path, mode | S_IFIFO, 0);
}
LIBSERVICES_ALIAS(mkfifoat, ls_mkfifoat);

LIBSERVICES_EXPORT int ls_symlink(const char* target, const char* path) {
  return int_result(calls::symlinkat(target, AT_FDCWD, path));
}
LIBSERVICES_ALIAS(symlink, ls_symlink);

LIBSERVICES_EXPORT int ls_symlinkat(const char* target, int directory, const char* path) {
  return int_result(calls::symlinkat(target, directory, path));
}
LIBSERVICES_ALIAS(symlinkat, ls_symlinkat);

LIBSERVICES_EXPORT ssize_t ls_readlink(const char* path, char* into, std::size_t size) {
  return result(calls::readlinkat(AT_FDCWD, path, into, size));
}
LIBSERVICES_ALIAS(readlink, ls_readlink);

LIBSERVICES_EXPORT ssize_t ls_readlinkat(int directory, const char* path, char* into,
                                         std::size_t size) {
  return result(calls::readlinkat(directory, path, into, size));
}
LIBSERVICES_ALIAS(readlinkat, ls_readlinkat);

LIBSERVICES_EXPORT ssize_t ls_readlink_chk(const char* path, char* into, std::size_t size,
                                           std::size_t available) {
  if (size > available) abort();
  return ls_readlink(path, into, size);
}
LIBSERVICES_ALIAS(__readlink_chk, ls_readlink_chk);

LIBSERVICES_EXPORT ssize_t ls_readlinkat_chk(int directory, const char* path, char* into,
                                             std::size_t size, std::size_t available) {
  if (size > available) abort();
  return ls_readlinkat(directory, path, into, size);
}
LIBSERVICES_ALIAS(__readlinkat_chk, ls_readlinkat_chk);

LIBSERVICES_EXPORT int ls_link(const char* from, const char* to) {
  return int_result(calls::linkat(AT_FDCWD, from, AT_FDCWD, to, 0));
}
LIBSERVICES_ALIAS(link, ls_link);

LIBSERVICES_EXPORT int ls_linkat(int from_directory, const char* from, int to_directory,
                                 const char* to, int flags) {
  return int_result(calls::linkat(from_directory, from, to_directory, to, flags));
}
LIBSERVICES_ALIAS(linkat, ls_linkat);

LIBSERVICES_EXPORT int ls_unlink(const char* path) {
  return int_result(calls::unlinkat(AT_FDCWD, path, 0));
}
LIBSERVICES_ALIAS(unlink, ls_unlink);

LIBSERVICES_EXPORT int ls_unlinkat(int directory, const char* path, int flags) {
  return int_result(calls::unlinkat(directory, path, flags));
}
LIBSERVICES_ALIAS(unlinkat, ls_unlinkat);

LIBSERVICES_EXPORT int ls_rmdir(const char* path) {
  return int_result(calls::unlinkat(AT_FDCWD, path, AT_REMOVEDIR));
}
LIBSERVICES_ALIAS(rmdir, ls_rmdir);

LIBSERVICES_EXPORT int ls_remove(const char* path) {
  const long removed = calls::unlinkat(AT_FDCWD, path, 0);
  if (removed != -EISDIR) return int_result(removed);
  return int_result(calls::unlinkat(AT_FDCWD, path, AT_REMOVEDIR));
}
LIBSERVICES_ALIAS(remove, ls_remove);

LIBSERVICES_EXPORT int ls_rename(const char* from, const char* to) {
  return int_result(calls::renameat2(AT_FDCWD, from, AT_FDCWD, to, 0));
}
LIBSERVICES_ALIAS(rename, ls_rename);

LIBSERVICES_EXPORT int ls_renameat(int from_directory, const char* from, int to_directory,
                                   const char* to) {
  return int_result(calls::renameat2(from_directory, from, to_directory, to, 0));
}
LIBSERVICES_ALIAS(renameat, ls_renameat);

LIBSERVICES_EXPORT int ls_renameat2(int from_directory, const char* from, int to_directory,
                                    const char* to, unsigned flags) {
  return int_result(calls::renameat2(from_directory, from, to_directory, to, flags));
}
LIBSERVICES_ALIAS(renameat2, ls_renameat2);

// --- extended attributes ------------------------------------------------------------------------

LIBSERVICES_EXPORT ssize_t ls_getxattr(const char* path, const char* name, void* into,
                                       std::size_t size) {
  return result(calls::getxattr(AT_FDCWD, path, true, name, into, size));
}
LIBSERVICES_ALIAS(getxattr, ls_getxattr);

LIBSERVICES_EXPORT ssize_t ls_lgetxattr(const char* path, const char* name, void* into,
                                        std::size_t size) {
  return result(calls::getxattr(AT_FDCWD, path, false, name, into, size));
}
LIBSERVICES_ALIAS(lgetxattr, ls_lgetxattr);

LIBSERVICES_EXPORT ssize_t ls_fgetxattr(int descriptor, const char* name, void* into,
                                        std::size_t size) {
  return result(calls::getxattr(descriptor, nullptr, true, name, into, size));
}
LIBSERVICES_ALIAS(fgetxattr, ls_fgetxattr);

LIBSERVICES_EXPORT int ls_setxattr(const char* path, const char* name, const void* value,
                                   std::size_t size, int flags) {
  return int_result(calls::setxattr(AT_FDCWD, path, true, name, value, size, flags));
}
LIBSERVICES_ALIAS(setxattr, ls_setxattr);

LIBSERVICES_EXPORT int ls_lsetxattr(const char* path, const char* name, const void* value,
                                    std::size_t size, int flags) {
  return int_result(calls::setxattr(AT_FDCWD, path, false, name, value, size, flags));
}
LIBSERVICES_ALIAS(lsetxattr, ls_lsetxattr);

LIBSERVICES_EXPORT int ls_fsetxattr(int descriptor, const char* name, const void* value,
                                    std::size_t size, int flags) {
  return int_result(calls::setxattr(descriptor, nullptr, true, name, value, size, flags));
}
LIBSERVICES_ALIAS(fsetxattr, ls_fsetxattr);

LIBSERVICES_EXPORT ssize_t ls_listxattr(const char* path, char* into, std::size_t size) {
  return result(calls::listxattr(AT_FDCWD, path, true, into, size));
}
LIBSERVICES_ALIAS(listxattr, ls_listxattr);

LIBSERVICES_EXPORT ssize_t ls_llistxattr(const char* path, char* into, std::size_t size) {
  return result(calls::listxattr(AT_FDCWD, path, false, into, size));
}
LIBSERVICES_ALIAS(llistxattr, ls_llistxattr);

LIBSERVICES_EXPORT ssize_t ls_flistxattr(int descriptor, char* into, std::size_t size) {
  return result(calls::listxattr(descriptor, nullptr, true, into, size));
}
LIBSERVICES_ALIAS(flistxattr, ls_flistxattr);

LIBSERVICES_EXPORT int ls_removexattr(const char* path, const char* name) {
  return int_result(calls::removexattr(AT_FDCWD, path, true, name));
}
LIBSERVICES_ALIAS(removexattr, ls_removexattr);

LIBSERVICES_EXPORT int ls_lremovexattr(const char* path, const char* name) {
  return int_result(calls::removexattr(AT_FDCWD, path, false, name));
}
LIBSERVICES_ALIAS(lremovexattr, ls_lremovexattr);

LIBSERVICES_EXPORT int ls_fremovexattr(int descriptor, const char* name) {
  return int_result(calls::removexattr(descriptor, nullptr, true, name));
}
LIBSERVICES_ALIAS(fremovexattr, ls_fremovexattr);

}  // namespace libservices::preload
