// SPDX-License-Identifier: Apache-2.0
//
// Every form in which branches say what they hide, and which of them are written.
#include "services/union/marks.h"

#include "services/union/host_union.h"

namespace libservices {
namespace {

using testing::HostUnion;
using Names = std::set<std::string>;

TEST_CASE("a name is hidden by each form of whiteout, in the upper and between lowers") {
  HostUnion bench(2);
  for (const char* name : {"device", "aufs", "attribute", "stays"}) {
    bench.put(std::string("low2/d/") + name, "low");
  }
  std::string top;
  SUBCASE("in the upper") { top = "upper/d/"; }
  SUBCASE("in a lower") { top = "low1/d/"; }
  bench.put_whiteout(top + "device");
  bench.put(top + ".wh.aufs");
  bench.put_attribute(top, "trusted.overlay.opaque", "x");
  bench.put(top + "attribute");
  bench.put_attribute(top + "attribute", "trusted.overlay.whiteout", "");
  CHECK(bench.names("/d") == Names{"stays"});
  for (const char* name : {"/d/device", "/d/aufs", "/d/attribute", "/d/.wh.aufs"}) {
    CAPTURE(name);
    CHECK_FALSE(bench.exists(name));
  }
  CHECK(*bench.read("/d/stays") == "low");
  for (const char* name : {"/d/device", "/d/aufs", "/d/attribute"}) {
    bench.append(name, "again");
    CHECK(*bench.read(name) == "again");
  }
  bench.stop();
  CHECK(bench.names("/d") == Names{"stays", "device", "aufs", "attribute"});
  for (const char* name : {"/d/device", "/d/aufs", "/d/attribute"}) {
    CHECK(bench.fs().unlink(bench.me, name).ok());
  }
  bench.stop();
  CHECK(bench.names("/d") == Names{"stays"});
}

TEST_CASE("a directory hides what is below by each form of the opaque mark") {
  HostUnion bench(2);
  std::string top;
  SUBCASE("in the upper") { top = "upper/"; }
  SUBCASE("in a lower") { top = "low1/"; }
  for (const char* name : {"trusted", "user", "fuse", "file", "old", "merged"}) {
    bench.put(std::string("low2/") + name + "/below");
    bench.put(top + name + "/above");
  }
  bench.put_attribute(top + "trusted", "trusted.overlay.opaque", "y");
  bench.put_attribute(top + "user", "user.overlay.opaque", "y");
  bench.put_attribute(top + "fuse", "user.fuseoverlayfs.opaque", "y");
  bench.put(top + "file/.wh..wh..opq");
  bench.put(top + "old/.wh..opq");
  for (const char* name : {"/trusted", "/user", "/fuse", "/file", "/old"}) {
    CAPTURE(name);
    CHECK(bench.names(name) == Names{"above"});
    CHECK_FALSE(bench.exists(std::string(name) + "/below"));
  }
  CHECK(bench.names("/merged") == Names{"above", "below"});
}

TEST_CASE("marks are not seen as files or attributes, and cannot be made") {
  HostUnion bench(1);
  bench.put("low1/d/.wh..wh..plnk/x");
  bench.put("low1/d/f");
  bench.put_attribute("low1/d", "user.overlay.opaque", "y");
  bench.put_attribute("low1/d", "user.fuseoverlayfs.opaque", "y");
  bench.put_attribute("low1/d", "user.mine", "1");
  CHECK(bench.names("/d") == Names{"f"});
  char names[256];
  auto size = bench.fs().listxattr(bench.me, "/d", names);
  REQUIRE(size.ok());
  CHECK(std::string(names, *size) == std::string("user.mine\0", 10));
  CHECK(bench.fs().open(bench.me, "/d/.wh.f", {O_WRONLY | O_CREAT}, 0644).error() == Errno{EINVAL});
  CHECK(bench.fs().mkdir(bench.me, "/.wh..wh..opq", 0755).error() == Errno{EINVAL});
  CHECK(bench.fs().rename(bench.me, "/d/f", "/d/.wh.g").error() == Errno{EINVAL});
}

TEST_CASE("with marks that are files, no device and no attribute hides anything") {
  HostUnion bench(1);
  bench.options.marks = HostUnion::Stack::MarkForm::kFiles;
  bench.put("low1/f", "old");
  bench.put("low1/d/x");
  bench.put("low1/e/y");
  auto& fs = bench.fs();
  CHECK(fs.unlink(bench.me, "/f").ok());
  CHECK(fs.unlink(bench.me, "/d/x").ok());
  CHECK(fs.rmdir(bench.me, "/d").ok());
  CHECK(fs.mkdir(bench.me, "/d", 0755).ok());
  bench.append("/d/z", "");
  CHECK(fs.rename(bench.me, "/e/y", "/e/moved").ok());
  for (int i = 0; i < 2; ++i) {
    CHECK(bench.names("/") == Names{"d", "e"});
    CHECK(bench.names("/d") == Names{"z"});
    CHECK(bench.names("/e") == Names{"moved"});
    bench.stop();
  }
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(bench.scratch.directory("upper"))) {
    CAPTURE(entry.path());
    CHECK_FALSE(entry.is_character_file());
    CHECK(::lgetxattr(entry.path().c_str(), "trusted.overlay.opaque", nullptr, 0) < 0);
  }
  CHECK(std::filesystem::exists(bench.path("upper/.wh.f")));
  // An upper in the one form goes on in the other.
  bench.options.marks = HostUnion::Stack::MarkForm::kOverlay;
  bench.append("/f", "new");
  CHECK(*bench.read("/f") == "new");
  CHECK(bench.fs().unlink(bench.me, "/f").ok());
  CHECK(bench.names("/") == Names{"d", "e"});
}

TEST_CASE("redirects lead to where the lower parts are") {
  HostUnion bench(3);
  bench.put("low3/a/b/file", "low3");
  bench.put("low2/a/b/other", "low2");
  bench.put_directory("low1/beside");
  SUBCASE("a path in the upper") {
    bench.put_directory("upper/moved");
    bench.put_attribute("upper/moved", "trusted.overlay.redirect", "/a/b");
    CHECK(bench.names("/moved") == Names{"file", "other"});
  }
  SUBCASE("a name beside it") {
    bench.put_directory("upper/a/c");
    bench.put_attribute("upper/a/c", "user.overlay.redirect", "b");
    CHECK(bench.names("/a/c") == Names{"file", "other"});
  }
  SUBCASE("from a lower, for those below it only") {
    bench.put("low2/c/own");
    bench.put_attribute("low2/c", "trusted.overlay.redirect", "/a/b");
    CHECK(bench.names("/c") == Names{"file", "own"});
  }
  SUBCASE("through a directory on the way that has one itself") {
    bench.put("low1/x/y/top");
    bench.put_attribute("low1/x", "trusted.overlay.redirect", "/a");
    bench.put_directory("upper/z");
    bench.put_attribute("upper/z", "trusted.overlay.redirect", "/x/b");
    CHECK(bench.names("/z").empty() == false);
    CHECK(bench.names("/z") == Names{"file", "other"});
  }
  SUBCASE("and out of the branch leads none") {
    bench.put_directory("upper/bad");
    bench.put_attribute("upper/bad", "trusted.overlay.redirect", "/../../../etc");
    bench.put_directory("upper/worse");
    bench.put_attribute("upper/worse", "trusted.overlay.redirect", "a/b");
    CHECK(bench.names("/bad").empty());
    CHECK(bench.names("/worse").empty());
  }
}

TEST_CASE("a file without content has it from below") {
  HostUnion bench(2);
  bench.put("low2/dir/data", "the content");
  bench.put("low1/file");
  std::filesystem::resize_file(bench.path("low1/file"), 11);
  bench.put_attribute("low1/file", "trusted.overlay.metacopy", "");
  bench.put_attribute("low1/file", "trusted.overlay.redirect", "/dir/data");
  CHECK(*bench.read("/file") == "the content");
  bench.append("/file", "+");
  CHECK(*bench.read("/file") == "the content+");
  bench.stop();
  CHECK(*bench.read("/file") == "the content+");
}

}  // namespace
}  // namespace libservices
