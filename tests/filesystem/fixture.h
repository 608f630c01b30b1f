// SPDX-License-Identifier: Apache-2.0
//
// What every test of a filesystem at the level of paths needs: a started instance, callers, and
// short ways to make and read files. A stack is a struct with `static constexpr const char* kName`
// and `static std::unique_ptr<AnyFilesystem> make()`, empty when it cannot run on this machine.
#ifndef LIBSERVICES_TESTS_FILESYSTEM_FIXTURE_H_
#define LIBSERVICES_TESTS_FILESYSTEM_FIXTURE_H_

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "libservices/any_filesystem.h"

namespace libservices::testing {

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The errno of a call, 0 when it succeeded.
template <class T>
int error_of(const Result<T>& result) {
  return result.ok() ? 0 : result.error().value;
}

template <class Stack>
class Fixture {
 public:
  Fixture() : fs_(Stack::make()) {
    if (!fs_) return;
    const absl::Status started = fs_->start();
    REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    root.umask = 022;
    alice = caller(1000, 1000, {});
    bob = caller(1001, 1001, groups_of_bob_);
  }
  ~Fixture() {
    if (fs_) CHECK(fs_->stop().ok());
  }

  explicit operator bool() const { return fs_ != nullptr; }
  AnyFilesystem& fs() { return *fs_; }
  AnyFilesystem* operator->() { return fs_.get(); }

  OpenFilePtr open(const Context& context, const Location& at, int flags, mode_t mode = 0644) {
    auto file = fs_->open(context, at, {flags}, mode);
    REQUIRE_MESSAGE(file.ok(), std::string(at.path), ": ", strerror(error_of(file)));
    return *std::move(file);
  }
  void close(OpenFilePtr file) { CHECK(error_of(fs_->close(root, std::move(file))) == 0); }

  void write(const Location& at, std::string_view text, mode_t mode = 0644,
             const Context* context = nullptr) {
    const Context& who = context != nullptr ? *context : root;
    auto file = open(who, at, O_CREAT | O_WRONLY | O_TRUNC, mode);
    auto count = fs_->write(who, *file, bytes_of(text));
    REQUIRE(count.ok());
    REQUIRE(*count == text.size());
    REQUIRE(error_of(fs_->close(who, std::move(file))) == 0);
  }

  std::string read(const Location& at) {
    auto file = open(root, at, O_RDONLY);
    std::string text;
    std::array<std::byte, 1000> chunk;
    for (;;) {
      auto count = fs_->read(root, *file, chunk);
      REQUIRE(count.ok());
      if (*count == 0) break;
      text.append(reinterpret_cast<const char*>(chunk.data()), *count);
    }
    close(std::move(file));
    return text;
  }

  void mkdir(const Location& at, mode_t mode = 0755, const Context* context = nullptr) {
    REQUIRE(error_of(fs_->mkdir(context != nullptr ? *context : root, at, mode)) == 0);
  }

  Attributes stat(const Location& at) {
    auto found = fs_->stat(root, at);
    REQUIRE_MESSAGE(found.ok(), std::string(at.path), ": ", strerror(error_of(found)));
    return *found;
  }

  // The names in a directory, sorted, without "." and "..".
  std::vector<std::string> names(const Location& at) {
    auto directory = open(root, at, O_RDONLY | O_DIRECTORY);
    std::vector<std::string> found;
    REQUIRE(error_of(fs_->readdir(root, *directory, Listing::kNames,
                                  [&](const DirEntry& entry) {
                                    if (entry.name != "." && entry.name != "..") {
                                      found.emplace_back(entry.name);
                                    }
                                    return true;
                                  })) == 0);
    close(std::move(directory));
    std::sort(found.begin(), found.end());
    return found;
  }

  int set_mode(const Context& who, const Location& at, std::uint32_t mode) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kMode;
    changes.mode = mode;
    return error_of(fs_->setattr(who, at, changes));
  }
  int set_owner(const Context& who, const Location& at, std::uint32_t uid, std::uint32_t gid) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kUid | AttributeChanges::kGid;
    changes.uid = uid;
    changes.gid = gid;
    return error_of(fs_->setattr(who, at, changes));
  }
  int set_size(const Context& who, const Location& at, std::uint64_t size) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kSize;
    changes.size = size;
    return error_of(fs_->setattr(who, at, changes));
  }

  static Context caller(uid_t uid, gid_t gid, std::span<const gid_t> groups) {
    Context context;
    context.caller = {uid, gid, groups};
    context.umask = 022;
    context.process = uid;
    return context;
  }

  Context root;
  Context alice;
  Context bob;  // also in group 2000

 private:
  static constexpr std::array<gid_t, 1> groups_of_bob_{2000};
  std::unique_ptr<AnyFilesystem> fs_;
};

}  // namespace libservices::testing

// A fixture named `sut`, or a visible skip where the stack cannot run.
#define LIBSERVICES_SUT(Stack)                                          \
  ::libservices::testing::Fixture<Stack> sut;                           \
  if (!sut) {                                                           \
    MESSAGE("SKIPPED: ", Stack::kName, " cannot run on this machine");  \
    return;                                                             \
  }

#endif  // LIBSERVICES_TESTS_FILESYSTEM_FIXTURE_H_
