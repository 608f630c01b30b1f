// SPDX-License-Identifier: Apache-2.0
//
// What mapped_test tells file_user, a process of its own: who serves a mount must not use it. Both
// ends of two pipes; a kRead is answered with the bytes behind the result.
#ifndef LIBSERVICES_TESTS_FUSE_FILE_USER_H_
#define LIBSERVICES_TESTS_FUSE_FILE_USER_H_

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

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_FILE_USER_H_
