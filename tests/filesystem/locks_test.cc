// SPDX-License-Identifier: Apache-2.0
//
// What a storage that has locks of its own is told of those that callers ask for.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "libservices/explain.h"
#include "libservices/filesystem_of.h"
#include "libservices/layers/forwarding.h"
#include "libservices/sources/memory.h"
#include "tests/filesystem/fixture.h"

namespace libservices::testing {
namespace {

using Owner = LockRequest::Owner;
using Type = LockRequest::Type;

// Memory that other clients have mounted, too.
class Shareable : public Forwarding<Memory> {
 public:
  struct Asked {
    const void* file;
    std::uint64_t owner;
    LockRequest request;
  };
  struct Elsewhere {
    std::vector<Asked> asked;
    bool has_it = false;  // all of every file
    std::function<void()> closing = [] {};
  };
  struct Config {
    Elsewhere* elsewhere = nullptr;
  };

  explicit Shareable(Config config)
      : Forwarding<Memory>(Forwarding<Memory>::Config{}), elsewhere_(*config.elsewhere) {}

  Result<void> lock(const Context&, File& file, std::uint64_t owner, const LockRequest& request) {
    if (request.type != Type::kUnlock && elsewhere_.has_it) return Errno{EAGAIN};
    elsewhere_.asked.push_back({&file, owner, request});
    return {};
  }
  Result<void> close(const Context& context, File& file) {
    elsewhere_.closing();
    return Forwarding<Memory>::close(context, file);
  }
  Result<LockRequest> test_lock(const Context&, File&, std::uint64_t, const LockRequest& request) {
    LockRequest found = request;
    found.type = elsewhere_.has_it ? Type::kShared : Type::kUnlock;
    return found;
  }

 private:
  Elsewhere& elsewhere_;
};
static_assert(OffersLocks<Shareable> && Consistent<Shareable>);
static_assert(OffersLocks<Forwarding<Shareable>> && !OffersLocks<Memory>);

Shareable::Elsewhere& elsewhere() {
  static Shareable::Elsewhere all;
  return all;
}

struct Stack {
  static std::unique_ptr<AnyFilesystem> make() {
    elsewhere() = {};
    return std::make_unique<FilesystemOf<Shareable>>(Shareable::Config{&elsewhere()});
  }
};

struct Locks : Fixture<Stack> {
  Locks() {
    write("/f", "0123456789");
    REQUIRE(set_mode(root, "/f", 0666) == 0);
  }
  std::vector<Shareable::Asked> asked() { return std::exchange(elsewhere().asked, {}); }
  int lock(const Context& who, OpenFile& file, const LockRequest& request) {
    return error_of(fs().lock(who, file, request));
  }
};

constexpr LockRequest kHead{.owner = Owner::kRecord, .type = Type::kExclusive, .end = 3};
constexpr LockRequest kTail{
    .owner = Owner::kRecord, .type = Type::kExclusive, .start = 4, .end = 9};

LockRequest unlocked(LockRequest request) {
  request.type = Type::kUnlock;
  return request;
}

TEST_CASE_FIXTURE(Locks, "the storage is asked when nobody here has it, and may refuse") {
  const auto hers = open(alice, "/f", O_RDWR);
  const auto his = open(bob, "/f", O_RDWR);
  CHECK(lock(alice, *hers, kHead) == 0);
  const auto first = asked();
  REQUIRE(first.size() == 1);
  CHECK(first[0].request.end == 3);
  CHECK(lock(bob, *his, kHead) == EAGAIN);
  CHECK(asked().empty());
  CHECK(lock(bob, *his, kTail) == 0);
  const auto second = asked();
  REQUIRE(second.size() == 1);
  CHECK(second[0].owner != first[0].owner);
  CHECK(second[0].file != first[0].file);

  elsewhere().has_it = true;
  CHECK(fs().test_lock(alice, *hers, kHead)->type == Type::kShared);
  CHECK(fs().test_lock(alice, *hers, kTail)->process == bob.process);  // nearer
  LockRequest beyond = kHead;
  beyond.start = 20;
  beyond.end = 30;
  CHECK(lock(alice, *hers, beyond) == EAGAIN);
  elsewhere().has_it = false;
  CHECK(fs().test_lock(bob, *his, beyond)->type == Type::kUnlock);
  CHECK(fs().counters().locks == 2);
  CHECK(asked().empty());
}

TEST_CASE_FIXTURE(Locks, "who has none unlocks without the storage, and who has no more, all") {
  const auto hers = open(alice, "/f", O_RDWR);
  CHECK(lock(alice, *hers, unlocked(kHead)) == 0);
  CHECK(asked().empty());
  CHECK(lock(alice, *hers, kHead) == 0);
  CHECK(lock(alice, *hers, kTail) == 0);
  asked();
  CHECK(lock(alice, *hers, unlocked(kTail)) == 0);
  auto told = asked();
  REQUIRE(told.size() == 1);
  CHECK(told[0].request.start == 4);
  CHECK(told[0].request.end == 9);
  CHECK(lock(alice, *hers, unlocked(kHead)) == 0);
  told = asked();
  REQUIRE(told.size() == 1);
  CHECK(told[0].request.type == Type::kUnlock);
  CHECK(told[0].request.start == 0);
  CHECK(told[0].request.end == UINT64_MAX);
}

TEST_CASE_FIXTURE(Locks, "a process's locks are taken back through all it asked through") {
  const auto one = open(alice, "/f", O_RDWR);
  auto two = open(alice, "/f", O_RDWR);
  const auto third = open(alice, "/f", O_RDWR);  // nothing is asked through it
  CHECK(lock(alice, *one, kHead) == 0);
  CHECK(lock(alice, *two, kHead) == 0);
  const auto before = asked();
  REQUIRE(before.size() == 2);
  SUBCASE("when it closes one") { CHECK(error_of(fs().close(alice, std::move(two))) == 0); }
  SUBCASE("when it has ended") { fs().forget_process(alice.process); }
  const auto after = asked();
  REQUIRE(after.size() == 2);
  std::set<const void*> through;
  for (const auto& each : after) {
    through.insert(each.file);
    CHECK(each.owner == before[0].owner);
    CHECK(each.request.type == Type::kUnlock);
    CHECK(each.request.end == UINT64_MAX);
  }
  CHECK(through == std::set<const void*>{before[0].file, before[1].file});
  CHECK(fs().counters().locks == 0);
}

TEST_CASE_FIXTURE(Locks, "an open file's locks end with it, in the storage by themselves") {
  auto his = open(bob, "/f", O_RDWR);
  const auto hers = open(alice, "/f", O_RDWR);
  const LockRequest flock{.owner = Owner::kFlock, .type = Type::kExclusive};
  const LockRequest open_file{.owner = Owner::kOpenFile, .type = Type::kExclusive};
  CHECK(lock(bob, *his, flock) == 0);
  CHECK(lock(bob, *his, open_file) == 0);
  CHECK(lock(alice, *hers, flock) == EAGAIN);
  CHECK(asked().size() == 2);
  close(std::move(his));
  CHECK(asked().empty());
  CHECK(fs().counters().locks == 0);
  CHECK(lock(alice, *hers, flock) == 0);
  CHECK(lock(alice, *hers, kHead) == 0);
}

TEST_CASE_FIXTURE(Locks, "nobody asks through a file that is being closed") {
  auto file = open(alice, "/f", O_RDWR);
  CHECK(lock(alice, *file, kHead) == 0);
  CHECK(asked().size() == 1);
  // Its process has died, and somebody else was the last to have it.
  elsewhere().closing = [this] { fs().forget_process(alice.process); };
  close(std::move(file));
  elsewhere().closing = [] {};
  CHECK(asked().empty());
  CHECK(fs().counters().locks == 0);
}

}  // namespace
}  // namespace libservices::testing
