// SPDX-License-Identifier: Apache-2.0
//
// Flags of objects in a union: those of lowers are seen and hold, those that are set stand in the
// upper and are whole files'.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "services/union/host_union.h"

namespace libservices::testing {
namespace {

constexpr auto kPlain = InodeFlags::Form::kFlags;

class FlagsTest {
 protected:
  ~FlagsTest() {  // nothing immutable stays behind
    sut.stop();
    for (const auto& entry : std::filesystem::recursive_directory_iterator(sut.scratch.path())) {
      if (entry.is_regular_file() || entry.is_directory()) (void)set_on_host(entry.path(), 0);
    }
  }
  // False where the host has no flags, or this process may not set them.
  static bool set_on_host(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    int old = 0;
    bool done = ::ioctl(fd, FS_IOC_GETFLAGS, &old) == 0;
    const int kept = old & ~(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL);
    flags |= kept;
    done = done && ::ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
    ::close(fd);
    return done;
  }
  bool has_flags() {
    sut.put("low1/probe");
    if (set_on_host(sut.path("low1/probe"), FS_IMMUTABLE_FL) &&
        set_on_host(sut.path("low1/probe"), 0)) {
      return true;
    }
    MESSAGE("SKIPPED: the host has no flags that this process may set");
    return false;
  }
  std::uint32_t flags_of(const std::string& name) {
    auto seen = sut.fs().getflags(sut.me, name, kPlain);
    REQUIRE_MESSAGE(seen.ok(), name);
    return seen->flags;
  }
  int set_flags(const std::string& name, std::uint32_t flags) {
    auto now = sut.fs().getflags(sut.me, name, kPlain);
    REQUIRE(now.ok());
    constexpr std::uint32_t kOurs = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL;
    now->flags = (now->flags & ~kOurs) | flags;
    return sut.error_of(sut.fs().setflags(sut.me, name, *now));
  }
  int open_error(const std::string& name, int flags) {
    auto file = sut.fs().open(sut.me, name, {flags}, 0644);
    if (!file.ok()) return file.error().value;
    CHECK(sut.fs().close(sut.me, *std::move(file)).ok());
    return 0;
  }
  int set_mode(const std::string& name) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kMode;
    changes.mode = 0700;
    return sut.error_of(sut.fs().setattr(sut.me, name, changes));
  }
  bool in_upper(const std::string& name) {
    struct stat seen {};
    return ::lstat(sut.path("upper" + name).c_str(), &seen) == 0;
  }

  HostUnion sut;
};

TEST_CASE_FIXTURE(FlagsTest, "an immutable object of a lower stays as it is, for whatever change") {
  if (!has_flags()) return;
  const std::map<std::string, int> protecting{{"/immutable", FS_IMMUTABLE_FL},
                                              {"/append", FS_APPEND_FL}};
  for (const auto& [name, flag] : protecting) {
    sut.put("low1" + name, "text");
    sut.put("low1" + name + "-dir/inner", "text");
    REQUIRE(set_on_host(sut.path("low1" + name), flag));
    REQUIRE(set_on_host(sut.path("low1" + name + "-dir"), flag));
  }
  for (const auto& each : protecting) {
    const std::string& name = each.first;
    const int flag = each.second;
    CAPTURE(flag);
    CHECK((flags_of(name) & static_cast<std::uint32_t>(flag)) != 0);
    CHECK(sut.stat(name).is_protected());
    CHECK(sut.read(name).ok());
    for (const int flags : {O_WRONLY, O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC}) {
      CHECK(open_error(name, flags) == EPERM);
    }
    CHECK(set_mode(name) == EPERM);
    CHECK(set_flags(name, FS_NODUMP_FL) == EPERM);
    CHECK(sut.error_of(sut.fs().unlink(sut.me, name)) == EPERM);
    CHECK(sut.error_of(sut.fs().link(sut.me, name, Location("/linked"))) == EPERM);
    CHECK(sut.error_of(sut.fs().rename(sut.me, name, Location("/renamed"))) == EPERM);
    sut.append("/mine", "mine");
    CHECK(sut.error_of(sut.fs().rename(sut.me, Location("/mine"), name)) == EPERM);
    CHECK(sut.error_of(sut.fs().rename(sut.me, Location("/mine"), name, RenameMode::kExchange)) ==
          EPERM);

    CHECK(open_error(name + "-dir/new", O_WRONLY | O_CREAT) == EPERM);
    CHECK(open_error(name + "-dir/inner", O_WRONLY) == EPERM);  // it would have to come up
    CHECK(sut.error_of(sut.fs().unlink(sut.me, Location(name + "-dir/inner"))) == EPERM);
    CHECK(sut.error_of(sut.fs().rmdir(sut.me, Location(name + "-dir"))) == EPERM);
    CHECK_FALSE(in_upper(name));
    CHECK_FALSE(in_upper(name + "-dir"));
    CHECK(*sut.read(name) == "text");
  }
}

TEST_CASE_FIXTURE(FlagsTest, "other flags of a lower are seen, and stay with the lower") {
  if (!has_flags()) return;
  sut.put("low1/f", "text");
  REQUIRE(set_on_host(sut.path("low1/f"), FS_NODUMP_FL));
  CHECK((flags_of("/f") & FS_NODUMP_FL) != 0);
  CHECK(sut.stat("/f").has(Attributes::kNoDump));
  sut.append("/f", " and more");
  CHECK((flags_of("/f") & FS_NODUMP_FL) == 0);
  CHECK_FALSE(sut.stat("/f").has(Attributes::kNoDump));
  CHECK(*sut.read("/f") == "text and more");
}

TEST_CASE_FIXTURE(FlagsTest, "what gets flags is copied up, and has them after a restart too") {
  if (!has_flags()) return;
  sut.put("low1/d/f", "text");
  REQUIRE(set_flags("/d/f", FS_IMMUTABLE_FL | FS_NODUMP_FL) == 0);
  CHECK(in_upper("/d/f"));
  for (int times = 0; times < 2; ++times) {
    CHECK((flags_of("/d/f") & (FS_IMMUTABLE_FL | FS_NODUMP_FL)) ==
          (FS_IMMUTABLE_FL | FS_NODUMP_FL));
    CHECK(open_error("/d/f", O_WRONLY) == EPERM);
    CHECK(sut.error_of(sut.fs().unlink(sut.me, Location("/d/f"))) == EPERM);
    sut.stop();
  }
  CHECK(set_flags("/d/f", 0) == 0);
  sut.append("/d/f", " and more");
  CHECK(*sut.read("/d/f") == "text and more");
}

TEST_CASE_FIXTURE(FlagsTest, "in a directory of the upper, immutable or for additions alone") {
  if (!has_flags()) return;
  sut.put("low1/d/f", "text");
  sut.append("/d/g", "text");
  REQUIRE(set_flags("/d", FS_IMMUTABLE_FL) == 0);
  CHECK(open_error("/d/new", O_WRONLY | O_CREAT) == EPERM);
  CHECK(sut.error_of(sut.fs().unlink(sut.me, Location("/d/f"))) == EPERM);
  CHECK(open_error("/d/f", O_WRONLY) == EPERM);  // overlayfs lets it
  CHECK(open_error("/d/g", O_WRONLY) == 0);
  REQUIRE(set_flags("/d", FS_APPEND_FL) == 0);
  CHECK(open_error("/d/new", O_WRONLY | O_CREAT) == 0);
  CHECK(open_error("/d/f", O_WRONLY) == EPERM);
  CHECK(sut.error_of(sut.fs().unlink(sut.me, Location("/d/f"))) == EPERM);
  CHECK(sut.error_of(sut.fs().rename(sut.me, Location("/d/g"), Location("/d/h"))) == EPERM);
  CHECK(sut.names("/d") == std::set<std::string>{"f", "g", "new"});
}

TEST_CASE_FIXTURE(FlagsTest,
                  "a large file of a lower has all of its content before it is protected") {
  if (!has_flags()) return;
  const std::string text(1'000'000, 'x');
  sut.put("low1/f", text);
  sut.put("low1/g", text);
  CHECK(open_error("/f", O_WRONLY) == 0);
  REQUIRE(set_flags("/f", FS_NODUMP_FL) == 0);
  CHECK(sut.fs().stack().partial_files(sut.me).value() == 1);
  for (const char* name : {"/f", "/g"}) {
    REQUIRE(set_flags(name, FS_APPEND_FL) == 0);
    sut.append(name, "end");
    CHECK(*sut.read(name) == text + "end");
  }
  CHECK(sut.fs().stack().partial_files(sut.me).value() == 0);
}

}  // namespace
}  // namespace libservices::testing
