// SPDX-License-Identifier: Apache-2.0
//
// A process changes the content and names of a few files as fast as it can, and is killed at some
// moment. The next one must find every change that was acknowledged, and of the one that was cut
// short a part, but no byte that was never written. The page cache outlives a process, so that
// holds without any fsync. LIBSERVICES_KILLS and LIBSERVICES_SEED choose how often and which.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <utility>

#include "tests/crash/branches.h"
#include "tests/crash/promises.h"

namespace libservices::testing {
namespace {

constexpr std::uint64_t kMostBytes = 2 << 20;
constexpr std::uint64_t kSizes[] = {10, 5000, 100 << 10, 100 << 10, 1 << 20, 1 << 20};
constexpr std::size_t kFiles = std::size(kSizes);
constexpr std::uint32_t kNames = 4;  // that a file may have, in two directories

using Random = std::mt19937_64;

std::string name_of(std::size_t file, std::uint32_t name) {
  return fmt::format("/{}/file{}{}", name < 2 ? "one" : "two", file, name % 2 == 0 ? "" : "-moved");
}

// What was acknowledged of a file.
struct Known {
  std::uint64_t size;
  std::uint32_t name;
  std::uint32_t mode;
  char content[kMostBytes];
};

// A change, which can be made again on a Known that has it already.
struct Change {
  // The first two may happen in parts.
  enum class Kind : std::uint8_t { kWrite, kAppend, kPunch, kTruncate, kRename, kChmod, kFsync };

  Kind kind;
  std::size_t file;
  std::uint64_t offset, length;
  std::uint32_t value;  // seed, mode or name
  std::uint64_t size;   // of the file afterwards

  void apply(Known& known) const {
    switch (kind) {
      case Kind::kWrite:
      case Kind::kAppend:
        pattern(value, offset, length).copy(known.content + offset, length);
        break;
      case Kind::kPunch:
        std::fill_n(known.content + offset, size > offset ? std::min(length, size - offset) : 0,
                    '\0');
        break;
      case Kind::kTruncate:
        break;
      case Kind::kRename:
        known.name = value;
        break;
      case Kind::kChmod:
        known.mode = value;
        break;
      case Kind::kFsync:
        break;
    }
    std::fill(known.content + size, known.content + kMostBytes, '\0');
    known.size = size;
  }

  Result<void> run(Root& root, const std::string& path) const {
    switch (kind) {
      case Kind::kWrite:
        return write_at(root, path, offset, pattern(value, offset, length));
      case Kind::kAppend:
        return append(root, path, pattern(value, offset, length));
      case Kind::kPunch:
        return punch(root, path, offset, length);
      case Kind::kTruncate:
        return truncate(root, path, size);
      case Kind::kRename:
        return root.rename(kMe, path, testing::name_of(file, value));
      case Kind::kChmod:
        return chmod(root, path, value);
      case Kind::kFsync:
        return write_at(root, path, 0, "", true);
    }
    return {};
  }
};

// What the process that is killed leaves. `change` counts unless `phase` is kIdle.
struct Log {
  enum Phase : int {
    kIdle,
    kRunning,       // it may have happened in part
    kAcknowledged,  // it has happened, and `files` may not say so yet
  };
  std::atomic<int> phase;
  std::atomic<int> wrong;  // of file `change.file`: an errno, or -1 for a content
  std::atomic<bool> started;
  std::atomic<std::uint64_t> acknowledged, synced;
  Change change;
  Known files[kFiles];
};

Change some_change(Random& random, const Log& log) {
  const auto below = [&](std::uint64_t most) {
    return random() % std::max<std::uint64_t>(most, 1);
  };
  Change change{};
  change.file = below(kFiles);
  const Known& known = log.files[change.file];
  change.size = known.size;
  constexpr Change::Kind kOften[] = {
      Change::Kind::kWrite,  Change::Kind::kWrite,    Change::Kind::kWrite,  Change::Kind::kAppend,
      Change::Kind::kAppend, Change::Kind::kTruncate, Change::Kind::kRename, Change::Kind::kRename,
      Change::Kind::kPunch,  Change::Kind::kChmod,    Change::Kind::kFsync};
  change.kind = kOften[below(std::size(kOften))];
  change.value = static_cast<std::uint32_t>(below(1000));
  change.length = 1 + below(below(2) == 0 ? 300 : 200'000);
  change.offset = below(known.size);
  switch (change.kind) {
    case Change::Kind::kAppend:
      change.offset = known.size;
      [[fallthrough]];
    case Change::Kind::kWrite:
      change.length = std::min(change.length, kMostBytes - change.offset);
      change.size = std::max(known.size, change.offset + change.length);
      break;
    case Change::Kind::kTruncate:
      change.size = below(std::min(kMostBytes, known.size * 2));
      break;
    case Change::Kind::kRename:
      change.value = (known.name + 1 + change.value % (kNames - 1)) % kNames;
      break;
    case Change::Kind::kChmod:
      change.value = S_IFREG | 0600U | (change.value & 077U);
      break;
    default:
      break;
  }
  if (change.kind <= Change::Kind::kAppend && change.length == 0)
    change.kind = Change::Kind::kFsync;
  return change;
}

// In the child, until it is killed.
[[noreturn]] void change_all(const Branches& branches, std::uint64_t seed, Log& log) {
  Root root(branches.config(), kSmallCache);
  Random random(seed);
  OpenFilePtr readers[kFiles];  // from before the copy-ups
  const auto is = [&](int wrong) {
    log.wrong = wrong;
    _exit(1);
  };
  if (!root.start().ok()) is(EIO);
  for (std::size_t i = 0; i < kFiles; ++i) {
    auto opened = root.open(kMe, testing::name_of(i, log.files[i].name), {O_RDONLY});
    if (!opened.ok()) is(opened.error().value);
    readers[i] = *std::move(opened);
  }
  log.started = true;
  static char read[kMostBytes];
  for (;;) {
    log.change = some_change(random, log);
    Known& known = log.files[log.change.file];
    log.phase.store(Log::kRunning);
    const auto done = log.change.run(root, testing::name_of(log.change.file, known.name));
    if (!done.ok()) is(done.error().value);
    log.phase.store(Log::kAcknowledged);
    log.change.apply(known);
    log.phase.store(Log::kIdle);
    ++log.acknowledged;
    if (log.change.kind == Change::Kind::kFsync) ++log.synced;
    if (random() % 16 == 0) {
      const auto count =
          root.pread(kMe, *readers[log.change.file], 0, std::as_writable_bytes(std::span(read)));
      if (!count.ok()) is(count.error().value);
      if (*count != known.size || memcmp(read, known.content, known.size) != 0) is(-1);
    }
  }
}

// "" if the file may be so: each byte as it was or as the change makes it. `in_parts`: its size may
// be between.
std::string problem(const std::string& content, const Attributes& at, const Known& known,
                    const Known& changed, bool in_parts) {
  const auto [least, most] = std::minmax(known.size, changed.size);
  const bool between = content.size() > least && content.size() < most;
  if (content.size() < least || content.size() > most || (between && !in_parts)) {
    return fmt::format("size {}, not {} or {}", content.size(), known.size, changed.size);
  }
  for (std::size_t i = 0; i < content.size(); ++i) {
    const bool is_old = i < known.size && content[i] == known.content[i];
    const bool is_new = i < changed.size && content[i] == changed.content[i];
    if (!is_old && !is_new) return fmt::format("byte {} of {} is neither", i, content.size());
  }
  if (at.mode != known.mode && at.mode != changed.mode) return fmt::format("mode {:o}", at.mode);
  return "";
}

// Compares what is there with the log, and makes the log say what is there.
void check(const Branches& branches, Log& log) {
  Running root(branches);
  CHECK(branches.staged() == 0);
  const Change& cut = log.change;
  if (log.phase == Log::kAcknowledged) cut.apply(log.files[cut.file]);
  std::size_t names = 0;
  static Known changed;
  for (std::size_t i = 0; i < kFiles; ++i) {
    Known& known = log.files[i];
    memcpy(&changed, &known, sizeof known);
    const bool was_cut = log.phase == Log::kRunning && cut.file == i;
    CAPTURE(i);
    CAPTURE(was_cut);
    const int kind = was_cut ? static_cast<int>(cut.kind) : -1;
    CAPTURE(kind);
    if (was_cut) cut.apply(changed);
    std::string path = testing::name_of(i, changed.name);
    if (changed.name != known.name) {
      const std::string old = testing::name_of(i, known.name);
      const bool old_there = root->stat(kMe, old).ok();
      const bool new_there = root->stat(kMe, path).ok();
      CHECK((old_there || new_there));
      if (kRenameOfLowerFileIsOneStep) CHECK(old_there != new_there);
      if (!new_there) {
        path = old;
        changed.name = known.name;
      } else if (old_there) {
        CHECK(*read_all(*root, old) == *read_all(*root, path));
        REQUIRE(root->unlink(kMe, old).ok());
      }
    }
    const auto content = read_all(*root, path);
    REQUIRE_MESSAGE(content.ok(), path, ": ", std::string(strerrorname_np(content.error().value)));
    const Attributes at = *root->stat(kMe, path);
    const std::string why =
        problem(*content, at, known, changed, cut.kind <= Change::Kind::kAppend);
    REQUIRE_MESSAGE(why.empty(), path, ": ", why);
    known.size = content->size();
    known.mode = at.mode;
    known.name = changed.name;
    std::fill(known.content + content->copy(known.content, kMostBytes), known.content + kMostBytes,
              '\0');
  }
  for (const auto& [path, object] : tree_of(*root)) names += S_ISREG(object.mode) ? 1 : 0;
  CHECK(names == kFiles);
}

void restart(const Branches& branches, Log& log) {
  branches.empty_upper();
  for (std::size_t i = 0; i < kFiles; ++i) {
    Known& known = log.files[i];
    memset(&known, 0, sizeof known);
    known.size = kSizes[i];
    known.mode = S_IFREG | 0644;
    pattern(static_cast<std::uint32_t>(i), 0, kSizes[i]).copy(known.content, kSizes[i]);
  }
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = getenv(variable);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 0);
}

void sleep_microseconds(std::uint64_t count) {
  const timespec time{static_cast<time_t>(count / 1'000'000),
                      static_cast<long>(count % 1'000'000 * 1000)};
  nanosleep(&time, nullptr);
}

TEST_CASE("what was acknowledged outlives a kill, and nothing is made up") {
  if (getuid() != 0) {
    MESSAGE("SKIPPED: whiteouts on the host's volumes take root's rights");
    return;
  }
  const std::uint64_t kills = number_from("LIBSERVICES_KILLS", 300);
  const std::uint64_t seed = number_from("LIBSERVICES_SEED", 1);
  CAPTURE(seed);
  Random random(seed);
  void* memory =
      mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Log& log = *new (memory) Log;
  const Branches branches;
  for (std::size_t i = 0; i < kFiles; ++i) {
    branches.add("low2" + testing::name_of(i, 0),
                 pattern(static_cast<std::uint32_t>(i), 0, kSizes[i]));
  }
  branches.add("low1/two/file", "");  // so that there is a second directory
  unlink(branches.path("low1/two/file").c_str());
  branches.finish();
  std::uint64_t cut = 0;
  for (std::uint64_t kill_number = 0; kill_number < kills; ++kill_number) {
    CAPTURE(kill_number);
    if (kill_number == 0 || random() % 4 == 0) restart(branches, log);
    log.phase = Log::kIdle;
    log.wrong = 0;
    log.started = false;
    const std::uint64_t child_seed = random();
    const std::uint64_t microseconds = random() % (random() % 2 == 0 ? 1000 : 10'000);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) change_all(branches, child_seed, log);
    int status = 0;
    pid_t ended = 0;
    while (!log.started && (ended = waitpid(child, &status, WNOHANG)) == 0) sleep_microseconds(100);
    if (ended == 0) {
      sleep_microseconds(microseconds);
      REQUIRE(kill(child, SIGKILL) == 0);
      ended = waitpid(child, &status, 0);
    }
    REQUIRE(ended == child);
    CAPTURE(static_cast<int>(log.change.kind));
    REQUIRE_MESSAGE(WIFSIGNALED(status), "the process itself found something wrong: ",
                    log.wrong < 0 ? "a content" : std::string(strerrorname_np(log.wrong)),
                    " with file ", log.change.file);
    cut += log.phase == Log::kRunning ? 1 : 0;
    check(branches, log);
  }
  MESSAGE(fmt::format("{} kills, {} within a call; {} changes and {} fsyncs acknowledged", kills,
                      cut, log.acknowledged.load(), log.synced.load()));
  munmap(memory, sizeof(Log));
}

}  // namespace
}  // namespace libservices::testing
