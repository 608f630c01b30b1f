// SPDX-License-Identifier: Apache-2.0
//
// What each layer does beside passing on, and the limits of Memory.
#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "libservices/layers/faulty.h"
#include "libservices/layers/read_only.h"
#include "libservices/layers/shared.h"
#include "libservices/layers/subtree.h"
#include "libservices/layers/trace.h"
#include "libservices/sources/empty.h"
#include "libservices/sources/memory.h"
#include "libservices/testing/archetypes.h"
#include "libservices/testing/instance.h"

namespace libservices::testing {
namespace {

const Context kContext;

template <class S>
auto root_of(S& service) {
  return must(service.root(kContext)).node;
}

TEST_CASE("ReadOnly refuses to open for writing or truncation, and to change attributes") {
  auto instance = share<Memory>({});
  seed(instance->service);
  ReadOnly<Shared<Memory>> service({.lower = {.instance = instance}});
  const auto file = must(service.lookup(kContext, root_of(service), "file")).node;
  CHECK(error_of(service.open(kContext, file, {O_WRONLY})) == EROFS);
  CHECK(error_of(service.open(kContext, file, {O_RDWR})) == EROFS);
  CHECK(error_of(service.open(kContext, file, {O_RDONLY | O_TRUNC})) == EROFS);
  CHECK(must(service.getattr(kContext, file)).size == kSeedText.size());
  CHECK(error_of(service.setxattr(kContext, file, "user.a", bytes_of("1"),
                                  XattrMode::kCreateOrReplace)) == EROFS);
  CHECK(error_of(service.removexattr(kContext, file, "user.a")) == EROFS);
  auto& below = instance->service;
  must(below.setxattr(kContext, must(below.lookup(kContext, root_of(below), "file")).node, "user.a",
                      bytes_of("1"), XattrMode::kCreate));
  CHECK(must(service.getxattr(kContext, file, "user.a", {})) == 1);
}

TEST_CASE("Subtree starts at the directory that its path names") {
  auto instance = share<Memory>({});
  seed(instance->service);
  Subtree<Shared<Memory>> service({.lower = {.instance = instance}, .path = "/directory/"});
  REQUIRE(service.start().ok());
  const auto root = root_of(service);
  CHECK(must(service.lookup(kContext, root, "inner")).attributes.is_regular());
  CHECK(error_of(service.lookup(kContext, root, "file")) == ENOENT);
  CHECK(service.stop().ok());
}

TEST_CASE("Subtree does not start on what is no directory below") {
  auto instance = share<Memory>({});
  seed(instance->service);
  const auto root = root_of(instance->service);
  must(instance->service.symlink(kContext, root, "link", "directory", {.mode = 0777}));
  const auto start = [&](std::string path) {
    Subtree<Shared<Memory>> service({.lower = {.instance = instance}, .path = path});
    return service.start();
  };
  CHECK(absl::IsNotFound(start("/directory/missing")));
  CHECK_FALSE(start("/file").ok());
  CHECK_FALSE(start("/link").ok());
  CHECK(absl::IsInvalidArgument(start("/directory/../empty")));
  const absl::Status status = start("/directory/missing");
  CHECK(std::string(status.message()).find("'missing'") != std::string::npos);
}

TEST_CASE("Trace counts calls and failures, and tells the sink") {
  std::vector<TraceRecord> seen;
  Trace<Memory> service({.lower = {},
                         .detail = TraceDetail::kDurations,
                         .sink = [&](const TraceRecord& record) { seen.push_back(record); }});
  const auto root = root_of(service);
  Context context;
  context.request = 7;
  CHECK(error_of(service.lookup(context, root, "missing")) == ENOENT);
  CHECK(service.counts(Operation::lookup).calls == 1);
  CHECK(service.counts(Operation::lookup).failures == 1);
  CHECK(service.counts(Operation::root).failures == 0);
  CHECK(service.counts(Operation::write).calls == 0);
  REQUIRE(seen.size() == 2);
  CHECK(seen[1].operation == Operation::lookup);
  CHECK(seen[1].error == Errno{ENOENT});
  CHECK(seen[1].request == 7);
}

TEST_CASE("Faulty fails the calls that its plan names, and no others") {
  auto plan = std::make_shared<FaultPlan>();
  Faulty<Memory> service({.lower = {}, .plan = plan});
  const auto root = root_of(service);
  const auto get = [&] { return error_of(service.getattr(kContext, root)); };
  plan->add({.operation = Operation::getattr, .error = {EIO}, .first_call = 2});
  CHECK(get() == 0);
  CHECK(get() == EIO);
  CHECK(get() == 0);
  plan->clear();
  plan->add({.operation = Operation::getattr, .error = {EINTR}, .first_call = 1, .every = 2});
  CHECK(get() == EINTR);
  CHECK(get() == 0);
  CHECK(get() == EINTR);
  CHECK(plan->failed() == 3);
  plan->clear();
  plan->add({.operation = Operation::getattr,
             .not_before = std::chrono::steady_clock::now() + std::chrono::hours(1)});
  CHECK(get() == 0);
}

TEST_CASE("Faulty keeps a failing call from the layer beneath, or loses its answer") {
  Faulty<Memory> service({.lower = {}, .plan = nullptr});
  const auto root = root_of(service);
  const auto exists = [&](std::string_view name) {
    return service.lookup(kContext, root, name).ok();
  };
  service.plan().add({.operation = Operation::mkdir});
  CHECK(error_of(service.mkdir(kContext, root, "before", kDirectory)) == EIO);
  CHECK_FALSE(exists("before"));
  service.plan().add({.operation = Operation::mkdir, .when = Fault::When::kAfter});
  CHECK(error_of(service.mkdir(kContext, root, "after", kDirectory)) == EIO);
  CHECK(exists("after"));
}

TEST_CASE("Faulty shortens writes, and calls its hook around changes alone") {
  Faulty<Memory> service({.lower = {}, .plan = nullptr});
  const auto root = root_of(service);
  std::vector<std::string> moments;
  service.plan().set_hook([&](Operation operation, FaultPlan::Moment moment) {
    moments.push_back(std::string(name_of(operation)) +
                      (moment == FaultPlan::Moment::kBefore ? " begins" : " ends"));
  });
  service.plan().limit_writes(3);
  auto made = must(service.create(kContext, root, "file", kPlain, {O_WRONLY}));
  CHECK(must(service.write(kContext, made.file, 0, bytes_of("12345"))) == 3);
  CHECK(must(service.getattr(kContext, made.node)).size == 3);
  CHECK(moments == std::vector<std::string>{"create begins", "create ends", "write begins",
                                            "write ends"});
}

struct CountsStarts : EverythingArchetype {
  using EverythingArchetype::EverythingArchetype;
  absl::Status start() {
    ++starts;
    return absl::OkStatus();
  }
  absl::Status stop() {
    ++stops;
    return absl::OkStatus();
  }
  int starts = 0;
  int stops = 0;
};

TEST_CASE("Shared starts its instance once and stops it with the last user") {
  auto instance = share<CountsStarts>({});
  Shared<CountsStarts> first({.instance = instance});
  Shared<CountsStarts> second({.instance = instance});
  CHECK(first.start().ok());
  CHECK(second.start().ok());
  CHECK(first.stop().ok());
  CHECK(instance->service.starts == 1);
  CHECK(instance->service.stops == 0);
  CHECK(second.stop().ok());
  CHECK(instance->service.stops == 1);
}

TEST_CASE("in Empty nothing exists") {
  Empty service({});
  auto opened = must(service.open(kContext, root_of(service), {O_RDONLY | O_DIRECTORY}));
  CHECK(opened.attributes.is_directory());
  CHECK(error_of(service.lookup(kContext, root_of(service), "any")) == ENOENT);
  int entries = 0;
  must(service.readdir(kContext, opened.file, 0, Listing::kNames, [&](const DirEntry&) {
    ++entries;
    return true;
  }));
  CHECK(entries == 0);
}

TEST_CASE("Memory ends at its capacity, and gives space back") {
  Memory service({.capacity_bytes = 8192, .capacity_files = UINT64_MAX});
  const auto root = root_of(service);
  auto made = must(service.create(kContext, root, "file", kPlain, {O_WRONLY}));
  const std::string text(10000, 'x');
  CHECK(must(service.write(kContext, made.file, 0, bytes_of(text))) == 8192);
  CHECK(error_of(service.write(kContext, made.file, 8192, bytes_of("x"))) == ENOSPC);
  CHECK(must(service.statfs(kContext, root)).blocks_free == 0);
  must(service.unlink(kContext, root, "file"));
  CHECK(must(service.statfs(kContext, root)).blocks_free == 0);  // still open
  must(service.close(kContext, made.file));
  auto node = std::optional(std::move(made.node));
  node.reset();
  CHECK(must(service.statfs(kContext, root)).blocks_free == 2);
}

TEST_CASE("Memory makes no more files than it may") {
  Memory service({.capacity_bytes = UINT64_MAX, .capacity_files = 2});
  const auto root = root_of(service);
  must(service.mkdir(kContext, root, "one", kDirectory));
  CHECK(error_of(service.mkdir(kContext, root, "two", kDirectory)) == ENOSPC);
  must(service.rmdir(kContext, root, "one"));
  must(service.mkdir(kContext, root, "two", kDirectory));
}

TEST_CASE("Memory has no file behind the largest offset") {
  Memory service({});
  const auto root = root_of(service);
  auto made = must(service.create(kContext, root, "file", kPlain, {O_RDWR}));
  CHECK(error_of(service.write(kContext, made.file, INT64_MAX, bytes_of("x"))) == EFBIG);
  CHECK(must(service.write(kContext, made.file, INT64_MAX - 1, bytes_of("xy"))) == 1);
  CHECK(must(service.getattr(kContext, made.node)).size == INT64_MAX);
  CHECK(must(service.getattr(kContext, made.node)).blocks == 8);
  CHECK(must(service.seek(kContext, made.file, 0, SeekTarget::kData)) == INT64_MAX - 4095);
  CHECK(must(service.seek(kContext, made.file, 0, SeekTarget::kHole)) == 0);
}

TEST_CASE("Memory takes down a tree that is deeper than the stack") {
  Memory service({});
  auto at = root_of(service);
  for (int depth = 0; depth < 200000; ++depth) {
    at = must(service.mkdir(kContext, at, "d", kDirectory)).node;
  }
}

TEST_CASE("nodes and files of Memory outlive it") {
  std::optional<Memory> service(std::in_place, Memory::Config{});
  auto made = must(service->create(kContext, root_of(*service), "file", kPlain, {O_WRONLY}));
  CHECK(must(service->write(kContext, made.file, 0, bytes_of("x"))) == 1);
  service.reset();
}

}  // namespace
}  // namespace libservices::testing
