// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/operation.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "libservices/access_list.h"
#include "tests/differential/choices.h"

namespace libservices::testing {
namespace {

constexpr const char* kNames[] = {
    "open",     "access",     "mkdir",    "mknod",    "symlink",   "readlink",    "link",
    "unlink",   "rmdir",      "rename",   "list",     "stat",      "chmod",       "chown",
    "truncate", "times",      "getxattr", "setxattr", "listxattr", "removexattr", "close",
    "read",     "pread",      "write",    "pwrite",   "lseek",     "fallocate",   "copy_range",
    "fsync",    "next layer", "mark",     "restart",  "switch",    "rm -r",       "compare trees"};

// Long names are all of one letter.
std::string short_form(std::string text) {
  for (const std::size_t length : {256U, 255U}) {
    const std::string name(length, 'x');
    for (std::size_t at; (at = text.find(name)) != std::string::npos;) {
      text.replace(at, length, fmt::format("<{} bytes>", length));
    }
  }
  return text;
}

}  // namespace

std::string pattern(std::uint32_t data, std::uint64_t length) {
  std::string bytes(length, '\0');
  for (std::uint64_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>('a' + (data * 7 + i + i / 251) % 26);
  }
  return bytes;
}

std::string attribute_value(const Operation& op) {
  if (!AccessList::is_name(op.other_path)) return pattern(op.data, op.length);
  using Entry = AccessList::Entry;
  Choices choices(op.data * 41 + op.length);
  const auto entry = [&](std::uint16_t tag, std::uint32_t id) {
    return Entry{tag, static_cast<std::uint16_t>(choices.below(8)), id};
  };
  std::vector<Entry> entries{entry(AccessList::kOwner, AccessList::kNoId)};
  const auto named = [&](std::uint16_t tag, std::initializer_list<std::uint32_t> ids) {
    for (const std::uint32_t id : ids) {
      if (choices.one_in(4)) entries.push_back(entry(tag, id));
    }
  };
  named(AccessList::kUser, {0, 1000, 1001});
  entries.push_back(entry(AccessList::kOwningGroup, 7));
  named(AccessList::kGroup, {0, 1000, 1001, 2000});
  if (entries.size() > 2 || choices.one_in(3)) {
    entries.push_back(entry(AccessList::kMask, AccessList::kNoId));
  }
  entries.push_back(entry(AccessList::kOther, AccessList::kNoId));
  std::uint32_t version = 2;
  std::size_t cut = 0;
  if (choices.one_in(6)) {
    Entry& wrong = entries[choices.below(entries.size())];
    switch (choices.below(8)) {
      case 0:
        wrong.tag = static_cast<std::uint16_t>(choices.below(64));
        break;
      case 1:
        wrong.permissions = 9;
        break;
      case 2:
        wrong.id = AccessList::kNoId;
        break;
      case 3:
        std::swap(wrong, entries.back());
        break;
      case 4:
        entries.erase(entries.begin() + (&wrong - entries.data()));
        break;
      case 5:
        entries.clear();
        break;
      case 6:
        version = static_cast<std::uint32_t>(choices.below(4));
        break;
      default:
        cut = choices.below(13);
        break;
    }
  }
  std::string value(sizeof version + entries.size() * sizeof(Entry), '\0');
  std::memcpy(value.data(), &version, sizeof version);
  if (!entries.empty()) {
    std::memcpy(value.data() + sizeof version, entries.data(), entries.size() * sizeof(Entry));
  }
  value.resize(value.size() - std::min(cut, value.size()));
  return value;
}

std::string describe(const Operation& op) {
  std::string text = fmt::format("{} uid={} umask={:03o}", kNames[static_cast<int>(op.call)],
                                 kCallers[op.caller].uid, op.umask);
  const bool takes_slot = op.call >= Call::kClose && op.call < Call::kNextLayer;
  if (takes_slot || op.call == Call::kOpen || op.itself) {
    text += fmt::format(" slot={}", op.slot);
  }
  if (op.call == Call::kCopyRange) {
    text += fmt::format(" to slot={} offset={}", op.other_slot, op.other_offset);
  }
  if (!takes_slot && !op.itself) {
    if (op.base >= 0) text += fmt::format(" base={}", op.base);
    text += fmt::format(" '{}'{}", op.path, op.follow ? "" : " nofollow");
  }
  if (!op.other_path.empty()) text += fmt::format(" '{}'", op.other_path);
  return short_form(text) +
         fmt::format(" flags={:#o} mode={:#o} owner={}:{} offset={} length={} data={}", op.flags,
                     op.mode, op.uid, op.gid, op.offset, op.length, op.data);
}

std::string describe(const Outcome& outcome) {
  if (outcome.error != 0) return strerrorname_np(outcome.error);
  std::string shown;
  for (const char byte : outcome.text.substr(0, 200)) {
    const bool is_text = std::isprint(static_cast<unsigned char>(byte)) != 0 || byte == '\n';
    shown += byte == '\0' ? "."
             : is_text    ? std::string(1, byte)
                          : fmt::format("\\{:02x}", static_cast<unsigned char>(byte));
  }
  if (outcome.text.size() > 200) {
    shown += fmt::format("… ({} bytes, hash {:x})", outcome.text.size(),
                         std::hash<std::string>{}(outcome.text));
  }
  return fmt::format("{} \"{}\"", outcome.value, shown);
}

std::string describe_attributes(std::uint32_t mode, std::uint64_t links, std::uint64_t uid,
                                std::uint64_t gid, std::uint64_t size, timespec mtime) {
  std::string text = fmt::format("mode={:o} links={} owner={}:{} size={}", mode, links, uid, gid,
                                 S_ISDIR(mode) ? 0 : size);
  if (mtime.tv_nsec == kSetMtime.tv_nsec) text += fmt::format(" mtime={}", mtime.tv_sec);
  return text;
}

std::string describe_times(timespec atime, timespec mtime, bool itself) {
  std::string text = fmt::format("mtime={}.{:09}", mtime.tv_sec, mtime.tv_nsec);
  if (itself) text += fmt::format(" atime={}.{:09}", atime.tv_sec, atime.tv_nsec);
  return text;
}

std::string describe_names(std::vector<std::pair<std::string, int>> names) {
  std::sort(names.begin(), names.end());
  std::string text;
  for (const auto& [name, type] : names) text += fmt::format("{}:{} ", name, type);
  return text;
}

}  // namespace libservices::testing
