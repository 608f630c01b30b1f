// SPDX-License-Identifier: Apache-2.0
#include "src/host/mountinfo.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "tests/support/scratch_directory.h"

namespace libservices::host {
namespace {

TEST_CASE("a line of mountinfo") {
  const auto mount = parse_mountinfo(
      R"(36 35 0:98 / /mnt/a\040b\134c rw,nodev shared:1 master:2 - fuse.libservices )"
      R"(union(local:/a,\040local:/b) rw,user_id=1500,group_id=0,allow_other)");
  REQUIRE(mount.has_value());
  CHECK(mount->id == 36);
  CHECK(mount->path == R"(/mnt/a b\c)");
  CHECK(mount->options == "rw,nodev");
  CHECK(mount->type == "fuse.libservices");
  CHECK(mount->source == "union(local:/a, local:/b)");
  CHECK(mount->number_of("user_id") == 1500U);
  CHECK(mount->number_of("group_id") == 0U);
  CHECK_FALSE(mount->number_of("user").has_value());
  CHECK_FALSE(mount->number_of("allow_other").has_value());
  const auto bare = parse_mountinfo("1 1 0:1 / / rw - tmpfs  rw");
  REQUIRE(bare.has_value());
  CHECK(bare->source.empty());
  for (const char* wrong : {"", "36", "36 35 0:98 / /mnt rw", "36 35 0:98 / /mnt rw - tmpfs"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_mountinfo(wrong).has_value());
  }
}

TEST_CASE("the mount that a path is in, and the one that it is the root of") {
  const auto proc = mount_on("/proc");
  REQUIRE(proc.has_value());
  CHECK(proc->path == "/proc");
  CHECK(proc->type == "proc");
  CHECK(mount_of("/proc/self")->id == proc->id);
  CHECK_FALSE(mount_on("/proc/self").has_value());
  CHECK_FALSE(mount_on("/nonexistent").has_value());
}

TEST_CASE("a mount point's path, whether it exists or not") {
  const testing::ScratchDirectory scratch;
  const std::string here = std::filesystem::canonical(scratch.directory("a")).string();
  std::filesystem::create_symlink("a", here + "/../link");
  const std::string above = here.substr(0, here.rfind('/'));
  CHECK(real_mount_path(above + "/link") == here);
  CHECK(real_mount_path(above + "/link/") == here);
  CHECK(real_mount_path(above + "//link/../a/./new") == here + "/new");
  CHECK(real_mount_path(above + "/link/new/more") == here + "/new/more");
  CHECK(real_mount_path("/") == "/");
  CHECK(real_mount_path("/nonexistent/") == "/nonexistent");
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(above);
  CHECK(real_mount_path("link") == here);
  CHECK(real_mount_path("new") == above + "/new");
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace libservices::host
