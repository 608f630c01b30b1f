// SPDX-License-Identifier: Apache-2.0
//
// The working directory. When it is in a mount, the kernel's is a removed directory that stands
// for it (src/protocol/placeholder.h), so children and new program images inherit it.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

void leave_working_directory(OpenRecord* next) {
  OpenRecord* const old = state.working_directory.exchange(next, std::memory_order_acq_rel);
  if (old != nullptr) (void)release(*old);
}

long enter(const Place& place, Rest& rest) {
  const Whole whole;
  protocol::OpenRequest words;
  words.target = place.target(protocol::Target::kFollow);
  words.flags = O_PATH | O_DIRECTORY;
  words.for_chdir = 1;
  OpenRecord* record = nullptr;
  if (const long error = open_place(place, words, rest, record); error != 0) return error;
  if (const long error = raw::syscall(SYS_fchdir, record->stock_descriptor); error != 0) {
    (void)release(*record);
    return error;
  }
  leave_working_directory(record);
  forget_kernel_directory();
  return 0;
}

}  // namespace

long chdir(const char* path) {
  return with_path(
      AT_FDCWD, path, [](const Place& place, Rest& rest) { return enter(place, rest); },
      [](int, const char* name) {
        const Whole whole;
        const long result = raw::syscall(SYS_chdir, name);
        if (result == 0 && state.active) {
          leave_working_directory(nullptr);
          forget_kernel_directory();
        }
        return result;
      },
      true);
}

long fchdir(int descriptor) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    const Whole whole;
    const long result = raw::syscall(SYS_fchdir, descriptor);
    if (result == 0 && state.active) {
      leave_working_directory(nullptr);
      forget_kernel_directory();
    }
    return result;
  }
  if (!S_ISDIR(record->mode)) return -ENOTDIR;
  Place place;
  if (const long error = place_of(*record, descriptor, place); error != 0) return error;
  Rest rest;
  return enter(place, rest);
}

long chroot(const char* path) {
  if (!state.active || path == nullptr) return raw::syscall(SYS_chroot, path);
  const bool ours = is_ours(AT_FDCWD, path) == 1;
  char absolute[2 * kPathBytes];
  if (ours && path[0] != '/') {  // the kernel's working directory only stands for ours
    const long bytes = getcwd(absolute, kPathBytes);
    if (bytes < 0) return bytes;
    const std::size_t length = __builtin_strlen(path);
    if (length >= kPathBytes) return -ENAMETOOLONG;
    absolute[bytes - 1] = '/';
    __builtin_memcpy(absolute + bytes, path, length + 1);
    path = absolute;
  }
  const long directory = raw::syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
  if (ours) {
    constexpr std::uint32_t kFuse = 0x65735546;  // FUSE_SUPER_MAGIC
    struct statfs volume {};
    const bool mounted = directory >= 0 && raw::syscall(SYS_fstatfs, directory, &volume) == 0 &&
                         static_cast<std::uint32_t>(volume.f_type) == kFuse;
    if (!mounted) {
      if (directory >= 0) raw::syscall(SYS_close, directory);
      return refused(-EPERM);
    }
  }
  if (directory < 0) return directory;
  (void)attach();  // from there the service may not be found
  char name[kPathBytes];
  long bytes = ours ? 0 : name_of(static_cast<int>(directory), name);
  raw::syscall(SYS_close, directory);
  if (const long error = raw::syscall(SYS_chroot, path); error != 0) return error;
  if (bytes <= 0 || name[0] != '/') bytes = 0;
  take_root(name, static_cast<std::size_t>(bytes));
  return 0;
}

long path_of(OpenRecord& record, int descriptor, char* into, std::size_t size) {
  protocol::PathOfRequest words;
  if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
  char path[2 * kPathBytes];
  const long mount = mount_path(record.instance, path, kPathBytes);
  if (mount < 0) return mount;
  Request request(protocol::Operation::kPathOf, record.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  if (const long error = request.run(); error != 0) return error;
  std::size_t rest = request.output_bytes();
  if (rest == 1) rest = 0;  // "/": the mount itself
  const std::size_t length = static_cast<std::size_t>(mount) + rest;
  if (length + 1 > kPathBytes) return -ENAMETOOLONG;
  if (length + 1 > size) return -ERANGE;
  __builtin_memcpy(path + mount, request.output(), rest);
  if (!writable(into, length + 1)) return -EFAULT;
  __builtin_memcpy(into, path, length);
  into[length] = '\0';
  return static_cast<long>(length);
}

long getcwd(char* into, std::size_t size) {
  OpenRecord* const record = state.active ? state.working_directory.load() : nullptr;
  if (record == nullptr) return raw::syscall(SYS_getcwd, into, size);
  const long length = path_of(*record, -1, into, size);
  return length < 0 ? length : length + 1;
}

}  // namespace libservices::client::calls
