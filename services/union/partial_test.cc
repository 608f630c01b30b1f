// SPDX-License-Identifier: Apache-2.0
//
// Files that were copied up in part: what is copied, what is read, and what is there after a
// restart, a power cut and a change of the lower file.
#include <doctest/doctest.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "libservices/layers/forwarding.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/support/scratch_directory.h"

namespace libservices {
namespace {

namespace host = std::filesystem;

// A branch whose host can be said to have been booted anew.
class Host : public Forwarding<Local> {
 public:
  using Forwarding::Forwarding;
  std::uint64_t data_epoch() const { return epoch; }
  static inline std::uint64_t epoch = 1;
};

using Tested = Union<Host, Host>;
constexpr std::uint64_t kChunk = 65536;
constexpr std::uint64_t kAttributeBlock = 4096;  // counted among a file's blocks by ext4
const Context kMe{};

// A union over one lower with the file `f`, and plain calls on that file.
struct Bench {
  explicit Bench(std::uint64_t size = 1'000'000, bool durable = true) : durable(durable) {
    std::mt19937_64 random(size);
    content.resize(size);
    for (char& byte : content) byte = static_cast<char>(random());
    for (const char* name : {"upper", "lower", "work"}) scratch.directory(name);
    std::ofstream(lower_file(), std::ios::binary) << content;
    start();
  }
  ~Bench() { stop(); }

  std::string lower_file() const { return scratch.directory("lower") + "/f"; }
  std::string upper_file() const { return scratch.directory("upper") + "/f"; }
  void start() {
    fs.emplace(Tested::Config{
        .upper = {{.directory = scratch.directory("upper"), .work = scratch.directory("work")}},
        .lowers = {{{.directory = scratch.directory("lower"), .work = {}}}},
        .durable = durable});
    const absl::Status started = fs->start();
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
  }
  void stop() {
    if (!fs) return;
    CHECK(fs->stop().ok());
    fs.reset();
  }
  void restart() {
    stop();
    start();
  }

  Tested::Node find(std::string_view name = "f") {
    auto found = fs->lookup(kMe, fs->root(kMe)->node, name);
    REQUIRE(found.ok());
    return found->node;
  }
  Tested::File open(int flags) {
    auto opened = fs->open(kMe, find(), OpenFlags{flags});
    REQUIRE(opened.ok());
    return std::move(opened->file);
  }
  void close(Tested::File& file) { CHECK(fs->close(kMe, file).ok()); }
  template <class Work>
  void with_file(int flags, Work&& work) {
    auto file = open(flags);
    work(file);
    close(file);
  }
  Result<std::string> read_all(std::string_view name = "f") {
    LIBSERVICES_TRY(auto opened, fs->open(kMe, find(name), OpenFlags{O_RDONLY}));
    std::string text(opened.attributes.size + 10, '\0');
    auto count = fs->read(kMe, opened.file, 0, std::as_writable_bytes(std::span(text)));
    (void)fs->close(kMe, opened.file);
    if (!count.ok()) return count.error();
    text.resize(*count);
    return text;
  }
  void write(std::uint64_t offset, const std::string& text) {
    with_file(O_WRONLY, [&](Tested::File& file) {
      auto count = fs->write(kMe, file, offset, std::as_bytes(std::span(text)));
      REQUIRE(count.ok());
      CHECK(*count == text.size());
    });
    if (content.size() < offset + text.size()) content.resize(offset + text.size());
    content.replace(offset, text.size(), text);
  }
  void resize(std::uint64_t size) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kSize;
    changes.size = size;
    REQUIRE(fs->setattr(kMe, find(), changes).ok());
    content.resize(size);
  }
  std::uint64_t upper_bytes() const {
    struct stat seen {};
    REQUIRE(::stat(upper_file().c_str(), &seen) == 0);
    return static_cast<std::uint64_t>(seen.st_blocks) * 512;
  }
  bool is_marked() const {
    return ::getxattr(upper_file().c_str(), "trusted.overlay.metacopy", nullptr, 0) >= 0;
  }
  std::uint64_t partial_files() { return *fs->partial_files(kMe); }

  const bool durable;
  testing::ScratchDirectory scratch;
  std::string content;
  std::optional<Tested> fs;
};

TEST_CASE("an open for writing copies nothing, and a write no more than its chunks") {
  Bench bench(10'000'000);
  bench.with_file(O_RDWR, [](Tested::File&) {});
  CHECK(bench.upper_bytes() <= kAttributeBlock);
  CHECK(bench.is_marked());
  CHECK(*bench.read_all() == bench.content);
  bench.write(5 * kChunk + 10, "written");
  CHECK(bench.upper_bytes() <= kChunk + kAttributeBlock);
  bench.write(9 * kChunk - 1, "xy");
  CHECK(bench.upper_bytes() <= 3 * kChunk + kAttributeBlock);
  CHECK(*bench.read_all() == bench.content);
  const auto seen = bench.fs->getattr(kMe, bench.find());
  CHECK(seen->size == bench.content.size());
  CHECK(seen->blocks * 512 >= bench.content.size());  // an archiver must not take it for a hole
  CHECK(bench.partial_files() == 1);
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
  CHECK(bench.partial_files() == 1);
}

// A volume whose files can share their storage. Not mounted where that cannot be done.
struct SharingVolume {
  explicit SharingVolume(const testing::ScratchDirectory& scratch)
      : mount(scratch.directory("volume")) {
    const std::string image = scratch.directory("") + "image";
    std::ofstream(image).close();
    host::resize_file(image, 320 << 20);
    const std::string make = "mkfs.xfs -q -m reflink=1 " + image + " && mount -o loop " + image +
                             " " + mount + " 2>/dev/null";
    mounted = std::system(make.c_str()) == 0;
  }
  ~SharingVolume() {
    if (mounted) CHECK(::umount2(mount.c_str(), MNT_DETACH) == 0);
  }
  const std::string mount;
  bool mounted;
};

TEST_CASE("where the branches can share storage, a large file comes up whole and copies nothing") {
  const testing::ScratchDirectory scratch;
  const SharingVolume volume(scratch);
  if (!volume.mounted) {
    MESSAGE("SKIPPED: no volume with reflinks can be mounted here");
    return;
  }
  const std::string content(5'000'000, 'c');
  for (const char* name : {"/upper", "/lower"}) host::create_directory(volume.mount + name);
  std::ofstream(volume.mount + "/lower/f") << content;
  Union<Local, Local> fs({.upper = {.directory = volume.mount + "/upper", .work = {}},
                          .lowers = {{.directory = volume.mount + "/lower", .work = {}}}});
  REQUIRE(fs.start().ok());
  const auto node = fs.lookup(kMe, fs.root(kMe)->node, "f")->node;
  auto opened = fs.open(kMe, node, OpenFlags{O_RDWR});
  REQUIRE(opened.ok());
  REQUIRE(fs.write(kMe, opened->file, 100, std::as_bytes(std::span("new", 3))).ok());
  CHECK(fs.close(kMe, opened->file).ok());
  CHECK(*fs.partial_files(kMe) == 0);
  REQUIRE(fs.stop().ok());
  std::ifstream upper(volume.mount + "/upper/f");
  std::string expected = content;
  expected.replace(100, 3, "new");
  CHECK(std::string(std::istreambuf_iterator<char>(upper), {}) == expected);
}

TEST_CASE("who wants to keep a file's bytes gets the whole file") {
  Bench bench;
  bench.write(3, "abc");
  auto file = bench.open(O_RDWR);
  CHECK(bench.fs->backing(kMe, file, BackingUse::kWhileOpen).error() == Errno{EOPNOTSUPP});
  const auto backing = bench.fs->backing(kMe, file, BackingUse::kLasting);
  REQUIRE(backing.ok());
  CHECK_FALSE(backing->until_changed);
  std::string found(bench.content.size(), '\0');
  CHECK(::pread(backing->descriptor, found.data(), found.size(), 0) ==
        static_cast<ssize_t>(found.size()));
  CHECK((found == bench.content));
  CHECK(*bench.fs->partial_files(kMe, {}) == 0);
  CHECK(bench.fs->close(kMe, file).ok());
}

TEST_CASE("appending copies nothing of the lower file") {
  Bench bench(10'000'001);
  const std::string text(100'000, 'a');
  bench.with_file(O_WRONLY | O_APPEND, [&](Tested::File& file) {
    std::size_t written = 0;
    auto end = bench.fs->append(kMe, file, std::as_bytes(std::span(text)), written);
    REQUIRE(end.ok());
    CHECK(*end == bench.content.size() + text.size());
  });
  bench.content += text;
  CHECK(bench.upper_bytes() <= text.size() + 8192);
  CHECK(*bench.read_all() == bench.content);
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
}

TEST_CASE("what was cut off does not come back when the file grows again") {
  Bench bench(500'000);
  bench.resize(100'000);
  bench.resize(400'000);
  CHECK(*bench.read_all() == bench.content);
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
  bench.write(390'000, std::string(50'000, 'z'));
  bench.resize(450'000);
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
  bench.resize(0);
  CHECK_FALSE(bench.is_marked());
  bench.resize(10);
  bench.restart();
  CHECK(*bench.read_all() == std::string(10, '\0'));
}

TEST_CASE("what a truncation took does not come back, although the service died in it") {
  Bench bench(500'000);
  bench.write(0, "changed");
  bench.stop();
  host::resize_file(bench.upper_file(), 100'000);  // it died before the map knew
  bench.content.resize(100'000);
  bench.start();
  SUBCASE("it grows by truncation") { bench.resize(400'000); }
  SUBCASE("it grows by a write") { bench.write(300'000, "far"); }
  SUBCASE("it grows by an append") {
    bench.with_file(O_WRONLY | O_APPEND, [&](Tested::File& file) {
      std::size_t written = 0;
      const std::string text(200'000, 'a');
      CHECK(bench.fs->append(kMe, file, std::as_bytes(std::span(text)), written).ok());
      bench.content += text;
    });
  }
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
}

TEST_CASE("random calls answer as one plain file does, also after restarts") {
  for (unsigned seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    Bench bench(kChunk + below(1'000'000), seed % 2 == 0);
    for (int step = 0; step < 60; ++step) {
      CAPTURE(step);
      const std::uint64_t offset = below(bench.content.size() + kChunk);
      const std::uint64_t length = 1 + below(step % 3 == 0 ? 3 * kChunk : 100);
      const auto clear = [&](bool grows) {
        if (grows && bench.content.size() < offset + length) bench.content.resize(offset + length);
        for (std::uint64_t i = offset; i < std::min(offset + length, bench.content.size()); ++i) {
          bench.content[i] = '\0';
        }
      };
      const auto allocate = [&](int mode) {
        bench.with_file(O_RDWR, [&](Tested::File& file) {
          REQUIRE(bench.fs->fallocate(kMe, file, mode, offset, length).ok());
        });
      };
      switch (below(9)) {
        case 0:
          bench.resize(below(2) == 0 ? offset : bench.content.size() / 2 + 1);
          break;
        case 1:
          allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
          clear(false);
          break;
        case 2:
          allocate(0);
          if (bench.content.size() < offset + length) bench.content.resize(offset + length);
          break;
        case 3:
          allocate(FALLOC_FL_KEEP_SIZE);
          break;
        case 4:
          bench.with_file(O_RDWR, [&](Tested::File& file) {
            REQUIRE(bench.fs->fsync(kMe, file, SyncScope::kAll).ok());
          });
          break;
        case 5:
          bench.restart();
          break;
        case 6: {
          // Every byte that is not zero lies in what seek calls data.
          auto file = bench.open(O_RDONLY);
          std::uint64_t at = 0;
          while (at < bench.content.size()) {
            auto data = bench.fs->seek(kMe, file, at, SeekTarget::kData);
            const std::uint64_t begins = data.ok() ? *data : bench.content.size();
            for (std::uint64_t i = at; i < begins; ++i) REQUIRE(bench.content[i] == '\0');
            if (!data.ok()) {
              CHECK(data.error() == Errno{ENXIO});
              break;
            }
            auto hole = bench.fs->seek(kMe, file, begins, SeekTarget::kHole);
            REQUIRE(hole.ok());
            REQUIRE(*hole > begins);
            REQUIRE(*hole <= bench.content.size());
            at = *hole;
          }
          bench.close(file);
          break;
        }
        default:
          bench.write(offset, std::string(length, static_cast<char>('a' + step % 26)));
      }
      REQUIRE(*bench.read_all() == bench.content);
    }
    std::uint64_t completed = 0;
    REQUIRE(bench.fs->complete(kMe, completed).ok());
    CHECK_FALSE(bench.is_marked());
    std::ifstream plain(bench.upper_file(), std::ios::binary);
    CHECK(std::string(std::istreambuf_iterator<char>(plain), {}) == bench.content);
    CHECK(bench.partial_files() == 0);
    CHECK(*bench.read_all() == bench.content);
  }
}

TEST_CASE("threads write, read, append to and sync one file at once") {
  constexpr int kWriters = 3;
  constexpr std::uint64_t kRecord = 1000;  // writers own every third one
  Bench bench(40 * kChunk);
  const std::string before = bench.content;
  std::atomic<int> writing{kWriters};
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      std::mt19937_64 random(static_cast<unsigned>(w));
      const std::string text(kRecord, static_cast<char>('A' + w));
      auto file = bench.open(O_WRONLY);
      for (int i = 0; i < 150; ++i) {
        const std::uint64_t record = random() % (before.size() / kRecord / kWriters) * kWriters +
                                     static_cast<std::uint64_t>(w);
        auto count = bench.fs->write(kMe, file, record * kRecord, std::as_bytes(std::span(text)));
        if (!count.ok() || *count != kRecord) break;
        if (i % 20 == 0 && !bench.fs->fsync(kMe, file, SyncScope::kData).ok()) break;
        if (i == 149) --writing;
      }
      (void)bench.fs->close(kMe, file);
    });
  }
  threads.emplace_back([&] {
    auto file = bench.open(O_RDONLY);
    std::string text(kRecord, '\0');
    bool good = true;
    for (std::uint64_t record = 0; good && writing > 0;
         record = (record + 7) % (before.size() / kRecord)) {
      auto count =
          bench.fs->read(kMe, file, record * kRecord, std::as_writable_bytes(std::span(text)));
      const char mark = static_cast<char>('A' + record % kWriters);
      for (std::uint64_t i = 0; i < kRecord; ++i) {
        good = good && (text[i] == mark || text[i] == before[record * kRecord + i]);
      }
      good = good && count.ok() && *count == kRecord;
    }
    if (!good) writing = -1;
    (void)bench.fs->close(kMe, file);
  });
  for (auto& thread : threads) thread.join();
  CHECK(writing == 0);
  const std::string after = *bench.read_all();
  for (std::uint64_t i = 0; i < after.size(); ++i) {
    const char mark = static_cast<char>('A' + i / kRecord % kWriters);
    if (after[i] != before[i] && after[i] != mark) FAIL("byte ", i, " is nobody's");
  }
  bench.restart();
  CHECK(*bench.read_all() == after);
}

TEST_CASE("a map that becomes too long gets larger chunks") {
  Bench bench(200 * 1'000'000, false);
  for (std::uint64_t chunk = 0; chunk < 3000; chunk += 2) {
    bench.with_file(O_WRONLY, [&](Tested::File& file) {
      REQUIRE(bench.fs->write(kMe, file, chunk * kChunk, std::as_bytes(std::span("x", 1))).ok());
    });
    bench.content[chunk * kChunk] = 'x';
  }
  CHECK(::getxattr(bench.upper_file().c_str(), "trusted.overlay.libservices.ranges", nullptr, 0) <=
        static_cast<ssize_t>(union_internal::RangeMap::kMostBytes));
  bench.restart();
  CHECK(*bench.read_all() == bench.content);
}

TEST_CASE("after a power cut a chunk that did not reach storage is the lower's again") {
  Bench bench(10 * kChunk);
  bench.write(kChunk, "synced");
  bench.with_file(O_WRONLY, [&](Tested::File& file) {
    REQUIRE(bench.fs->fsync(kMe, file, SyncScope::kAll).ok());
  });
  const std::string synced = bench.content;
  bench.write(3 * kChunk, "lost");
  bench.write(5 * kChunk + 100, "kept");
  bench.stop();
  // The power cut: of the one chunk nothing was written, of the other all but its second block.
  const auto punch = [&](std::uint64_t offset, std::uint64_t length) {
    const int file = ::open(bench.upper_file().c_str(), O_RDWR);
    REQUIRE(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(offset), static_cast<off_t>(length)) == 0);
    ::close(file);
  };
  punch(3 * kChunk, kChunk);
  punch(5 * kChunk + 4096, 4096);
  ++Host::epoch;
  bench.start();
  std::string expected = synced;
  expected.replace(5 * kChunk + 100, 4, "kept");
  CHECK(*bench.read_all() == expected);
  bench.restart();
  CHECK(*bench.read_all() == expected);
}

TEST_CASE("without a power cut nothing that was written is in doubt") {
  Bench bench(10 * kChunk);
  bench.write(3 * kChunk, "one");
  bench.write(7 * kChunk + 5, "two");
  bench.stop();
  ++Host::epoch;  // an orderly shutdown: all blocks reached storage
  bench.start();
  CHECK(*bench.read_all() == bench.content);
}

TEST_CASE("a lower file that is another one now gives EIO, never other bytes") {
  Bench bench(10 * kChunk);
  bench.write(kChunk, std::string(kChunk, 'k'));
  bench.stop();
  SUBCASE("changed") { std::ofstream(bench.lower_file(), std::ios::app) << "more"; }
  SUBCASE("gone") { host::remove(bench.lower_file()); }
  SUBCASE("a damaged map") {
    REQUIRE(::setxattr(bench.upper_file().c_str(), "trusted.overlay.libservices.ranges",
                       "\1rubbish", 8, 0) == 0);
  }
  bench.start();
  CHECK(bench.fs->getattr(kMe, bench.find())->size == bench.content.size());
  CHECK(bench.read_all().error() == Errno{EIO});
  std::uint64_t completed = 0;
  CHECK(bench.fs->complete(kMe, completed).error() == Errno{EIO});
}

TEST_CASE("a file copied up in part keeps its content through renames, links and another layer") {
  Bench bench(10 * kChunk);
  bench.write(2 * kChunk, "changed");
  const auto root = bench.fs->root(kMe)->node;
  auto made = bench.fs->mkdir(kMe, root, "d", NewNode{0755, 0, 0, 0});
  REQUIRE(made.ok());
  REQUIRE(bench.fs->link(kMe, bench.find(), made->node, "link").ok());
  REQUIRE(bench.fs->rename(kMe, root, "f", made->node, "g", RenameMode::kReplace).ok());
  const auto content_of = [](auto& fs, const char* name) {
    auto d = fs.lookup(kMe, fs.root(kMe)->node, "d");
    REQUIRE(d.ok());
    auto node = fs.lookup(kMe, d->node, name);
    REQUIRE(node.ok());
    auto opened = fs.open(kMe, node->node, OpenFlags{O_RDONLY});
    REQUIRE(opened.ok());
    std::string text(opened->attributes.size, '\0');
    auto count = fs.read(kMe, opened->file, 0, std::as_writable_bytes(std::span(text)));
    REQUIRE(count.ok());
    text.resize(*count);
    CHECK(fs.close(kMe, opened->file).ok());
    return text;
  };
  for (int i = 0; i < 2; ++i) {
    CHECK(content_of(*bench.fs, "g") == bench.content);
    CHECK(content_of(*bench.fs, "link") == bench.content);
    bench.restart();
  }
  bench.stop();
  // The upper is a lower now.
  Tested above({.upper = {{.directory = bench.scratch.directory("top"),
                           .work = bench.scratch.directory("top.work")}},
                .lowers = {{{.directory = bench.scratch.directory("upper"), .work = {}}},
                           {{.directory = bench.scratch.directory("lower"), .work = {}}}}});
  REQUIRE(above.start().ok());
  CHECK(content_of(above, "g") == bench.content);
  auto node = above.lookup(kMe, above.lookup(kMe, above.root(kMe)->node, "d")->node, "g");
  auto opened = above.open(kMe, node->node, OpenFlags{O_WRONLY});
  REQUIRE(opened.ok());
  REQUIRE(above.write(kMe, opened->file, 5 * kChunk, std::as_bytes(std::span("again", 5))).ok());
  REQUIRE(above.close(kMe, opened->file).ok());
  bench.content.replace(5 * kChunk, 5, "again");
  CHECK(content_of(above, "g") == bench.content);
  REQUIRE(above.stop().ok());
}

}  // namespace
}  // namespace libservices
