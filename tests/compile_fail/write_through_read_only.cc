// SPDX-License-Identifier: Apache-2.0
//
// A read-only layer has no write at all.
// EXPECT: constraints not satisfied
#include "libservices/layers/read_only.h"
#include "libservices/sources/memory.h"

using Service = libservices::ReadOnly<libservices::Memory>;

void test(Service& service, Service::File& file) {
  (void)service.write(libservices::Context{}, file, 0, {});
}
