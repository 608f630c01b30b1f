// SPDX-License-Identifier: Apache-2.0
//
// Each layer over Memory keeps the contract.
#include "libservices/layers/faulty.h"
#include "libservices/layers/forwarding.h"
#include "libservices/layers/id_map.h"
#include "libservices/layers/read_only.h"
#include "libservices/layers/shared.h"
#include "libservices/layers/subtree.h"
#include "libservices/layers/trace.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/conformance.h"

namespace libservices::testing {

struct ForwardingStack {
  using Service = Forwarding<Memory>;
  static constexpr const char* kName = "forwarding(memory)";
  Service::Config config() { return {}; }
};

struct ReadOnlyStack {
  using Service = ReadOnly<Shared<Memory>>;
  static constexpr const char* kName = "read_only(shared(memory))";
  Service::Config config() {
    auto instance = share<Memory>({});
    seed(instance->service);
    return {.lower = {.instance = instance}};
  }
};

struct SharedStack {
  using Service = Shared<Memory>;
  static constexpr const char* kName = "shared(memory)";
  Service::Config config() { return {.instance = share<Memory>({})}; }
};

struct SubtreeStack {
  using Service = Subtree<Shared<Memory>>;
  static constexpr const char* kName = "subtree(shared(memory))";
  Service::Config config() {
    auto instance = share<Memory>({});
    const Context context;
    const auto root = must(instance->service.root(context)).node;
    const auto above = must(instance->service.mkdir(context, root, "above", kDirectory)).node;
    must(instance->service.mkdir(context, above, "top", kDirectory));
    return {.lower = {.instance = instance}, .path = "/above/top"};
  }
};

// What is shown as 0 to 65535 is stored as 100000 and so on: the suite's owners are all of them.
struct IdMapStack {
  using Service = IdMap<Shared<Memory>>;
  static constexpr const char* kName = "idmap(shared(memory))";
  Service::Config config() {
    auto instance = share<Memory>({});
    const Context context;
    AttributeChanges changes;
    changes.which = AttributeChanges::kUid | AttributeChanges::kGid;
    changes.uid = changes.gid = 100000;
    must(instance->service.setattr(context, must(instance->service.root(context)).node, changes));
    return {.lower = {.instance = instance},
            .uids = {{100000, 0, 1000}, {101000, 1000, 64536}},
            .gids = {{100000, 0, 65536}},
            .squash_uid = {},
            .squash_gid = {}};
  }
};

struct TraceStack {
  using Service = Trace<Memory>;
  static constexpr const char* kName = "trace(memory)";
  Service::Config config() { return {}; }
};

struct FaultyStack {
  using Service = Faulty<Memory>;
  static constexpr const char* kName = "faulty(memory) without faults";
  Service::Config config() { return {}; }
};

struct DeepStack {
  using Service = Trace<Faulty<Forwarding<Trace<Memory>>>>;
  static constexpr const char* kName = "trace(faulty(forwarding(trace(memory))))";
  Service::Config config() { return {}; }
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::ForwardingStack);
LIBSERVICES_CONFORMANCE(libservices::testing::ReadOnlyStack);
LIBSERVICES_CONFORMANCE(libservices::testing::SharedStack);
LIBSERVICES_CONFORMANCE(libservices::testing::SubtreeStack);
LIBSERVICES_CONFORMANCE(libservices::testing::IdMapStack);
LIBSERVICES_CONFORMANCE(libservices::testing::TraceStack);
LIBSERVICES_CONFORMANCE(libservices::testing::FaultyStack);
LIBSERVICES_CONFORMANCE(libservices::testing::DeepStack);
