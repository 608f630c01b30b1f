// SPDX-License-Identifier: Apache-2.0
//
// A libservice without lookup is no layer to build on.
// EXPECT: CanLookup
#include "libservices/filesystem.h"
#include "libservices/testing/archetypes.h"

struct NoLookup : libservices::testing::ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  void lookup() = delete;
};

libservices::Filesystem<NoLookup> fs({});
