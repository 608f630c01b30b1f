// SPDX-License-Identifier: Apache-2.0
//
// Union keeps the contract, whether what a case works on is in the upper layer, in a lower one, or
// in several.
#include "services/union/union.h"

#include "libservices/layers/read_only.h"
#include "libservices/layers/shared.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/conformance.h"
#include "services/local/local.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

using SharedMemory = Shared<Memory>;

inline SharedMemory::Config seeded_memory() {
  auto instance = share<Memory>({});
  seed(instance->service);
  return {.instance = instance};
}

struct EmptyLowerStack {
  using Service = Union<Memory, Memory>;
  static constexpr const char* kName = "union(memory, memory) with all in the upper";
  Service::Config config() { return {.upper = {}, .lowers = {{}}, .durable = true}; }
};

struct SeededLowerStack {
  using Service = Union<Memory, ReadOnly<SharedMemory>>;
  static constexpr const char* kName = "union(memory, read_only(memory)) with all in the lower";
  static constexpr bool kSeeded = true;
  Service::Config config() { return {.upper = {}, .lowers = {{.lower = seeded_memory()}}, .durable = true}; }
};

struct FileMarksStack {
  using Service = Union<Memory, ReadOnly<SharedMemory>>;
  static constexpr const char* kName = "union(memory, read_only(memory)) whose marks are files";
  static constexpr bool kSeeded = true;
  Service::Config config() {
    return {.upper = {},
            .lowers = {{.lower = seeded_memory()}},
            .durable = true,
            .marks = Service::MarkForm::kFiles};
  }
};

struct ThreeLowersStack {
  using Service = Union<Memory, SharedMemory>;
  static constexpr const char* kName = "union(memory, memory, memory, memory), twice the same";
  static constexpr bool kSeeded = true;
  Service::Config config() {
    return {.upper = {}, .lowers = {seeded_memory(), {.instance = share<Memory>({})},
                                    seeded_memory()}, .durable = true};
  }
};

struct LocalUnionStack {
  using Service = Union<Local, Local>;
  static constexpr const char* kName = "union(local, local) with all in the lower";
  static constexpr bool kSeeded = true;
  Service::Config config() {
    Local::Config lower{.directory = scratch.directory("lower"), .work = {}};
    Local maker(lower);
    REQUIRE(maker.start().ok());
    seed(maker);
    REQUIRE(maker.stop().ok());
    return {.upper = {.directory = scratch.directory("upper"), .work = {}}, .lowers = {lower}, .durable = true};
  }
  ScratchDirectory scratch;
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::EmptyLowerStack);
LIBSERVICES_CONFORMANCE(libservices::testing::SeededLowerStack);
LIBSERVICES_CONFORMANCE(libservices::testing::FileMarksStack);
LIBSERVICES_CONFORMANCE(libservices::testing::ThreeLowersStack);
LIBSERVICES_CONFORMANCE(libservices::testing::LocalUnionStack);
