// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/mount_options.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <iterator>

namespace libservices::fuse {
namespace {

// SOURCE: mount(8), "filesystem-independent mount options", and mount(2).
struct Flag {
  std::string_view word;
  unsigned long set;
  unsigned long clear;
};
// Only one of them can be, and the kernel would not take the last.
constexpr unsigned long kTimes = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr Flag kFlags[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"nosymfollow", MS_NOSYMFOLLOW, 0},
    {"symfollow", 0, MS_NOSYMFOLLOW},
    {"noatime", MS_NOATIME, kTimes},
    {"atime", 0, MS_NOATIME},
    {"relatime", MS_RELATIME, kTimes},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, kTimes},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"silent", MS_SILENT, 0},
    {"loud", 0, MS_SILENT},
    {"iversion", MS_I_VERSION, 0},
    {"noiversion", 0, MS_I_VERSION},
    {"mand", 0, 0},  // Linux has had no mandatory locks since 5.15
    {"nomand", 0, 0},
    {"defaults", 0, 0},
};

constexpr std::string_view kLabels[] = {"context", "fscontext", "defcontext", "rootcontext"};

// With a value or without. mount(8) itself sets how mounts propagate, behind us.
constexpr std::string_view kOfMountProgram[] = {
    "auto",    "noauto",   "user",    "nouser",  "users", "nousers", "owner",      "noowner",
    "group",   "nogroup",  "_netdev", "nofail",  "fail",  "comment", "uhelper",    "helper",
    "private", "rprivate", "shared",  "rshared", "slave", "rslave",  "unbindable", "runbindable",
};

constexpr std::string_view kChanges[] = {"remount", "bind", "rbind", "move"};

const Flag* find_flag(std::string_view word) {
  const auto* const found = std::find_if(std::begin(kFlags), std::end(kFlags),
                                         [&](const Flag& flag) { return flag.word == word; });
  return found == std::end(kFlags) ? nullptr : found;
}

template <class Words>
bool has(const Words& words, std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

}  // namespace

std::vector<std::string_view> split_options(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"' && (quoted || (at != 0 && text[at - 1] == '='))) {
      quoted = !quoted;
    } else if (text[at] == separator && !quoted) {
      parts.push_back(text.substr(begin, at - begin));
      begin = at + 1;
    }
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string without_backslashes(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) ++at;
    plain += text[at];
  }
  return plain;
}

OptionKind kind_of(std::string_view option) {
  const std::size_t equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  if (equals == std::string_view::npos && find_flag(option) != nullptr) return OptionKind::kFlag;
  if (equals != std::string_view::npos && has(kLabels, key)) return OptionKind::kLabel;
  if (has(kOfMountProgram, key) || key.starts_with("x-") || key.starts_with("X-")) {
    return OptionKind::kOfMountProgram;
  }
  return has(kChanges, key) ? OptionKind::kChange : OptionKind::kUnknown;
}

absl::StatusOr<KernelOptions> kernel_options(std::span<const std::string> options) {
  KernelOptions result;
  for (const std::string& option : options) {
    if (option.empty()) continue;
    switch (kind_of(option)) {
      case OptionKind::kFlag: {
        const Flag& flag = *find_flag(option);
        result.flags = (result.flags & ~flag.clear) | flag.set;
        break;
      }
      case OptionKind::kLabel:
        result.words.push_back(option);
        break;
      case OptionKind::kOfMountProgram:
        break;
      case OptionKind::kChange:
        return absl::InvalidArgumentError(fmt::format(
            "option {}: a mount that is there cannot be changed so (unmount it and mount it anew, "
            "or let the kernel do it: mount -i -o {})",
            option, option));
      case OptionKind::kUnknown:
        return absl::InvalidArgumentError(
            fmt::format("option {}: it is not known (those of mount(8) for all filesystems are, "
                        "and those of `libservices mount --help`)",
                        option));
    }
  }
  return result;
}

absl::StatusOr<std::vector<std::string>> helper_options(const KernelOptions& options) {
  if ((options.flags & MS_NOSYMFOLLOW) != 0) {
    return absl::FailedPreconditionError(
        "option nosymfollow: fusermount3 does not know it (mount as root, or leave it out)");
  }
  // FUSE keeps times as the service says, so the other words on times change nothing that is seen.
  constexpr std::pair<unsigned long, std::string_view> kKnown[] = {
      {MS_RDONLY, "ro"},        {MS_NOEXEC, "noexec"},   {MS_NOATIME, "noatime"},
      {MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"},
  };
  std::vector<std::string> words = options.words;
  for (const auto& [flag, word] : kKnown) {
    if ((options.flags & flag) != 0) words.emplace_back(word);
  }
  return words;
}

}  // namespace libservices::fuse
