// SPDX-License-Identifier: Apache-2.0
//
// Three of the four operations of extended attributes.
// EXPECT: Consistent
#include "libservices/explain.h"
#include "libservices/testing/archetypes.h"

struct ThreeOfFour : libservices::testing::EverythingArchetype {
  using EverythingArchetype::EverythingArchetype;
  void removexattr() = delete;
};

template <libservices::Consistent S>
void claim() {}

void test() { claim<ThreeOfFour>(); }
