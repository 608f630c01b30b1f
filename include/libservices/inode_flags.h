// SPDX-License-Identifier: Apache-2.0
//
// Flags of an object beside its mode: what lsattr(1) shows and chattr(1) sets.
//
// Linux has two forms of them, of which neither has all that the other has. Which flags there are,
// and which of them can be set, is the storage's matter.
// SOURCE: ioctl_iflags(2), ioctl_xfs_fsgetxattr(2); <linux/fs.h>.
#ifndef LIBSERVICES_INODE_FLAGS_H_
#define LIBSERVICES_INODE_FLAGS_H_

#include <cstdint>

namespace libservices {

struct InodeFlags {
  enum class Form : std::uint32_t {
    kFlags,     // of FS_IOC_GETFLAGS: FS_*_FL
    kExtended,  // of FS_IOC_FSGETXATTR: FS_XFLAG_*, and the fields behind them
  };
  static constexpr std::uint32_t kImmutable = 0x10;                // FS_IMMUTABLE_FL
  static constexpr std::uint32_t kAppendOnly = 0x20;               // FS_APPEND_FL
  static constexpr std::uint32_t kJournalData = 0x4000;            // FS_JOURNAL_DATA_FL
  static constexpr std::uint32_t kInheritProject = 0x20000000;     // FS_PROJINHERIT_FL
  static constexpr std::uint32_t kFoldNames = 0x40000000;          // FS_CASEFOLD_FL
  static constexpr std::uint32_t kExtendedImmutable = 0x8;         // FS_XFLAG_IMMUTABLE
  static constexpr std::uint32_t kExtendedAppendOnly = 0x10;       // FS_XFLAG_APPEND
  static constexpr std::uint32_t kExtendedInheritProject = 0x200;  // FS_XFLAG_PROJINHERIT

  Form form = Form::kFlags;
  std::uint32_t flags = 0;
  std::uint32_t extent_size = 0;         // bytes; this and what follows: kExtended alone
  std::uint32_t extents = 0;             // how many there are; is not set
  std::uint32_t project = 0;             // whose quota it counts to
  std::uint32_t copied_extent_size = 0;  // of what is copied when it is written; bytes

  // Nobody writes, renames or removes it, or appends to it at most.
  bool protects() const {
    return (flags & (form == Form::kFlags ? kImmutable | kAppendOnly
                                          : kExtendedImmutable | kExtendedAppendOnly)) != 0;
  }
};
static_assert(sizeof(InodeFlags) == 24);

}  // namespace libservices

#endif  // LIBSERVICES_INODE_FLAGS_H_
