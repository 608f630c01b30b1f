// SPDX-License-Identifier: Apache-2.0
//
// An operation that wants to change the node it is given.
// EXPECT: CanRead
#include "libservices/layers/trace.h"
#include "libservices/testing/archetypes.h"

struct ChangesNodes : libservices::testing::ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  libservices::Result<libservices::Opened<File>> open(const libservices::Context&, Node&,
                                                      libservices::OpenFlags) {
    return libservices::Errno{ENOSYS};
  }
};

libservices::Trace<ChangesNodes> layer({});
