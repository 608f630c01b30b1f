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

std::size_t length_of(const char* text) { return __builtin_strlen(text); }

// Whether a mount's path begins with `path` and a '/'.
bool leads_to_mount(const char* path, std::size_t bytes) {
  for (const protocol::MountEntry& entry : mounts().slots) {
    if (entry.hash == 0 || entry.path_bytes <= bytes) continue;
    if (__builtin_memcmp(entry.path, path, bytes) == 0 &&
        (bytes == 1 || entry.path[bytes] == '/')) {
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
  if (mounts().count == 0) return false;
  char prefix[protocol::kMostMountPath + 2];
  std::size_t bytes = 0;  // of the normalised prefix, which may grow past what it can hold
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
      while (bytes > 0 && prefix[--bytes] != '/') {
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
  char link[32] = "/proc/self/fd/";
  char digits[12];
  std::size_t count = 0;
  for (int rest = directory; rest != 0 || count == 0; rest /= 10) {
    digits[count++] = static_cast<char>('0' + rest % 10);
  }
  for (std::size_t i = 0; i < count; ++i) link[14 + i] = digits[count - 1 - i];
  const long bytes = raw::syscall(SYS_readlink, link, place.text, kPathBytes);
  if (bytes <= 0 || place.text[0] != '/') return 0;
  const std::size_t length = length_of(path);
  if (static_cast<std::size_t>(bytes) + 1 + length >= sizeof place.text) return 0;
  place.text[bytes] = '/';
  __builtin_memcpy(place.text + bytes + 1, path, length + 1);
  return match(place.text, place) ? 1 : 0;
}

}  // namespace

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
    if (entry.path_bytes + 1 > size) return -ERANGE;
    __builtin_memcpy(into, entry.path, entry.path_bytes);
    into[entry.path_bytes] = '\0';
    return entry.path_bytes;
  }
  return -ENOENT;
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
    give_back_stock(removed_directory, stock);
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
