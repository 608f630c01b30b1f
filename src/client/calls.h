// SPDX-License-Identifier: Apache-2.0
//
// The calls of the filesystem library: each does what the system call of that name does, on ours
// and on the kernel's files alike, and returns what it returns: a result, or a negative errno.
//
// The preload library and the client interface put libc's names and errno around them. They are
// right, and cost nothing, when the library is not active. Fit for signal handlers.
#ifndef LIBSERVICES_SRC_CLIENT_CALLS_H_
#define LIBSERVICES_SRC_CLIENT_CALLS_H_

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

#include "libservices/open_flags.h"

struct flock;
struct open_how;
struct mmsghdr;
struct msghdr;
struct statx;

namespace libservices::client {
struct OpenRecord;
}

namespace libservices::client::calls {

// Descriptors (files.cc).
long open(int directory, const char* path, int flags, mode_t mode);
long openat2(int directory, const char* path, const open_how* how, std::size_t size);
long close(int descriptor);
long close_range(unsigned first, unsigned last, unsigned flags);
long dup(int descriptor);
long pidfd_getfd(int process, int number, unsigned flags);
long dup3(int from, int to, int flags);  // dup2 with flags -1: `from` == `to` is no error
long fcntl(int descriptor, int command, unsigned long argument);
long umask(mode_t mask);
std::uint16_t current_umask();

// Content (content.cc). An offset of -1 is the shared one, as in preadv2.
long read(int descriptor, void* into, std::size_t size);
long write(int descriptor, const void* from, std::size_t size);
long pread(int descriptor, void* into, std::size_t size, off_t offset);
long pwrite(int descriptor, const void* from, std::size_t size, off_t offset);
long readv(int descriptor, const iovec* parts, int count, off_t offset, int flags);
long writev(int descriptor, const iovec* parts, int count, off_t offset, int flags);
// The size that files may grow to (RLIMIT_FSIZE), as it was when it was first asked for, or after
// forget_limits(). Who goes beyond it has SIGXFSZ and EFBIG.
std::uint64_t file_limit();
// Cuts a write of `size` bytes at `offset` (or the current one) where files end: 0, or -EFBIG and
// the signal.
long keep_limit(OpenRecord& record, int descriptor, std::uint64_t offset, Placing placing,
                std::size_t& size);
void forget_limits();
long beyond_limit();
long lseek(int descriptor, off_t offset, int whence);
long ftruncate(int descriptor, off_t size);
long fallocate(int descriptor, int mode, off_t offset, off_t size);
long fsync(int descriptor, bool data_only);
long syncfs(int descriptor);
// The library's own memory need not be looked at before an answer goes there.
enum class Memory : std::uint8_t { kOfProgram, kOfLibrary };
long getdents64(int descriptor, void* into, std::size_t size, Memory memory = Memory::kOfProgram);
long copy_file_range(int from, off_t* from_offset, int to, off_t* to_offset, std::size_t size,
                     unsigned flags);
long sendfile(int to, int from, off_t* offset, std::size_t size);
// One side is a pipe of the kernel's. Nothing that was taken from it is lost when a write fails.
long splice(int from, off_t* from_offset, int to, off_t* to_offset, std::size_t size,
            unsigned flags);
long flock(int descriptor, int operation);

// mapping.cc.
long mmap(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset);
// Of a file of ours that is open for reading: a descriptor of the kernel's, with its bytes, that may
// be opened anew through /proc/self/fd and mapped to be executed. The caller's own. It may be of a
// copy, another file than the next one.
long descriptor_to_load(int descriptor);

// ioctl.cc.
long ioctl(int descriptor, unsigned long command, unsigned long argument);

// Names (names.cc).
long fstatat(int directory, const char* path, struct stat* into, int flags);
long fstat(int descriptor, struct stat* into);
long statx(int directory, const char* path, int flags, unsigned mask, struct statx* into);
long statfs(const char* path, struct statfs* into);
long fstatfs(int descriptor, struct statfs* into);
long faccessat(int directory, const char* path, int mode, int flags);
long fchmodat(int directory, const char* path, mode_t mode, int flags);
long fchmod(int descriptor, mode_t mode);
long fchownat(int directory, const char* path, uid_t uid, gid_t gid, int flags);
long fchown(int descriptor, uid_t uid, gid_t gid);
long utimensat(int directory, const char* path, const timespec times[2], int flags);
long truncate(const char* path, off_t size);
long mkdirat(int directory, const char* path, mode_t mode);
long mknodat(int directory, const char* path, mode_t mode, dev_t device);
long symlinkat(const char* target, int directory, const char* path);
long readlinkat(int directory, const char* path, char* into, std::size_t size);
long linkat(int from_directory, const char* from, int to_directory, const char* to, int flags);
long unlinkat(int directory, const char* path, int flags);
long renameat2(int from_directory, const char* from, int to_directory, const char* to,
               unsigned flags);
// With AT_FDCWD the object at `path`, else the descriptor itself and `path` is null. `follow`: a
// symbolic link at the end.
long getxattr(int descriptor, const char* path, bool follow, const char* name, void* into,
              std::size_t size);
long setxattr(int descriptor, const char* path, bool follow, const char* name, const void* value,
              std::size_t size, int flags);
long listxattr(int descriptor, const char* path, bool follow, char* into, std::size_t size);
long removexattr(int descriptor, const char* path, bool follow, const char* name);

// The working directory (names.cc).
long chdir(const char* path);
long fchdir(int descriptor);
// A directory of the kernel's, or one of a mount that is at the kernel too. Mounts below it stay.
long chroot(const char* path);
// The length with its NUL, as the system call.
long getcwd(char* into, std::size_t size);

// The absolute path of an open file of ours, or of the working directory (descriptor -1): its
// length, or -errno.
long path_of(OpenRecord& record, int descriptor, char* into, std::size_t size);

// Sockets (special.cc): whose addresses may be paths in a mount.
long bind(int socket, const void* address, socklen_t size);
long connect(int socket, const void* address, socklen_t size);
long sendto(int socket, const void* bytes, std::size_t count, int flags, const void* address,
            socklen_t size);
long sendmsg(int socket, const msghdr* message, int flags);
long sendmmsg(int socket, mmsghdr* messages, unsigned count, int flags);

// Of the shadow that the service has for an object of a mount (special.cc).
long inotify_add_watch(int notifier, const char* path, std::uint32_t mask);

// Whether a path leads into a mount, as far as its text tells: 1, 0, or -errno.
long is_ours(int directory, const char* path);
bool is_ours(int descriptor);
// Whether a path leads into a mount, also by links and descriptors of the kernel's. An error of the
// lookup counts: the call will tell it. Asks the kernel, so not for what is done often.
bool leads_to_ours(int directory, const char* path);

}  // namespace libservices::client::calls

#endif  // LIBSERVICES_SRC_CLIENT_CALLS_H_
