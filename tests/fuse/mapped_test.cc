// SPDX-License-Identifier: Apache-2.0
//
// Random reads, writes, truncations and mappings of few files, through the mount and past it in
// turns, against plain strings. What was written through a mapping counts from msync on.
// LIBSERVICES_SEED and LIBSERVICES_SCRIPTS choose the first seed and how many follow it.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <utility>

#include "libservices/filesystem_of.h"
#include "libservices/sources/memory.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/differential/seeds.h"
#include "tests/fuse/file_user.h"
#include "tests/fuse/mounted.h"
#include "tests/support/piped_process.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

constexpr std::uint32_t kFiles = 3;
constexpr std::size_t kMostBytes = 300000;  // several chunks of what is copied up in part
constexpr int kSteps = 300;

std::string name_of(std::uint32_t file) { return "/f" + std::to_string(file); }

// The process behind the mount.
class FileUser {
 public:
  explicit FileUser(const std::string& directory)
      : process_({built_program("tests/fuse/file_user"), directory}) {}
  ~FileUser() { CHECK(process_.end() == 0); }

  long run(const FileStep& step) {
    long result = 0;
    REQUIRE(process_.send(&step, sizeof step));
    REQUIRE(process_.receive(&result, sizeof result));
    return result;
  }
  // Nothing when the size that it sees is another one.
  std::string read(std::uint32_t file) {
    const long size = run({FileStep::kRead, file, 0, kMostBytes + 1, 0});
    std::string bytes(size < 0 ? 0 : static_cast<std::size_t>(size), '\0');
    REQUIRE(process_.receive(bytes.data(), bytes.size()));
    return size < 0 ? "(error " + std::to_string(size) + ")" : bytes;
  }

 private:
  PipedProcess process_;
};

class Files {
 public:
  Files(AnyFilesystem& fs, const std::string& mount, std::uint64_t seed)
      : fs_(fs), random_(seed), user_(mount) {
    for (std::uint32_t i = 0; i < kFiles; ++i) {
      auto file = fs_.open(context_, Location(name_of(i)), {O_RDWR | O_CREAT}, 0644);
      REQUIRE(file.ok());
      past_[i] = *std::move(file);
      model_[i] = read_past(i);
      REQUIRE(user_.run({FileStep::kReopen, i, 0, 0, 0}) == 0);
    }
  }
  ~Files() {
    for (OpenFilePtr& file : past_) CHECK(fs_.close(context_, std::move(file)).ok());
  }

  // What went wrong.
  std::string step() {
    const auto file = static_cast<std::uint32_t>(random_() % kFiles);
    std::string& model = model_[file];
    const std::size_t offset = random_() % (kMostBytes - 1);
    const std::size_t length = 1 + random_() % std::min<std::size_t>(kMostBytes - offset, 40000);
    const std::size_t inside = std::min(length, model.size() - std::min(model.size(), offset));
    const std::uint64_t byte = 'a' + random_() % 26;
    const auto fill = [&](std::size_t count, char with) {
      model.resize(std::max(model.size(), offset + count));
      std::fill_n(model.begin() + static_cast<long>(offset), count, with);
    };
    const auto user = [&](FileStep::Call call, std::size_t count, long expected) {
      const long got = user_.run({call, file, offset, count, byte});
      return got == expected ? std::string()
                             : "call " + std::to_string(call) + " gave " + std::to_string(got);
    };
    switch (random_() % 10) {
      case 0:
      case 1:
        fill(length, static_cast<char>(byte));
        return user(FileStep::kWrite, length, static_cast<long>(length));
      case 2:
      case 3: {
        fill(length, static_cast<char>(byte));
        const std::string bytes(length, static_cast<char>(byte));
        auto written = fs_.pwrite(context_, *past_[file], offset, std::as_bytes(std::span(bytes)));
        fuse::Session::deliver_notices();
        return written.ok() && *written == length ? "" : "a write past the mount failed";
      }
      case 4:
        model.resize(offset);
        if (random_() % 2 == 0) return user(FileStep::kTruncate, 0, 0);
        return truncate_past(file, offset);
      case 5:
        if (inside == 0) return "";  // beyond the file a mapping is nothing
        fill(inside, static_cast<char>(byte));
        if (std::string wrong = user(FileStep::kMapWrite, inside, 0); !wrong.empty()) return wrong;
        return user(FileStep::kMapCompare, inside, 0);
      case 6:
        if (inside == 0) return "";
        fill(inside, '\0');
        return user(FileStep::kPunch, inside, 0);
      case 7:
        return user(FileStep::kReopen, 0, 0);
      default:
        return check(file);
    }
  }
  std::string check(std::uint32_t file) {
    std::string wrong = compare(user_.read(file), model_[file], "through the mount");
    return wrong.empty() ? compare(read_past(file), model_[file], "past the mount") : wrong;
  }

 private:
  std::string truncate_past(std::uint32_t file, std::size_t size) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kSize;
    changes.size = size;
    auto done = fs_.setattr(context_, Location(*past_[file]), changes);
    fuse::Session::deliver_notices();
    return done.ok() ? "" : "a truncation past the mount failed";
  }
  std::string read_past(std::uint32_t file) {
    std::string content(kMostBytes + 1, '\0');
    auto count = fs_.pread(context_, *past_[file], 0, std::as_writable_bytes(std::span(content)));
    REQUIRE(count.ok());
    content.resize(*count);
    return content;
  }
  static std::string compare(const std::string& got, const std::string& expected,
                             const std::string& where) {
    if (got == expected) return "";
    const auto differ = std::mismatch(got.begin(), got.end(), expected.begin(), expected.end());
    return where + " " + std::to_string(got.size()) + " bytes of " +
           std::to_string(expected.size()) + ", different from " +
           std::to_string(differ.first - got.begin()) + " on";
  }

  AnyFilesystem& fs_;
  std::mt19937_64 random_;
  FileUser user_;
  const Context context_;
  std::array<std::string, kFiles> model_;
  std::array<OpenFilePtr, kFiles> past_;
};

template <class Stack>
void run_on(typename Stack::Config config, bool passthrough, std::uint64_t seed) {
  FilesystemOf<Stack> fs(std::move(config));
  REQUIRE(fs.start().ok());
  {
    Mounted mounted(fs, {.passthrough = passthrough});
    Files files(fs, mounted.path(), seed);
    std::string wrong;
    for (int step = 0; step < kSteps && wrong.empty(); ++step) wrong = files.step();
    for (std::uint32_t i = 0; i < kFiles && wrong.empty(); ++i) wrong = files.check(i);
    CHECK_MESSAGE(wrong.empty(), "LIBSERVICES_SEED=", seed, ": ", wrong);
  }
  REQUIRE(fs.stop().ok());
}

struct OnMemory {
  static void run(bool passthrough, std::uint64_t seed) { run_on<Memory>({}, passthrough, seed); }
};
struct OnLocal {
  static void run(bool passthrough, std::uint64_t seed) {
    const ScratchDirectory scratch;
    Local::Config config;
    config.directory = scratch.directory("root");
    config.exclusive = true;
    run_on<Local>(std::move(config), passthrough, seed);
  }
};
// Files that are in a lower, and come up in parts.
struct OnUnion {
  static void run(bool passthrough, std::uint64_t seed) {
    const ScratchDirectory scratch;
    for (std::uint32_t i = 0; i < kFiles; ++i) {
      std::ofstream(scratch.directory("lower") + name_of(i))
          << std::string(100000 * (i + 1) - 7, static_cast<char>('A' + i));
    }
    Union<Local, Local>::Config config;
    config.upper.directory = scratch.directory("upper");
    config.upper.exclusive = true;
    config.lowers.resize(1);
    config.lowers[0].directory = scratch.directory("lower");
    config.lowers[0].exclusive = true;
    config.range_bytes = 16384;
    run_on<Union<Local, Local>>(std::move(config), passthrough, seed);
  }
};

TEST_CASE_TEMPLATE("mapped and unmapped, through the mount and past it, a file is one", Stack,
                   OnMemory, OnLocal, OnUnion) {
  if (const std::string why = why_no_mounts(); !why.empty()) {
    MESSAGE("SKIPPED: ", why);
    return;
  }
  const std::uint64_t first = number_from("LIBSERVICES_SEED", 1);
  const std::uint64_t scripts = number_from("LIBSERVICES_SCRIPTS", 8);
  for (std::uint64_t seed = first; seed < first + scripts; ++seed) {
    Stack::run(seed % 2 == 0, seed);
  }
}

}  // namespace
}  // namespace libservices::testing

TYPE_TO_STRING_AS("memory", libservices::testing::OnMemory);
TYPE_TO_STRING_AS("local", libservices::testing::OnLocal);
TYPE_TO_STRING_AS("union", libservices::testing::OnUnion);
