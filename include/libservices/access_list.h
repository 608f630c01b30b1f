// SPDX-License-Identifier: Apache-2.0
//
// `AccessList`: a POSIX access control list, as the extended attributes system.posix_acl_access and
// system.posix_acl_default of an object hold it.
//
// The first says who may use the object, beside its owner. The second, of directories alone, is
// what objects made there begin with. `Filesystem` evaluates both and keeps them and the mode in
// agreement; a libservice only stores them, with its other extended attributes.
//
// SOURCE: Linux, uapi/linux/posix_acl_xattr.h for the form; fs/posix_acl.c and POSIX 1003.1e draft
// 17 for what a list means.
#ifndef LIBSERVICES_ACCESS_LIST_H_
#define LIBSERVICES_ACCESS_LIST_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/result.h"

namespace libservices {

class AccessList {
 public:
  enum class Kind : std::uint8_t { kAccess, kDefault };
  enum Tag : std::uint16_t {
    kOwner = 0x01,
    kUser = 0x02,  // the one that `id` names
    kOwningGroup = 0x04,
    kGroup = 0x08,  // the one that `id` names
    kMask = 0x10,   // the most that any of the three above gives
    kOther = 0x20,
  };
  struct Entry {
    std::uint16_t tag = 0;
    std::uint16_t permissions = 0;  // as in a mode: 4 read, 2 write, 1 execute or search
    std::uint32_t id = kNoId;

    bool is_named() const { return tag == kUser || tag == kGroup; }
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  static constexpr std::uint32_t kNoId = UINT32_MAX;
  static constexpr std::string_view kNames[] = {"system.posix_acl_access",
                                                "system.posix_acl_default"};

  static constexpr std::string_view name_of(Kind kind) {
    return kNames[static_cast<std::size_t>(kind)];
  }
  static constexpr bool is_name(std::string_view name) {
    return name == kNames[0] || name == kNames[1];
  }
  // REQUIRES: is_name(name).
  static constexpr Kind kind_of(std::string_view name) {
    return name == kNames[0] ? Kind::kAccess : Kind::kDefault;
  }

  // Whatever its entries are; none for a value that is empty but for its version.
  // ERRORS: EINVAL, and EOPNOTSUPP for another version of the form.
  static Result<AccessList> parse(std::span<const std::byte> value);
  std::vector<std::byte> encode() const;

  // Each id in `value` becomes `map(tag, id)`. What is no list stays as it is.
  template <class Map>
  static void map_ids(std::span<std::byte> value, Map&& map);

  const std::vector<Entry>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }

  // Whether an entry for a user or group has no id.
  bool names_nobody() const {
    for (const Entry& entry : entries_) {
      if (entry.is_named() && entry.id == kNoId) return true;
    }
    return false;
  }
  // Whether it can be set: the entries that there must be, each once, in their order, and a mask
  // if there are named ones.
  bool is_valid() const;

  // The permission bits of the mode that an object with this access list has.
  std::uint32_t mode() const;
  // Whether that mode says all that the list does.
  bool is_mode() const;
  // As chmod.
  void set_mode(std::uint32_t mode);
  // As a new object's, which is made with `mode`: neither gives more than the other. Returns the
  // mode that is left.
  std::uint32_t narrow(std::uint32_t mode);

  friend bool operator==(const AccessList&, const AccessList&) = default;

 private:
  static constexpr std::uint32_t kVersion = 2;
  static_assert(sizeof(Entry) == 8 && std::endian::native == std::endian::little);

  static bool is_list(std::span<const std::byte> value) {
    std::uint32_t version = 0;
    if (value.size() < sizeof version) return false;
    std::memcpy(&version, value.data(), sizeof version);
    return version == kVersion && (value.size() - sizeof version) % sizeof(Entry) == 0;
  }
  // Which three bits of a mode stand for entries with this tag.
  unsigned shift_of(std::uint16_t tag) const { return tag == kOwner ? 6 : tag == kOther ? 0 : 3; }
  bool has_mask() const {
    for (const Entry& entry : entries_) {
      if (entry.tag == kMask) return true;
    }
    return false;
  }
  // Calls `visit(entry, shift)` for the three entries that the mode's bits are of.
  template <class List, class Visit>
  static void visit_classes(List& list, Visit&& visit) {
    const std::uint16_t of_group = list.has_mask() ? kMask : kOwningGroup;
    for (auto& entry : list.entries_) {
      if (entry.tag == kOwner || entry.tag == kOther || entry.tag == of_group) {
        visit(entry, list.shift_of(entry.tag));
      }
    }
  }

  std::vector<Entry> entries_;
};

inline Result<AccessList> AccessList::parse(std::span<const std::byte> value) {
  std::uint32_t version = 0;
  if (value.size() < sizeof version) return Errno{EINVAL};
  std::memcpy(&version, value.data(), sizeof version);
  if (version != kVersion) return Errno{EOPNOTSUPP};
  if (!is_list(value)) return Errno{EINVAL};
  AccessList list;
  list.entries_.resize((value.size() - sizeof version) / sizeof(Entry));
  if (!list.empty()) {
    std::memcpy(list.entries_.data(), value.data() + sizeof version, value.size() - sizeof version);
  }
  for (Entry& entry : list.entries_) {
    switch (entry.tag) {
      case kUser:
      case kGroup:
        break;
      case kOwner:
      case kOwningGroup:
      case kMask:
      case kOther:
        entry.id = kNoId;
        break;
      default:
        return Errno{EINVAL};
    }
  }
  return list;
}

inline std::vector<std::byte> AccessList::encode() const {
  const std::span<const std::byte> body = std::as_bytes(std::span(entries_));
  std::vector<std::byte> value(sizeof kVersion + body.size());
  std::memcpy(value.data(), &kVersion, sizeof kVersion);
  if (!body.empty()) std::memcpy(value.data() + sizeof kVersion, body.data(), body.size());
  return value;
}

template <class Map>
void AccessList::map_ids(std::span<std::byte> value, Map&& map) {
  if (!is_list(value)) return;
  for (value = value.subspan(sizeof kVersion); !value.empty();
       value = value.subspan(sizeof(Entry))) {
    Entry entry;
    std::memcpy(&entry, value.data(), sizeof entry);
    if (!entry.is_named()) continue;
    entry.id = map(static_cast<Tag>(entry.tag), entry.id);
    std::memcpy(value.data(), &entry, sizeof entry);
  }
}

inline bool AccessList::is_valid() const {
  bool needs_mask = false;
  std::uint16_t last = 0;
  for (const Entry& entry : entries_) {
    if ((entry.permissions & ~7U) != 0) return false;
    if (entry.is_named()) {
      needs_mask = true;
      if (entry.tag < last) return false;
    } else if (entry.tag <= last) {
      return false;
    }
    // Tags are numbered in the order of their entries; what must be there cannot be passed over.
    if (entry.tag > kOwner && last == 0) return false;
    if (entry.tag > kOwningGroup && last < kOwningGroup) return false;
    if (entry.tag == kOther && needs_mask && last != kMask) return false;
    last = entry.tag;
  }
  return last == kOther && !names_nobody();
}

inline std::uint32_t AccessList::mode() const {
  std::uint32_t mode = 0;
  visit_classes(*this, [&](const Entry& entry, unsigned shift) {
    mode |= std::uint32_t{entry.permissions & 7U} << shift;
  });
  return mode;
}

inline bool AccessList::is_mode() const {
  for (const Entry& entry : entries_) {
    if (entry.is_named() || entry.tag == kMask) return false;
  }
  return true;
}

inline void AccessList::set_mode(std::uint32_t mode) {
  visit_classes(*this, [&](Entry& entry, unsigned shift) {
    entry.permissions = static_cast<std::uint16_t>(mode >> shift & 7U);
  });
}

inline std::uint32_t AccessList::narrow(std::uint32_t mode) {
  visit_classes(*this, [&](Entry& entry, unsigned shift) {
    entry.permissions = static_cast<std::uint16_t>(entry.permissions & mode >> shift & 7U);
    mode &= ~(7U << shift) | (std::uint32_t{entry.permissions} << shift);
  });
  return mode;
}

}  // namespace libservices

#endif  // LIBSERVICES_ACCESS_LIST_H_
