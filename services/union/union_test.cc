// SPDX-License-Identifier: Apache-2.0
//
// What Union promises beyond the contract that every libservice keeps: the form in the upper
// branch, copy-up that is whole or not at all, identity, and whose error wins.
#include "services/union/union.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <thread>

#include "libservices/layers/faulty.h"
#include "libservices/sources/memory.h"

namespace libservices {
namespace {

using Branch = Faulty<Memory>;
using Tested = Union<Branch, Branch>;

const Context kMe{};

template <class S>
typename S::Node top(S& service) {
  return service.root(kMe)->node;
}

template <class S>
typename S::Node put(S& service, const typename S::Node& in, std::string_view name,
                     std::string_view text) {
  auto made = service.create(kMe, in, name, NewNode{0644, 0, 0, 0}, OpenFlags{O_WRONLY});
  REQUIRE(made.ok());
  REQUIRE(service.write(kMe, made->file, 0, std::as_bytes(std::span(text))).ok());
  REQUIRE(service.close(kMe, made->file).ok());
  return made->node;
}

template <class S>
std::string text_of(S& service, const typename S::Node& node) {
  auto opened = service.open(kMe, node, OpenFlags{O_RDONLY});
  REQUIRE(opened.ok());
  std::string text(256, '\0');
  auto count = service.read(kMe, opened->file, 0, std::as_writable_bytes(std::span(text)));
  REQUIRE(count.ok());
  text.resize(*count);
  REQUIRE(service.close(kMe, opened->file).ok());
  return text;
}

template <class S>
Result<std::set<std::string>> names_in(S& service, const typename S::Node& node) {
  LIBSERVICES_TRY(auto opened, service.open(kMe, node, OpenFlags{O_RDONLY | O_DIRECTORY}));
  std::set<std::string> names;
  auto listed = service.readdir(kMe, opened.file, 0, Listing::kNames, [&](const DirEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.emplace(entry.name);
    return true;
  });
  (void)service.close(kMe, opened.file);
  if (!listed.ok()) return listed.error();
  return names;
}

using Names = std::set<std::string>;

// A union of memories: in the lower are `a`, and `d` with `x` and `y`.
struct Fixture {
  Fixture() {
    REQUIRE(tested.start().ok());
    Branch& lower = tested.lower(0);
    put(lower, top(lower), "a", "old");
    auto made = lower.mkdir(kMe, top(lower), "d", NewNode{0755, 0, 0, 0});
    REQUIRE(made.ok());
    put(lower, made->node, "x", "1");
    put(lower, made->node, "y", "2");
  }
  ~Fixture() {
    upper_faults->clear();
    lower_faults->clear();
    CHECK(tested.stop().ok());
  }
  Tested::Node find(std::string_view name) {
    auto found = tested.lookup(kMe, top(tested), name);
    REQUIRE(found.ok());
    return found->node;
  }
  Names staged() {
    auto staging = tested.upper().staging(kMe, Staging::kDrafts);
    REQUIRE(staging.ok());
    return *names_in(tested.upper(), *staging);
  }

  std::shared_ptr<FaultPlan> upper_faults = std::make_shared<FaultPlan>();
  std::shared_ptr<FaultPlan> lower_faults = std::make_shared<FaultPlan>();
  Tested tested{{.upper = {.lower = {}, .plan = upper_faults},
                 .lowers = {{.lower = {}, .plan = lower_faults}},
                 .durable = true}};
};

AttributeChanges mode(std::uint32_t bits) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = bits;
  return changes;
}

TEST_CASE_FIXTURE(Fixture, "a deleted lower file is a character device 0:0 in the upper") {
  REQUIRE(tested.unlink(kMe, top(tested), "a").ok());
  CHECK(tested.lookup(kMe, top(tested), "a").error() == Errno{ENOENT});
  CHECK(*names_in(tested, top(tested)) == Names{"d"});
  auto& upper = tested.upper();
  auto whiteout = upper.lookup(kMe, top(upper), "a");
  REQUIRE(whiteout.ok());
  CHECK(union_internal::is_whiteout(whiteout->attributes));
  CHECK(text_of(tested.lower(0), tested.lower(0).lookup(kMe, top(tested.lower(0)), "a")->node) ==
        "old");
  put(tested, top(tested), "a", "again");
  CHECK(text_of(tested, find("a")) == "again");
  CHECK(staged().empty());
}

TEST_CASE_FIXTURE(Fixture, "a directory that is made again shows nothing of the lower one") {
  REQUIRE(tested.unlink(kMe, find("d"), "x").ok());
  CHECK(tested.rmdir(kMe, top(tested), "d").error() == Errno{ENOTEMPTY});
  REQUIRE(tested.unlink(kMe, find("d"), "y").ok());
  REQUIRE(tested.rmdir(kMe, top(tested), "d").ok());
  REQUIRE(tested.mkdir(kMe, top(tested), "d", NewNode{0755, 0, 0, 0}).ok());
  CHECK(names_in(tested, find("d"))->empty());
  put(tested, find("d"), "z", "3");
  CHECK(*names_in(tested, find("d")) == Names{"z"});
  CHECK(staged().empty());
}

TEST_CASE_FIXTURE(Fixture, "copy-up keeps the identity, and open readers see later writes") {
  const auto node = find("a");
  const auto before = tested.getattr(kMe, node);
  auto reader = tested.open(kMe, node, OpenFlags{O_RDONLY});
  auto writer = tested.open(kMe, node, OpenFlags{O_WRONLY});
  REQUIRE(reader.ok());
  REQUIRE(writer.ok());
  REQUIRE(tested.write(kMe, writer->file, 0, std::as_bytes(std::span("new", 3))).ok());
  std::string text(3, '\0');
  REQUIRE(tested.read(kMe, reader->file, 0, std::as_writable_bytes(std::span(text))).ok());
  CHECK(text == "new");
  REQUIRE(tested.close(kMe, reader->file).ok());
  REQUIRE(tested.close(kMe, writer->file).ok());
  const auto after = tested.lookup(kMe, top(tested), "a");
  CHECK(after->attributes.inode == before->inode);
  CHECK(after->attributes.device == before->device);
}

// Fails one call of a copy-up (the file's and its directory's) after the other, on one branch.
void fail_each_call(bool upper) {
  int failed = 0;
  for (std::size_t i = 0; i < kOperationCount; ++i) {
    const auto operation = static_cast<Operation>(i);
    for (std::uint64_t call = 1;; ++call) {
      Fixture f;
      const auto node = f.tested.lookup(kMe, f.find("d"), "x")->node;
      const auto& faults = upper ? f.upper_faults : f.lower_faults;
      faults->add({.operation = operation, .error = {ENOSPC}, .first_call = call});
      const auto changed = f.tested.setattr(kMe, node, mode(0600));
      faults->clear();
      if (changed.ok()) break;  // there are not so many calls of it, or it does not matter
      ++failed;
      CAPTURE(name_of(operation));
      CAPTURE(call);
      CHECK(changed.error() == Errno{ENOSPC});
      auto& branch = f.tested.upper();
      const auto in_upper = branch.lookup(kMe, top(branch), "d");
      if (in_upper.ok()) CHECK(names_in(branch, in_upper->node)->empty());
      CHECK(f.staged().empty());
      CHECK(text_of(f.tested, node) == "1");
      CHECK(*names_in(f.tested, f.find("d")) == Names{"x", "y"});
      CHECK(f.tested.setattr(kMe, node, mode(0600)).ok());
      CHECK(text_of(f.tested, node) == "1");
      CHECK(f.tested.getattr(kMe, node)->permissions() == 0600);
      CHECK(f.staged().empty());
    }
  }
  CHECK(failed > 5);
}

TEST_CASE("a copy-up of which any one call fails leaves the lower file visible and staging clean") {
  SUBCASE("in the upper") { fail_each_call(true); }
  SUBCASE("in the lower") { fail_each_call(false); }
}

TEST_CASE_FIXTURE(Fixture, "a lower that fails fails the lookup and the listing") {
  lower_faults->add({.operation = Operation::lookup, .error = {EIO}});
  CHECK(tested.lookup(kMe, top(tested), "a").error() == Errno{EIO});
  lower_faults->add({.operation = Operation::readdir, .error = {EIO}});
  CHECK(names_in(tested, top(tested)).error() == Errno{EIO});
  CHECK(*names_in(tested, top(tested)) == Names{"a", "d"});
}

TEST_CASE_FIXTURE(Fixture,
                  "the upper is not asked for names in a directory that was made just now") {
  auto made = tested.mkdir(kMe, top(tested), "new", NewNode{0755, 0, 0, 0});
  REQUIRE(made.ok());
  put(tested, made->node, "file", "text");
  upper_faults->add({.operation = Operation::lookup, .error = {EIO}});
  CHECK(tested.lookup(kMe, made->node, "other").error() == Errno{ENOENT});
  CHECK(tested.lookup(kMe, made->node, "file").error() == Errno{EIO});
}

TEST_CASE_FIXTURE(Fixture, "an upper file decides alone: a failing lower below it is not asked") {
  put(tested, top(tested), "b", "mine");
  lower_faults->add({.operation = Operation::lookup, .error = {EIO}});
  CHECK(text_of(tested, find("b")) == "mine");
}

TEST_CASE_FIXTURE(Fixture, "a directory with a lower part is renamed by a redirect") {
  REQUIRE(tested.rename(kMe, top(tested), "d", top(tested), "e", RenameMode::kReplace).ok());
  REQUIRE(tested.rename(kMe, top(tested), "a", top(tested), "b", RenameMode::kReplace).ok());
  CHECK(*names_in(tested, top(tested)) == Names{"b", "e"});
  CHECK(*names_in(tested, find("e")) == Names{"x", "y"});
  CHECK(tested.lookup(kMe, top(tested), "d").error() == Errno{ENOENT});
  auto& upper = tested.upper();
  CHECK(names_in(upper, upper.lookup(kMe, top(upper), "e")->node)->empty());
  CHECK(staged().empty());
}

TEST_CASE_FIXTURE(Fixture, "overlayfs's own attributes are hidden and cannot be set") {
  const std::byte yes[] = {std::byte{'y'}};
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
    CHECK(tested.setxattr(kMe, find("d"), name, yes, XattrMode::kCreateOrReplace).error() ==
          Errno{EPERM});
    CHECK(tested.getxattr(kMe, find("d"), name, {}).error() == Errno{ENODATA});
  }
}

TEST_CASE_FIXTURE(Fixture, "threads that copy up one file copy it once") {
  std::atomic<int> published{0};
  upper_faults->set_hook([&](Operation operation, FaultPlan::Moment moment) {
    if (operation == Operation::rename && moment == FaultPlan::Moment::kAfter) ++published;
  });
  const auto node = find("a");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { CHECK(tested.setattr(kMe, node, mode(0600)).ok()); });
  }
  for (auto& thread : threads) thread.join();
  CHECK(published == 1);
}

}  // namespace
}  // namespace libservices
