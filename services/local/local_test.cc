// SPDX-License-Identifier: Apache-2.0
#include "services/local/local.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_directory.h"

namespace libservices {
namespace {

namespace files = std::filesystem;

const Context kRoot;

template <class T>
int error_of(const Result<T>& result) {
  return result.ok() ? 0 : result.error().value;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : files::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}

// A directory `tree` with a started Local on it, and room beside it.
class Bench {
 public:
  explicit Bench(std::size_t most_descriptors = 0, bool exclusive = false) {
    ::umask(0);
    local = std::make_unique<Local>(Local::Config{.directory = path(),
                                                  .work = {},
                                                  .exclusive = exclusive,
                                                  .map_reads = true,
                                                  .most_descriptors = most_descriptors});
    start();
  }
  ~Bench() {
    if (local) CHECK(local->stop().ok());
  }

  void start() {
    const absl::Status started = local->start();
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    root = local->root(kRoot)->node;
  }
  std::string path(const std::string& below = {}) const {
    return tree_ + (below.empty() ? "" : "/" + below);
  }
  const std::string& top() const { return scratch_.path(); }

  Local::Node make(std::string_view name, const NewNode& fresh = {.mode = 0644}) {
    auto made = local->create(kRoot, root, name, fresh, {O_RDWR});
    REQUIRE(made.ok());
    CHECK(error_of(local->close(kRoot, made->file)) == 0);
    return made->node;
  }
  Local::Node find(const Local::Node& directory, std::string_view name) {
    auto found = local->lookup(kRoot, directory, name);
    REQUIRE_MESSAGE(found.ok(), std::string(name), ": ", std::strerror(error_of(found)));
    return found->node;
  }
  void write(const Local::Node& node, std::string_view text) {
    auto opened = local->open(kRoot, node, {O_WRONLY | O_TRUNC});
    REQUIRE(opened.ok());
    CHECK(*local->write(kRoot, opened->file, 0, bytes_of(text)) == text.size());
    CHECK(error_of(local->close(kRoot, opened->file)) == 0);
  }
  std::string read(const Local::Node& node) {
    auto opened = local->open(kRoot, node, {O_RDONLY});
    REQUIRE(opened.ok());
    std::string text(1000, '\0');
    auto count = local->read(kRoot, opened->file, 0, std::as_writable_bytes(std::span(text)));
    REQUIRE(count.ok());
    text.resize(*count);
    CHECK(error_of(local->close(kRoot, opened->file)) == 0);
    return text;
  }

  std::unique_ptr<Local> local;
  Local::Node root;

 private:
  const testing::ScratchDirectory scratch_{testing::kTmpfs};
  const std::string tree_ = scratch_.directory("tree");
};

TEST_CASE("a directory that cannot be used is refused in words") {
  Local missing({.directory = "/nonexistent/place", .work = {}});
  const absl::Status refused = missing.start();
  CHECK(absl::IsNotFound(refused));
  CHECK(std::string(refused.message()).find("/nonexistent/place") != std::string::npos);
  Local file({.directory = "/proc/self/status", .work = {}});
  CHECK(!file.start().ok());
}

TEST_CASE("only names are names") {
  Bench bench;
  for (const std::string_view name :
       {std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("a/b"), std::string_view("/etc"), std::string_view("a\0b", 3)}) {
    CHECK(error_of(bench.local->lookup(kRoot, bench.root, name)) == EINVAL);
    CHECK(error_of(bench.local->create(kRoot, bench.root, name, {}, {O_RDWR})) == EINVAL);
    CHECK(error_of(bench.local->mkdir(kRoot, bench.root, name, {})) == EINVAL);
    CHECK(error_of(bench.local->unlink(kRoot, bench.root, name)) == EINVAL);
    CHECK(error_of(bench.local->rename(kRoot, bench.root, "f", bench.root, name,
                                       RenameMode::kReplace)) == EINVAL);
  }
  const std::string long_name(256, 'x');
  CHECK(error_of(bench.local->lookup(kRoot, bench.root, long_name)) == ENAMETOOLONG);
  const Local::Node file = bench.make("f");
  CHECK(error_of(bench.local->lookup(kRoot, file, "x")) == ENOTDIR);
}

TEST_CASE("symbolic links are objects and lead nowhere") {
  Bench bench;
  std::ofstream(bench.top() + "/secret") << "secret";
  files::create_symlink("../secret", bench.path("file"));
  files::create_directory_symlink("..", bench.path("up"));
  const Local::Node link = bench.find(bench.root, "file");
  CHECK(error_of(bench.local->open(kRoot, link, {O_RDONLY})) == ELOOP);
  CHECK(error_of(bench.local->lookup(kRoot, bench.find(bench.root, "up"), "secret")) == ENOTDIR);
  AttributeChanges changes;
  changes.which = AttributeChanges::kUid | AttributeChanges::kMtime;
  changes.uid = ::geteuid();
  changes.mtime = {1000, 5, 0};
  auto changed = bench.local->setattr(kRoot, link, changes);
  REQUIRE(changed.ok());
  CHECK(changed->mtime == Timestamp{1000, 5, 0});
  changes.which = AttributeChanges::kMode;
  CHECK(error_of(bench.local->setattr(kRoot, link, changes)) == EOPNOTSUPP);
  CHECK(text_of(bench.top() + "/secret") == "secret");
}

TEST_CASE("while the host exchanges a file and a link, nothing outside is reached") {
  Bench bench;
  files::create_directory(bench.top() + "/outside");
  std::ofstream(bench.top() + "/outside/f") << "outside";
  files::create_directory(bench.path("d"));
  std::ofstream(bench.path("d/f")) << "inside";
  files::create_directory_symlink(bench.top() + "/outside", bench.path("l"));
  std::atomic<bool> stop{false};
  std::thread host([&] {
    while (!stop) {
      ::renameat2(AT_FDCWD, bench.path("d").c_str(), AT_FDCWD, bench.path("l").c_str(),
                  2U /* RENAME_EXCHANGE */);
    }
  });
  int reached = 0;
  for (int i = 0; i < 20000; ++i) {
    auto directory = bench.local->lookup(kRoot, bench.root, "d");
    REQUIRE(directory.ok());
    auto found = bench.local->lookup(kRoot, directory->node, "f");
    if (!found.ok()) {
      const int error = error_of(found);
      CHECK_MESSAGE((error == ENOTDIR || error == ESTALE), std::strerror(error));
      continue;
    }
    auto opened = bench.local->open(kRoot, found->node, {O_RDONLY});
    if (!opened.ok()) continue;
    std::array<std::byte, 16> text;
    CHECK(*bench.local->read(kRoot, opened->file, 0, text) == 6);
    CHECK(std::memcmp(text.data(), "inside", 6) == 0);
    ++reached;
  }
  stop = true;
  host.join();
  MESSAGE("reached the file inside ", reached, " times");
}

TEST_CASE("30,000 known files need few descriptors, and each is found again") {
  Bench bench(64);
  constexpr int kFiles = 30000;
  std::vector<Local::Node> nodes;
  auto directory = bench.local->mkdir(kRoot, bench.root, "d", {.mode = 0755});
  REQUIRE(directory.ok());
  for (int i = 0; i < kFiles; ++i) {
    auto made =
        bench.local->create(kRoot, directory->node, std::to_string(i), {.mode = 0644}, {O_RDWR});
    REQUIRE(made.ok());
    nodes.push_back(made->node);
  }
  CHECK(open_descriptors() < 200);
  AttributeChanges changes;  // needs a descriptor of each
  changes.which = AttributeChanges::kMtime;
  for (int i = 0; i < kFiles; ++i) {
    changes.mtime = {i, 0, 0};
    REQUIRE(error_of(bench.local->setattr(kRoot, nodes[i], changes)) == 0);
  }
  CHECK(open_descriptors() < 200);
  CHECK(bench.local->kept_descriptors() <= 64 + 8);
  for (int i = 0; i < kFiles; i += 7) {
    auto seen = bench.local->getattr(kRoot, nodes[i]);
    REQUIRE(seen.ok());
    CHECK(seen->mtime.seconds == i);
  }
}

TEST_CASE("all that there are share the descriptors that are kept") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit few{1024, limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  {
    std::deque<Local> others;
    for (int i = 0; i < 31; ++i) others.emplace_back(Local::Config{});
    Bench bench;
    std::vector<Local::Node> nodes;
    for (int i = 0; i < 100; ++i) {
      files::create_directories(bench.path("d" + std::to_string(i) + "/below"));
      nodes.push_back(bench.local->lookup(kRoot, bench.root, "d" + std::to_string(i))->node);
      CHECK(bench.local->lookup(kRoot, nodes.back(), "below").ok());
    }
    CHECK(bench.local->kept_descriptors() <= 1024 / 4 / 32 + 1);
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

TEST_CASE("moved objects are found again, also those that were never opened") {
  Bench bench(8);
  files::create_directories(bench.path("a/b"));
  std::ofstream(bench.path("a/b/f")) << "text";
  files::create_directory(bench.path("c"));
  const Local::Node a = bench.find(bench.root, "a");
  const Local::Node b = bench.find(a, "b");
  const Local::Node f = bench.find(b, "f");
  const Local::Node c = bench.find(bench.root, "c");
  CHECK(error_of(bench.local->rename(kRoot, a, "b", c, "moved", RenameMode::kReplace)) == 0);
  CHECK(error_of(bench.local->rename(kRoot, b, "f", bench.root, "g", RenameMode::kNoReplace)) == 0);
  for (int i = 0; i < 100; ++i) {  // the clock goes round
    AttributeChanges changes;
    changes.which = AttributeChanges::kMode;
    changes.mode = 0600;
    CHECK(error_of(bench.local->setattr(kRoot, bench.make("x" + std::to_string(i)), changes)) == 0);
  }
  CHECK(bench.read(f) == "text");
  CHECK(error_of(bench.local->getattr(kRoot, b)) == 0);
  bench.make("other");
  CHECK(error_of(bench.local->rename(kRoot, bench.root, "g", bench.root, "other",
                                     RenameMode::kExchange)) == 0);
  CHECK(bench.read(bench.find(bench.root, "other")) == "text");
  CHECK(bench.find(bench.root, "other") == f);
}

TEST_CASE("a node stays good when its last name goes, whoever was given its place") {
  Bench bench(8);
  const Local::Node unlinked = bench.make("a");
  bench.write(unlinked, "one");
  const Local::Node replaced = bench.make("b");
  bench.write(replaced, "two");
  bench.make("c");
  auto directory = bench.local->mkdir(kRoot, bench.root, "d", {.mode = 0755});
  REQUIRE(directory.ok());
  CHECK(error_of(bench.local->unlink(kRoot, bench.root, "a")) == 0);
  CHECK(error_of(bench.local->rename(kRoot, bench.root, "c", bench.root, "b",
                                     RenameMode::kReplace)) == 0);
  CHECK(error_of(bench.local->rmdir(kRoot, bench.root, "d")) == 0);
  for (int i = 0; i < 200; ++i) {
    const Local::Node other = bench.make("x" + std::to_string(i));
    bench.write(other, "x");
  }
  CHECK(bench.read(unlinked) == "one");
  CHECK(bench.read(replaced) == "two");
  CHECK(bench.local->getattr(kRoot, unlinked)->links == 0);
  CHECK(error_of(bench.local->getattr(kRoot, directory->node)) == 0);
  CHECK(error_of(bench.local->lookup(kRoot, directory->node, "x")) == ENOENT);
}

TEST_CASE("hard links: each name may go first") {
  Bench bench(8);
  const Local::Node node = bench.make("a");
  bench.write(node, "text");
  REQUIRE(bench.local->link(kRoot, node, bench.root, "b").ok());
  CHECK(bench.find(bench.root, "a") == bench.find(bench.root, "b"));
  CHECK(error_of(bench.local->unlink(kRoot, bench.root, "b")) == 0);
  CHECK(bench.read(node) == "text");
  REQUIRE(bench.local->link(kRoot, node, bench.root, "c").ok());
  CHECK(error_of(bench.local->unlink(kRoot, bench.root, "a")) == 0);
  CHECK(bench.read(node) == "text");
  CHECK(bench.local->getattr(kRoot, node)->links == 1);
}

TEST_CASE("an object that the host put in the place of another is not taken for it") {
  Bench bench;
  const Local::Node node = bench.make("f");
  std::ofstream(bench.path("new")) << "new";
  files::rename(bench.path("new"), bench.path("f"));
  const int error = error_of(bench.local->open(kRoot, node, {O_WRONLY | O_TRUNC}));
  CHECK(error == ESTALE);
  CHECK(error_of(bench.local->getattr(kRoot, node)) == ESTALE);
  CHECK(text_of(bench.path("f")) == "new");
  CHECK(bench.read(bench.find(bench.root, "f")) == "new");
}

TEST_CASE("an open file serves the calls on its object, whatever the host does to the name") {
  Bench bench;
  const Local::Node node = bench.make("a");
  auto opened = bench.local->open(kRoot, node, {O_RDONLY});
  REQUIRE(opened.ok());
  auto second = bench.local->open(kRoot, node, {O_RDONLY});
  REQUIRE(second.ok());
  REQUIRE(::unlink(bench.path("a").c_str()) == 0);
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = 0600;
  CHECK(error_of(bench.local->setattr(kRoot, node, changes)) == 0);
  CHECK(bench.local->getattr(kRoot, node)->permissions() == 0600);
  CHECK(bench.local->getattr(kRoot, node)->links == 0);
  CHECK(error_of(bench.local->close(kRoot, opened->file)) == 0);
  CHECK(error_of(bench.local->getattr(kRoot, node)) == 0);
  CHECK(error_of(bench.local->close(kRoot, second->file)) == 0);
  CHECK(error_of(bench.local->getattr(kRoot, node)) == ESTALE);
}

TEST_CASE("an open that truncates an empty file changes its time, also one to read alone") {
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
    Bench bench;
    std::ofstream(bench.path("f")).flush();
    const auto before = files::file_time_type(std::chrono::seconds(1000));
    files::last_write_time(bench.path("f"), before);
    auto opened = bench.local->open(kRoot, bench.find(bench.root, "f"), {flags | O_TRUNC});
    REQUIRE(opened.ok());
    CHECK(files::last_write_time(bench.path("f")) != before);
    CHECK(error_of(bench.local->close(kRoot, opened->file)) == 0);
  }
}

TEST_CASE("new objects have their owner and mode, whatever the umask") {
  if (::geteuid() != 0) {
    MESSAGE("SKIPPED: only root can give files to others");
    return;
  }
  Bench bench;
  ::umask(027);
  const NewNode fresh{.mode = 06755, .uid = 1234, .gid = 4321};
  bench.make("f", fresh);
  REQUIRE(bench.local->mkdir(kRoot, bench.root, "d", fresh).ok());
  NewNode fifo = fresh;
  fifo.mode |= S_IFIFO;
  REQUIRE(bench.local->mknod(kRoot, bench.root, "p", fifo).ok());
  auto hidden = bench.local->tmpfile(kRoot, bench.root, fresh, {O_RDWR});
  REQUIRE(hidden.ok());
  REQUIRE(bench.local->link(kRoot, hidden->node, bench.root, "t").ok());
  ::umask(0);
  for (const char* name : {"f", "d", "p", "t"}) {
    struct stat seen;
    REQUIRE(::lstat(bench.path(name).c_str(), &seen) == 0);
    CHECK_MESSAGE((seen.st_mode & 07777) == 06755, name);
    CHECK(seen.st_uid == 1234);
    CHECK(seen.st_gid == 4321);
  }
  CHECK(error_of(bench.local->open(kRoot, bench.find(bench.root, "p"), {O_RDONLY})) == ENXIO);
  auto link = bench.local->symlink(kRoot, bench.root, "l", "target", fresh);
  REQUIRE(link.ok());
  CHECK(link->attributes.uid == 1234);
}

TEST_CASE("a full volume says so, and what was written stays") {
  Bench bench;
  const std::string volume = bench.path("volume");
  files::create_directory(volume);
  if (::mount("tmpfs", volume.c_str(), "tmpfs", 0, "size=256k") != 0) {
    MESSAGE("SKIPPED: mounting needs root");
    return;
  }
  CHECK(error_of(bench.local->lookup(kRoot, bench.root, "volume")) == EXDEV);
  {
    Local local({.directory = volume, .work = {}});
    REQUIRE(local.start().ok());
    auto root = local.root(kRoot);
    REQUIRE(root.ok());
    auto made = local.create(kRoot, root->node, "f", {.mode = 0644}, {O_RDWR});
    REQUIRE(made.ok());
    const std::string much(1 << 20, 'x');
    auto written = local.write(kRoot, made->file, 0, bytes_of(much));
    REQUIRE(written.ok());
    CHECK(*written > 0);
    CHECK(*written < much.size());
    CHECK(error_of(local.write(kRoot, made->file, *written, bytes_of(much))) == ENOSPC);
    CHECK(local.getattr(kRoot, made->node)->size == *written);
    CHECK(local.statfs(kRoot, root->node)->blocks_available == 0);
    // The default work directory would be on the other volume.
    CHECK(error_of(local.staging(kRoot, Staging::kDrafts)) == EXDEV);
    CHECK(error_of(local.close(kRoot, made->file)) == 0);
    CHECK(local.stop().ok());
  }
  CHECK(::umount(volume.c_str()) == 0);
}

TEST_CASE("a work directory serves one instance at a time and is emptied for it") {
  Bench bench;
  files::create_directories(bench.path() + ".work/staging/left/over");
  files::create_symlink("/etc", bench.path() + ".work/staging/link");
  std::ofstream(bench.path() + ".work/kept") << "kept";
  auto staging = bench.local->staging(kRoot, Staging::kDrafts);
  REQUIRE(staging.ok());
  CHECK(files::is_empty(bench.path() + ".work/staging"));
  CHECK(text_of(bench.path() + ".work/kept") == "kept");
  REQUIRE(bench.local->mkdir(kRoot, *staging, "whole", {.mode = 0755}).ok());
  CHECK(error_of(bench.local->rename(kRoot, *staging, "whole", bench.root, "whole",
                                     RenameMode::kReplace)) == 0);
  CHECK(files::is_directory(bench.path("whole")));
  CHECK(error_of(bench.local->lookup(kRoot, bench.root, "tree.work")) == ENOENT);

  Local second({.directory = bench.path(), .work = {}});
  const absl::Status refused = second.start();
  CHECK(absl::IsAlreadyExists(refused));
  CHECK(std::string(refused.message()).find("in use by another service") != std::string::npos);

  files::create_directory(bench.top() + "/other");
  Local inside({.directory = bench.path(), .work = bench.path("whole")});
  CHECK(absl::IsInvalidArgument(inside.start()));
}

TEST_CASE("a second instance that needs the work directory later is told EBUSY") {
  Bench bench;
  Local second({.directory = bench.path(), .work = {}});
  REQUIRE(second.start().ok());
  REQUIRE(bench.local->staging(kRoot, Staging::kDrafts).ok());
  CHECK(error_of(second.staging(kRoot, Staging::kDrafts)) == EBUSY);
  CHECK(second.stop().ok());
}

TEST_CASE("a listing goes on where its reader stopped, also when entries go") {
  Bench bench;
  std::set<std::string> expected;
  for (int i = 0; i < 500; ++i) {
    const std::string name = "file" + std::to_string(i);
    bench.make(name);
    expected.insert(name);
  }
  auto opened = bench.local->open(kRoot, bench.root, {O_RDONLY | O_DIRECTORY});
  REQUIRE(opened.ok());
  std::set<std::string> found;
  std::uint64_t after = 0;
  for (;;) {
    int accepted = 0;
    REQUIRE(error_of(bench.local->readdir(kRoot, opened->file, after, Listing::kAttributes,
                                          [&](const DirEntry& entry) {
                                            if (accepted == 7) return false;
                                            CHECK(entry.cookie != 0);
                                            REQUIRE(entry.attributes != nullptr);
                                            CHECK(entry.attributes->inode == entry.inode);
                                            CHECK(found.emplace(entry.name).second);
                                            after = entry.cookie;
                                            ++accepted;
                                            return true;
                                          })) == 0);
    if (accepted == 0) break;
    CHECK(error_of(bench.local->unlink(kRoot, bench.root, *found.rbegin())) ==
          (expected.count(*found.rbegin()) != 0 && files::exists(bench.path(*found.rbegin()))
               ? 0
               : ENOENT));
  }
  CHECK(found == expected);
}

TEST_CASE("threads that make, move and remove the same names never lose a node they hold") {
  Bench bench(16, true);
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1500; ++i) {
        const std::string name = "n" + std::to_string((i + t) % 5);
        const std::string other = "n" + std::to_string((i + 3 * t + 1) % 5);
        auto made = bench.local->create(kRoot, bench.root, name, {.mode = 0644}, {O_RDWR});
        if (made.ok()) (void)bench.local->close(kRoot, made->file);
        auto found = bench.local->lookup(kRoot, bench.root, other);
        (void)bench.local->rename(kRoot, bench.root, name, bench.root, other,
                                  i % 3 == 0 ? RenameMode::kExchange : RenameMode::kReplace);
        if (i % 4 == 0) (void)bench.local->unlink(kRoot, bench.root, other);
        if (made.ok() && !bench.local->getattr(kRoot, made->node).ok()) ++lost;
        if (found.ok() && !bench.local->getattr(kRoot, found->node).ok()) ++lost;
        if (found.ok() && !bench.local->open(kRoot, found->node, {O_RDONLY}).ok()) ++lost;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(lost == 0);
  CHECK(open_descriptors() < 100);
}

constexpr std::size_t kMapped = 1 << 20;

// How many mappings of a file below `directory` this process has.
std::size_t mappings_of(const std::string& directory) {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(directory + "/") != std::string::npos) ++count;
  }
  return count;
}

TEST_CASE("what is read again is mapped, and shows what every other call shows") {
  Bench bench;
  std::string text(kMapped, 'a');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  auto made = bench.local->create(kRoot, bench.root, "f", {.mode = 0644}, {O_RDWR});
  REQUIRE(made.ok());
  REQUIRE(bench.local->write(kRoot, made->file, 0, bytes_of(text)).ok());
  std::string back(2 * kMapped, '?');
  const auto read = [&](std::uint64_t offset, std::size_t size) {
    const auto count = bench.local->read(kRoot, made->file, offset,
                                         std::as_writable_bytes(std::span(back.data(), size)));
    REQUIRE(count.ok());
    return std::string_view(back.data(), *count);
  };
  for (int pass = 0; pass < 4; ++pass) {
    CAPTURE(pass);
    CHECK(read(0, kMapped) == text);
    CHECK(read(1, 2 * kMapped) == std::string_view(text).substr(1));
    CHECK(read(kMapped - 5, 65536) == std::string_view(text).substr(kMapped - 5));
    CHECK(read(kMapped, 65536).empty());
    CHECK(read(kMapped + 77, 65536).empty());
  }
  CHECK(mappings_of(bench.path()) == 1);
  // A change, a longer file, a shorter one.
  REQUIRE(bench.local->write(kRoot, made->file, 3, bytes_of("CHANGED")).ok());
  text.replace(3, 7, "CHANGED");
  CHECK(read(0, kMapped) == text);
  REQUIRE(bench.local->write(kRoot, made->file, kMapped, bytes_of("and more")).ok());
  text += "and more";
  CHECK(read(0, 2 * kMapped) == text);
  files::resize_file(bench.path("f"), 100);
  CHECK(read(0, kMapped) == std::string_view(text).substr(0, 100));
  CHECK(read(100, kMapped).empty());
  CHECK(bench.local->close(kRoot, made->file).ok());
  made->file.reset();
  CHECK(mappings_of(bench.path()) == 0);
}

TEST_CASE("a file that is cut again and again while it is read harms nobody") {
  Bench bench;
  const std::string text(kMapped, 'x');
  auto made = bench.local->create(kRoot, bench.root, "f", {.mode = 0644}, {O_RDWR});
  REQUIRE(made.ok());
  REQUIRE(bench.local->write(kRoot, made->file, 0, bytes_of(text)).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<int> whole{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      std::string back(kMapped, '?');
      while (!stop.load()) {
        const auto count =
            bench.local->read(kRoot, made->file, 0, std::as_writable_bytes(std::span(back)));
        if (!count.ok() || *count > kMapped) {
          ++wrong;
          continue;
        }
        for (std::size_t i = 0; i < *count; i += 1021) {
          if (back[i] != 'x' && back[i] != '\0') ++wrong;
        }
        if (*count == kMapped) ++whole;
      }
    });
  }
  while (whole.load() < 20) std::this_thread::yield();
  for (int i = 0; i < 300; ++i) {
    files::resize_file(bench.path("f"), static_cast<std::uintmax_t>(i % 3) * 5000);
    files::resize_file(bench.path("f"), kMapped);
    if (i % 10 == 0) std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong.load() == 0);
}

}  // namespace
}  // namespace libservices
