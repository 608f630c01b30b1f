// SPDX-License-Identifier: Apache-2.0
//
// The marks by which branches say what they hide and where the rest of an object lies. All forms
// that images come in are read; the one that the upper takes is written.
//
//   whiteout       a character device 0:0, a file `.wh.NAME`, or an empty file with the attribute
//                  overlay.whiteout in a directory whose overlay.opaque is "x"
//   opaque         overlay.opaque = "y", user.fuseoverlayfs.opaque = "y", or a file `.wh..wh..opq`
//   redirect       overlay.redirect: where the parts of a directory in the branches below are; a
//                  name beside it, or a path from their roots
//   metacopy       overlay.metacopy: a file without its content, which lies below
//
// overlay.* stands for trusted.overlay.* and user.overlay.*. Our own attributes are in the same
// name space, so that overlayfs hides them too.
// SOURCE: Linux, Documentation/filesystems/overlayfs.rst; OCI image specification, layer.md;
// fuse-overlayfs(1).
#ifndef LIBSERVICES_SERVICES_UNION_MARKS_H_
#define LIBSERVICES_SERVICES_UNION_MARKS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libservices/capabilities.h"
#include "services/union/ranges.h"

namespace libservices::union_internal {

inline constexpr std::string_view kTrusted = "trusted.overlay.";
inline constexpr std::string_view kUser = "user.overlay.";
inline constexpr std::string_view kFuse = "user.fuseoverlayfs.";

// Behind the prefix.
inline constexpr std::string_view kOpaque = "opaque";
inline constexpr std::string_view kRedirect = "redirect";
inline constexpr std::string_view kMetacopy = "metacopy";
inline constexpr std::string_view kImpure = "impure";
inline constexpr std::string_view kRanges = "libservices.ranges";
inline constexpr std::string_view kOrigin = "libservices.origin";

inline constexpr std::string_view kWhiteoutFile = ".wh.";
inline constexpr std::string_view kOpaqueFiles[] = {".wh..wh..opq", ".wh..opq"};

inline bool is_whiteout(const Attributes& object) {
  return S_ISCHR(object.mode) && object.special_device == 0;
}
inline bool is_mark_file(std::string_view name) { return name.starts_with(kWhiteoutFile); }

// An attribute of the union itself, which callers neither see nor set.
inline bool is_overlay_name(std::string_view name) {
  return name.starts_with(kTrusted) || name.starts_with(kUser) || name.starts_with(kFuse);
}
// The part of `name` behind its prefix, empty if it is none of ours.
inline std::string_view mark_of(std::string_view name) {
  for (const std::string_view prefix : {kTrusted, kUser, kFuse}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return {};
}

// Which lower object an upper one was copied from: its identity goes on.
struct Origin {
  std::uint64_t branch = 0;  // Branches::identity()
  std::uint64_t inode = 0;
  Timestamp ctime;           // another object of that number has another
  std::uint32_t links = 1;   // of the lower object
  std::uint32_t hidden = 0;  // how many of those names the union does not take from the lower

  std::array<std::byte, 48> encode() const {
    std::array<std::byte, 48> out{};
    const std::uint64_t words[] = {1,
                                   branch,
                                   inode,
                                   static_cast<std::uint64_t>(ctime.seconds),
                                   ctime.nanoseconds,
                                   links | std::uint64_t{hidden} << 32U};
    static_assert(sizeof words == out.size());
    std::memcpy(out.data(), words, sizeof words);
    return out;
  }
  static std::optional<Origin> decode(std::span<const std::byte> in) {
    std::uint64_t words[6];
    if (in.size() != sizeof words) return std::nullopt;
    std::memcpy(words, in.data(), sizeof words);
    if (words[0] != 1) return std::nullopt;
    return Origin{words[1],
                  words[2],
                  {static_cast<std::int64_t>(words[3]), static_cast<std::uint32_t>(words[4]), 0},
                  static_cast<std::uint32_t>(words[5]),
                  static_cast<std::uint32_t>(words[5] >> 32U)};
  }
  friend bool operator==(const Origin&, const Origin&) = default;
};

struct Marks {
  bool opaque = false;
  bool whiteouts_inside = false;  // empty files in it may be whiteouts
  bool whiteout = false;
  bool impure = false;  // it has entries that were copied up
  bool metacopy = false;
  std::string redirect;
  std::vector<std::byte> ranges;  // as RangeMap encodes them
  std::optional<Origin> origin;
};

// The value of an attribute; empty optional: there is none. ERRORS: of the branch, if it fails.
template <class Branch>
Result<std::optional<std::vector<std::byte>>> attribute(const Context& context, Branch& branch,
                                                        const typename Branch::Node& node,
                                                        std::string_view name) {
  using Answer = std::optional<std::vector<std::byte>>;
  std::vector<std::byte> value(256);
  for (int tries = 0; tries < 8; ++tries) {
    auto size = branch.getxattr(context, node, name, value);
    if (size.ok()) {
      value.resize(*size);
      return Answer(std::move(value));
    }
    if (size.error() != Errno{ERANGE}) {
      // Not there, or not for this service.
      if (size.error() == Errno{ENODATA} || size.error() == Errno{EOPNOTSUPP} ||
          size.error() == Errno{EPERM}) {
        return Answer();
      }
      return size.error();
    }
    LIBSERVICES_TRY(const std::size_t wanted, branch.getxattr(context, node, name, {}));
    value.resize(wanted + 64);
  }
  return Errno{EIO};
}

// All names of its attributes, each with its NUL.
template <class Branch>
Result<std::string> attribute_names(const Context& context, Branch& branch,
                                    const typename Branch::Node& node) {
  std::string names(512, '\0');
  for (int tries = 0; tries < 8; ++tries) {
    auto size = branch.listxattr(context, node, std::span(names));
    if (size.ok()) {
      names.resize(*size);
      return names;
    }
    if (size.error() == Errno{EOPNOTSUPP}) return std::string();
    if (size.error() != Errno{ERANGE}) return size.error();
    LIBSERVICES_TRY(const std::size_t wanted, branch.listxattr(context, node, std::span<char>()));
    names.resize(wanted + 256);
  }
  return Errno{EIO};
}

template <class Take>
void for_each_name(std::string_view names, Take&& take) {
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find('\0'));
    if (!name.empty()) take(name);
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
}

// ERRORS: of a branch that fails.
template <class Branch>
Result<Marks> marks_of(const Context& context, Branch& branch, const typename Branch::Node& node) {
  Marks marks;
  if constexpr (OffersXattrs<Branch>) {
    LIBSERVICES_TRY(const std::string names, attribute_names(context, branch, node));
    Result<void> failed;
    for_each_name(names, [&](std::string_view name) {
      const std::string_view mark = mark_of(name);
      if (mark.empty() || !failed.ok()) return;
      auto value = attribute(context, branch, node, name);
      if (!value.ok()) {
        failed = value.error();
        return;
      }
      if (!*value) return;
      const std::vector<std::byte>& bytes = **value;
      const char first = bytes.empty() ? '\0' : static_cast<char>(bytes.front());
      if (mark == kOpaque) {
        marks.opaque = marks.opaque || first == 'y';
        marks.whiteouts_inside = marks.whiteouts_inside || first == 'x';
      } else if (mark == "whiteout" || mark == "whiteouts") {
        marks.whiteout = true;
        marks.whiteouts_inside = true;  // overlay.whiteouts: the first form of "x"
      } else if (mark == kImpure) {
        marks.impure = first == 'y';
      } else if (mark == kMetacopy) {
        marks.metacopy = true;
      } else if (mark == kRedirect) {
        marks.redirect.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      } else if (mark == kRanges) {
        marks.ranges = bytes;
      } else if (mark == kOrigin) {
        marks.origin = Origin::decode(bytes);
      }
    });
    if (!failed.ok()) return failed.error();
  }
  return marks;
}

// Whether the attributes of a regular file leave room for a metacopy mark: a file that has all its
// blocks has no such mark, unless it is so small that the block is one of attributes.
inline bool may_be_metacopy(const Attributes& file) {
  return file.is_regular() && file.size != 0 &&
         (file.blocks * 512 < file.size || file.size <= file.block_size);
}

// The bytes that a file with a metacopy mark has itself: overlayfs writes none. Empty: the mark is
// damaged.
inline std::optional<RangeMap> ranges_of(const Marks& marks, const Attributes& file) {
  if (marks.ranges.empty()) return RangeMap(RangeMap::kSmallestShift, file);
  auto map = RangeMap::decode(marks.ranges);
  if (map) map->cut(file.size);
  return map;
}

// A path without empty, `.` and `..` components; false: it is no such path.
inline bool split_path(std::string_view path, std::vector<std::string>& names) {
  names.clear();
  while (!path.empty()) {
    const std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), name.size() + 1));
    if (name.empty() || name == ".") continue;
    if (name == "..") return false;
    names.emplace_back(name);
  }
  return !names.empty();
}

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_MARKS_H_
