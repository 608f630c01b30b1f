// SPDX-License-Identifier: Apache-2.0
//
// Listings of merged directories: each entry once, whatever others do meanwhile.
#include "services/union/listing.h"

#include "services/union/host_union.h"

namespace libservices {
namespace {

using testing::HostUnion;

// A listing that is read in pieces, each from a cookie.
struct Reader {
  Reader(HostUnion& bench, const std::string& name) : bench(bench) {
    auto& stack = bench.fs().stack();
    auto node = stack.lookup(bench.me, stack.root(bench.me)->node, name);
    REQUIRE(node.ok());
    auto opened = stack.open(bench.me, node->node, OpenFlags{O_RDONLY | O_DIRECTORY});
    REQUIRE(opened.ok());
    file.emplace(std::move(opened->file));
  }
  ~Reader() { CHECK(bench.fs().stack().close(bench.me, *file).ok()); }
  // At most `count` entries behind `after`; the last cookie, or `after` at the end.
  std::uint64_t read(std::uint64_t after, std::size_t count, std::vector<std::string>& names) {
    std::uint64_t last = after;
    REQUIRE(bench.fs()
                .stack()
                .readdir(bench.me, *file, after, Listing::kNames,
                         [&](const DirEntry& entry) {
                           if (count == 0) return false;
                           --count;
                           names.emplace_back(entry.name);
                           cookies[std::string(entry.name)] = entry.cookie;
                           last = entry.cookie;
                           return true;
                         })
                .ok());
    return last;
  }
  HostUnion& bench;
  std::optional<HostUnion::Stack::File> file;
  std::map<std::string, std::uint64_t> cookies;
};

struct Bench : HostUnion {
  explicit Bench(int files = 5000) : HostUnion(3) {
    for (int i = 0; i < files; ++i) {
      const std::string name = "d/file" + std::to_string(i);
      if (i % 3 == 0) put("upper/" + name);
      if (i % 2 == 0) put("low1/" + name);
      if (i % 5 == 0) put("low2/" + name);
      if (i % 7 != 0) put("low3/" + name);
      if (i % 11 == 0) put_whiteout("low1/d/gone" + std::to_string(i));
      put("low3/d/gone" + std::to_string(i - i % 11));
      if (i % 3 == 0 || i % 2 == 0 || i % 5 == 0 || i % 7 != 0) {
        expected.insert("file" + std::to_string(i));
      }
    }
  }
  std::set<std::string> expected;
};

TEST_CASE_FIXTURE(Bench, "each name is listed once, in whatever pieces") {
  CHECK(names("/d") == expected);
  for (const std::size_t piece : {1, 7, 1000}) {
    Reader reader(*this, "d");
    std::vector<std::string> all;
    for (std::uint64_t at = 0;;) {
      const std::uint64_t next = reader.read(at, piece, all);
      if (next == at) break;
      at = next;
    }
    CHECK(all.size() == expected.size());
    CHECK(std::set<std::string>(all.begin(), all.end()) == expected);
  }
}

TEST_CASE_FIXTURE(Bench,
                  "what stays is listed once while others create, copy up, remove and rename") {
  Reader reader(*this, "d");
  std::vector<std::string> all;
  std::set<std::string> changed;
  int step = 0;
  for (std::uint64_t at = 0;;) {
    const std::uint64_t next = reader.read(at, 50, all);
    if (next == at) break;
    at = next;
    append("/d/new" + std::to_string(step), "x");
    append("/d/file" + std::to_string((step * 37 + 1) % 5000 / 7 * 7 + 1), "copied up");
    const std::string victim = "file" + std::to_string((step * 53) % 5000 / 3 * 3);
    if (exists("/d/" + victim)) {
      CHECK(fs().unlink(me, "/d/" + victim).ok());
      changed.insert(victim);
    }
    ++step;
  }
  std::map<std::string, int> times;
  for (const std::string& name : all) ++times[name];
  for (const std::string& name : expected) {
    CAPTURE(name);
    if (!changed.contains(name)) CHECK(times[name] == 1);
  }
  for (const auto& entry : times) CHECK(entry.second == 1);
}

TEST_CASE_FIXTURE(Bench, "a listing goes on behind any cookie that it gave") {
  Reader reader(*this, "d");
  std::vector<std::string> all;
  reader.read(0, 100'000, all);
  REQUIRE(all.size() == expected.size());
  for (std::size_t i = 0; i + 1 < all.size(); i += 613) {
    std::vector<std::string> next;
    reader.read(reader.cookies[all[i]], 1, next);
    REQUIRE(next.size() == 1);
    CHECK(next[0] == all[i + 1]);
  }
}

TEST_CASE("entries of objects that are known come with their attributes, whatever branch they are in") {
  Bench bench(200);
  auto& stack = bench.fs().stack();
  auto directory = stack.lookup(bench.me, stack.root(bench.me)->node, "d");
  REQUIRE(directory.ok());
  std::map<std::string, Attributes> looked_up;
  std::vector<HostUnion::Stack::Node> held;
  for (const std::string& name : bench.expected) {
    auto entry = stack.lookup(bench.me, directory->node, name);
    REQUIRE(entry.ok());
    looked_up[name] = entry->attributes;
    held.push_back(std::move(entry->node));
  }
  auto opened = stack.open(bench.me, directory->node, OpenFlags{O_RDONLY | O_DIRECTORY});
  REQUIRE(opened.ok());
  std::size_t with_attributes = 0;
  REQUIRE(stack.readdir(bench.me, opened->file, 0, Listing::kAttributes, [&](const DirEntry& entry) {
    CAPTURE(entry.name);
    REQUIRE(entry.attributes != nullptr);
    const Attributes& expected = looked_up.at(std::string(entry.name));
    CHECK(entry.attributes->inode == expected.inode);
    CHECK(entry.attributes->device == expected.device);
    CHECK(entry.attributes->links == expected.links);
    CHECK(entry.attributes->mode == expected.mode);
    CHECK(entry.attributes->mtime == expected.mtime);
    CHECK(entry.inode == expected.inode);
    ++with_attributes;
    return true;
  }).ok());
  CHECK(with_attributes == bench.expected.size());
  CHECK(stack.close(bench.me, opened->file).ok());
}

TEST_CASE("what is made again over a removed lower directory shows nothing of it") {
  HostUnion bench(2);
  bench.put("low1/d/c");
  bench.put("low2/d/e");
  auto& fs = bench.fs();
  CHECK(fs.unlink(bench.me, "/d/c").ok());
  CHECK(fs.unlink(bench.me, "/d/e").ok());
  CHECK(fs.rmdir(bench.me, "/d").ok());
  CHECK(fs.mkdir(bench.me, "/d", 0755).ok());
  bench.append("/d/z", "");
  for (int i = 0; i < 2; ++i) {
    CHECK(bench.names("/d") == std::set<std::string>{"z"});
    bench.stop();
  }
}

TEST_CASE("500 layers, with and without an upper") {
  for (const bool with_upper : {true, false}) {
    HostUnion bench(500, with_upper);
    for (int i = 1; i <= 500; ++i) {
      bench.put("low" + std::to_string(i) + "/d/own" + std::to_string(i), std::to_string(i));
      if (i % 2 == 0) bench.put("low" + std::to_string(i) + "/d/both", std::to_string(i));
    }
    CHECK(bench.names("/d").size() == 501);
    CHECK(*bench.read("/d/both") == "2");
    for (int i = 1; i <= 500; i += 7) {
      CHECK(*bench.read("/d/own" + std::to_string(i)) == std::to_string(i));
      CHECK_FALSE(bench.exists("/d/missing" + std::to_string(i)));
    }
    if (with_upper) continue;
    CHECK(bench.fs().open(bench.me, "/d/both", {O_RDWR}).error() == Errno{EROFS});
    CHECK(bench.fs().unlink(bench.me, "/d/both").error() == Errno{EROFS});
    CHECK(bench.fs().mkdir(bench.me, "/new", 0755).error() == Errno{EROFS});
  }
}

}  // namespace
}  // namespace libservices
