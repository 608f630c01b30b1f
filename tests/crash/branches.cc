// SPDX-License-Identifier: Apache-2.0
#include "tests/crash/branches.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

namespace libservices::testing {
namespace {

namespace host = std::filesystem;

template <class T>
Result<void> outcome(const Result<T>& result) {
  if (!result.ok()) return result.error();
  return {};
}

// Opens, works, closes. The first failure counts.
template <class Work>
Result<void> with_file(Root& root, const std::string& path, int flags, Work&& work) {
  LIBSERVICES_TRY(auto file, root.open(kMe, path, {flags}, 0644));
  const Result<void> worked = work(*file);
  const Result<void> closed = root.close(kMe, std::move(file));
  return worked.ok() ? closed : worked;
}

Result<void> write_all(Root& root, OpenFile& file, std::uint64_t offset, std::string_view text) {
  while (!text.empty()) {
    LIBSERVICES_TRY(const std::size_t written,
                    root.pwrite(kMe, file, offset, std::as_bytes(std::span(text))));
    offset += written;
    text.remove_prefix(written);
  }
  return {};
}

Result<void> add_below(Root& root, const std::string& top, Tree& tree,
                       std::map<std::uint64_t, std::string>& firsts) {
  std::vector<std::string> names;
  LIBSERVICES_CHECK_OK(
      with_file(root, top.empty() ? "/" : top, O_RDONLY | O_DIRECTORY, [&](OpenFile& file) {
        return root.readdir(kMe, file, Listing::kNames, [&](const DirEntry& entry) {
          if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
          return true;
        });
      }));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string path = top + "/" + name;
    const auto found = root.stat(kMe, Location(path, Follow::kNo));
    CHECK_MESSAGE(found.ok(), path, " is listed, and not found");
    LIBSERVICES_TRY(const Attributes at, found);
    Seen& seen = tree[path];
    seen.mode = at.mode;
    seen.uid = at.uid;
    seen.links = at.is_directory() ? 0 : at.links;
    seen.old = at.mtime.seconds == kOldTime;
    seen.same_as = firsts.try_emplace(at.inode, path).first->second;
    if (at.is_symlink()) {
      seen.content.resize(at.size);
      LIBSERVICES_CHECK_OK(outcome(root.readlink(kMe, path, seen.content)));
      continue;
    }
    std::string value(64, '\0');
    const auto size =
        root.getxattr(kMe, path, "user.color", std::as_writable_bytes(std::span(value)));
    if (size.ok()) seen.color = value.substr(0, *size);
    if (at.is_regular()) {
      LIBSERVICES_TRY(seen.content, read_all(root, path));
      if (seen.content.size() != at.size) return Errno{EIO};
    }
    if (at.is_directory()) LIBSERVICES_CHECK_OK(add_below(root, path, tree, firsts));
  }
  return {};
}

std::string describe(const Seen& seen) {
  return fmt::format("mode={:o} uid={} links={} old={} size={} color={} same_as={}", seen.mode,
                     seen.uid, seen.links, seen.old, seen.content.size(), seen.color, seen.same_as);
}

}  // namespace

std::string pattern(std::uint32_t seed, std::uint64_t offset, std::uint64_t length) {
  std::string bytes(length, '\0');
  for (std::uint64_t i = 0; i < length; ++i) {
    const std::uint64_t at = offset + i;
    bytes[i] = static_cast<char>('A' + (seed * 11 + at + at / 31 + at / 4096) % 58);
  }
  return bytes;
}

Branches::Branches() {
  for (const char* name : {"low1", "low2", "upper", "work", "small"}) (void)top_.directory(name);
}

void Branches::add(std::string_view path, std::string_view content) const {
  const std::string whole = this->path(path);
  host::create_directories(host::path(whole).parent_path());
  std::ofstream(whole) << content;
}

void Branches::finish() const {
  const timespec old[2] = {{kOldTime, 0}, {kOldTime, 0}};
  for (const char* name : {"low1", "low2"}) {
    for (const auto& entry : host::recursive_directory_iterator(path(name))) {
      REQUIRE(utimensat(AT_FDCWD, entry.path().c_str(), old, AT_SYMLINK_NOFOLLOW) == 0);
    }
  }
}

void Branches::use_volume(std::string_view name) {
  upper_ = std::string(name) + "/upper";
  work_ = std::string(name) + "/work";
  host::create_directory(path(upper_));
  host::create_directory(path(work_));
}

void Branches::empty_upper() const {
  for (const std::string& name : {upper_, work_}) {
    for (const auto& entry : host::directory_iterator(path(name))) host::remove_all(entry.path());
  }
}

std::size_t Branches::staged() const {
  std::error_code missing;  // it is, while no instance runs
  const host::directory_iterator entries(path(work_) + "/staging", missing);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

Stack::Config Branches::config(std::shared_ptr<FaultPlan> plan) const {
  Stack::Config config;
  config.upper = {.lower = {.directory = path(upper_), .work = path(work_)},
                  .plan = std::move(plan)};
  for (const char* name : {"low1", "low2"}) {
    config.lowers.push_back({.directory = path(name), .work = {}});
  }
  return config;
}

Running::Running(const Branches& branches, std::shared_ptr<FaultPlan> plan)
    : root_(branches.config(std::move(plan)), kSmallCache) {
  const absl::Status started = root_.start();
  REQUIRE_MESSAGE(started.ok(), std::string(started.message()));
}

Running::~Running() {
  CHECK(root_.counters().open_files == 0);
  CHECK(root_.stop().ok());
}

Tree tree_of(Root& root) {
  Tree tree;
  std::map<std::uint64_t, std::string> firsts;
  const auto added = add_below(root, "", tree, firsts);
  REQUIRE_MESSAGE(added.ok(), std::string(strerrorname_np(added.error().value)));
  return tree;
}

std::string difference(const Tree& seen, const Tree& expected) {
  for (const auto& [path, object] : expected) {
    const auto found = seen.find(path);
    if (found == seen.end()) return path + " is missing";
    if (found->second == object) continue;
    Seen as_expected = object;
    as_expected.content = found->second.content;
    if (found->second == as_expected) return path + " has another content";
    return fmt::format("{} is {}, not {}", path, describe(found->second), describe(object));
  }
  for (const auto& [path, object] : seen) {
    if (!expected.contains(path)) return fmt::format("{} is there: {}", path, describe(object));
  }
  return "";
}

Result<void> write_at(Root& root, const std::string& path, std::uint64_t offset,
                      std::string_view text, bool synced) {
  return with_file(root, path, O_WRONLY, [&](OpenFile& file) -> Result<void> {
    LIBSERVICES_CHECK_OK(write_all(root, file, offset, text));
    if (synced) return root.fsync(kMe, file, SyncScope::kAll);
    return {};
  });
}

Result<void> append(Root& root, const std::string& path, std::string_view text) {
  return with_file(root, path, O_WRONLY | O_APPEND, [&](OpenFile& file) {
    return outcome(root.write(kMe, file, std::as_bytes(std::span(text))));
  });
}

Result<void> make(Root& root, const std::string& path, std::string_view text) {
  return with_file(root, path, O_WRONLY | O_CREAT | O_EXCL,
                   [&](OpenFile& file) { return write_all(root, file, 0, text); });
}

Result<void> open_with(Root& root, const std::string& path, int flags) {
  return with_file(root, path, flags, [](OpenFile&) { return Result<void>(); });
}

Result<void> truncate(Root& root, const std::string& path, std::uint64_t size) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize;
  changes.size = size;
  return root.setattr(kMe, path, changes);
}

Result<void> punch(Root& root, const std::string& path, std::uint64_t offset,
                   std::uint64_t length) {
  return with_file(root, path, O_WRONLY, [&](OpenFile& file) {
    return root.fallocate(kMe, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  });
}

Result<void> chmod(Root& root, const std::string& path, std::uint32_t mode) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = mode;
  return root.setattr(kMe, path, changes);
}

Result<std::string> read_all(Root& root, const std::string& path) {
  std::string content;
  LIBSERVICES_TRY(const Attributes at, root.stat(kMe, path));
  content.resize(at.size + 1);  // one more: it must not be longer than it says
  std::size_t length = 0;
  LIBSERVICES_CHECK_OK(with_file(root, path, O_RDONLY, [&](OpenFile& file) -> Result<void> {
    for (;;) {
      LIBSERVICES_TRY(const std::size_t count,
                      root.pread(kMe, file, length,
                                 std::as_writable_bytes(std::span(content)).subspan(length)));
      if (count == 0) return {};
      length += count;
    }
  }));
  content.resize(length);
  return content;
}

}  // namespace libservices::testing
