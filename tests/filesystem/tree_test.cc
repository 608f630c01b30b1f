// SPDX-License-Identifier: Apache-2.0

#include <sys/sysmacros.h>

#include <atomic>
#include <set>
#include <thread>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "tests/filesystem/stacks.h"

namespace libservices::testing {

TEST_CASE_TEMPLATE_DEFINE("open makes files as its flags say", S, tree_open) {
  LIBSERVICES_SUT(S);
  CHECK(error_of(sut->open(sut.root, "/f", {O_RDONLY}, 0)) == ENOENT);
  sut.write("/f", "text");
  CHECK(error_of(sut->open(sut.root, "/f", {O_CREAT | O_EXCL | O_RDWR}, 0644)) == EEXIST);
  CHECK(error_of(sut->open(sut.root, "/f", {O_CREAT | O_DIRECTORY | O_RDWR}, 0644)) == EINVAL);
  auto same = sut.open(sut.root, "/f", O_CREAT | O_RDONLY);
  CHECK((same->flags().bits & O_CREAT) == 0);
  sut.close(std::move(same));
  CHECK(sut.read("/f") == "text");
  sut.close(sut.open(sut.root, "/f", O_WRONLY | O_TRUNC));
  CHECK(sut.stat("/f").size == 0);
  auto unreadable = sut.open(sut.alice, "/f", O_PATH);
  sut.close(std::move(unreadable));
  sut.mkdir("/open");
  REQUIRE(sut.set_mode(sut.root, "/open", 0777) == 0);
  auto fresh = sut.open(sut.alice, "/open/none", O_CREAT | O_RDWR, 0);  // its own mode is no bar
  CHECK(sut->write(sut.alice, *fresh, bytes_of("x")).ok());
  sut.close(std::move(fresh));
  CHECK(error_of(sut->open(sut.alice, "/open/none", {O_RDWR}, 0)) == EACCES);
}

TEST_CASE_TEMPLATE_DEFINE("a temporary file has no name until it is linked", S, tree_tmpfile) {
  LIBSERVICES_SUT(S);
  auto made = sut->open(sut.root, "/", {O_TMPFILE | O_RDWR}, 0600);
  if (error_of(made) == EOPNOTSUPP) {
    MESSAGE("SKIPPED: the storage below ", S::kName, " has no temporary files");
    return;
  }
  REQUIRE(made.ok());
  REQUIRE(sut->write(sut.root, **made, bytes_of("text")).ok());
  CHECK(sut.names("/").empty());
  CHECK(sut.stat(Location(**made)).links == 0);
  CHECK(error_of(sut->link(sut.root, Location(**made), "/named")) == 0);
  CHECK(sut.read("/named") == "text");
  CHECK(sut.stat("/named").permissions() == 0600);
  sut.close(*std::move(made));
  CHECK(error_of(sut->open(sut.root, "/", {O_TMPFILE | O_RDONLY}, 0600)) == EINVAL);
  CHECK(error_of(sut->open(sut.root, "/named", {O_TMPFILE | O_RDWR}, 0600)) == ENOTDIR);
}

TEST_CASE_TEMPLATE_DEFINE("entries are removed by the call that suits them", S, tree_remove) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  sut.write("/d/f", "");
  CHECK(error_of(sut->rmdir(sut.root, "/d")) == ENOTEMPTY);
  CHECK(error_of(sut->rmdir(sut.root, "/d/f")) == ENOTDIR);
  CHECK(error_of(sut->unlink(sut.root, "/d")) == EISDIR);
  CHECK(error_of(sut->unlink(sut.root, "/d/missing")) == ENOENT);
  CHECK(error_of(sut->unlink(sut.root, "/d/f/x")) == ENOTDIR);
  CHECK(error_of(sut->rmdir(sut.root, "/d/.")) == EINVAL);
  CHECK(error_of(sut->rmdir(sut.root, "/d/..")) == ENOTEMPTY);
  CHECK(error_of(sut->rmdir(sut.root, "/")) == EBUSY);
  CHECK(error_of(sut->mkdir(sut.root, "/d", 0755)) == EEXIST);
  CHECK(error_of(sut->mkdir(sut.root, "/", 0755)) == EEXIST);
  CHECK(error_of(sut->mkdir(sut.root, "/d/.", 0755)) == EEXIST);
  CHECK(error_of(sut->mkdir(sut.root, "/missing/d", 0755)) == ENOENT);
  CHECK(error_of(sut->unlink(sut.root, "/d/f")) == 0);
  CHECK(error_of(sut->stat(sut.root, "/d/f")) == ENOENT);
  CHECK(error_of(sut->rmdir(sut.root, "/d")) == 0);
  CHECK(error_of(sut->stat(sut.root, "/d")) == ENOENT);
  sut.mkdir("/d");
  CHECK(sut.names("/d").empty());
}

TEST_CASE_TEMPLATE_DEFINE("links and special files", S, tree_links) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  sut.write("/f", "text");
  CHECK(error_of(sut->link(sut.root, "/f", "/d/g")) == 0);
  CHECK(error_of(sut->link(sut.root, "/f", "/d/g")) == EEXIST);
  CHECK(error_of(sut->link(sut.root, "/d", "/e")) == EPERM);
  CHECK(error_of(sut->link(sut.root, "/missing", "/e")) == ENOENT);
  REQUIRE(error_of(sut->symlink(sut.root, "f", "/l")) == 0);
  CHECK(error_of(sut->link(sut.root, Location("/l", Follow::kNo), "/l2")) == 0);
  CHECK(sut.stat(Location("/l2", Follow::kNo)).is_symlink());
  CHECK(error_of(sut->link(sut.root, Location("/l", Follow::kYes), "/f2")) == 0);
  CHECK(sut.stat("/f2").links == 3);
  CHECK(error_of(sut->symlink(sut.root, "", "/e")) == ENOENT);
  CHECK(error_of(sut->symlink(sut.root, "x", "/f")) == EEXIST);

  CHECK(error_of(sut->mknod(sut.root, "/fifo", S_IFIFO | 0644, 0)) == 0);
  CHECK(S_ISFIFO(sut.stat("/fifo").mode));
  CHECK(error_of(sut->open(sut.root, "/fifo", {O_RDONLY}, 0)) == ENXIO);
  CHECK(error_of(sut->mknod(sut.alice, "/null", S_IFCHR | 0644, makedev(1, 3))) == EPERM);
  CHECK(error_of(sut->mknod(sut.root, "/null", S_IFCHR | 0644, makedev(1, 3))) == 0);
  CHECK(sut.stat("/null").special_device == makedev(1, 3));
  CHECK(error_of(sut->mknod(sut.root, "/plain", S_IFREG | 0644, 0)) == 0);
  CHECK(sut.stat("/plain").is_regular());
  CHECK(error_of(sut->mknod(sut.root, "/dir", S_IFDIR | 0644, 0)) == EPERM);
}

TEST_CASE_TEMPLATE_DEFINE("rename moves, replaces, refuses and exchanges", S, tree_rename) {
  LIBSERVICES_SUT(S);
  auto rename = [&](std::string_view from, std::string_view to,
                    RenameMode mode = RenameMode::kReplace) {
    return error_of(sut->rename(sut.root, Location(from), Location(to), mode));
  };
  sut.mkdir("/a");
  sut.mkdir("/a/sub");
  sut.mkdir("/b");
  sut.write("/f", "f");
  sut.write("/g", "g");
  SUBCASE("files") {
    auto replaced = sut.open(sut.root, "/g", O_RDONLY);
    CHECK(rename("/f", "/g") == 0);
    CHECK(sut.read("/g") == "f");
    CHECK(error_of(sut->stat(sut.root, "/f")) == ENOENT);
    CHECK(sut.stat(Location(*replaced)).links == 0);
    sut.close(std::move(replaced));
    CHECK(rename("/g", "/a/sub/h") == 0);
    CHECK(sut.read("/a/sub/h") == "f");
    CHECK(rename("/a/sub/h", "/a/sub/h") == 0);
    CHECK(rename("/missing", "/x") == ENOENT);
    CHECK(rename("/a/sub/h", "/b") == EISDIR);
    CHECK(rename("/b", "/a/sub/h") == ENOTDIR);
  }
  SUBCASE("two names of one file both stay") {
    REQUIRE(error_of(sut->link(sut.root, "/f", "/f2")) == 0);
    CHECK(rename("/f", "/f2") == 0);
    CHECK(sut.read("/f") == "f");
    CHECK(sut.read("/f2") == "f");
  }
  SUBCASE("directories") {
    sut.write("/a/sub/inside", "i");
    CHECK(rename("/a", "/a/sub/a") == EINVAL);
    CHECK(rename("/a", "/a/sub") == EINVAL);
    CHECK(rename("/a/sub", "/a") == ENOTEMPTY);
    CHECK(rename("/b", "/a") == ENOTEMPTY);
    CHECK(rename("/a/sub", "/b") == 0);
    CHECK(sut.read("/b/inside") == "i");
    CHECK(sut.stat("/b/..").inode == sut.stat("/").inode);
    CHECK(sut.stat("/a").links == 2);
    CHECK(rename("/b", "/a/deep") == 0);
    CHECK(sut.stat("/a/deep/..").inode == sut.stat("/a").inode);
    CHECK(rename("/a/.", "/x") == EBUSY);
    CHECK(rename("/a", "/b/..") == ENOENT);
  }
  SUBCASE("without replacing") {
    CHECK(rename("/f", "/g", RenameMode::kNoReplace) == EEXIST);
    CHECK(rename("/f", "/h", RenameMode::kNoReplace) == 0);
    CHECK(sut.read("/h") == "f");
  }
  SUBCASE("exchange") {
    CHECK(rename("/f", "/a/none", RenameMode::kExchange) == ENOENT);
    CHECK(rename("/f", "/a/sub", RenameMode::kExchange) == 0);
    CHECK(sut.stat("/f").is_directory());
    CHECK(sut.read("/a/sub") == "f");
    CHECK(sut.stat("/f/..").inode == sut.stat("/").inode);
    CHECK(rename("/f", "/g", RenameMode::kExchange) == 0);
    CHECK(sut.read("/f") == "g");
  }
}

TEST_CASE_TEMPLATE_DEFINE("a listing shows every entry once, whatever comes and goes", S,
                          tree_listing) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  std::set<std::string> stay;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "entry-" + std::to_string(i);
    sut.write("/d/" + name, "");
    if (i % 3 != 0) stay.insert(name);
  }
  auto directory = sut.open(sut.root, "/d", O_RDONLY | O_DIRECTORY);
  std::multiset<std::string> seen;
  bool has_dot = false;
  bool has_dot_dot = false;
  for (int round = 0;; ++round) {
    int given = 0;
    REQUIRE(error_of(sut->readdir(sut.root, *directory, Listing::kNames,
                                  [&](const DirEntry& entry) {
                                    if (given == 10) return false;
                                    ++given;
                                    if (entry.name == ".") {
                                      has_dot = entry.inode == sut.stat("/d").inode;
                                    } else if (entry.name == "..") {
                                      has_dot_dot = entry.inode == sut.stat("/").inode;
                                    } else {
                                      seen.emplace(entry.name);
                                    }
                                    return true;
                                  })) == 0);
    if (given == 0) break;
    (void)sut->unlink(sut.root, "/d/entry-" + std::to_string(round * 3));
    // Not for ever: a listing may show what comes while it goes on.
    if (round < 20) sut.write("/d/new-" + std::to_string(round), "");
  }
  CHECK(has_dot);
  CHECK(has_dot_dot);
  for (const std::string& name : stay) CHECK_MESSAGE(seen.count(name) == 1, name);
  CHECK(*sut->lseek(sut.root, *directory, 0, SEEK_SET) == 0);
  std::size_t again = 0;
  REQUIRE(error_of(sut->readdir(sut.root, *directory, Listing::kAttributes,
                                [&](const DirEntry& entry) {
                                  ++again;
                                  if (entry.attributes != nullptr && entry.name[0] != '.') {
                                    CHECK(entry.attributes->inode == entry.inode);
                                  }
                                  if (entry.name[0] != '.') {
                                    CHECK(sut.stat("/d/" + std::string(entry.name)).inode ==
                                          entry.inode);
                                  }
                                  return true;
                                })) == 0);
  CHECK(again == sut.names("/d").size() + 2);
  sut.close(std::move(directory));
}

// The last entry has the largest cookie, as with ext4 and btrfs.
class EndMarked : public Memory {
 public:
  using Memory::Memory;
  Result<void> readdir(const Context& context, File& directory, std::uint64_t after, Listing wanted,
                       EntrySink sink) {
    if (after == INT64_MAX) return {};
    DirEntry held;
    std::string name;
    bool more = true;
    LIBSERVICES_CHECK_OK(
        Memory::readdir(context, directory, after, wanted, [&](const DirEntry& entry) {
          more = name.empty() || sink(held);
          name = entry.name;
          held = entry;
          held.name = name;
          return more;
        }));
    if (!more || name.empty()) return {};
    held.cookie = INT64_MAX;
    (void)sink(held);
    return {};
  }
};

struct OverEndMarked {
  static constexpr const char* kName = "memory with an end mark";
  static std::unique_ptr<AnyFilesystem> make() {
    return std::make_unique<FilesystemOf<EndMarked>>(Memory::Config{});
  }
};

TEST_CASE_TEMPLATE_DEFINE("lseek leads a listing behind each of its entries, the last one too", S,
                          tree_listing_offsets) {
  LIBSERVICES_SUT(S);
  sut.mkdir("/d");
  for (int i = 0; i < 20; ++i) sut.write("/d/entry-" + std::to_string(i), "");
  auto directory = sut.open(sut.root, "/d", O_RDONLY | O_DIRECTORY);
  const auto list = [&] {
    std::vector<std::pair<std::string, std::uint64_t>> entries;
    REQUIRE(error_of(sut->readdir(sut.root, *directory, Listing::kNames,
                                  [&](const DirEntry& entry) {
                                    entries.emplace_back(entry.name, entry.cookie);
                                    return true;
                                  })) == 0);
    return entries;
  };
  const auto all = list();
  REQUIRE(all.size() == 22);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto offset = static_cast<std::int64_t>(all[i].second);
    CHECK(offset > 0);  // what the kernel and the C library take
    CHECK(*sut->lseek(sut.root, *directory, offset, SEEK_SET) == all[i].second);
    const auto rest = list();
    CHECK(rest == decltype(rest)(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, all.end()));
  }
  sut.close(std::move(directory));
}

TEST_CASE_TEMPLATE_DEFINE("extended attributes keep their name spaces apart", S, tree_xattrs) {
  LIBSERVICES_SUT(S);
  sut.write("/f", "", 0644);
  auto set = [&](const Context& who, std::string_view name, XattrMode mode) {
    return error_of(sut->setxattr(who, "/f", name, bytes_of("value"), mode));
  };
  if (set(sut.root, "user.a", XattrMode::kCreateOrReplace) == EOPNOTSUPP) {
    MESSAGE("SKIPPED: the storage below ", S::kName, " has no extended attributes");
    return;
  }
  CHECK(set(sut.root, "user.a", XattrMode::kCreate) == EEXIST);
  CHECK(set(sut.root, "user.b", XattrMode::kReplace) == ENODATA);
  CHECK(set(sut.alice, "user.a", XattrMode::kReplace) == EACCES);
  CHECK(set(sut.alice, "trusted.a", XattrMode::kCreate) == EPERM);
  CHECK(set(sut.root, "trusted.a", XattrMode::kCreate) == 0);
  CHECK(set(sut.root, "nowhere.a", XattrMode::kCreate) == EOPNOTSUPP);
  std::array<std::byte, 5> value;
  CHECK(*sut->getxattr(sut.alice, "/f", "user.a", {}) == 5);
  CHECK(*sut->getxattr(sut.alice, "/f", "user.a", value) == 5);
  CHECK(std::memcmp(value.data(), "value", 5) == 0);
  CHECK(error_of(sut->getxattr(sut.root, "/f", "user.a", std::span(value).first(2))) == ERANGE);
  CHECK(error_of(sut->getxattr(sut.alice, "/f", "trusted.a", value)) == ENODATA);
  std::array<char, 100> names;
  CHECK(*sut->listxattr(sut.alice, "/f", names) == sizeof("user.a"));
  CHECK(*sut->listxattr(sut.root, "/f", names) == sizeof("user.a") + sizeof("trusted.a"));
  CHECK(error_of(sut->removexattr(sut.root, "/f", "user.a")) == 0);
  CHECK(error_of(sut->removexattr(sut.root, "/f", "user.a")) == ENODATA);
}

TEST_CASE_TEMPLATE_DEFINE("threads that change one tree leave it whole", S, tree_threads) {
  LIBSERVICES_SUT(S);
  constexpr int kThreads = 8;
  constexpr int kRounds = 100;
  sut.mkdir("/d");
  sut.mkdir("/e");
  std::atomic<int> unexpected{0};
  auto expect = [&](int error, std::initializer_list<int> allowed) {
    if (std::find(allowed.begin(), allowed.end(), error) == allowed.end()) unexpected = error + 1;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const std::string own = "/d/own-" + std::to_string(t);
        const std::string shared = "/d/shared-" + std::to_string(i % 4);
        auto file = sut->open(sut.root, own, {O_CREAT | O_EXCL | O_RDWR}, 0644);
        expect(error_of(file), {0});
        if (file.ok()) {
          expect(error_of(sut->write(sut.root, **file, bytes_of("x"))), {0});
          expect(error_of(sut->close(sut.root, *std::move(file))), {0});
        }
        auto either = sut->open(sut.root, shared, {O_CREAT | O_RDWR | O_APPEND}, 0644);
        expect(error_of(either), {0});
        if (either.ok()) {
          expect(error_of(sut->write(sut.root, **either, bytes_of("y"))), {0});
          expect(error_of(sut->close(sut.root, *std::move(either))), {0});
        }
        expect(error_of(sut->rename(sut.root, own, "/e/own-" + std::to_string(t),
                                    RenameMode::kReplace)), {0});
        expect(error_of(sut->rename(sut.root, shared, "/e/shared", RenameMode::kReplace)),
               {0, ENOENT});
        expect(error_of(sut->stat(sut.root, shared)), {0, ENOENT});
        expect(error_of(sut->unlink(sut.root, "/e/shared")), {0, ENOENT});
        expect(error_of(sut->unlink(sut.root, "/e/own-" + std::to_string(t))), {0});
        const std::string directory = "/d/dir-" + std::to_string(i % 3);
        expect(error_of(sut->mkdir(sut.root, directory, 0755)), {0, EEXIST});
        expect(error_of(sut->mkdir(sut.root, directory + "/sub", 0755)), {0, EEXIST, ENOENT});
        expect(error_of(sut->rename(sut.root, directory + "/sub", "/e/sub", RenameMode::kReplace)),
               {0, ENOENT, ENOTEMPTY});
        expect(error_of(sut->rmdir(sut.root, "/e/sub")), {0, ENOENT});
        expect(error_of(sut->rmdir(sut.root, directory)), {0, ENOENT, ENOTEMPTY});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_MESSAGE(unexpected.load() == 0, "errno ", unexpected.load() - 1);
  for (const std::string top : {"/d", "/e"}) {
    for (const std::string& name : sut.names(top)) {
      const std::string path = top + "/" + name;
      if (sut.stat(path).is_directory()) {
        for (const std::string& inner : sut.names(path)) {
          CHECK(error_of(sut->rmdir(sut.root, path + "/" + inner)) == 0);
        }
        CHECK(error_of(sut->rmdir(sut.root, path)) == 0);
      } else {
        CHECK(error_of(sut->unlink(sut.root, path)) == 0);
      }
    }
    CHECK(sut.stat(top).links == 2);
    CHECK(error_of(sut->rmdir(sut.root, top)) == 0);
  }
  CHECK(sut->counters().open_files == 0);
}

LIBSERVICES_OVER_EVERY_STACK(tree_open);
LIBSERVICES_OVER_EVERY_STACK(tree_tmpfile);
LIBSERVICES_OVER_EVERY_STACK(tree_remove);
LIBSERVICES_OVER_EVERY_STACK(tree_links);
LIBSERVICES_OVER_EVERY_STACK(tree_rename);
LIBSERVICES_OVER_EVERY_STACK(tree_listing);
LIBSERVICES_OVER_EVERY_STACK(tree_listing_offsets);
TEST_CASE_TEMPLATE_INVOKE(tree_listing_offsets, OverEndMarked);
LIBSERVICES_OVER_EVERY_STACK(tree_xattrs);
LIBSERVICES_OVER_EVERY_STACK(tree_threads);

}  // namespace libservices::testing
