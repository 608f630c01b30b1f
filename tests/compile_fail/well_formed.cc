// SPDX-License-Identifier: Apache-2.0
//
// A right program: it shows that the runner's compiler and paths are well.
#include "libservices/filesystem.h"
#include "libservices/layers/read_only.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/archetypes.h"
#include "services/union/union.h"

libservices::Filesystem<libservices::ReadOnly<libservices::Memory>> fs({});
