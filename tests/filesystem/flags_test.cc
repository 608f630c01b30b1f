// SPDX-License-Identifier: Apache-2.0
//
// Who may change which flags of an object, and what `Filesystem` answers where there are none.
#include "libservices/filesystem_of.h"
#include "libservices/layers/read_only.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "tests/filesystem/fixture.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

constexpr auto kPlain = InodeFlags::Form::kFlags;
constexpr auto kExtended = InodeFlags::Form::kExtended;
constexpr std::uint32_t kNoDump = 0x40;          // FS_NODUMP_FL
constexpr std::uint32_t kExtendedNoDump = 0x80;  // FS_XFLAG_NODUMP

struct OverLocal {
  static std::unique_ptr<AnyFilesystem> make() {
    static std::optional<ScratchDirectory> scratch;
    scratch.emplace();
    return std::make_unique<FilesystemOf<Local>>(
        Local::Config{.directory = scratch->directory("d"), .work = {}});
  }
};

class FlagsTest : protected Fixture<OverLocal> {
 protected:
  FlagsTest() {
    write("/f", "text");
    REQUIRE(set_owner(root, "/f", 1000, 1000) == 0);
  }
  // False where the host has no flags, or this process may not set them.
  bool has_flags() {
    const int error = change(root, "/f", InodeFlags::kImmutable, 0);
    if (error == 0) REQUIRE(change(root, "/f", 0, InodeFlags::kImmutable) == 0);
    if (error != 0) MESSAGE("SKIPPED: the host has no flags that this process may set");
    return error == 0;
  }
  InodeFlags flags(InodeFlags::Form form) {
    auto seen = fs().getflags(root, "/f", form);
    REQUIRE(seen.ok());
    return *seen;
  }
  int change(const Context& who, const Location& at, std::uint32_t set, std::uint32_t clear) {
    auto now = fs().getflags(who, at, kPlain);
    if (!now.ok()) return error_of(now);
    now->flags = (now->flags | set) & ~clear;
    return error_of(fs().setflags(who, at, *now));
  }
};

TEST_CASE_FIXTURE(FlagsTest,
                  "an owner changes flags, but those that bind others only a superuser") {
  if (!has_flags()) return;
  CHECK(change(bob, "/f", kNoDump, 0) == EPERM);
  CHECK(change(alice, "/f", kNoDump, 0) == 0);
  CHECK(stat("/f").has(Attributes::kNoDump));
  for (const std::uint32_t flag : {InodeFlags::kImmutable, InodeFlags::kAppendOnly,
                                   InodeFlags::kJournalData, InodeFlags::kInheritProject}) {
    CHECK(change(alice, "/f", flag, 0) == EPERM);
  }
  InodeFlags extended = flags(kExtended);
  CHECK((extended.flags & kExtendedNoDump) != 0);
  extended.flags |= InodeFlags::kExtendedImmutable;
  CHECK(error_of(fs().setflags(alice, "/f", extended)) == EPERM);
  extended = flags(kExtended);
  extended.project = 7;
  CHECK(error_of(fs().setflags(alice, "/f", extended)) == EPERM);
  extended = flags(kExtended);
  extended.flags &= ~kExtendedNoDump;
  CHECK(error_of(fs().setflags(alice, "/f", extended)) == 0);
  CHECK_FALSE(stat("/f").has(Attributes::kNoDump));

  REQUIRE(change(root, "/f", InodeFlags::kImmutable, 0) == 0);
  CHECK(stat("/f").has(Attributes::kImmutable));
  CHECK(change(alice, "/f", 0, InodeFlags::kImmutable) == EPERM);
  for (const Context* who : {&root, &alice}) {
    CHECK(error_of(fs().access(*who, "/f", W_OK)) == EPERM);
    CHECK(error_of(fs().access(*who, "/f", R_OK)) == 0);
    CHECK(set_mode(*who, "/f", 0600) == EPERM);
    CHECK(error_of(fs().unlink(*who, "/f")) != 0);
  }
  CHECK(change(root, "/f", 0, InodeFlags::kImmutable) == 0);
  CHECK(error_of(fs().access(alice, "/f", W_OK)) == 0);
  CHECK(set_mode(alice, "/f", 0600) == 0);
}

TEST_CASE_FIXTURE(FlagsTest, "what is appended to alone is so whatever a write asks for") {
  if (!has_flags()) return;
  auto file = open(root, "/f", O_WRONLY | O_APPEND);
  REQUIRE(change(root, "/f", InodeFlags::kAppendOnly, 0) == 0);
  CHECK(error_of(fs().pwrite(root, *file, 0, bytes_of("T"), Placing::kAtOffset)) == EPERM);
  CHECK(error_of(fs().write(root, *file, bytes_of("T"), Placing::kAtOffset)) == EPERM);
  CHECK(error_of(fs().pwrite(root, *file, 0, bytes_of("!"), Placing::kAtEnd)) == 0);
  REQUIRE(change(root, "/f", 0, InodeFlags::kAppendOnly) == 0);
  close(std::move(file));
  CHECK(read("/f") == "text!");
}

TEST_CASE_FIXTURE(FlagsTest, "a directory goes on comparing names byte by byte") {
  if (!has_flags()) return;
  mkdir("/d");
  CHECK(change(root, "/d", InodeFlags::kFoldNames, 0) == EOPNOTSUPP);
}

TEST_CASE_FIXTURE(FlagsTest, "files and directories have flags, in their own right") {
  if (!has_flags()) return;
  REQUIRE(error_of(fs().symlink(root, "f", "/link")) == 0);
  REQUIRE(error_of(fs().mknod(root, "/fifo", S_IFIFO | 0644, 0)) == 0);
  CHECK(error_of(fs().getflags(root, Location("/link", Follow::kNo), kPlain)) == ENOTTY);
  CHECK(error_of(fs().getflags(root, "/link", kPlain)) == 0);
  CHECK(error_of(fs().getflags(root, "/fifo", kPlain)) == ENOTTY);
  CHECK(error_of(fs().getflags(root, "/none", kPlain)) == ENOENT);
  auto path = open(root, "/f", O_PATH);
  CHECK(error_of(fs().getflags(root, Location(*path), kPlain)) == EBADF);
  close(std::move(path));
  auto file = open(root, "/f", O_RDONLY);
  CHECK(error_of(fs().unlink(root, "/f")) == 0);
  CHECK(change(alice, Location(*file), kNoDump, 0) == 0);
  close(std::move(file));
}

TEST_CASE("what has no flags says so, and what cannot be changed too") {
  const Context root;
  FilesystemOf<Memory> memory({});
  REQUIRE(memory.start().ok());
  CHECK(error_of(memory.getflags(root, "/", kPlain)) == ENOTTY);
  CHECK(error_of(memory.setflags(root, "/", {})) == ENOTTY);
  CHECK(memory.stop().ok());

  const ScratchDirectory scratch;
  FilesystemOf<ReadOnly<Local>> read_only(
      {.lower = {.directory = scratch.directory("d"), .work = {}}});
  REQUIRE(read_only.start().ok());
  CHECK(error_of(read_only.setflags(root, "/", {})) == EROFS);
  CHECK(read_only.stop().ok());
}

}  // namespace
}  // namespace libservices::testing
