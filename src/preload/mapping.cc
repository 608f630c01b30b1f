// SPDX-License-Identifier: Apache-2.0
//
// The mapping of files of ours, and the loading of libraries of ours.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// The descriptor as a path. Never the same twice, since the loader takes what has the name of a
// library that it has for that library: the times are counted in slashes.
class LoadingPath {
 public:
  LoadingPath() = default;
  explicit LoadingPath(long descriptor) {
    static std::atomic<unsigned> times{0};
    char* end = path_;
    for (const char* from = "/proc/self/fd/"; *from != '\0'; ++from) *end++ = *from;
    for (unsigned bits = times.fetch_add(1, std::memory_order_relaxed), i = 0; i < 32; ++i) {
      if ((bits >> i & 1U) != 0) *end++ = '.';
      *end++ = '/';
    }
    snprintf(end, 12, "%d", static_cast<int>(descriptor));
  }
  const char* get() const { return path_; }

 private:
  char path_[14 + 2 * 32 + 12] = {};
};

// A copy of a library of ours that was loaded. It stays open, so that its path goes on to be its
// name: the loader, which knows libraries by name and file, then has it once.
struct Copy {
  dev_t device;
  ino_t inode;
  timespec changed;
  LoadingPath path;
};
constexpr std::size_t kMostCopies = 256;  // more are loaded anew each time
Copy copies[kMostCopies];
std::size_t copy_count;
pthread_mutex_t copies_mutex = PTHREAD_MUTEX_INITIALIZER;  // guards them

// Null: it was not loaded so.
const Copy* find_copy(const struct stat& file) {
  for (std::size_t i = 0; i < copy_count; ++i) {
    const Copy& copy = copies[i];
    if (copy.device == file.st_dev && copy.inode == file.st_ino &&
        copy.changed.tv_sec == file.st_ctim.tv_sec &&
        copy.changed.tv_nsec == file.st_ctim.tv_nsec) {
      return &copy;
    }
  }
  return nullptr;
}

// Where the loader finds the library `file`, which is open; false: nowhere. `loaded`: a descriptor
// to close behind it, or -1.
bool path_to_load(int file, LoadingPath& path, long& loaded) {
  constexpr int kOutOfTheWay = 256;  // of what the library's own code opens when it starts
  loaded = -1;
  struct stat status;
  if (calls::fstat(file, &status) != 0) return false;
  pthread_mutex_lock(&copies_mutex);
  const Copy* const known = find_copy(status);
  if (known != nullptr) path = known->path;
  pthread_mutex_unlock(&copies_mutex);
  if (known != nullptr) return true;
  bool is_copy = false;
  loaded = calls::descriptor_to_load(file, is_copy);
  if (loaded < 0) return false;
  const long moved = raw::syscall(SYS_fcntl, loaded, F_DUPFD_CLOEXEC, kOutOfTheWay);
  if (moved >= 0) {
    raw::syscall(SYS_close, loaded);
    loaded = moved;
  }
  path = LoadingPath(loaded);
  if (!is_copy) return true;
  pthread_mutex_lock(&copies_mutex);
  if (copy_count < kMostCopies) {
    copies[copy_count++] = {status.st_dev, status.st_ino, status.st_ctim, path};
    loaded = -1;
  }
  pthread_mutex_unlock(&copies_mutex);
  return true;
}

[[gnu::noinline]] void* load(const char* name, int mode) {
  const long file = calls::open(AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  LoadingPath path;
  long loaded = -1;
  const bool found = file >= 0 && path_to_load(static_cast<int>(file), path, loaded);
  if (file >= 0) calls::close(static_cast<int>(file));
  void* const library = LIBSERVICES_REAL(dlopen)(found ? path.get() : name, mode);
  if (loaded >= 0) raw::syscall(SYS_close, loaded);
  return library;
}

}  // namespace

LIBSERVICES_EXPORT void* ls_mmap(void* address, std::size_t size, int protection, int flags,
                                 int descriptor, off_t offset) {
  const Call call(Symbol::mmap);
  return reinterpret_cast<void*>(
      result(calls::mmap(address, size, protection, flags, descriptor, offset)));
}

// A name without a slash is looked for where the calling library says: libc finds that one by the
// place that it returns to, which is the caller's since its function is jumped to.
LIBSERVICES_EXPORT void* ls_dlopen(const char* path, int mode) {
  if (path != nullptr && __builtin_strchr(path, '/') != nullptr && leads_to_ours(AT_FDCWD, path)) {
    return load(path, mode);
  }
  return LIBSERVICES_REAL(dlopen)(path, mode);
}

}  // namespace libservices::preload
