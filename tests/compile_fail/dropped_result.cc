// SPDX-License-Identifier: Apache-2.0
//
// A result that nobody looks at.
// EXPECT: nodiscard
#include "libservices/sources/memory.h"

void test(libservices::Memory& memory) { memory.root(libservices::Context{}); }
