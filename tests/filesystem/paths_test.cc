// SPDX-License-Identifier: Apache-2.0

#include "tests/filesystem/stacks.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("a path is walked name by name", S, path_walk) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/a");
  sut.mkdir("/a/b");
  sut.write("/a/b/c", "text");

  CHECK(sut.read("/a/b/c") == "text");
  CHECK(sut.read("a/b/c") == "text");
  CHECK(sut.read("//a///b//c") == "text");
  CHECK(sut.read("/a/./b/././c") == "text");
  CHECK(sut.read("/a/b/../b/c") == "text");
  CHECK(sut.read("/../../a/b/c") == "text");
  CHECK(sut.stat("/a/b/..").inode == sut.stat("/a").inode);
  CHECK(sut.stat("/..").inode == sut.stat("/").inode);
  CHECK(error_of(sut->stat(sut.root, "")) == ENOENT);
  CHECK(error_of(sut->stat(sut.root, "/a/missing")) == ENOENT);
  CHECK(error_of(sut->stat(sut.root, "/missing/b")) == ENOENT);
  CHECK(error_of(sut->stat(sut.root, "/a/b/c/d")) == ENOTDIR);
  CHECK(error_of(sut->stat(sut.root, "/a/b/c/.")) == ENOTDIR);
  CHECK(error_of(sut->stat(sut.root, "/a/b/c/..")) == ENOTDIR);
}

TEST_CASE_TEMPLATE_DEFINE("a trailing slash asks for a directory", S, path_slash) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d/");
  sut.write("/f", "");
  REQUIRE(error_of(sut->symlink(sut.root, "d", "/to_d")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "f", "/to_f")) == 0);

  CHECK(sut.stat("/d/").is_directory());
  CHECK(error_of(sut->stat(sut.root, "/f/")) == ENOTDIR);
  CHECK(sut.stat(Location("/to_d", Follow::kNo)).is_symlink());
  CHECK(sut.stat(Location("/to_d/", Follow::kNo)).is_directory());
  CHECK(error_of(sut->stat(sut.root, Location("/to_f/", Follow::kNo))) == ENOTDIR);
  CHECK(error_of(sut->open(sut.root, "/new/", {O_CREAT | O_WRONLY}, 0644)) == EISDIR);
  CHECK(error_of(sut->unlink(sut.root, "/f/")) == ENOTDIR);
  CHECK(error_of(sut->unlink(sut.root, "/to_d/")) == ENOTDIR);
  CHECK(error_of(sut->rmdir(sut.root, "/to_d/")) == ENOTDIR);
  CHECK(error_of(sut->rename(sut.root, "/f", "/g/", RenameMode::kReplace)) == ENOTDIR);
  CHECK(error_of(sut->rename(sut.root, "/f/", "/g", RenameMode::kReplace)) == ENOTDIR);
  CHECK(error_of(sut->rename(sut.root, "/d/", "/e/", RenameMode::kReplace)) == 0);
  CHECK(error_of(sut->symlink(sut.root, "x", "/new/")) == ENOENT);
}

TEST_CASE_TEMPLATE_DEFINE("a walk with bounds does not leave its base", S, path_bounds) {
  LIBSERVICES_SUT(S);
  for (const char* name : {"/in", "/in/d", "/in/d/e"}) sut.mkdir(name);
  sut.write("/secret", "secret");
  sut.write("/in/f", "f");
  sut.write("/in/d/g", "g");
  REQUIRE(error_of(sut->symlink(sut.root, "../../secret", "/in/d/up")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "/d/g", "/in/absolute")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "d/../f", "/in/stays")) == 0);
  auto base = sut.open(sut.root, "/in", O_PATH | O_DIRECTORY);
  const auto error = [&](std::string_view path, Bounds bounds, bool no_links = false) {
    Location location(base.get(), path);
    location.bounds = bounds;
    location.no_links = no_links;
    return error_of(sut->stat(sut.root, location));
  };
  const auto inode = [&](std::string_view path) {
    Location location(base.get(), path);
    location.bounds = Bounds::kInRoot;
    auto found = sut->stat(sut.root, location);
    return found.ok() ? found->inode : 0;
  };
  for (const char* path : {"f", "d/../f", "d/e/../../f", "stays", "."}) {
    CHECK(error(path, Bounds::kBeneath) == 0);
  }
  for (const char* path : {"..", "d/../..", "d/e/../../../secret", "d/up", "absolute", "/f"}) {
    CHECK(error(path, Bounds::kBeneath) == EXDEV);
  }
  CHECK(error("d/f", Bounds::kBeneath) == ENOENT);
  CHECK(error("f/..", Bounds::kBeneath) == ENOTDIR);
  CHECK(error("d/up", Bounds::kInRoot) == ENOENT);
  CHECK(inode("../../in") == 0);
  CHECK(inode("..") == sut.stat("/in").inode);
  CHECK(inode("d/../../../d/g") == sut.stat("/in/d/g").inode);
  CHECK(inode("absolute") == sut.stat("/in/d/g").inode);
  CHECK(inode("/f") == sut.stat("/in/f").inode);
  CHECK(error("stays", Bounds::kNone, true) == ELOOP);
  CHECK(error("d/../f", Bounds::kNone, true) == 0);
  // The base is what was opened, wherever it is now.
  REQUIRE(error_of(sut->rename(sut.root, "/in", "/secretly", RenameMode::kReplace)) == 0);
  CHECK(error("d/../f", Bounds::kBeneath) == 0);
  CHECK(error("../secret", Bounds::kBeneath) == EXDEV);
  sut.close(std::move(base));
}

TEST_CASE_TEMPLATE_DEFINE("symbolic links are followed where POSIX says so", S, path_links) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  sut.write("/d/f", "text");
  REQUIRE(error_of(sut->symlink(sut.root, "d", "/relative")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "/d/f", "/absolute")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "../relative/f", "/d/up")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "nowhere", "/dangling")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "loop_b", "/loop_a")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "loop_a", "/loop_b")) == 0);

  CHECK(sut.read("/relative/f") == "text");
  CHECK(sut.read("/absolute") == "text");
  CHECK(sut.read("/d/up") == "text");
  CHECK(sut.read("/relative/../absolute") == "text");
  CHECK(error_of(sut->stat(sut.root, "/dangling")) == ENOENT);
  CHECK(error_of(sut->stat(sut.root, "/loop_a")) == ELOOP);
  CHECK(error_of(sut->stat(sut.root, "/loop_a/x")) == ELOOP);
  CHECK(sut.stat(Location("/loop_a", Follow::kNo)).is_symlink());
  CHECK(error_of(sut->open(sut.root, "/absolute", {O_RDONLY | O_NOFOLLOW}, 0)) == ELOOP);
  CHECK(error_of(sut->open(sut.root, "/relative/f", {O_RDONLY | O_NOFOLLOW}, 0)) == 0);

  std::array<char, 100> target;
  auto length = sut->readlink(sut.root, "/d/up", target);
  REQUIRE(length.ok());
  CHECK(std::string_view(target.data(), *length) == "../relative/f");
  CHECK(error_of(sut->readlink(sut.root, "/d/f", target)) == EINVAL);
  CHECK(sut.stat(Location("/d/up", Follow::kNo)).size == 13);

  SUBCASE("O_CREAT makes the target of a dangling link, O_EXCL refuses the link") {
    CHECK(error_of(sut->open(sut.root, "/dangling", {O_CREAT | O_EXCL | O_WRONLY}, 0644)) ==
          EEXIST);
    sut.write("/dangling", "made");
    CHECK(sut.read("/nowhere") == "made");
  }
  SUBCASE("40 links are followed and the 41st is too many") {
    REQUIRE(error_of(sut->symlink(sut.root, "d/f", "/l0")) == 0);
    for (int i = 1; i <= 40; ++i) {
      REQUIRE(error_of(sut->symlink(sut.root, "l" + std::to_string(i - 1),
                                    "/l" + std::to_string(i))) == 0);
    }
    CHECK(sut.read("/l39") == "text");
    CHECK(error_of(sut->stat(sut.root, "/l40")) == ELOOP);
  }
}

TEST_CASE_TEMPLATE_DEFINE("names and paths have their longest length", S, path_length) {
  LIBSERVICES_SUT(S);
  const std::string longest(255, 'n');
  sut.write("/" + longest, "x");
  CHECK(sut.read("/" + longest) == "x");
  CHECK(error_of(sut->stat(sut.root, "/" + longest + "n")) == ENAMETOOLONG);
  CHECK(error_of(sut->open(sut.root, "/" + longest + "n", {O_CREAT | O_WRONLY}, 0644)) ==
        ENAMETOOLONG);
  sut.mkdir("/gone");
  OpenFilePtr gone = sut.open(sut.root, "/gone", O_RDONLY | O_DIRECTORY);
  const std::string longer = longest + "n";
  const Location too_long(gone.get(), longer);
  CHECK(error_of(sut->stat(sut.root, too_long)) == ENAMETOOLONG);
  REQUIRE(error_of(sut->rmdir(sut.root, "/gone")) == 0);
  CHECK(error_of(sut->stat(sut.root, too_long)) == ENOENT);
  CHECK(error_of(sut->mkdir(sut.root, too_long, 0755)) == ENOENT);
  sut.close(std::move(gone));
  std::string path;
  while (path.size() + 2 < 4095) path += "/.";
  CHECK(sut.stat(path).is_directory());
  path.resize(4096, '/');
  CHECK(error_of(sut->stat(sut.root, path)) == ENAMETOOLONG);

  std::string deep;  // a tree deeper than one path can say
  OpenFilePtr base = sut.open(sut.root, "/", O_PATH | O_DIRECTORY);
  for (int i = 0; i < 30; ++i) {
    REQUIRE(error_of(sut->mkdir(sut.root, Location(base.get(), longest), 0755)) ==
            (i == 0 ? EEXIST : 0));
    if (i == 0) {
      REQUIRE(error_of(sut->unlink(sut.root, "/" + longest)) == 0);
      REQUIRE(error_of(sut->mkdir(sut.root, "/" + longest, 0755)) == 0);
    }
    OpenFilePtr next = sut.open(sut.root, Location(base.get(), longest), O_PATH | O_DIRECTORY);
    sut.close(std::move(base));
    base = std::move(next);
  }
  auto path_of = sut->path_of(sut.root, *base);
  REQUIRE(path_of.ok());
  CHECK(path_of->size() == 30 * 256);
  sut.close(std::move(base));
}

TEST_CASE_TEMPLATE_DEFINE("a walk starts at an open directory, wherever that has moved", S,
                          path_base) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/a");
  sut.mkdir("/a/b");
  sut.write("/a/b/f", "text");
  OpenFilePtr base = sut.open(sut.root, "/a/b", O_RDONLY | O_DIRECTORY);
  CHECK(sut.read(Location(base.get(), "f")) == "text");
  CHECK(sut.read(Location(base.get(), "../b/f")) == "text");
  CHECK(sut.read(Location(base.get(), "/a/b/f")) == "text");
  REQUIRE(error_of(sut->rename(sut.root, "/a/b", "/c", RenameMode::kReplace)) == 0);
  CHECK(sut.read(Location(base.get(), "f")) == "text");
  CHECK(sut.stat(Location(base.get(), "..")).inode == sut.stat("/").inode);
  CHECK(*sut->path_of(sut.root, *base) == "/c");
  REQUIRE(error_of(sut->unlink(sut.root, "/c/f")) == 0);
  REQUIRE(error_of(sut->rmdir(sut.root, "/c")) == 0);
  CHECK(error_of(sut->stat(sut.root, Location(base.get(), "f"))) == ENOENT);
  CHECK(error_of(sut->mkdir(sut.root, Location(base.get(), "n"), 0755)) == ENOENT);
  CHECK(error_of(sut->open(sut.root, Location(base.get(), "n"), {O_CREAT | O_RDWR}, 0644)) ==
        ENOENT);
  CHECK(error_of(sut->path_of(sut.root, *base)) == ENOENT);
  CHECK(sut.stat(Location(*base)).is_directory());
  OpenFilePtr file = sut.open(sut.root, "/file", O_CREAT | O_RDWR);
  CHECK(error_of(sut->stat(sut.root, Location(file.get(), "x"))) == ENOTDIR);
  sut.close(std::move(file));
  sut.close(std::move(base));
}

TEST_CASE_TEMPLATE_DEFINE("a walk that may leave the instance says where it went", S,
                          path_outside) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  REQUIRE(error_of(sut->symlink(sut.root, "/etc/passwd", "/d/absolute")) == 0);
  REQUIRE(error_of(sut->symlink(sut.root, "../../up", "/d/relative")) == 0);
  std::string outside;
  auto left = [&](std::string_view path) {
    Location at(path);
    at.outside = &outside;
    outside.clear();
    return error_of(sut->stat(sut.root, at));
  };
  CHECK(left("/d/absolute") == EXDEV);
  CHECK(outside == "/etc/passwd");
  CHECK(left("/d/absolute/more/../x") == EXDEV);
  CHECK(outside == "/etc/passwd/more/../x");
  CHECK(left("/d/relative") == EXDEV);
  CHECK(outside == "../up");
  CHECK(left("/..") == EXDEV);
  CHECK(outside == "..");
  CHECK(left("/d/../../x/y") == EXDEV);
  CHECK(outside == "../x/y");
  CHECK(left("/d/..") == 0);
}

LIBSERVICES_OVER_EVERY_STACK(path_walk);
LIBSERVICES_OVER_EVERY_STACK(path_slash);
LIBSERVICES_OVER_EVERY_STACK(path_bounds);
LIBSERVICES_OVER_EVERY_STACK(path_links);
LIBSERVICES_OVER_EVERY_STACK(path_length);
LIBSERVICES_OVER_EVERY_STACK(path_base);
LIBSERVICES_OVER_EVERY_STACK(path_outside);

}  // namespace libservices::testing
