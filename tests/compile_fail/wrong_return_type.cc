// SPDX-License-Identifier: Apache-2.0
//
// A getattr that cannot say that it failed.
// EXPECT: CanLookup
#include "libservices/filesystem.h"
#include "libservices/testing/archetypes.h"

struct NeverFails : libservices::testing::ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  libservices::Attributes getattr(const libservices::Context&, const Node&) { return {}; }
};

libservices::Filesystem<NeverFails> fs({});
