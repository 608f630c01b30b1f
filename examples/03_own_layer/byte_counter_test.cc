// SPDX-License-Identifier: Apache-2.0
//
// The layer keeps the contract, and offers what the layer beneath offers.
#include "examples/03_own_layer/byte_counter.h"

#include "libservices/sources/memory.h"
#include "libservices/testing/conformance.h"

struct ByteCounterStack {
  using Service = example::ByteCounter<libservices::Memory>;
  static constexpr const char* kName = "byte_counter(memory)";
  Service::Config config() { return {}; }
};

LIBSERVICES_CONFORMANCE(ByteCounterStack);

static_assert(libservices::capabilities_of<ByteCounterStack::Service>() ==
              libservices::capabilities_of<libservices::Memory>());
