// SPDX-License-Identifier: Apache-2.0
//
// What writes to a service does not take a read-only one.
// EXPECT: WritableService
#include <doctest/doctest.h>

#include "libservices/layers/read_only.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/instance.h"

void test(libservices::ReadOnly<libservices::Memory>& service) {
  libservices::testing::seed(service);
}
