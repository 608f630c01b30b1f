// SPDX-License-Identifier: Apache-2.0
//
// Scripts from a seed: few names, so that calls meet, and every kind of call, also wrong ones.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_SCRIPT_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_SCRIPT_H_

#include <vector>

#include "tests/differential/operation.h"

namespace libservices::testing {

// What a comparison leaves out where this kernel lacks it, or is configured to do otherwise.
struct ScriptOptions {
  bool xattrs = true;          // of the namespace user: tmpfs has them since Linux 6.6
  bool access_lists = true;    // only with those of the namespace user
  bool links_by_users = true;  // not with fs.protected_hardlinks
  bool sticky = true;          // not with fs.protected_{symlinks,regular,fifos}
};

// The same operations for the same arguments, on every machine.
std::vector<Operation> make_script(std::uint64_t seed, std::size_t length,
                                   const ScriptOptions& options);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_SCRIPT_H_
