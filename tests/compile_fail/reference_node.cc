// SPDX-License-Identifier: Apache-2.0
//
// A node that refers to its object cannot be copied over another one.
// EXPECT: HasNodes
#include "libservices/filesystem.h"
#include "libservices/testing/archetypes.h"

struct HoldsReferences : libservices::testing::ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  struct Node {
    int& object;
  };
};

libservices::Filesystem<HoldsReferences> fs({});
