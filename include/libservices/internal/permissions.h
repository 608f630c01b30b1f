// SPDX-License-Identifier: Apache-2.0
//
// POSIX's file permission rules as pure functions of a caller and attributes.
//
// SOURCE: POSIX.1-2017, XBD 4.5 "File Access Permissions"; where POSIX leaves a choice (set-id
// bits, sticky directories) it is Linux's. What has an owner or group that no caller can name
// (Attributes::unmapped) is as on Linux's idmapped mounts: nobody has privileges over it, and nobody
// changes it.
#ifndef LIBSERVICES_INTERNAL_PERMISSIONS_H_
#define LIBSERVICES_INTERNAL_PERMISSIONS_H_

#include <unistd.h>

#include "libservices/access_list.h"
#include "libservices/attributes.h"
#include "libservices/context.h"
#include "libservices/result.h"

namespace libservices::internal {

inline bool is_owner(const Identity& caller, const Attributes& object) {
  return caller.uid == object.uid && (object.unmapped & Attributes::kUidUnmapped) == 0;
}
inline bool is_in_group(const Identity& caller, const Attributes& object) {
  return caller.in_group(object.gid) && (object.unmapped & Attributes::kGidUnmapped) == 0;
}

// Whether an access list of `object` could matter to `caller`: the owner has the mode's bits, and
// without bits for the group the mode decides for everyone else, too.
inline bool asks_list(const Identity& caller, const Attributes& object) {
  if (caller.is_superuser() && object.unmapped == 0) return false;
  return (object.mode & 0070U) != 0 && !is_owner(caller, object);
}

// What an access list grants to a caller who is not the owner: the first entry that names him, or
// any of his groups' that has all that is wanted. ERRORS: EACCES.
inline Result<void> check_list(const Identity& caller, const Attributes& object,
                               const AccessList& list, unsigned bits) {
  using Entry = AccessList::Entry;
  const auto grants = [&](const Entry& entry) { return (bits & ~entry.permissions) == 0; };
  bool masked = true;
  for (const Entry& entry : list.entries()) {
    if (entry.tag == AccessList::kMask) masked = grants(entry);
  }
  bool in_some_group = false;
  for (const Entry& entry : list.entries()) {
    bool decides = false;
    switch (entry.tag) {
      case AccessList::kUser:
        decides = entry.id != AccessList::kNoId && entry.id == caller.uid;
        break;
      case AccessList::kOwningGroup:
      case AccessList::kGroup: {
        const bool member = entry.tag == AccessList::kOwningGroup
                                ? is_in_group(caller, object)
                                : entry.id != AccessList::kNoId && caller.in_group(entry.id);
        in_some_group = in_some_group || member;
        decides = member && grants(entry);
        break;
      }
      case AccessList::kOther:
        if (!in_some_group && grants(entry)) return {};
        return Errno{EACCES};
      default:
        break;
    }
    if (!decides) continue;
    if (grants(entry) && masked) return {};
    return Errno{EACCES};
  }
  return Errno{EIO};  // no list that was set ends so
}

// `wanted` is an or of R_OK, W_OK and X_OK. `list` is the object's access list, null if it has
// none. ERRORS: EACCES, EPERM for what nobody may write.
inline Result<void> check_access(const Identity& caller, const Attributes& object, int wanted,
                                 const AccessList* list = nullptr) {
  const auto bits = static_cast<unsigned>(wanted);
  if ((bits & W_OK) != 0 && object.has(Attributes::kImmutable)) return Errno{EPERM};
  if (object.unmapped != 0) {
    if ((bits & W_OK) != 0) return Errno{EACCES};
  } else if (caller.is_superuser()) {
    const bool executable = object.is_directory() || (object.mode & 0111U) != 0;
    if ((bits & X_OK) != 0 && !executable) return Errno{EACCES};
    return {};
  }
  if (list != nullptr && asks_list(caller, object)) {
    return check_list(caller, object, *list, bits & 7U);
  }
  const unsigned of_group = (object.mode >> 3U) & 7U;
  unsigned granted = object.mode & 7U;
  if (is_owner(caller, object)) {
    granted = (object.mode >> 6U) & 7U;
  } else if (((granted ^ of_group) & bits) != 0 && is_in_group(caller, object)) {
    granted = of_group;
  }
  if ((bits & ~granted) != 0) return Errno{EACCES};
  return {};
}

inline bool owns(const Identity& caller, const Attributes& object) {
  if (caller.is_superuser()) return (object.unmapped & Attributes::kUidUnmapped) == 0;
  return is_owner(caller, object);
}

// Whether `caller` may remove or rename `object` in `directory`, write access given.
// ERRORS: EPERM in a sticky directory, and where flags forbid it to everybody.
inline Result<void> check_removal(const Identity& caller, const Attributes& directory,
                                  const Attributes& object) {
  if (directory.has(Attributes::kAppendOnly) || object.is_protected()) return Errno{EPERM};
  if ((directory.mode & S_ISVTX) == 0 || caller.is_superuser() || caller.uid == object.uid ||
      is_owner(caller, directory)) {
    return {};
  }
  return Errno{EPERM};
}

// Owner, group and mode of what `caller` makes in `directory`; `mode` has the type.
inline NewNode new_node(const Context& context, const Attributes& directory, std::uint32_t mode) {
  const bool inherits_group = (directory.mode & S_ISGID) != 0;
  NewNode fresh;
  fresh.mode = mode & ~static_cast<std::uint32_t>(context.umask & 0777U);
  fresh.uid = context.caller.uid;
  fresh.gid = inherits_group ? directory.gid : context.caller.gid;
  if (inherits_group && S_ISDIR(mode)) {
    fresh.mode |= S_ISGID;
  } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
             !context.caller.is_superuser() && !context.caller.in_group(fresh.gid)) {
    fresh.mode &= ~static_cast<std::uint32_t>(S_ISGID);
  }
  return fresh;
}

// The permission bits that are left when someone without privilege changes the content, or anyone
// the owner, of a file with set-id bits. Without S_IXGRP, S_ISGID stays for members of the group.
inline std::uint32_t without_set_id(const Identity& caller, const Attributes& object) {
  std::uint32_t left = object.mode & ~static_cast<std::uint32_t>(S_ISUID);
  if ((object.mode & S_IXGRP) != 0 || !(caller.keeps_set_id() || caller.in_group(object.gid))) {
    left &= ~static_cast<std::uint32_t>(S_ISGID);
  }
  return left & 07777U;
}

// What chmod, chown, utimensat and truncate may do, and what they change besides: `changes` is
// adjusted. `by_path` is false for the f-forms, which have checked access at open. `may_access` is
// check_access() for the caller and object.
template <class MayAccess>
Result<void> check_changes(const Identity& caller, const Attributes& object, bool by_path,
                           MayAccess&& may_access, AttributeChanges& changes) {
  using C = AttributeChanges;
  if (changes.has(C::kSize)) {
    if (object.is_directory()) return Errno{EISDIR};
    if (!object.is_regular()) return Errno{EINVAL};
    if (changes.size > static_cast<std::uint64_t>(INT64_MAX)) return Errno{EINVAL};
    if (by_path) LIBSERVICES_CHECK_OK(may_access(W_OK));
  }
  const std::uint32_t given = (changes.has(C::kUid) ? Attributes::kUidUnmapped : 0U) |
                              (changes.has(C::kGid) ? Attributes::kGidUnmapped : 0U);
  if ((object.unmapped & ~given) != 0) {
    const bool touches = changes.has(C::kAtimeNow) && changes.has(C::kMtimeNow);
    return Errno{touches && !owns(caller, object) ? EACCES : EOVERFLOW};
  }
  if (changes.has(C::kUid) || changes.has(C::kGid)) {
    // Where one of the two is unmapped, a superuser may give that one alone.
    const auto may_give = [&](std::uint32_t which) {
      return caller.is_superuser() && (object.unmapped == 0 || (object.unmapped & which) != 0);
    };
    const bool own = is_owner(caller, object);
    const bool keeps_uid = own && changes.uid == object.uid;
    const bool may_join = own && (changes.gid == object.gid || caller.in_group(changes.gid));
    if (changes.has(C::kUid) && !keeps_uid && !may_give(Attributes::kUidUnmapped)) {
      return Errno{EPERM};
    }
    if (changes.has(C::kGid) && !may_join && !may_give(Attributes::kGidUnmapped)) {
      return Errno{EPERM};
    }
    if (!object.is_directory() && !changes.has(C::kMode)) {
      const std::uint32_t left = without_set_id(caller, object);
      if (left != object.permissions()) {
        changes.which |= C::kMode;
        changes.mode = left;
        return {};
      }
    }
  }
  if (changes.has(C::kMode)) {
    if (object.is_symlink()) return Errno{EOPNOTSUPP};
    if (!owns(caller, object)) return Errno{EPERM};
    changes.mode &= 07777U;
    const std::uint32_t gid = changes.has(C::kGid) ? changes.gid : object.gid;
    if (!caller.is_superuser() && !caller.in_group(gid)) {
      changes.mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
  }
  if (changes.has(C::kAtime) || changes.has(C::kMtime)) {
    if (!owns(caller, object)) return Errno{EPERM};
  } else if (changes.has(C::kAtimeNow) || changes.has(C::kMtimeNow)) {
    const bool both = changes.has(C::kAtimeNow) && changes.has(C::kMtimeNow);
    if (!owns(caller, object)) {
      if (!both) return Errno{EPERM};
      LIBSERVICES_CHECK_OK(may_access(W_OK));
    }
  }
  if (changes.has(C::kSize) && !caller.keeps_set_id() && !changes.has(C::kMode)) {
    const std::uint32_t left = without_set_id(caller, object);
    if (left != object.permissions()) {
      changes.which |= C::kMode;
      changes.mode = left;
    }
  }
  return {};
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_PERMISSIONS_H_
