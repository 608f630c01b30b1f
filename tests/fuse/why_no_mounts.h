// SPDX-License-Identifier: Apache-2.0
//
// Whether this process may mount, for tests that are skipped otherwise.
#ifndef LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_
#define LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace libservices::testing {

inline constexpr char kRingsSwitch[] = "/sys/module/fuse/parameters/enable_uring";

// Empty, or why this machine has no mounts for this process.
inline std::string why_no_mounts() {
  if (::geteuid() != 0) return "mounting takes the superuser's rights";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "there is no /dev/fuse";
  const char* const rings = std::getenv("LIBSERVICES_TEST_RINGS");
  if (rings != nullptr && *rings == '1' && ::access(kRingsSwitch, W_OK) != 0) {
    return "this kernel has no FUSE over io_uring";
  }
  return "";
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_
