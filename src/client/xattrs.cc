// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes, by path and by descriptor.
#include <errno.h>
#include <fcntl.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

using protocol::Operation;

constexpr std::size_t kMostValue = 65536;  // XATTR_SIZE_MAX, XATTR_LIST_MAX

// By path, or by descriptor when `path` is null. `kernel(path)` is the system call.
template <class Kernel>
long run(Operation operation, int descriptor, const char* path, bool follow, const char* name,
         const void* value, std::size_t value_size, void* into, std::size_t size, int mode,
         Kernel&& kernel) {
  auto ours = [&](const Place& place, Rest* rest) -> long {
    if (operation != Operation::kListxattr) {
      const long error = check_text(name);
      if (error != 0) return error == -EFAULT ? error : -ERANGE;
    }
    if (!readable(value, value_size <= kMostValue ? value_size : 0)) return -EFAULT;
    Request request(operation, place.instance);
    if (!request.ok()) return request.error();
    protocol::XattrRequest words;
    words.target = place.target(follow ? std::uint32_t{protocol::Target::kFollow} : 0U);
    words.name_bytes = name != nullptr ? static_cast<std::uint32_t>(__builtin_strlen(name)) : 0;
    words.mode = static_cast<std::uint32_t>(mode);
    words.count =
        operation == Operation::kSetxattr ? value_size : (size < kMostValue ? size : kMostValue);
    if (words.name_bytes > 255) return -ERANGE;
    if (value_size > kMostValue) return -E2BIG;
    request.set(words);
    if ((!place.itself && !request.add(place.path, place.path_bytes)) ||
        (name != nullptr && !request.add(name, words.name_bytes)) ||
        (value_size != 0 && !request.add(value, value_size))) {
      return -E2BIG;
    }
    const long result = request.run();
    if (result == -protocol::kOutside && rest != nullptr) rest->take(request);
    if (result != 0 || operation == Operation::kSetxattr || operation == Operation::kRemovexattr) {
      return result;
    }
    const std::uint32_t bytes = request.output_bytes();
    if (size != 0) {
      if (bytes > size) return -ERANGE;
      if (!writable(into, bytes)) return -EFAULT;
      __builtin_memcpy(into, request.output(), bytes);
    }
    return static_cast<long>(request.answer_word());
  };
  if (path == nullptr) {
    if (descriptor == AT_FDCWD) return -EFAULT;
    OpenRecord* const record = find(descriptor);
    if (record == nullptr) return kernel(nullptr);
    if ((record->flags & O_PATH) != 0) return -EBADF;
    Place place;
    if (const long error = place_of(*record, descriptor, place); error != 0) return error;
    return ours(place, nullptr);
  }
  return with_path(
      AT_FDCWD, path, [&](const Place& place, Rest& rest) { return ours(place, &rest); },
      [&](int, const char* at) { return kernel(at); }, follow);
}

// The system call's number for a path, a link, or a descriptor.
long number(const char* path, bool follow, long by_path, long by_link, long by_descriptor) {
  if (path == nullptr) return by_descriptor;
  return follow ? by_path : by_link;
}

long first_argument(const char* path, int descriptor) {
  return path != nullptr ? reinterpret_cast<long>(path) : descriptor;
}

}  // namespace

long getxattr(int descriptor, const char* path, bool follow, const char* name, void* into,
              std::size_t size) {
  return run(Operation::kGetxattr, descriptor, path, follow, name, nullptr, 0, into, size, 0,
             [&](const char* at) {
               return raw::syscall(number(at, follow, SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr),
                                   first_argument(at, descriptor), name, into, size);
             });
}

long setxattr(int descriptor, const char* path, bool follow, const char* name, const void* value,
              std::size_t size, int flags) {
  return run(Operation::kSetxattr, descriptor, path, follow, name, value, size, nullptr, 0, flags,
             [&](const char* at) {
               return raw::syscall(number(at, follow, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr),
                                   first_argument(at, descriptor), name, value, size, flags);
             });
}

long listxattr(int descriptor, const char* path, bool follow, char* into, std::size_t size) {
  return run(Operation::kListxattr, descriptor, path, follow, nullptr, nullptr, 0, into, size, 0,
             [&](const char* at) {
               return raw::syscall(
                   number(at, follow, SYS_listxattr, SYS_llistxattr, SYS_flistxattr),
                   first_argument(at, descriptor), into, size);
             });
}

long removexattr(int descriptor, const char* path, bool follow, const char* name) {
  return run(Operation::kRemovexattr, descriptor, path, follow, name, nullptr, 0, nullptr, 0, 0,
             [&](const char* at) {
               return raw::syscall(
                   number(at, follow, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr),
                   first_argument(at, descriptor), name);
             });
}

}  // namespace libservices::client::calls
