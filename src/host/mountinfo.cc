// SPDX-License-Identifier: Apache-2.0
#include "src/host/mountinfo.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace libservices::host {
namespace {

// Spaces and the like stand there as \040.
std::string unescaped(std::string_view text) {
  const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '7'; };
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 3 < text.size() && digit(at + 1) && digit(at + 2) &&
        digit(at + 3)) {
      plain += static_cast<char>((text[at + 1] - '0') * 64 + (text[at + 2] - '0') * 8 +
                                 (text[at + 3] - '0'));
      at += 3;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

// Who asks for nothing is answered by the kernel alone.
bool look_at(const std::string& path, struct statx& seen) {
  return ::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
                 0, &seen) == 0 &&
         (seen.stx_mask & STATX_MNT_ID) != 0;
}

std::optional<MountInfo> find(std::uint64_t id) {
  std::ifstream lines("/proc/self/mountinfo");
  std::string line;
  while (std::getline(lines, line)) {
    std::optional<MountInfo> mount = parse_mountinfo(line);
    if (mount && mount->id == id) return mount;
  }
  return std::nullopt;
}

std::string real_path(const std::string& path) {
  char* const real = ::realpath(path.c_str(), nullptr);
  std::string found = real != nullptr ? real : "";
  std::free(real);
  return found;
}

}  // namespace

std::optional<std::uint32_t> MountInfo::number_of(std::string_view key) const {
  std::istringstream words(super_options);
  std::string word;
  while (std::getline(words, word, ',')) {
    if (!word.starts_with(key) || word.size() <= key.size() || word[key.size()] != '=') continue;
    std::uint32_t value = 0;
    const char* const begin = word.data() + key.size() + 1;
    const char* const end = word.data() + word.size();
    const auto [behind, error] = std::from_chars(begin, end, value);
    if (error == std::errc{} && behind == end) return value;
  }
  return std::nullopt;
}

// "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda rw,errors=continue"
std::optional<MountInfo> parse_mountinfo(const std::string& line) {
  std::istringstream words(line);
  MountInfo mount;
  std::string skipped;
  words >> mount.id >> skipped >> skipped >> skipped >> mount.path >> mount.options;
  while (words >> skipped && skipped != "-") {
  }
  // The source may be empty.
  const std::size_t dash = line.find(" - ");
  if (!words || dash == std::string::npos) return std::nullopt;
  const std::string rest = line.substr(dash + 3);
  const std::size_t source = rest.find(' ');
  const std::size_t options = rest.rfind(' ');
  if (source == std::string::npos || options == source) return std::nullopt;
  mount.path = unescaped(mount.path);
  mount.type = unescaped(rest.substr(0, source));
  mount.source = unescaped(rest.substr(source + 1, options - source - 1));
  mount.super_options = rest.substr(options + 1);
  return mount;
}

std::optional<MountInfo> mount_of(const std::string& path) {
  struct statx seen {};
  if (!look_at(path, seen)) return std::nullopt;
  return find(seen.stx_mnt_id);
}

std::optional<MountInfo> mount_on(const std::string& path) {
  struct statx seen {};
  if (!look_at(path, seen) || (seen.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) {
    return std::nullopt;
  }
  return find(seen.stx_mnt_id);
}

std::string real_mount_path(const std::string& path) {
  if (std::string real = real_path(path); !real.empty()) return real;
  std::error_code ignored;
  std::filesystem::path whole = std::filesystem::absolute(path, ignored).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  // What does not exist, or is not allowed to be looked at, keeps its name.
  std::string rest;
  for (; whole.has_relative_path(); whole = whole.parent_path()) {
    if (const std::string real = real_path(whole.string()); !real.empty()) {
      return (real == "/" ? "" : real) + rest;
    }
    rest = "/" + whole.filename().string() + rest;
  }
  return rest.empty() ? "/" : rest;
}

}  // namespace libservices::host
