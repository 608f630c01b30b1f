// SPDX-License-Identifier: Apache-2.0
#include "src/client/paths.h"

#include "src/client/request.h"

namespace libservices::client {
namespace {

// The kernel's working directory, as text. Written under a sequence word: odd while it changes.
struct KernelDirectory {
  std::atomic<std::uint32_t> sequence;
  std::uint32_t bytes;  // 0: not known
  std::uint32_t leads;  // a mount lies below it
  char path[kPathBytes];
} kernel_directory{};

// What the process took for its root by chroot, as a path from the root that the mount table's are
// from. Written before the process goes on there.
struct Root {
  std::uint32_t bytes;  // 0: none was taken
  bool apart;           // no mount can be reached by a path from it
  char path[protocol::kMostMountPath + 1];
} root{};

std::size_t length_of(const char* text) { return __builtin_strlen(text); }

// Whether a mount's path begins with `path`, which is one from the process's root, and a '/'.
bool leads_to_mount(const char* path, std::size_t bytes) {
  if (root.apart) return false;
  if (bytes == 1) bytes = 0;  // "/"
  const std::size_t whole = root.bytes + bytes;
  for (const protocol::MountEntry& entry : mounts().slots) {
    if (entry.hash == 0 || entry.path_bytes <= whole) continue;
    if (__builtin_memcmp(entry.path, root.path, root.bytes) == 0 &&
        __builtin_memcmp(entry.path + root.bytes, path, bytes) == 0 && entry.path[whole] == '/') {
      return true;
    }
  }
  return false;
}

// Copies the working directory into `into`; its length, or -errno.
long kernel_working_directory(char* into, bool& leads) {
  for (;;) {
    const std::uint32_t before = kernel_directory.sequence.load(std::memory_order_acquire);
    if ((before & 1U) == 0 && kernel_directory.bytes != 0) {
      const std::uint32_t bytes = kernel_directory.bytes;
      __builtin_memcpy(into, kernel_directory.path, bytes < kPathBytes ? bytes : 0);
      leads = kernel_directory.leads != 0;
      std::atomic_thread_fence(std::memory_order_acquire);
      if (kernel_directory.sequence.load(std::memory_order_relaxed) == before) return bytes;
      continue;
    }
    const long size = raw::syscall(SYS_getcwd, into, kPathBytes);
    if (size < 0) return size;
    const auto bytes = static_cast<std::uint32_t>(size - 1);
    leads = leads_to_mount(into, bytes);
    std::uint32_t expected = before & ~1U;
    if (kernel_directory.sequence.compare_exchange_strong(expected, expected + 1)) {
      __builtin_memcpy(kernel_directory.path, into, bytes);
      kernel_directory.bytes = bytes;
      kernel_directory.leads = leads ? 1 : 0;
      kernel_directory.sequence.store(expected + 2, std::memory_order_release);
    }
    return bytes;
  }
}

bool has_dot_dot(const char* path) {
  for (const char* at = path; *at != '\0'; ++at) {
    if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || at[2] == '\0') &&
        (at == path || at[-1] == '/')) {
      return true;
    }
  }
  return false;
}

// Walks an absolute path by its text, to the deepest mount on the way. Up to there ".." is the
// parent by name; from there on the service walks.
bool match(const char* path, Place& place) {
  if (mounts().count == 0 || root.apart) return false;
  char prefix[protocol::kMostMountPath + 2];
  std::size_t bytes = root.bytes;  // of the normalised prefix
  __builtin_memcpy(prefix, root.path, bytes);
  bool found = false;
  const char* at = path;
  for (;;) {
    while (*at == '/') ++at;
    if (*at == '\0') break;
    std::size_t length = 0;
    while (at[length] != '\0' && at[length] != '/') ++length;
    if (length == 1 && at[0] == '.') {
      at += length;
      continue;
    }
    if (length == 2 && at[0] == '.' && at[1] == '.') {
      if (found) break;
      while (bytes > root.bytes && prefix[--bytes] != '/') {
      }
      at += length;
      continue;
    }
    if (bytes + 1 + length > mounts().longest) {
      // No mount is that deep; but ".." may come back up, as long as we have not arrived.
      if (found || !has_dot_dot(at)) break;
      if (bytes + 1 + length > protocol::kMostMountPath) return false;
    }
    prefix[bytes++] = '/';
    __builtin_memcpy(prefix + bytes, at, length);
    bytes += length;
    at += length;
    const protocol::MountMatch mount =
        protocol::find_mount(mounts(), prefix, static_cast<unsigned>(bytes));
    if (mount.found && mount.mount_bytes == bytes) {
      found = true;
      place.instance = mount.instance;
      place.base = protocol::kRoot;
      place.itself = false;
      const char* rest = at;
      while (*rest == '/') ++rest;
      place.path = *rest == '\0' ? "." : rest;
      place.path_bytes = static_cast<std::uint32_t>(length_of(place.path));
    }
  }
  if (found) note_served();
  return found;
}

// Whether the first component of `path` is one of a mount's path.
bool begins_like_mount(const char* path) {
  std::size_t length = 0;
  while (path[length] != '\0' && path[length] != '/') ++length;
  for (const protocol::MountEntry& entry : mounts().slots) {
    if (entry.hash == 0) continue;
    for (std::size_t at = 1; at + length <= entry.path_bytes; ++at) {
      if (entry.path[at - 1] == '/' &&
          (at + length == entry.path_bytes || entry.path[at + length] == '/') &&
          __builtin_memcmp(entry.path + at, path, length) == 0) {
        return true;
      }
    }
  }
  return false;
}

// `digits` at the beginning of `text` as a number, and where they end; -1: there are none.
int number_at(const char*& text) {
  if (*text < '0' || *text > '9') return -1;
  int number = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    if (number > 100'000'000) return -1;
    number = number * 10 + (*text - '0');
  }
  return number;
}

// Takes `prefix` off `text`.
bool skip(const char*& text, const char* prefix) {
  const std::size_t length = length_of(prefix);
  if (__builtin_strncmp(text, prefix, length) != 0) return false;
  text += length;
  return true;
}

// A name in a directory of the kernel that is open: it may lead into a mount.
long resolve_below(int directory, const char* path, Place& place) {
  if (mounts().count == 0 || (!begins_like_mount(path) && !has_dot_dot(path))) return 0;
  char name[kPathBytes];
  const long bytes = name_of(directory, name);
  if (bytes <= 0 || name[0] != '/') return 0;
  const std::size_t length = length_of(path);
  if (static_cast<std::size_t>(bytes) + 1 + length >= sizeof place.text) return 0;
  __builtin_memcpy(place.text, name, static_cast<std::size_t>(bytes));
  place.text[bytes] = '/';
  __builtin_memcpy(place.text + bytes + 1, path, length + 1);
  return match(place.text, place) ? 1 : 0;
}

}  // namespace

std::size_t path_by_number(int descriptor, NumberPath& path) {
  constexpr char kByNumber[] = "/proc/self/fd/";
  char digits[10];
  std::size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + descriptor % 10);
    descriptor /= 10;
  } while (descriptor != 0);
  std::size_t length = sizeof kByNumber - 1;
  __builtin_memcpy(path, kByNumber, length);
  while (count != 0) path[length++] = digits[--count];
  path[length] = '\0';
  return length;
}

long name_of(int descriptor, char (&into)[kPathBytes]) {
  NumberPath path;
  (void)path_by_number(descriptor, path);
  return raw::syscall(SYS_readlinkat, AT_FDCWD, path, into, sizeof into);
}

OwnLink own_link(const char* path) {
  OwnLink found;
  if (path[0] != '/' || (path[1] != 'p' && path[1] != 'd')) return found;
  const char* at = path;
  if (skip(at, "/dev/")) {
    found.descriptor = skip(at, "fd/")      ? number_at(at)
                       : skip(at, "stdin")  ? 0
                       : skip(at, "stdout") ? 1
                       : skip(at, "stderr") ? 2
                                            : -1;
    if (found.descriptor < 0) return found;
  } else if (skip(at, "/proc/")) {
    if (*at >= '0' && *at <= '9') {
      if (number_at(at) != raw::syscall(SYS_getpid)) return found;
    } else if (!skip(at, "self") && !skip(at, "thread-self")) {
      return found;
    }
    if (skip(at, "/fd/")) {
      found.descriptor = number_at(at);
      if (found.descriptor < 0) return found;
    } else if (!skip(at, "/cwd")) {
      return found;
    }
  } else {
    return found;
  }
  if (*at != '\0' && *at != '/') return found;
  found.record = found.descriptor >= 0 ? find(found.descriptor)
                                       : state.working_directory.load(std::memory_order_acquire);
  const bool slash = *at == '/';
  while (*at == '/') ++at;
  found.rest = slash && *at == '\0' ? "." : at;
  return found;
}

void forget_kernel_directory() {
  std::uint32_t before = kernel_directory.sequence.load();
  while ((before & 1U) != 0 ||
         !kernel_directory.sequence.compare_exchange_weak(before, before + 1)) {
    before = kernel_directory.sequence.load();
  }
  kernel_directory.bytes = 0;
  kernel_directory.sequence.store(before + 2);
}

long resolve(int directory, const char* path, Place& place, bool follow) {
  if (path[0] == '/') {
    const OwnLink link = own_link(path);
    if (link.record == nullptr || (link.rest[0] == '\0' && !follow)) {
      return match(path, place) ? 1 : 0;
    }
    if (const long error = place_of(*link.record, link.descriptor, place); error != 0) {
      return error;
    }
    place.itself = link.rest[0] == '\0';
    place.path = link.rest;
    place.path_bytes = static_cast<std::uint32_t>(length_of(link.rest));
    return 1;
  }
  OpenRecord* const base = directory == AT_FDCWD
                               ? state.working_directory.load(std::memory_order_acquire)
                               : find(directory);
  if (base != nullptr) {
    note_served();
    if (const long error = handle_of(*base, directory == AT_FDCWD ? -1 : directory, place.base);
        error != 0) {
      return error;
    }
    place.instance = base->instance;
    place.itself = false;
    place.path = path;
    place.path_bytes = static_cast<std::uint32_t>(length_of(path));
    return 1;
  }
  if (path[0] == '\0') return 0;
  if (directory != AT_FDCWD) return directory >= 0 ? resolve_below(directory, path, place) : 0;
  bool leads = false;
  const bool up = has_dot_dot(path);
  if (!up && kernel_directory.bytes != 0 && kernel_directory.leads == 0) return 0;
  const long bytes = kernel_working_directory(place.text, leads);
  if (bytes <= 0 || (!leads && !up)) return 0;
  const std::size_t length = length_of(path);
  if (static_cast<std::size_t>(bytes) + 1 + length >= sizeof place.text) return 0;
  place.text[bytes] = '/';
  __builtin_memcpy(place.text + bytes + 1, path, length + 1);
  return match(place.text, place) ? 1 : 0;
}

void take_root(const char* path, std::size_t bytes) {
  if (bytes == 1) return;  // "/", the one that it has
  if (bytes == 0 || root.bytes + bytes > protocol::kMostMountPath) {
    root.apart = true;
  } else {
    __builtin_memcpy(root.path + root.bytes, path, bytes);
    root.bytes += static_cast<std::uint32_t>(bytes);
  }
  forget_kernel_directory();
}

long place_of(OpenRecord& record, int descriptor, Place& place) {
  place.itself = true;
  place.instance = record.instance;
  const long error = handle_of(record, descriptor, place.base);
  place.instance = record.instance;  // adoption may have told it
  return error;
}

long mount_path(std::uint32_t instance, char* into, std::size_t size) {
  for (const protocol::MountEntry& entry : mounts().slots) {
    if (entry.hash == 0 || entry.instance != instance) continue;
    if (root.apart || entry.path_bytes <= root.bytes || entry.path[root.bytes] != '/' ||
        __builtin_memcmp(entry.path, root.path, root.bytes) != 0) {
      continue;
    }
    const std::size_t bytes = entry.path_bytes - root.bytes;
    if (bytes + 1 > size) return -ERANGE;
    __builtin_memcpy(into, entry.path + root.bytes, bytes);
    into[bytes] = '\0';
    return static_cast<long>(bytes);
  }
  return -ENOENT;
}

namespace {

// Whether the last name of `path` could be that of a mount, or the path's parent is not there:
// only then can a walk that the kernel gave up lead to one, but for a link at its end.
bool may_lead_across(int directory, const char* path) {
  std::size_t bytes = length_of(path);
  while (bytes > 0 && path[bytes - 1] == '/') --bytes;
  std::size_t parent = bytes;
  while (parent > 0 && path[parent - 1] != '/') --parent;
  if (bytes == 0 || bytes >= kPathBytes) return false;
  char name[kPathBytes];
  char target[1];
  __builtin_memcpy(name, path, bytes);
  name[bytes] = '\0';
  if (raw::syscall(SYS_readlinkat, directory, name, target, sizeof target) >= 0) return true;
  for (const protocol::MountEntry& entry : mounts().slots) {
    const std::size_t last = bytes - parent;
    if (entry.hash == 0 || entry.path_bytes <= last) continue;
    if (entry.path[entry.path_bytes - last - 1] == '/' &&
        __builtin_memcmp(entry.path + entry.path_bytes - last, path + parent, last) == 0) {
      return true;
    }
  }
  if (parent == 0) return false;  // the directory itself is there
  name[parent] = '\0';
  return raw::syscall(SYS_faccessat, directory, name, F_OK) != 0;
}

// A path being walked: what has been walked, without links, and what is left.
class Walk {
 public:
  bool begin(int directory, const char* path) {
    if (path[0] != '/') {
      const long bytes = directory == AT_FDCWD ? raw::syscall(SYS_getcwd, done_, sizeof done_) - 1
                                               : name_of(directory, done_);
      if (bytes <= 0 || done_[0] != '/') return false;
      bytes_ = bytes == 1 ? 0 : static_cast<std::size_t>(bytes);
    }
    return put_before_rest(path, length_of(path));
  }

  // On to a mount; then `absolute` leads there.
  bool run(char (&absolute)[2 * kPathBytes]) {
    int links = 0;
    for (;;) {
      while (*rest_ == '/') ++rest_;
      if (*rest_ == '\0') return false;
      std::size_t length = 0;
      while (rest_[length] != '\0' && rest_[length] != '/') ++length;
      const char* const name = rest_;
      rest_ += length;
      if (length == 1 && name[0] == '.') continue;
      if (length == 2 && name[0] == '.' && name[1] == '.') {
        leave();
        continue;
      }
      if (bytes_ + 1 + length >= sizeof done_) return false;
      done_[bytes_++] = '/';
      __builtin_memcpy(done_ + bytes_, name, length);
      bytes_ += length;
      done_[bytes_] = '\0';
      Place place;
      if (match(done_, place)) {
        __builtin_memcpy(absolute, done_, bytes_);
        __builtin_memcpy(absolute + bytes_, rest_, length_of(rest_) + 1);
        return true;
      }
      char target[kPathBytes];
      const long size = raw::syscall(SYS_readlinkat, AT_FDCWD, done_, target, sizeof target);
      if (size >= 0) {
        if (++links > kMostLeaves) return false;
        leave();
        if (target[0] == '/') bytes_ = 0;
        if (!put_before_rest(target, static_cast<std::size_t>(size))) return false;
      } else if (size != -EINVAL && !leads_to_mount(done_, bytes_)) {
        return false;
      }
    }
  }

 private:
  void leave() {
    while (bytes_ > 0 && done_[--bytes_] != '/') {
    }
  }
  bool put_before_rest(const char* text, std::size_t bytes) {
    const std::size_t left = length_of(rest_);
    if (bytes + left >= kPathBytes) return false;
    char* const begin = text_ + kPathBytes - 1 - left - bytes;
    // What is left stands at the end already.
    __builtin_memcpy(begin, text, bytes);
    text_[kPathBytes - 1] = '\0';
    rest_ = begin;
    return true;
  }

  char done_[kPathBytes];
  std::size_t bytes_ = 0;
  char text_[kPathBytes];  // ends with what is left
  const char* rest_ = "";
};

}  // namespace

bool leads_across(int directory, const char* path, char (&absolute)[2 * kPathBytes]) {
  if (mounts().count == 0 || path[0] == '\0' || !may_lead_across(directory, path)) return false;
  Walk walk;
  return walk.begin(directory, path) && walk.run(absolute);
}

void follow_outside(const Place& place, const char* rest, std::uint32_t rest_bytes,
                    char (&absolute)[2 * kPathBytes]) {
  std::size_t bytes = 0;
  if (rest_bytes >= 2 && rest[0] == '.') {  // ".." or "../x": from the parent of the mount
    const long mount = mount_path(place.instance, absolute, sizeof absolute - kPathBytes);
    if (mount > 0) bytes = static_cast<std::size_t>(mount);
    while (bytes > 0 && absolute[--bytes] != '/') {
    }
    rest += 2;
    rest_bytes -= 2;
    if (rest_bytes == 0) absolute[bytes++] = '/';
  }
  __builtin_memcpy(absolute + bytes, rest, rest_bytes);
  absolute[bytes + rest_bytes] = '\0';
}

namespace {

long open_once(const Place& place, protocol::OpenRequest words, Rest& rest, OpenRecord*& opened) {
  const bool removed_directory = words.for_chdir != 0;
  Stock stock;
  if (const long error = take_stock(removed_directory, stock); error != 0) return error;
  OpenRecord* const record = new_record();
  if (record == nullptr) {
    give_back_stock(removed_directory, stock);
    return -ENFILE;
  }
  long result = 0;
  {
    Request request(protocol::Operation::kOpen, place.instance);
    words.placeholder = stock.placeholder;
    if (!request.ok()) {
      result = request.error();
    } else if (request.session() != stock.session) {
      result = Request::kStale;  // this session may have given the same number for another
    } else if (request.set(words); !place.itself && !request.add(place.path, place.path_bytes)) {
      result = -ENAMETOOLONG;
    } else {
      result = request.run();
      if (result == -protocol::kOutside) rest.take(request);
      if (result == 0) {
        const auto answer = request.answer<protocol::OpenAnswer>();
        record->instance = place.instance;
        record->flags = answer.flags;
        record->mode = answer.mode;
        record->placeholder = stock.placeholder;
        record->stock_descriptor = stock.descriptor;
        record->removed_directory = removed_directory;
        record->inode = stock.inode;
        record->exclusive.store(1, std::memory_order_relaxed);
        record->earlier_handle.store(0, std::memory_order_relaxed);
        record->session.store(request.session(), std::memory_order_relaxed);
        record->handle.store(answer.handle, std::memory_order_release);
      }
    }
  }
  if (result != 0) {
    record->descriptors.store(0, std::memory_order_release);
    if (result == -ETIMEDOUT) {
      close_own(stock.descriptor);  // the service may still be about to bind its placeholder
    } else {
      give_back_stock(removed_directory, stock);
    }
    return result;
  }
  opened = record;
  return 0;
}

}  // namespace

long open_place(const Place& place, protocol::OpenRequest words, Rest& rest, OpenRecord*& opened) {
  constexpr int kMostTimes = 100;
  const bool exclusive = (words.flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
  // The service died meanwhile: it may have made the file, or cut it, and now will not again.
  bool lost = false;
  for (int times = 0; times < kMostTimes; ++times) {
    const long result = open_once(place, words, rest, opened);
    if (result == -EEXIST && exclusive && lost) return -EIO;  // by us or by somebody else
    if (result != Request::kLost && result != Request::kStale) return result;
    lost = lost || result == Request::kLost;
    if (!renew(words.target.base)) break;
  }
  return -EIO;
}

}  // namespace libservices::client
