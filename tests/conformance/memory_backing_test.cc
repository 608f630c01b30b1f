// SPDX-License-Identifier: Apache-2.0
//
// Files of Memory that others have by descriptor: how they move, and how many there may be.
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "libservices/sources/memory.h"
#include "libservices/testing/instance.h"

namespace libservices::testing {
namespace {

struct MemoryStack {
  using Service = Memory;
  Memory::Config config() { return {}; }
};

std::size_t descriptors() {
  std::size_t count = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    count += each.path().empty() ? 0 : 1;
  }
  return count;
}

// A process that may have this many descriptors.
class Limit {
 public:
  explicit Limit(rlim_t most) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit now{most, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
  }
  ~Limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_CASE("a memfd that others have to keep stays the file's, however many there are") {
  constexpr std::size_t kMost = 32;
  const Limit limit(8 * kMost);
  Instance<MemoryStack> fs;
  const auto kept = fs.make(fs.root(), "kept", "before");
  auto file = fs.open(kept, O_RDWR);
  const int theirs =
      ::dup(must(fs.service.backing(fs.context, file, BackingUse::kLasting)).descriptor);
  fs.close(file);
  for (std::size_t i = 0; i < 2 * kMost; ++i) {
    auto other = fs.open(fs.make(fs.root(), "f" + std::to_string(i), "x"), O_RDWR);
    must(fs.service.backing(fs.context, other, BackingUse::kWhileOpen));
    fs.close(other);
  }
  REQUIRE(::pwrite(theirs, "behind", 6, 0) == 6);
  CHECK(fs.content(kept) == "behind");
  must(fs.service.unlink(fs.context, fs.root(), "kept"));
  ::close(theirs);
}

TEST_CASE("of too many memfds those that nobody uses become pages again") {
  constexpr std::size_t kMost = 32;  // an eighth of the limit
  const Limit limit(8 * kMost);
  Instance<MemoryStack> fs;
  const std::size_t before = descriptors();
  std::vector<Memory::Node> nodes;
  for (std::size_t i = 0; i < 3 * kMost; ++i) {
    nodes.push_back(fs.make(fs.root(), "f" + std::to_string(i), std::string(i * 300, 'a')));
    auto file = fs.open(nodes.back(), O_RDWR);
    const Backing backing = must(fs.service.backing(fs.context, file, BackingUse::kWhileOpen));
    REQUIRE(::pwrite(backing.descriptor, "outside", 7, static_cast<off_t>(i * 5000)) == 7);
    fs.close(file);
  }
  CHECK(descriptors() <= before + kMost);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    std::string expected(i * 300, 'a');
    if (expected.size() < i * 5000 + 7) expected.resize(i * 5000 + 7);
    expected.replace(i * 5000, 7, "outside");
    CHECK((fs.content(nodes[i]) == expected));
  }

  std::vector<Memory::File> used;
  for (std::size_t i = 0; i < kMost; ++i) {
    used.push_back(fs.open(nodes[i]));
    must(fs.service.backing(fs.context, used.back(), BackingUse::kWhileOpen));
  }
  auto one_more = fs.open(nodes[kMost]);
  CHECK(error_of(fs.service.backing(fs.context, one_more, BackingUse::kWhileOpen)) == EOPNOTSUPP);
  fs.close(used.front());
  CHECK(fs.service.backing(fs.context, one_more, BackingUse::kWhileOpen).ok());
  fs.close(one_more);
  for (std::size_t i = 1; i < kMost; ++i) fs.close(used[i]);
  used.clear();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    must(fs.service.unlink(fs.context, fs.root(), "f" + std::to_string(i)));
  }
  nodes.clear();
  CHECK(descriptors() == before);  // they go with their files
}

TEST_CASE("what is written while a file moves is there afterwards") {
  constexpr int kFiles = 16;
  constexpr int kWriters = 3;
  constexpr std::uint64_t kBytes = 300;
  const Limit limit(8 * 4);  // so that they move back too
  Instance<MemoryStack> fs;
  std::vector<Memory::Node> nodes;
  for (int i = 0; i < kFiles; ++i) nodes.push_back(fs.make(fs.root(), "f" + std::to_string(i)));
  std::atomic<int> writing{kWriters};
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      for (int i = 0; i < kFiles; ++i) {
        auto opened = fs.service.open(fs.context, nodes[static_cast<std::size_t>(i)], {O_RDWR});
        const std::string mark(1, static_cast<char>('0' + writer));
        for (std::uint64_t at = 0; at < kBytes; ++at) {
          const auto done =
              fs.service.write(fs.context, opened->file,
                               at * 100 + static_cast<std::uint64_t>(writer), bytes_of(mark));
          failed += done.ok() ? 0 : 1;
        }
      }
      --writing;
    });
  }
  for (std::size_t i = 0; writing.load() != 0; ++i) {
    auto opened = fs.service.open(fs.context, nodes[i % kFiles], {O_RDONLY});
    (void)fs.service.backing(fs.context, opened->file, BackingUse::kWhileOpen);
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  for (const Memory::Node& node : nodes) {
    std::string expected((kBytes - 1) * 100 + kWriters, '\0');
    for (std::uint64_t at = 0; at < kBytes; ++at) expected.replace(at * 100, 3, "012");
    CHECK((fs.content(node) == expected));
  }
}

TEST_CASE("with a capacity nobody writes past it, so there is no descriptor") {
  Memory memory({.capacity_bytes = 1 << 20});
  const Context context;
  const auto root = must(memory.root(context)).node;
  auto made = must(memory.create(context, root, "f", {.mode = 0644}, {O_RDWR}));
  CHECK(error_of(memory.backing(context, made.file, BackingUse::kWhileOpen)) == EOPNOTSUPP);
}

}  // namespace
}  // namespace libservices::testing
