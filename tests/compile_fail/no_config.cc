// SPDX-License-Identifier: Apache-2.0
//
// A libservice that is not built from its Config.
// EXPECT: HasConfig
#include "libservices/filesystem.h"
#include "libservices/testing/archetypes.h"

struct BuiltFromText : libservices::testing::ReadableArchetype {
  explicit BuiltFromText(const char*) : ReadableArchetype(Config{}) {}
};

libservices::Filesystem<BuiltFromText> fs({});
