// SPDX-License-Identifier: Apache-2.0
//
// A filesystem that is behind a service: the operations of AnyFilesystem as requests over shared
// memory to a host in this process. The tests of `Filesystem` run over it as over any stack.
//
// Each identity has a session of its own, made by a thread that has taken that identity, so that
// the service learns it from the kernel as always. An open file that another identity uses is
// adopted there by its placeholder, as after a fork. What a filesystem library does is done here:
// going on with a path that left the instance.
#ifndef LIBSERVICES_TESTS_HOST_BEHIND_IPC_H_
#define LIBSERVICES_TESTS_HOST_BEHIND_IPC_H_

#include <memory>

#include "libservices/any_filesystem.h"

namespace libservices::testing {

// Null where the test may not take other identities.
std::unique_ptr<AnyFilesystem> make_behind_ipc();

struct OverIpc {
  static constexpr const char* kName = "memory behind a service";
  static std::unique_ptr<AnyFilesystem> make() { return make_behind_ipc(); }
};

}  // namespace libservices::testing

// In the place of tests/filesystem/stacks.h.
#define LIBSERVICES_TESTS_FILESYSTEM_STACKS_H_
#include "tests/filesystem/fixture.h"
TYPE_TO_STRING_AS("memory behind a service", libservices::testing::OverIpc);
#define LIBSERVICES_OVER_EVERY_STACK(test_case) \
  TEST_CASE_TEMPLATE_INVOKE(test_case, ::libservices::testing::OverIpc)

#endif  // LIBSERVICES_TESTS_HOST_BEHIND_IPC_H_
