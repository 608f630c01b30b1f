// SPDX-License-Identifier: Apache-2.0
//
// Linux's ioctls for inode flags: their numbers, and the bytes that they read and write. Neither
// allocates nor throws: the preload library uses it, too.
// SOURCE: <linux/fs.h>.
#ifndef LIBSERVICES_INTERNAL_FLAG_CALLS_H_
#define LIBSERVICES_INTERNAL_FLAG_CALLS_H_

#include <linux/fs.h>

#include <cstddef>
#include <cstdint>

#include "libservices/inode_flags.h"

namespace libservices::internal {

struct FlagCall {
  enum class Kind : std::uint8_t { kOther, kGet, kSet };

  Kind kind = Kind::kOther;
  InodeFlags::Form form = InodeFlags::Form::kFlags;

  // The numbers say `long`; what is read and written are 32 bits.
  std::size_t bytes() const {
    return form == InodeFlags::Form::kFlags ? sizeof(std::uint32_t) : sizeof(fsxattr);
  }
  unsigned long number() const {
    if (form == InodeFlags::Form::kFlags) {
      return kind == Kind::kGet ? FS_IOC_GETFLAGS : FS_IOC_SETFLAGS;
    }
    return kind == Kind::kGet ? FS_IOC_FSGETXATTR : FS_IOC_FSSETXATTR;
  }
};

constexpr FlagCall flag_call(unsigned long number) {
  using Form = InodeFlags::Form;
  switch (number) {
    case FS_IOC_GETFLAGS:
      return {FlagCall::Kind::kGet, Form::kFlags};
    case FS_IOC_SETFLAGS:
      return {FlagCall::Kind::kSet, Form::kFlags};
    case FS_IOC_FSGETXATTR:
      return {FlagCall::Kind::kGet, Form::kExtended};
    case FS_IOC_FSSETXATTR:
      return {FlagCall::Kind::kSet, Form::kExtended};
    default:
      return {};
  }
}

inline constexpr std::size_t kMostFlagBytes = sizeof(fsxattr);

// `to` and `from`: FlagCall::bytes() of the form.
inline void put_flags(const InodeFlags& flags, void* to) {
  if (flags.form == InodeFlags::Form::kFlags) {
    __builtin_memcpy(to, &flags.flags, sizeof flags.flags);
    return;
  }
  fsxattr extended{};
  extended.fsx_xflags = flags.flags;
  extended.fsx_extsize = flags.extent_size;
  extended.fsx_nextents = flags.extents;
  extended.fsx_projid = flags.project;
  extended.fsx_cowextsize = flags.copied_extent_size;
  __builtin_memcpy(to, &extended, sizeof extended);
}

inline InodeFlags take_flags(InodeFlags::Form form, const void* from) {
  InodeFlags flags;
  flags.form = form;
  if (form == InodeFlags::Form::kFlags) {
    __builtin_memcpy(&flags.flags, from, sizeof flags.flags);
    return flags;
  }
  fsxattr extended;
  __builtin_memcpy(&extended, from, sizeof extended);
  flags.flags = extended.fsx_xflags;
  flags.extent_size = extended.fsx_extsize;
  flags.extents = extended.fsx_nextents;
  flags.project = extended.fsx_projid;
  flags.copied_extent_size = extended.fsx_cowextsize;
  return flags;
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_FLAG_CALLS_H_
