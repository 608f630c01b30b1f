// SPDX-License-Identifier: Apache-2.0
//
// For tests: a union of host directories behind paths, that can be stopped and started again.
#ifndef LIBSERVICES_SERVICES_UNION_HOST_UNION_H_
#define LIBSERVICES_SERVICES_UNION_HOST_UNION_H_

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libservices/filesystem.h"
#include "services/local/local.h"
#include "services/union/union.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {

struct HostUnion {
  using Stack = Union<Local, Local>;
  using Root = Filesystem<Stack>;

  // Lowers are `low1` (the top one) to `lowN` in the scratch directory.
  explicit HostUnion(int lowers = 1, bool with_upper = true) : with_upper(with_upper) {
    for (int i = 1; i <= lowers; ++i) {
      lower_names.push_back("low" + std::to_string(i));
      scratch.directory(lower_names.back());
    }
    scratch.directory("upper");
  }
  ~HostUnion() { stop(); }

  std::string path(const std::string& in) const { return scratch.directory("") + in; }
  // A file of the host, in the directories that it takes.
  void put(const std::string& in, const std::string& text = "") const {
    std::filesystem::create_directories(std::filesystem::path(path(in)).parent_path());
    std::ofstream(path(in)) << text;
  }
  void put_directory(const std::string& in) const { std::filesystem::create_directories(path(in)); }
  void put_whiteout(const std::string& in) const {
    std::filesystem::create_directories(std::filesystem::path(path(in)).parent_path());
    REQUIRE(::mknod(path(in).c_str(), S_IFCHR, makedev(0, 0)) == 0);
  }
  void put_attribute(const std::string& in, const char* name, const std::string& value) const {
    REQUIRE(::lsetxattr(path(in).c_str(), name, value.data(), value.size(), 0) == 0);
  }
  bool has_attribute(const std::string& in, const char* name) const {
    return ::lgetxattr(path(in).c_str(), name, nullptr, 0) >= 0;
  }

  Root::Config config() const {
    Root::Config made = options;
    made.upper = {.directory = scratch.directory("upper"), .work = scratch.directory("work")};
    for (const std::string& name : lower_names) {
      made.lowers.push_back({.directory = scratch.directory(name), .work = {}});
    }
    made.without_upper = !with_upper;
    return made;
  }
  Root& fs() {
    if (!running) {
      running.emplace(config());
      const absl::Status started = running->start();
      REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
    }
    return *running;
  }
  void stop() {
    if (!running) return;
    CHECK(running->stop().ok());
    running.reset();
  }

  int error_of(const Result<void>& result) const { return result.ok() ? 0 : result.error().value; }
  Attributes stat(const std::string& name) {
    auto seen = fs().stat(me, Location(name, Follow::kNo));
    REQUIRE_MESSAGE(seen.ok(), name);
    return *seen;
  }
  bool exists(const std::string& name) { return fs().stat(me, Location(name, Follow::kNo)).ok(); }
  Result<std::string> read(const std::string& name) {
    LIBSERVICES_TRY(auto file, fs().open(me, name, {O_RDONLY}));
    std::string text(1 << 20, '\0');
    auto count = fs().read(me, *file, std::as_writable_bytes(std::span(text)));
    CHECK(fs().close(me, std::move(file)).ok());
    if (!count.ok()) return count.error();
    text.resize(*count);
    return text;
  }
  void append(const std::string& name, std::string_view text) {
    auto file = fs().open(me, name, {O_WRONLY | O_CREAT | O_APPEND}, 0644);
    REQUIRE_MESSAGE(file.ok(), name);
    REQUIRE(fs().write(me, **file, std::as_bytes(std::span(text))).ok());
    REQUIRE(fs().close(me, std::move(*file)).ok());
  }
  // Names with their inode numbers, as the listing gives them.
  std::map<std::string, std::uint64_t> list(const std::string& name) {
    auto opened = fs().open(me, name, {O_RDONLY | O_DIRECTORY});
    REQUIRE_MESSAGE(opened.ok(), name);
    std::map<std::string, std::uint64_t> found;
    REQUIRE(fs().readdir(me, **opened, Listing::kNames,
                         [&](const DirEntry& entry) {
                           if (entry.name != "." && entry.name != "..") {
                             CHECK(found.emplace(entry.name, entry.inode).second);
                           }
                           return true;
                         })
                .ok());
    REQUIRE(fs().close(me, std::move(*opened)).ok());
    return found;
  }
  std::set<std::string> names(const std::string& name) {
    std::set<std::string> found;
    for (const auto& [each, inode] : list(name)) found.insert(each);
    return found;
  }

  const Context me{.caller = {.uid = 0, .gid = 0, .groups = {}}};
  ScratchDirectory scratch;
  std::vector<std::string> lower_names;
  Root::Config options;
  const bool with_upper;
  std::optional<Root> running;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_SERVICES_UNION_HOST_UNION_H_
