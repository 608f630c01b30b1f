// SPDX-License-Identifier: Apache-2.0
//
// The C interface over the calls of the filesystem library: results become -1 and errno.
#include "libservices/client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "src/client/calls.h"
#include "src/client/state.h"

namespace {

namespace client = libservices::client;
namespace calls = libservices::client::calls;

constexpr std::size_t kBufferBytes = 32768;

long result(long value) {
  if (value < 0 && value > -4096) {
    errno = static_cast<int>(-value);
    return -1;
  }
  return value;
}
int int_result(long value) { return static_cast<int>(result(value)); }

// Why client::start did nothing: its reasons are of the run directory alone.
int why_not(const char* run_directory) {
  if (__builtin_strlen(run_directory) >= sizeof client::state.directory) return ENAMETOOLONG;
  const long directory = client::raw::syscall(SYS_openat, AT_FDCWD, run_directory,
                                              O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (directory < 0) return static_cast<int>(-directory);
  const long mounts =
      client::raw::syscall(SYS_openat, directory, "mounts", O_RDONLY | O_CLOEXEC, 0);
  client::raw::syscall(SYS_close, directory);
  if (mounts < 0) return static_cast<int>(-mounts);
  client::raw::syscall(SYS_close, mounts);
  return EPROTO;
}

}  // namespace

struct libservices_directory {
  int descriptor;
  std::size_t at;  // the next entry in `buffer`
  std::size_t filled;
  alignas(16) char buffer[kBufferBytes];
};

extern "C" {

int libservices_attach(const char* run_directory) {
  if (client::state.active) return int_result(-EBUSY);
  if (run_directory == nullptr) run_directory = getenv("LIBSERVICES_POOL");
  if (run_directory == nullptr || *run_directory == '\0') return int_result(-ENOENT);
  client::start(run_directory);
  if (!client::state.active) return int_result(-why_not(run_directory));
  pthread_atfork(client::share_all, nullptr, client::after_fork_in_child);
  client::adopt_inherited();
  return 0;
}

int libservices_is_mounted(const char* path) {
  return client::state.active && calls::is_ours(AT_FDCWD, path) == 1 ? 1 : 0;
}

int libservices_open(const char* path, int flags, mode_t mode) {
  return int_result(calls::open(AT_FDCWD, path, flags, mode));
}
int libservices_openat(int directory, const char* path, int flags, mode_t mode) {
  return int_result(calls::open(directory, path, flags, mode));
}
int libservices_close(int descriptor) { return int_result(calls::close(descriptor)); }
int libservices_dup(int descriptor) { return int_result(calls::dup(descriptor)); }
ssize_t libservices_read(int descriptor, void* into, size_t size) {
  return result(calls::read(descriptor, into, size));
}
ssize_t libservices_write(int descriptor, const void* from, size_t size) {
  return result(calls::write(descriptor, from, size));
}
ssize_t libservices_pread(int descriptor, void* into, size_t size, off_t offset) {
  return result(calls::pread(descriptor, into, size, offset));
}
ssize_t libservices_pwrite(int descriptor, const void* from, size_t size, off_t offset) {
  return result(calls::pwrite(descriptor, from, size, offset));
}
off_t libservices_lseek(int descriptor, off_t offset, int whence) {
  return result(calls::lseek(descriptor, offset, whence));
}
int libservices_ftruncate(int descriptor, off_t size) {
  return int_result(calls::ftruncate(descriptor, size));
}
int libservices_fsync(int descriptor) { return int_result(calls::fsync(descriptor, false)); }
int libservices_fdatasync(int descriptor) { return int_result(calls::fsync(descriptor, true)); }
int libservices_fstat(int descriptor, struct stat* status) {
  return int_result(calls::fstat(descriptor, status));
}

int libservices_stat(const char* path, struct stat* status) {
  return int_result(calls::fstatat(AT_FDCWD, path, status, 0));
}
int libservices_lstat(const char* path, struct stat* status) {
  return int_result(calls::fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW));
}
int libservices_access(const char* path, int mode) {
  return int_result(calls::faccessat(AT_FDCWD, path, mode, 0));
}
int libservices_mkdir(const char* path, mode_t mode) {
  return int_result(calls::mkdirat(AT_FDCWD, path, mode));
}
int libservices_rmdir(const char* path) {
  return int_result(calls::unlinkat(AT_FDCWD, path, AT_REMOVEDIR));
}
int libservices_unlink(const char* path) { return int_result(calls::unlinkat(AT_FDCWD, path, 0)); }
int libservices_rename(const char* from, const char* to) {
  return int_result(calls::renameat2(AT_FDCWD, from, AT_FDCWD, to, 0));
}
int libservices_link(const char* from, const char* to) {
  return int_result(calls::linkat(AT_FDCWD, from, AT_FDCWD, to, 0));
}
int libservices_symlink(const char* target, const char* path) {
  return int_result(calls::symlinkat(target, AT_FDCWD, path));
}
ssize_t libservices_readlink(const char* path, char* into, size_t size) {
  return result(calls::readlinkat(AT_FDCWD, path, into, size));
}
int libservices_chmod(const char* path, mode_t mode) {
  return int_result(calls::fchmodat(AT_FDCWD, path, mode, 0));
}
int libservices_chown(const char* path, uid_t uid, gid_t gid) {
  return int_result(calls::fchownat(AT_FDCWD, path, uid, gid, 0));
}
int libservices_utimens(const char* path, const struct timespec times[2]) {
  return int_result(calls::utimensat(AT_FDCWD, path, times, 0));
}
int libservices_truncate(const char* path, off_t size) {
  return int_result(calls::truncate(path, size));
}

libservices_directory* libservices_opendir(const char* path) {
  const int descriptor = libservices_open(path, O_RDONLY | O_NONBLOCK | O_DIRECTORY | O_CLOEXEC, 0);
  if (descriptor < 0) return nullptr;
  auto* const made = static_cast<libservices_directory*>(malloc(sizeof(libservices_directory)));
  if (made == nullptr) {
    (void)calls::close(descriptor);
    errno = ENOMEM;
    return nullptr;
  }
  made->descriptor = descriptor;
  made->at = made->filled = 0;
  return made;
}

const struct dirent* libservices_readdir(libservices_directory* directory) {
  // The kernel's record of a directory entry is glibc's struct dirent where off_t has 64 bits.
  static_assert(offsetof(struct dirent, d_name) == 19 && sizeof(off_t) == 8);
  if (directory->at >= directory->filled) {
    const long bytes =
        calls::getdents64(directory->descriptor, directory->buffer, sizeof directory->buffer,
                          calls::Memory::kOfLibrary);
    if (bytes <= 0) {
      if (bytes < 0 && bytes != -ENOENT) errno = static_cast<int>(-bytes);
      return nullptr;  // a removed directory is an empty one
    }
    directory->at = 0;
    directory->filled = static_cast<std::size_t>(bytes);
  }
  auto* const entry = reinterpret_cast<const struct dirent*>(directory->buffer + directory->at);
  directory->at += entry->d_reclen;
  return entry;
}

int libservices_closedir(libservices_directory* directory) {
  const int descriptor = directory->descriptor;
  free(directory);
  return libservices_close(descriptor);
}

}  // extern "C"
