// SPDX-License-Identifier: Apache-2.0
//
// Inode numbers and hard links: the same before and after copy-up, rename and restart.
#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>

#include "services/union/host_union.h"

namespace libservices {
namespace {

using testing::HostUnion;

AttributeChanges mode_of(std::uint32_t mode) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = mode;
  return changes;
}

struct Bench : HostUnion {
  Bench() : HostUnion(2) {
    put("low2/d/f", "file");
    put("low2/d/g", "other");
    put("low1/d/h", "third");
    put("low2/big", std::string(300'000, 'b'));
    std::filesystem::create_symlink("f", path("low2/d/s"));
    for (const char* name : {"low2/one", "low2/d/two", "low2/three"}) {
      put_directory("low2/d");
      if (std::string(name) == "low2/one") {
        put(name, "linked");
      } else {
        std::filesystem::create_hard_link(path("low2/one"), path(name));
      }
    }
  }
  std::uint64_t number(const std::string& name) { return stat(name).inode; }
};

TEST_CASE_FIXTURE(Bench,
                  "numbers stay through copy-up, rename and restart, and listings say them") {
  std::map<std::string, std::uint64_t> before;
  for (const char* name : {"/d", "/d/f", "/d/g", "/d/h", "/d/s", "/big", "/one"}) {
    before[name] = number(name);
  }
  std::set<std::uint64_t> all;
  for (const auto& [name, inode] : before) CHECK(all.insert(inode).second);
  const std::uint64_t device = stat("/d").device;
  CHECK(fs().setattr(me, "/d/f", mode_of(0600)).ok());
  append("/d/g", "+");
  append("/big", "+");
  CHECK(fs().rename(me, "/d/h", "/h").ok());
  CHECK(fs().rename(me, "/d", "/e").ok());
  append("/e/new", "new");
  const std::uint64_t fresh = number("/e/new");
  CHECK(all.insert(fresh).second);
  for (int i = 0; i < 3; ++i) {
    CHECK(number("/e") == before["/d"]);
    CHECK(number("/e/f") == before["/d/f"]);
    CHECK(number("/e/g") == before["/d/g"]);
    CHECK(number("/h") == before["/d/h"]);
    CHECK(number("/e/s") == before["/d/s"]);
    CHECK(number("/big") == before["/big"]);
    CHECK(number("/e/new") == fresh);
    CHECK(stat("/e").device == device);
    for (const char* directory : {"", "/e"}) {
      for (const auto& entry : list(*directory == '\0' ? "/" : directory)) {
        CAPTURE(entry.first);
        CHECK(entry.second == number(std::string(directory) + "/" + entry.first));
      }
    }
    stop();
  }
}

TEST_CASE_FIXTURE(Bench, "the names of a lower file lead to one file after a copy-up, too") {
  CHECK(stat("/one").links == 3);
  append("/d/two", "+");
  for (int i = 0; i < 2; ++i) {
    for (const char* name : {"/one", "/d/two", "/three"}) {
      CAPTURE(name);
      CHECK(*read(name) == "linked+");
      CHECK(stat(name).links == 3);
      CHECK(number(name) == number("/one"));
    }
    stop();
  }
  CHECK(fs().link(me, "/three", "/four").ok());
  CHECK(stat("/one").links == 4);
  CHECK(fs().rename(me, "/three", "/d/five").ok());
  CHECK(stat("/one").links == 4);
  CHECK(fs().unlink(me, "/d/two").ok());
  stop();
  for (const char* name : {"/one", "/four", "/d/five"}) {
    CAPTURE(name);
    CHECK(stat(name).links == 3);
    append(name, "!");
  }
  CHECK(*read("/one") == "linked+!!!");
  stop();
  for (const char* name : {"/one", "/four", "/d/five"}) CHECK(fs().unlink(me, name).ok());
  // With the last name the index lets go.
  CHECK(std::filesystem::is_empty(path("work/kept")));
}

TEST_CASE_FIXTURE(Bench, "a name that was removed before any copy-up is not counted later") {
  CHECK(fs().unlink(me, "/three").ok());
  for (int i = 0; i < 2; ++i) {
    CHECK(stat("/one").links == 2);
    stop();
  }
  append("/one", "+");
  CHECK(*read("/d/two") == "linked+");
  CHECK(stat("/d/two").links == 2);
}

TEST_CASE_FIXTURE(Bench, "a copy-up through an open file reaches the names that nobody looked at") {
  auto file = fs().open(me, "/one", {O_RDWR});
  REQUIRE(file.ok());
  CHECK(fs().unlink(me, "/one").ok());
  REQUIRE(fs().write(me, **file, std::as_bytes(std::span("LINKED", 6))).ok());
  CHECK(fs().close(me, std::move(*file)).ok());
  stop();
  CHECK(*read("/three") == "LINKED");
  CHECK(stat("/three").links == 2);
}

TEST_CASE_FIXTURE(Bench, "without the index the names come apart, each with a number of its own") {
  options.index = false;
  append("/one", "+");
  stop();
  CHECK(*read("/one") == "linked+");
  CHECK(*read("/three") == "linked");
  CHECK(number("/one") != number("/three"));
}

TEST_CASE_FIXTURE(Bench, "without redirects a lower directory is not renamed: EXDEV") {
  options.redirect = false;
  CHECK(error_of(fs().rename(me, "/d", "/e")) == EXDEV);
  CHECK(fs().mkdir(me, "/pure", 0755).ok());
  CHECK(error_of(fs().rename(me, "/pure", "/e")) == 0);
  CHECK(error_of(fs().rename(me, "/e", "/d", RenameMode::kExchange)) == EXDEV);
}

TEST_CASE("names of one file that go at the same time, in different directories, are all counted") {
  constexpr int kFiles = 300;
  HostUnion bench;
  const auto name_of = [](const std::string& directory, int file) {
    return directory + "/f" + std::to_string(file);
  };
  for (const char* directory : {"low1/a", "low1/b", "low1/c"}) bench.put_directory(directory);
  for (int i = 0; i < kFiles; ++i) {
    bench.put(name_of("low1/c", i), "linked");
    for (const char* directory : {"low1/a", "low1/b"}) {
      std::filesystem::create_hard_link(bench.path(name_of("low1/c", i)),
                                        bench.path(name_of(directory, i)));
    }
  }
  for (int i = 0; i < kFiles; ++i) {
    bench.append(name_of("/c", i), "+");
    for (const char* directory : {"/a", "/b"}) bench.append(name_of(directory, i) + "new", "other");
  }
  auto& fs = bench.fs();
  std::atomic<int> turn{0};
  const auto replace_all = [&](const std::string& directory) {
    for (int i = 0; i < kFiles; ++i) {
      turn.fetch_add(1);
      while (turn.load() < 2 * (i + 1)) {}  // both at once
      CHECK(fs.rename(bench.me, name_of(directory, i) + "new", name_of(directory, i)).ok());
    }
  };
  std::thread other([&] { replace_all("/b"); });
  replace_all("/a");
  other.join();
  bench.stop();
  for (int i = 0; i < kFiles; ++i) {
    CAPTURE(i);
    CHECK(bench.stat(name_of("/c", i)).links == 1);
  }
}

TEST_CASE("a redirect that names a place beside it stays right when the directory moves again") {
  HostUnion bench(1);
  bench.put("low1/a/b/file", "1");
  bench.put_directory("upper/a/c");  // as overlayfs leaves `mv a/b a/c`
  bench.put_attribute("upper/a/c", "trusted.overlay.redirect", "b");
  bench.put_whiteout("upper/a/b");
  CHECK(bench.fs().rename(bench.me, "/a/c", "/d").ok());
  for (int i = 0; i < 2; ++i) {
    CHECK(*bench.read("/d/file") == "1");
    bench.stop();
  }
}

TEST_CASE("directories are renamed with all that is in them, over and over, and across restarts") {
  HostUnion bench(2);
  bench.put("low1/a/b/c/one", "1");
  bench.put("low2/a/b/c/two", "2");
  bench.put("low2/x/y", "y");
  auto& me = bench.me;
  const auto check = [&](const std::string& at) {
    CHECK(bench.names(at) == std::set<std::string>{"one", "two"});
    CHECK(*bench.read(at + "/two") == "2");
  };
  CHECK(bench.fs().rename(me, "/a/b/c", "/x/c").ok());
  check("/x/c");
  CHECK(bench.names("/a/b").empty());
  bench.stop();
  check("/x/c");
  CHECK(bench.fs().rename(me, "/x", "/a/b/x").ok());
  check("/a/b/x/c");
  CHECK(bench.fs().rename(me, "/a", "/x").ok());
  bench.stop();
  check("/x/b/x/c");
  CHECK(*bench.read("/x/b/x/y") == "y");
  // What takes the old name has nothing of the old directory, not even after it was removed.
  CHECK(bench.fs().mkdir(me, "/a", 0755).ok());
  CHECK(bench.names("/a").empty());
  CHECK(bench.fs().rename(me, "/a", "/x/b/x", RenameMode::kExchange).ok());
  bench.stop();
  check("/a/c");
  CHECK(bench.names("/x/b/x").empty());
  CHECK(bench.fs().rmdir(me, "/x/b/x").ok());
  CHECK(bench.fs().rmdir(me, "/x/b").ok());
  CHECK(bench.fs().rmdir(me, "/x").ok());
  bench.stop();
  CHECK(bench.names("/") == std::set<std::string>{"a"});
}

}  // namespace
}  // namespace libservices
