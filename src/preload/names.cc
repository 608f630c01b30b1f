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

LIBSERVICES_EXPORT int ls_xstat(int version, const char* path, struct stat* into) {
  const Call call(Symbol::xstat);
  return old_version(version) != 0 ? -1 : stat_at(AT_FDCWD, path, into, 0);
}

LIBSERVICES_EXPORT int ls_lxstat(int version, const char* path, struct stat* into) {
  const Call call(Symbol::lxstat);
  return old_version(version) != 0 ? -1 : stat_at(AT_FDCWD, path, into, AT_SYMLINK_NOFOLLOW);
}

LIBSERVICES_EXPORT int ls_fxstat(int version, int descriptor, struct stat* into) {
  const Call call(Symbol::fxstat);
  return old_version(version) != 0 ? -1 : int_result(calls::fstat(descriptor, into));
}

LIBSERVICES_EXPORT int ls_fxstatat(int version, int directory, const char* path, struct stat* into,
                                   int flags) {
  const Call call(Symbol::fxstatat);
  return old_version(version) != 0 ? -1 : stat_at(directory, path, into, flags);
}

LIBSERVICES_EXPORT int ls_statvfs(const char* path, struct statvfs* into) {
  const Call call(Symbol::statvfs);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(statvfs)(path, into);
  struct statfs volume {};
  if (const long error = calls::statfs(path, &volume); error != 0) return int_result(error);
  to_statvfs(volume, into);
  return 0;
}

LIBSERVICES_EXPORT int ls_fstatvfs(int descriptor, struct statvfs* into) {
  const Call call(Symbol::fstatvfs);
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(fstatvfs)(descriptor, into);
  struct statfs volume {};
  if (const long error = calls::fstatfs(descriptor, &volume); error != 0) {
    return int_result(error);
  }
  to_statvfs(volume, into);
  return 0;
}

// --- access, mode, owner ------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_faccessat(int directory, const char* path, int mode, int flags) {
  const Call call(Symbol::faccessat);
  if (!active()) return LIBSERVICES_REAL(faccessat)(directory, path, mode, flags);
  return int_result(calls::faccessat(directory, path, mode, flags));
}

LIBSERVICES_EXPORT int ls_eaccess(const char* path, int mode) {
  const Call call(Symbol::eaccess);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(eaccess)(path, mode);
  return int_result(calls::faccessat(AT_FDCWD, path, mode, AT_EACCESS));
}

// libc knows how to do without fchmodat2 on the kernel's files.
LIBSERVICES_EXPORT int ls_fchmodat(int directory, const char* path, mode_t mode, int flags) {
  const Call call(Symbol::fchmodat);
  if (flags != 0 && !leads_to_ours(directory, path)) {
    return LIBSERVICES_REAL(fchmodat)(directory, path, mode, flags);
  }
  return int_result(calls::fchmodat(directory, path, mode, flags));
}

LIBSERVICES_EXPORT int ls_lchmod(const char* path, mode_t mode) {
  const Call call(Symbol::lchmod);
  return ls_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

// --- times --------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_utimensat(int directory, const char* path, const timespec times[2],
                                    int flags) {
  const Call call(Symbol::utimensat);
  if (path == nullptr) return int_result(-EINVAL);
  return int_result(calls::utimensat(directory, path, times, flags));
}

LIBSERVICES_EXPORT int ls_futimens(int descriptor, const timespec times[2]) {
  const Call call(Symbol::futimens);
  if (descriptor < 0) return int_result(-EBADF);
  return int_result(calls::utimensat(descriptor, nullptr, times, 0));
}

LIBSERVICES_EXPORT int ls_utime(const char* path, const utimbuf* times) {
  const Call call(Symbol::utime);
  if (times == nullptr) return int_result(calls::utimensat(AT_FDCWD, path, nullptr, 0));
  const timespec precise[2] = {{times->actime, 0}, {times->modtime, 0}};
  return int_result(calls::utimensat(AT_FDCWD, path, precise, 0));
}

LIBSERVICES_EXPORT int ls_utimes(const char* path, const timeval times[2]) {
  const Call call(Symbol::utimes);
  return set_times(AT_FDCWD, path, times, 0);
}

LIBSERVICES_EXPORT int ls_lutimes(const char* path, const timeval times[2]) {
  const Call call(Symbol::lutimes);
  return set_times(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

LIBSERVICES_EXPORT int ls_futimes(int descriptor, const timeval times[2]) {
  const Call call(Symbol::futimes);
  if (descriptor < 0) return int_result(-EBADF);
  return set_times(descriptor, nullptr, times, 0);
}

LIBSERVICES_EXPORT int ls_futimesat(int directory, const char* path, const timeval times[2]) {
  const Call call(Symbol::futimesat);
  return set_times(directory, path, times, 0);
}

LIBSERVICES_EXPORT key_t ls_ftok(const char* path, int project) {
  const Call call(Symbol::ftok);
  struct stat attributes;
  const long error = calls::fstatat(AT_FDCWD, path, &attributes, 0);
  if (error != 0) return int_result(error);
  return static_cast<key_t>((attributes.st_ino & 0xffffU) | (attributes.st_dev & 0xffU) << 16U |
                            (static_cast<unsigned>(project) & 0xffU) << 24U);
}

// --- new names, and their end -------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_xmknod(int version, const char* path, mode_t mode, dev_t* device) {
  const Call call(Symbol::xmknod);
  return version != 0 ? int_result(-EINVAL)
                      : int_result(calls::mknodat(AT_FDCWD, path, mode, *device));
}

LIBSERVICES_EXPORT int ls_xmknodat(int version, int directory, const char* path, mode_t mode,
                                   dev_t* device) {
  const Call call(Symbol::xmknodat);
  return version != 0 ? int_result(-EINVAL)
                      : int_result(calls::mknodat(directory, path, mode, *device));
}

LIBSERVICES_EXPORT ssize_t ls_readlink_chk(const char* path, char* into, std::size_t size,
                                           std::size_t available) {
  const Call call(Symbol::readlink_chk);
  if (size > available) abort();
  return result(calls::readlinkat(AT_FDCWD, path, into, size));
}

LIBSERVICES_EXPORT ssize_t ls_readlinkat_chk(int directory, const char* path, char* into,
                                             std::size_t size, std::size_t available) {
  const Call call(Symbol::readlinkat_chk);
  if (size > available) abort();
  return result(calls::readlinkat(directory, path, into, size));
}

LIBSERVICES_EXPORT int ls_remove(const char* path) {
  const Call call(Symbol::remove);
  const long removed = calls::unlinkat(AT_FDCWD, path, 0);
  if (removed != -EISDIR) return int_result(removed);
  return int_result(calls::unlinkat(AT_FDCWD, path, AT_REMOVEDIR));
}

// --- extended attributes ------------------------------------------------------------------------

}  // namespace libservices::preload
