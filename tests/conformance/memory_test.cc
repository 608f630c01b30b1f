// SPDX-License-Identifier: Apache-2.0
//
// Memory keeps the contract.
#include "libservices/sources/memory.h"

#include "libservices/testing/conformance.h"

namespace libservices::testing {

struct MemoryStack {
  using Service = Memory;
  static constexpr const char* kName = "memory";
  Memory::Config config() { return {}; }
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::MemoryStack);
