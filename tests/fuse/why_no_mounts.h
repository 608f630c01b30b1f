// SPDX-License-Identifier: Apache-2.0
//
// Whether this process may mount, for tests that are skipped otherwise.
#ifndef LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_
#define LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_

#include <unistd.h>

#include <string>

namespace libservices::testing {

// Empty, or why this machine has no mounts for this process.
inline std::string why_no_mounts() {
  if (::geteuid() != 0) return "mounting takes the superuser's rights";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "there is no /dev/fuse";
  return "";
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_WHY_NO_MOUNTS_H_
