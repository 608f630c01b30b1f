// SPDX-License-Identifier: Apache-2.0
//
// The mapping of files of ours, and the loading of libraries of ours.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// The descriptor as a path. Never the same twice, since the loader takes what has the name of a
// library that it has for that library: the times are counted in slashes.
class LoadingPath {
 public:
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
  char path_[14 + 2 * 32 + 12];
};

[[gnu::noinline]] void* load(const char* path, int mode) {
  constexpr int kOutOfTheWay = 256;  // of what the library's own code opens when it starts
  const long file = calls::open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return LIBSERVICES_REAL(dlopen)(path, mode);  // it says why
  long loaded = calls::descriptor_to_load(static_cast<int>(file));
  calls::close(static_cast<int>(file));
  if (loaded < 0) return LIBSERVICES_REAL(dlopen)(path, mode);
  const long moved = raw::syscall(SYS_fcntl, loaded, F_DUPFD_CLOEXEC, kOutOfTheWay);
  if (moved >= 0) {
    raw::syscall(SYS_close, loaded);
    loaded = moved;
  }
  void* const library = LIBSERVICES_REAL(dlopen)(LoadingPath(loaded).get(), mode);
  raw::syscall(SYS_close, loaded);
  return library;
}

}  // namespace

LIBSERVICES_EXPORT void* ls_mmap(void* address, std::size_t size, int protection, int flags,
                                 int descriptor, off_t offset) {
  return reinterpret_cast<void*>(
      result(calls::mmap(address, size, protection, flags, descriptor, offset)));
}
LIBSERVICES_ALIAS_2(mmap, mmap64, ls_mmap);

// A name without a slash is looked for where the calling library says: libc finds that one by the
// place that it returns to, which is the caller's since its function is jumped to.
LIBSERVICES_EXPORT void* ls_dlopen(const char* path, int mode) {
  if (path != nullptr && __builtin_strchr(path, '/') != nullptr && leads_to_ours(AT_FDCWD, path)) {
    return load(path, mode);
  }
  return LIBSERVICES_REAL(dlopen)(path, mode);
}
LIBSERVICES_ALIAS(dlopen, ls_dlopen);

}  // namespace libservices::preload
