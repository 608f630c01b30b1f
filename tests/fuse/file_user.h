// SPDX-License-Identifier: Apache-2.0
//
// What mapped_test tells file_user, a process of its own: who serves a mount must not use it. Both
// ends of two pipes; a kRead is answered with the bytes behind the result.
#ifndef LIBSERVICES_TESTS_FUSE_FILE_USER_H_
#define LIBSERVICES_TESTS_FUSE_FILE_USER_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace libservices::testing {

struct FileStep {
  enum Call : std::uint32_t { kReopen, kWrite, kTruncate, kMapWrite, kMapCompare, kPunch, kRead };
  Call call = kReopen;
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t byte = 0;  // what is written, or expected
};

inline bool send_all(int descriptor, const void* bytes, std::size_t size) {
  const auto* at = static_cast<const char*>(bytes);
  while (size != 0) {
    const ssize_t count = ::write(descriptor, at, size);
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}
inline bool receive_all(int descriptor, void* bytes, std::size_t size) {
  auto* at = static_cast<char*>(bytes);
  while (size != 0) {
    const ssize_t count = ::read(descriptor, at, size);
    if (count <= 0) return false;
    at += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_FILE_USER_H_
