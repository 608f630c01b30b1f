// SPDX-License-Identifier: Apache-2.0
//
// What each libservice and each layer offers, pinned: a lost ability breaks the build.
#include <doctest/doctest.h>

#include "libservices/explain.h"
#include "libservices/filesystem_of.h"
#include "libservices/layers/faulty.h"
#include "libservices/layers/forwarding.h"
#include "libservices/layers/id_map.h"
#include "libservices/layers/read_only.h"
#include "libservices/layers/shared.h"
#include "libservices/layers/subtree.h"
#include "libservices/layers/trace.h"
#include "libservices/sources/empty.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/archetypes.h"

namespace libservices::testing {
namespace {

constexpr Capabilities kAll{.writable = true, .readlink = true, .symlink = true, .link = true,
                            .mknod = true, .tmpfile = true, .staging = true, .statfs = true,
                            .xattrs = true, .append = true, .fallocate = true, .seek = true,
                            .copy_range = true, .backing = true, .clone = true, .flags = true,
                            .flag_changes = true, .locks = true};

constexpr Capabilities all_of_memory() {
  Capabilities these = kAll;
  these.clone = these.flags = these.flag_changes = these.locks = false;
  return these;
}

constexpr Capabilities kMemory = all_of_memory();
constexpr Capabilities reads_of_memory() {
  Capabilities these{};
  these.readlink = these.statfs = these.xattrs = these.seek = these.backing = true;
  return these;
}

static_assert(capabilities_of<Memory>() == kMemory);
static_assert(capabilities_of<Forwarding<Memory>>() == kMemory);
static_assert(capabilities_of<Subtree<Memory>>() == kMemory);
static_assert(capabilities_of<Trace<Memory>>() == kMemory);
static_assert(capabilities_of<Faulty<Memory>>() == kMemory);
static_assert(capabilities_of<IdMap<Memory>>() == kMemory);
static_assert(capabilities_of<Shared<Memory>>() == kMemory);
static_assert(capabilities_of<ReadOnly<Memory>>() == reads_of_memory());
static_assert(capabilities_of<Empty>() == Capabilities{});

// Every ability passes through, and none is made up.
static_assert(capabilities_of<EverythingArchetype>() == kAll);
static_assert(capabilities_of<Trace<Faulty<Forwarding<EverythingArchetype>>>>() == kAll);
static_assert(capabilities_of<Subtree<Shared<EverythingArchetype>>>() == kAll);
static_assert(capabilities_of<IdMap<EverythingArchetype>>() == kAll);
static_assert(HasLifecycle<Forwarding<EverythingArchetype>>);
static_assert(DeclaresCoherence<Forwarding<EverythingArchetype>>);
static_assert(!HasLifecycle<Forwarding<WritableArchetype>>);
static_assert(!DeclaresCoherence<Forwarding<WritableArchetype>>);

template <class S, bool writable>
constexpr bool offers_only_the_tier() {
  Capabilities expected{};
  expected.writable = writable;
  return capabilities_of<S>() == expected;
}
static_assert(offers_only_the_tier<ReadableArchetype, false>());
static_assert(offers_only_the_tier<WritableArchetype, true>());
static_assert(offers_only_the_tier<Forwarding<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<ReadOnly<WritableArchetype>, false>());
static_assert(offers_only_the_tier<Subtree<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<Trace<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<Faulty<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<Shared<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<IdMap<ReadableArchetype>, false>());
static_assert(offers_only_the_tier<IdMap<WritableArchetype>, true>());
static_assert(offers_only_the_tier<Trace<WritableArchetype>, true>());

static_assert(ReadableService<ReadOnly<ReadOnly<Memory>>>);
static_assert(!WritableService<ReadOnly<Memory>>);

// The operations of operations.h and the concepts name the same: an archetype with all that the
// concepts ask for has every operation of the list in the right shape, and no layer drops one.
template <class S>
constexpr bool has_every_operation() {
  for (const internal::Finding& finding : internal::find_all<S>()) {
    if (finding.shape != internal::Shape::kRight) return false;
  }
  return true;
}
static_assert(has_every_operation<EverythingArchetype>());
static_assert(has_every_operation<Forwarding<EverythingArchetype>>());
static_assert(has_every_operation<Trace<EverythingArchetype>>());
static_assert(has_every_operation<Faulty<EverythingArchetype>>());
static_assert(has_every_operation<Shared<EverythingArchetype>>());
static_assert(has_every_operation<Subtree<EverythingArchetype>>());
static_assert(has_every_operation<IdMap<EverythingArchetype>>());

static_assert(Consistent<ReadableArchetype> && Consistent<WritableArchetype>);
static_assert(Consistent<EverythingArchetype> && Consistent<Memory> && Consistent<Empty>);
static_assert(Consistent<ReadOnly<Memory>> && Consistent<ReadOnly<EverythingArchetype>>);

// Near misses.
struct NoLookup : ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  void lookup() = delete;
};
static_assert(!CanLookup<NoLookup> && CanRead<NoLookup> && CanList<NoLookup>);
static_assert(!ReadableService<NoLookup>);

struct PlainReturn : ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  Attributes getattr(const Context&, const Node&) { return {}; }
};
static_assert(!CanLookup<PlainReturn> && !Consistent<PlainReturn>);

struct TakesMutableNode : ReadableArchetype {
  using ReadableArchetype::ReadableArchetype;
  Result<Attributes> getattr(const Context&, Node&) { return Errno{ENOSYS}; }
};
static_assert(!CanLookup<TakesMutableNode>);

struct ThreeOfFour : EverythingArchetype {
  using EverythingArchetype::EverythingArchetype;

 private:
  void removexattr();
};
static_assert(!OffersXattrs<ThreeOfFour> && !Consistent<ThreeOfFour>);

struct NoConfig {
  using Node = int;
  using File = int;
};
static_assert(HasNodes<NoConfig> && !HasConfig<NoConfig> && !ReadableService<NoConfig>);
static_assert(!HasNodes<int>);

// `Filesystem` needs nothing but what it says it needs.
[[maybe_unused]] void make_filesystems() {
  FilesystemOf<ReadableArchetype> reads({});
  FilesystemOf<WritableArchetype> writes({});
  FilesystemOf<EverythingArchetype> has_everything({});
}

TEST_CASE("explain says nothing is wrong with what is right") {
  CHECK(explain<Memory>("Memory") == "Memory is a WritableService\n");
  CHECK(explain<Empty>("Empty").starts_with("Empty is a ReadableService\n"));
}

TEST_CASE("explain names every member that is missing or has another shape") {
  const std::string text = explain<NoConfig>("NoConfig");
  CHECK(text.starts_with("NoConfig is not yet a ReadableService; what is wrong:\n"));
  for (std::string_view name : {"HasConfig", "root(", "lookup(", "getattr(", "open(", "read(",
                                "close(", "readdir(", "to be a WritableService", "create("}) {
    CAPTURE(name);
    CHECK(text.find(name) != std::string::npos);
  }
  CHECK(text.find("g.") == std::string::npos);
  const std::string wrong = explain<PlainReturn>();
  CHECK(wrong.find("CanLookup: getattr(context, node) -> Result<Attributes>: there, but takes or "
                   "returns something else") != std::string::npos);
  CHECK(wrong.find("lookup(") == std::string::npos);
  const std::string half = explain<ThreeOfFour>();
  CHECK(half.find("OffersXattrs: removexattr") != std::string::npos);
  CHECK(explain<int>("int").find("HasNodes") != std::string::npos);
}

TEST_CASE("every operation has its name") {
  CHECK(name_of(Operation::root) == "root");
  CHECK(name_of(Operation::copy_range) == "copy_range");
}

}  // namespace
}  // namespace libservices::testing
