// SPDX-License-Identifier: Apache-2.0
//
// A union cannot write to a read-only upper layer.
// EXPECT: WritableService\|CanBeUpper
#include "libservices/layers/read_only.h"
#include "libservices/sources/memory.h"
#include "services/union/union.h"

using libservices::Memory;
using libservices::ReadOnly;

libservices::Union<ReadOnly<Memory>, Memory> fs({});
