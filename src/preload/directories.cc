// SPDX-License-Identifier: Apache-2.0
//
// libc's directory streams. A stream over a library descriptor is ours; all others are libc's.
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "src/preload/directory_stream.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// libc's streams begin with their descriptor, which is never this.
constexpr int kMagic = -0x4c535644;
constexpr std::size_t kBufferBytes = 32768;

struct Stream {
  int magic;
  int descriptor;
  pthread_mutex_t lock;
  std::size_t at;  // the next entry in `buffer`
  std::size_t filled;
  off_t position;  // d_off of the entry that was given last
  int error;       // of readdir_r, as libc keeps it
  alignas(16) char buffer[kBufferBytes];
};

Stream* ours(DIR* stream) {
  if (!active() || stream == nullptr) return nullptr;
  auto* const found = reinterpret_cast<Stream*>(stream);
  if (found->magic != kMagic) return nullptr;
  client::note_served();
  return found;
}

class Locked {
 public:
  explicit Locked(Stream& stream) : stream_(stream) { pthread_mutex_lock(&stream.lock); }
  ~Locked() { pthread_mutex_unlock(&stream_.lock); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Stream& stream_;
};

DIR* make_stream(int descriptor) {
  auto* const made = static_cast<Stream*>(malloc(sizeof(Stream)));
  if (made == nullptr) return nullptr;
  made->magic = kMagic;
  made->descriptor = descriptor;
  pthread_mutex_init(&made->lock, nullptr);
  made->at = made->filled = 0;
  made->position = 0;
  made->error = 0;
  return reinterpret_cast<DIR*>(made);
}

// The next entry: 1 and `entry`, 0 at the end, or -errno.
long next(Stream& stream, dirent** entry) {
  if (stream.at >= stream.filled) {
    const long bytes = calls::getdents64(stream.descriptor, stream.buffer, sizeof stream.buffer,
                                         calls::Memory::kOfLibrary);
    if (bytes <= 0) {
      return bytes == -ENOENT ? 0 : bytes;  // a removed directory is an empty one
    }
    stream.at = 0;
    stream.filled = static_cast<std::size_t>(bytes);
  }
  auto* const found = reinterpret_cast<dirent*>(stream.buffer + stream.at);
  stream.at += found->d_reclen;
  stream.position = found->d_off;
  *entry = found;
  return 1;
}

void move_to(Stream& stream, off_t position) {
  (void)calls::lseek(stream.descriptor, position, SEEK_SET);
  stream.at = stream.filled = 0;
  stream.position = position;
  stream.error = 0;
}

DIR* open_directory(int at, const char* path) {
  const long descriptor = calls::open(at, path, O_RDONLY | O_NONBLOCK | O_DIRECTORY | O_CLOEXEC, 0);
  if (descriptor < 0) {
    errno = static_cast<int>(-descriptor);
    return nullptr;
  }
  const int number = static_cast<int>(descriptor);
  DIR* const stream =
      calls::is_ours(number) ? make_stream(number) : LIBSERVICES_REAL(fdopendir)(number);
  if (stream == nullptr) {
    const int error = errno;
    (void)calls::close(number);
    errno = error;
  }
  return stream;
}

struct Entries {
  dirent** list = nullptr;
  std::size_t count = 0;
  std::size_t space = 0;

  bool add(const dirent& entry) {
    if (count == space) {
      const std::size_t more = space == 0 ? 32 : 2 * space;
      auto* const grown = static_cast<dirent**>(realloc(list, more * sizeof *list));
      if (grown == nullptr) return false;
      list = grown;
      space = more;
    }
    auto* const copy = static_cast<dirent*>(malloc(entry.d_reclen));
    if (copy == nullptr) return false;
    memcpy(copy, &entry, entry.d_reclen);
    list[count++] = copy;
    return true;
  }
  void drop() {
    for (std::size_t i = 0; i < count; ++i) free(list[i]);
    free(list);
  }
};

using Order = int (*)(const dirent**, const dirent**);

}  // namespace

// --- streams ------------------------------------------------------------------------------------

LIBSERVICES_EXPORT DIR* ls_opendir(const char* path) {
  const Call call(Symbol::opendir);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(opendir)(path);
  return open_directory(AT_FDCWD, path);
}

LIBSERVICES_EXPORT DIR* ls_fdopendir(int descriptor) {
  const Call call(Symbol::fdopendir);
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(fdopendir)(descriptor);
  struct stat attributes;
  long error = calls::fstat(descriptor, &attributes);
  if (error == 0 && !S_ISDIR(attributes.st_mode)) error = -ENOTDIR;
  if (error == 0) {
    const long flags = calls::fcntl(descriptor, F_GETFL, 0);
    if (flags < 0) error = flags;
    if (flags >= 0 && (flags & O_ACCMODE) == O_WRONLY) error = -EINVAL;
    if (flags >= 0 && (flags & O_PATH) != 0) error = -EBADF;
  }
  if (error != 0) {
    errno = static_cast<int>(-error);
    return nullptr;
  }
  return make_stream(descriptor);
}

LIBSERVICES_EXPORT dirent* ls_readdir(DIR* stream) {
  const Call call(Symbol::readdir);
  Stream* const mine = ours(stream);
  if (mine == nullptr) return LIBSERVICES_REAL(readdir)(stream);
  const Locked locked(*mine);
  dirent* entry = nullptr;
  const long found = next(*mine, &entry);
  if (found < 0) errno = static_cast<int>(-found);
  return entry;
}

LIBSERVICES_EXPORT int ls_readdir_r(DIR* stream, dirent* into, dirent** entry) {
  const Call call(Symbol::readdir_r);
  Stream* const mine = ours(stream);
  if (mine == nullptr) {
    return LIBSERVICES_REAL_AS(int (*)(DIR*, dirent*, dirent**), "readdir_r")(stream, into, entry);
  }
  const Locked locked(*mine);
  *entry = nullptr;
  dirent* found = nullptr;
  const long got = next(*mine, &found);
  if (got < 0) return static_cast<int>(-got);
  if (got == 0) return 0;
  const std::size_t bytes = found->d_reclen < sizeof *into ? found->d_reclen : sizeof *into;
  memcpy(into, found, bytes);
  into->d_name[sizeof into->d_name - 1] = '\0';
  *entry = into;
  return 0;
}

LIBSERVICES_EXPORT int ls_closedir(DIR* stream) {
  const Call call(Symbol::closedir);
  Stream* const mine = ours(stream);
  if (mine == nullptr) return LIBSERVICES_REAL(closedir)(stream);
  const int descriptor = mine->descriptor;
  mine->magic = 0;
  pthread_mutex_destroy(&mine->lock);
  free(mine);
  return int_result(calls::close(descriptor));
}

LIBSERVICES_EXPORT void ls_rewinddir(DIR* stream) {
  const Call call(Symbol::rewinddir);
  Stream* const mine = ours(stream);
  if (mine == nullptr) return LIBSERVICES_REAL(rewinddir)(stream);
  const Locked locked(*mine);
  move_to(*mine, 0);
}

LIBSERVICES_EXPORT void ls_seekdir(DIR* stream, long position) {
  const Call call(Symbol::seekdir);
  Stream* const mine = ours(stream);
  if (mine == nullptr) return LIBSERVICES_REAL(seekdir)(stream, position);
  const Locked locked(*mine);
  move_to(*mine, position);
}

LIBSERVICES_EXPORT long ls_telldir(DIR* stream) {
  const Call call(Symbol::telldir);
  Stream* const mine = ours(stream);
  if (mine == nullptr) return LIBSERVICES_REAL(telldir)(stream);
  const Locked locked(*mine);
  return mine->position;
}

LIBSERVICES_EXPORT int ls_dirfd(DIR* stream) {
  const Call call(Symbol::dirfd);
  Stream* const mine = ours(stream);
  return mine == nullptr ? LIBSERVICES_REAL(dirfd)(stream) : mine->descriptor;
}

LIBSERVICES_EXPORT ssize_t ls_getdirentries(int descriptor, char* into, std::size_t size,
                                            off_t* base) {
  const Call call(Symbol::getdirentries);
  if (!calls::is_ours(descriptor)) {
    return LIBSERVICES_REAL(getdirentries)(descriptor, into, size, base);
  }
  const long before = calls::lseek(descriptor, 0, SEEK_CUR);
  const ssize_t bytes = result(calls::getdents64(descriptor, into, size));
  if (bytes >= 0 && before >= 0) *base = before;
  return bytes;
}

// --- scandir ------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_scandirat(int directory, const char* path, dirent*** list,
                                    int (*wanted)(const dirent*), Order order) {
  const Call call(Symbol::scandirat);
  if (!leads_to_ours(directory, path)) {
    return LIBSERVICES_REAL(scandirat)(directory, path, list, wanted, order);
  }
  DIR* const stream = open_directory(directory, path);
  if (stream == nullptr) return -1;
  const int before = errno;
  Entries entries;
  int error = 0;
  while (true) {
    errno = 0;
    const dirent* const entry = ls_readdir(stream);
    if (entry == nullptr) {
      error = errno;
      break;
    }
    if (wanted != nullptr && wanted(entry) == 0) continue;
    if (!entries.add(*entry)) {
      error = ENOMEM;
      break;
    }
  }
  (void)ls_closedir(stream);
  if (error != 0) {
    entries.drop();
    errno = error;
    return -1;
  }
  errno = before;
  if (order != nullptr && entries.count > 1) {
    qsort(entries.list, entries.count, sizeof *entries.list,
          reinterpret_cast<int (*)(const void*, const void*)>(order));
  }
  if (entries.list == nullptr) entries.list = static_cast<dirent**>(malloc(sizeof *entries.list));
  *list = entries.list;
  return static_cast<int>(entries.count);
}

LIBSERVICES_EXPORT int ls_scandir(const char* path, dirent*** list, int (*wanted)(const dirent*),
                                  Order order) {
  const Call call(Symbol::scandir);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(scandir)(path, list, wanted, order);
  return ls_scandirat(AT_FDCWD, path, list, wanted, order);
}

}  // namespace libservices::preload
