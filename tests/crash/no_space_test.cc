// SPDX-License-Identifier: Apache-2.0
//
// The upper is on a volume of 1 MiB, and fills. What has no room fails with ENOSPC, or with what
// there is of it done, and changes nothing else: the file stays as it was and can be read, nothing
// is left in staging, and when there is room again the same call succeeds.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>

#include "tests/crash/branches.h"
#include "tests/crash/promises.h"

namespace libservices::testing {
namespace {

constexpr std::uint64_t kSmall = 10, kMiddle = 100 << 10, kLarge = 3 << 20;
constexpr const char* kFiles[] = {"/small", "/middle", "/large", "/d/small", "/d/middle"};

// False where this process may not mount; else it has a mount namespace of its own.
bool may_mount() {
  static const bool may = getuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
                          ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return may;
}

// The branches, with the upper and its work directory on a small volume.
struct Fixture {
  explicit Fixture(const char* options) {
    for (const char* name : kFiles) {
      const bool is_small = std::string_view(name).ends_with("small");
      const bool is_large = std::string_view(name).ends_with("large");
      branches.add("low2" + std::string(name), pattern(1, 0,
                                                       is_small   ? kSmall
                                                       : is_large ? kLarge
                                                                  : kMiddle));
    }
    branches.add("low1/d/other", "other");
    branches.finish();
    REQUIRE(::mount("crash", branches.path("small").c_str(), "tmpfs", 0, options) == 0);
    branches.use_volume("small");
  }
  ~Fixture() { CHECK(umount2(branches.path("small").c_str(), MNT_DETACH) == 0); }

  std::uint64_t free_blocks() const {
    struct statfs volume {};
    REQUIRE(::statfs(branches.path("small").c_str(), &volume) == 0);
    return volume.f_bfree;
  }

  Branches branches;
};

struct Attempt {
  std::string name;
  std::function<Result<void>(Root&)> run;
  bool renames = false;
  bool promised = true;
};

const Attempt kAttempts[] = {
    {"append to a small file", [](Root& r) { return append(r, "/small", "more"); }},
    {"append to a large file", [](Root& r) { return append(r, "/d/middle", "more"); }},
    // In one range: of more, those that found room are written.
    {"write a range",
     [](Root& r) { return write_at(r, "/middle", 66'000, pattern(9, 0, 30'000)); }},
    {"lengthen", [](Root& r) { return truncate(r, "/d/small", 100); }},
    {"chmod", [](Root& r) { return chmod(r, "/d/other", 0600); }},
    {"rename", [](Root& r) { return r.rename(kMe, "/middle", "/moved", RenameMode::kReplace); },
     true},
    {"rename over a file",
     [](Root& r) { return r.rename(kMe, "/small", "/d/middle", RenameMode::kReplace); }, true},
    {"link", [](Root& r) { return r.link(kMe, "/d/small", "/linked"); }},
    {"unlink", [](Root& r) { return r.unlink(kMe, "/d/other"); }},
    {"mkdir", [](Root& r) { return r.mkdir(kMe, "/d/new", 0755); }},
    {"rename of a directory",
     [](Root& r) { return r.rename(kMe, "/d", "/dd", RenameMode::kReplace); }, true,
     kLowerDirectoriesAreRenamed},
};

// What takes all room of a volume, and gives some of it back.
struct Filler {
  virtual ~Filler() = default;
  virtual void fill(Root& root) = 0;
  virtual void give_back(Root& root, std::uint64_t units) = 0;
  virtual void remove(Root& root) = 0;
};

struct FillerOfBlocks final : Filler {
  void fill(Root& root) override {
    const auto made = make(root, "/filler", std::string(2 << 20, 'x'));
    REQUIRE(made.error() == Errno{ENOSPC});
    size = root.stat(kMe, "/filler")->size;
  }
  void give_back(Root& root, std::uint64_t units) override {
    REQUIRE(truncate(root, "/filler", size - units * 4096).ok());
  }
  void remove(Root& root) override { REQUIRE(root.unlink(kMe, "/filler").ok()); }

  std::uint64_t size = 0;
};

struct FillerOfObjects final : Filler {
  void fill(Root& root) override {
    for (count = 0; make(root, "/filler" + std::to_string(count)).ok();) ++count;
  }
  void give_back(Root& root, std::uint64_t units) override {
    for (; units > 0; --units) {
      REQUIRE(root.unlink(kMe, "/filler" + std::to_string(--count)).ok());
    }
  }
  void remove(Root& root) override { give_back(root, count); }

  std::uint64_t count = 0;
};

// A call that fails may have set the time of what it began to change.
Tree without_times(Tree tree) {
  for (auto& [path, object] : tree) object.old = false;
  return tree;
}

// Tries each call with no room, with a unit of it, with two … until it succeeds.
void try_each(Fixture& f, Filler& filler) {
  for (const Attempt& attempt : kAttempts) {
    if (!attempt.promised) continue;
    CAPTURE(attempt.name);
    for (std::uint64_t room = 0;; ++room) {
      CAPTURE(room);
      f.branches.empty_upper();
      Running root(f.branches);
      const Tree before = tree_of(*root);
      filler.fill(*root);
      filler.give_back(*root, room);
      const auto tried = attempt.run(*root);
      CHECK(f.branches.staged() == 0);
      if (tried.ok()) break;
      CHECK(tried.error() == Errno{ENOSPC});
      filler.remove(*root);
      if (attempt.renames && !kFailedRenameChangesNothing) continue;
      const std::string why = difference(without_times(tree_of(*root)), without_times(before));
      CHECK_MESSAGE(why.empty(), why);
      const auto again = attempt.run(*root);
      CHECK_MESSAGE(again.ok(), std::string(strerrorname_np(again.error().value)));
      CHECK(f.branches.staged() == 0);
    }
  }
}

TEST_CASE("no blocks are left") {
  if (!may_mount()) {
    MESSAGE("SKIPPED: mounting takes root's rights");
    return;
  }
  Fixture f("size=1m");
  FillerOfBlocks filler;
  try_each(f, filler);
}

TEST_CASE("no objects are left") {
  if (!may_mount()) {
    MESSAGE("SKIPPED: mounting takes root's rights");
    return;
  }
  Fixture f("size=1m,nr_inodes=24");
  FillerOfObjects filler;
  try_each(f, filler);
}

TEST_CASE("a file larger than the volume") {
  if (!may_mount()) {
    MESSAGE("SKIPPED: mounting takes root's rights");
    return;
  }
  Fixture f("size=1m");
  const std::string old = pattern(1, 0, kLarge);
  const std::string fresh = pattern(2, 0, kLarge);
  std::uint64_t written = 0;
  {
    Running root(f.branches);
    const std::uint64_t free = f.free_blocks();
    // A union that copies whole files refuses at once, one that copies ranges when they are too
    // many.
    constexpr std::uint64_t kPart = 128 << 10;
    Result<void> wrote;
    while (wrote.ok() && written < kLarge) {
      wrote = write_at(*root, "/large", written, std::string_view(fresh).substr(written, kPart));
      if (wrote.ok()) written += kPart;
    }
    REQUIRE_FALSE(wrote.ok());
    CHECK(wrote.error() == Errno{ENOSPC});
    CHECK(f.branches.staged() == 0);
    if (written == 0) CHECK(f.free_blocks() == free);
  }
  Running root(f.branches);
  const auto seen = read_all(*root, "/large");
  REQUIRE(seen.ok());
  REQUIRE(seen->size() == kLarge);
  CHECK(std::string_view(*seen).substr(0, written) == std::string_view(fresh).substr(0, written));
  for (std::size_t i = written; i < kLarge; ++i) {
    // The write that failed may have been done in part.
    if ((*seen)[i] != old[i] && (*seen)[i] != fresh[i]) FAIL("byte ", i, " is neither");
  }
  const std::uint64_t untouched = std::min<std::uint64_t>(kLarge, written + (128 << 10));
  CHECK(std::string_view(*seen).substr(untouched) == std::string_view(old).substr(untouched));
  REQUIRE(root->unlink(kMe, "/large").ok());
  CHECK(append(*root, "/small", "more").ok());
  CHECK(append(*root, "/middle", "more").ok());
}

}  // namespace
}  // namespace libservices::testing
