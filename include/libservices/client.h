/* SPDX-License-Identifier: Apache-2.0
 *
 * The filesystem library: files of a running libservices service, for C and C++ programs that are
 * compiled against it.
 *
 * Use it when a program shall name the service it works with. An unmodified program gets the same
 * through `libservices run`; a program that wants no service at all uses libservices.h.
 *
 *   if (libservices_attach("/run/libservices/POOL") != 0) err(1, "no such pool");
 *   int fd = libservices_open("/mnt/x/file", O_RDONLY, 0);
 *
 * Paths are those of the process: a path below a mount of the pool goes to the service, any other
 * to the kernel. A descriptor is a real one, the lowest free: dup, fork, exec and SCM_RIGHTS carry
 * it, and libc's own read, write or lseek on it fail with EBADF. Close it with libservices_close,
 * duplicate it with libservices_dup: the kernel's own calls leave this library unaware.
 *
 * ERRORS: -1 (or NULL) and errno, as the POSIX call of that name; EIO when the service has died.
 * THREADS: all calls but libservices_attach may run at once; a directory stream is of one thread.
 */
#ifndef LIBSERVICES_CLIENT_H_
#define LIBSERVICES_CLIENT_H_

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Uses the service with this run directory; NULL: the one that LIBSERVICES_POOL names. Once, before
 * any other call; EBUSY when attached already. The service itself is spoken to at the first use.
 * ERRORS: ENOENT, ENAMETOOLONG, EPROTO (another format), EBUSY. */
int libservices_attach(const char *run_directory);

/* 1 if `path` lies below a mount of the pool, as far as its text tells, else 0. */
int libservices_is_mounted(const char *path);

/* --- descriptors --- */
int libservices_open(const char *path, int flags, mode_t mode);
int libservices_openat(int directory, const char *path, int flags, mode_t mode);
int libservices_close(int descriptor);
int libservices_dup(int descriptor);
ssize_t libservices_read(int descriptor, void *into, size_t size);
ssize_t libservices_write(int descriptor, const void *from, size_t size);
ssize_t libservices_pread(int descriptor, void *into, size_t size, off_t offset);
ssize_t libservices_pwrite(int descriptor, const void *from, size_t size, off_t offset);
off_t libservices_lseek(int descriptor, off_t offset, int whence);
int libservices_ftruncate(int descriptor, off_t size);
int libservices_fsync(int descriptor);
int libservices_fdatasync(int descriptor);
int libservices_fstat(int descriptor, struct stat *status);

/* --- names --- */
int libservices_stat(const char *path, struct stat *status);
int libservices_lstat(const char *path, struct stat *status);
int libservices_access(const char *path, int mode);
int libservices_mkdir(const char *path, mode_t mode);
int libservices_rmdir(const char *path);
int libservices_unlink(const char *path);
int libservices_rename(const char *from, const char *to);
int libservices_link(const char *from, const char *to);
int libservices_symlink(const char *target, const char *path);
ssize_t libservices_readlink(const char *path, char *into, size_t size);
int libservices_chmod(const char *path, mode_t mode);
int libservices_chown(const char *path, uid_t uid, gid_t gid);
int libservices_utimens(const char *path, const struct timespec times[2]);
int libservices_truncate(const char *path, off_t size);

/* --- directories --- */
typedef struct libservices_directory libservices_directory;

libservices_directory *libservices_opendir(const char *path);
/* The next entry, valid until the next call on the stream. NULL at the end, with errno as it was,
 * and on failure, with errno set. */
const struct dirent *libservices_readdir(libservices_directory *directory);
int libservices_closedir(libservices_directory *directory);

#ifdef __cplusplus
}  // extern "C"

namespace libservices::client {

// A descriptor that closes itself. OWNS: the descriptor. An error of a close is seen only by
// those who call close().
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const char* path, int flags, mode_t mode = 0)
      : number_(libservices_open(path, flags, mode)) {}
  ~Descriptor() { (void)close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      (void)close();
      number_ = other.release();
    }
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  explicit operator bool() const { return number_ >= 0; }
  int get() const { return number_; }
  int release() {
    const int number = number_;
    number_ = -1;
    return number;
  }
  int close() { return number_ < 0 ? 0 : libservices_close(release()); }

  ssize_t read(void* into, size_t size) const { return libservices_read(number_, into, size); }
  ssize_t write(const void* from, size_t size) const {
    return libservices_write(number_, from, size);
  }
  int stat(struct stat& status) const { return libservices_fstat(number_, &status); }

 private:
  int number_ = -1;
};

}  // namespace libservices::client
#endif

#endif /* LIBSERVICES_CLIENT_H_ */
