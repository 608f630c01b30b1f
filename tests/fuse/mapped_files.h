// SPDX-License-Identifier: Apache-2.0
//
// Random reads, writes, truncations and mappings of few files, through a mount and past it in
// turns, against plain strings. What was written through a mapping counts from msync on.
#ifndef LIBSERVICES_TESTS_FUSE_MAPPED_FILES_H_
#define LIBSERVICES_TESTS_FUSE_MAPPED_FILES_H_

#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <utility>

#include "libservices/any_filesystem.h"
#include "src/fuse/session.h"
#include "tests/fuse/file_user.h"
#include "tests/support/piped_process.h"

namespace libservices::testing {

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
  // Nothing when the size that it sees is another one, or more than `most`.
  std::string read(std::uint32_t file, std::size_t most) {
    const long size = run({FileStep::kRead, file, 0, most, 0});
    std::string bytes(size < 0 ? 0 : static_cast<std::size_t>(size), '\0');
    REQUIRE(process_.receive(bytes.data(), bytes.size()));
    return size < 0 ? "(error " + std::to_string(size) + ")" : bytes;
  }

 private:
  PipedProcess process_;
};

class MappedFiles {
 public:
  static constexpr std::uint32_t kFiles = 3;
  static std::string name_of(std::uint32_t file) { return "/f" + std::to_string(file); }

  // `past` and what is mounted have the same files.
  MappedFiles(AnyFilesystem& past, const std::string& mount, std::uint64_t seed)
      : fs_(past), random_(seed), user_(mount) {
    for (std::uint32_t i = 0; i < kFiles; ++i) {
      auto file = fs_.open(context_, Location(name_of(i)), {O_RDWR | O_CREAT}, 0644);
      REQUIRE(file.ok());
      past_[i] = *std::move(file);
      model_[i] = read_past(i);
      REQUIRE(user_.run({FileStep::kReopen, i, 0, 0, 0}) == 0);
    }
  }
  ~MappedFiles() {
    for (OpenFilePtr& file : past_) CHECK(fs_.close(context_, std::move(file)).ok());
  }

  MappedFiles(const MappedFiles&) = delete;
  MappedFiles& operator=(const MappedFiles&) = delete;

  // What went wrong.
  std::string run() {
    std::string wrong;
    for (int step = 0; step < kSteps && wrong.empty(); ++step) wrong = this->step();
    for (std::uint32_t i = 0; i < kFiles && wrong.empty(); ++i) wrong = check(i);
    return wrong;
  }

 private:
  // Several chunks of what is copied up in part.
  static constexpr std::size_t kMostBytes = 300000;
  static constexpr int kSteps = 300;

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
    std::string wrong =
        compare(user_.read(file, kMostBytes + 1), model_[file], "through the mount");
    return wrong.empty() ? compare(read_past(file), model_[file], "past the mount") : wrong;
  }

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

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_FUSE_MAPPED_FILES_H_
