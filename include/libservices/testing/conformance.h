// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite: what the contract of libservice.h and capabilities.h means, as cases that
// run against any libservice, at its own operations, without `Filesystem`.
//
// The compiler checks the shape of a libservice, this suite its meaning. To run it over one's own:
//
//   struct MineStack {                                       // at namespace scope
//     using Service = Mine;
//     static constexpr const char* kName = "mine";
//     Mine::Config config() { return {}; }
//   };
//   LIBSERVICES_CONFORMANCE(MineStack)                       // in the global namespace
//
// Several stacks may live in one program. A case is registered only where the service offers what
// it needs; pin `capabilities_of<Mine>()` by static_assert, so that a lost ability breaks the build
// instead of shrinking the suite. instance.h says what a Stack is and which tree it begins with.
//
// Needs <doctest/doctest.h> (Debian: doctest-dev).
#ifndef LIBSERVICES_TESTING_CONFORMANCE_H_
#define LIBSERVICES_TESTING_CONFORMANCE_H_

#include "libservices/testing/conformance_attributes.h"   // IWYU pragma: export
#include "libservices/testing/conformance_concurrency.h"  // IWYU pragma: export
#include "libservices/testing/conformance_flags.h"        // IWYU pragma: export
#include "libservices/testing/conformance_links.h"        // IWYU pragma: export
#include "libservices/testing/conformance_model.h"        // IWYU pragma: export
#include "libservices/testing/conformance_read.h"         // IWYU pragma: export
#include "libservices/testing/conformance_rename.h"       // IWYU pragma: export
#include "libservices/testing/conformance_space.h"        // IWYU pragma: export
#include "libservices/testing/conformance_tree.h"         // IWYU pragma: export
#include "libservices/testing/conformance_write.h"        // IWYU pragma: export
#include "libservices/testing/conformance_xattrs.h"       // IWYU pragma: export

#define LIBSERVICES_CONFORMANCE(Stack)          \
  TYPE_TO_STRING_AS(Stack::kName, Stack);       \
  LIBSERVICES_CONFORMANCE_READ(Stack)           \
  LIBSERVICES_CONFORMANCE_WRITE(Stack)          \
  LIBSERVICES_CONFORMANCE_TREE(Stack)           \
  LIBSERVICES_CONFORMANCE_RENAME(Stack)         \
  LIBSERVICES_CONFORMANCE_ATTRIBUTES(Stack)     \
  LIBSERVICES_CONFORMANCE_LINKS(Stack)          \
  LIBSERVICES_CONFORMANCE_XATTRS(Stack)         \
  LIBSERVICES_CONFORMANCE_FLAGS(Stack)          \
  LIBSERVICES_CONFORMANCE_SPACE(Stack)          \
  LIBSERVICES_CONFORMANCE_CONCURRENCY(Stack)    \
  LIBSERVICES_CONFORMANCE_MODEL(Stack)          \
  static_assert(::libservices::ReadableService<Stack::Service>)

#endif  // LIBSERVICES_TESTING_CONFORMANCE_H_
