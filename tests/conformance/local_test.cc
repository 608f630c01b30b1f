// SPDX-License-Identifier: Apache-2.0
//
// Local keeps the contract, shared with others and alone.
#include "services/local/local.h"

#include "libservices/testing/conformance.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

struct LocalStack {
  using Service = Local;
  static constexpr const char* kName = "local";
  Local::Config config() { return {.directory = scratch.directory("data"), .work = {}}; }
  ScratchDirectory scratch;
};

struct ExclusiveLocalStack {
  using Service = Local;
  static constexpr const char* kName = "local(exclusive, 8 descriptors)";
  Local::Config config() {
    return {.directory = scratch.directory("data"), .work = {}, .exclusive = true, .most_descriptors = 8};
  }
  ScratchDirectory scratch;
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::LocalStack);
LIBSERVICES_CONFORMANCE(libservices::testing::ExclusiveLocalStack);
