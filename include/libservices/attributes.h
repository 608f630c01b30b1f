// SPDX-License-Identifier: Apache-2.0
//
// What `stat` tells about a file, and what may be changed of it.
//
// Plain values of fixed layout: they are copied through shared memory as they are.
// SOURCE: the fields are those of POSIX <sys/stat.h> plus the birth time of Linux's statx.
#ifndef LIBSERVICES_ATTRIBUTES_H_
#define LIBSERVICES_ATTRIBUTES_H_

#include <sys/stat.h>
#include <time.h>

#include <compare>
#include <cstdint>

namespace libservices {

// Time since 1970-01-01 00:00 UTC.
struct Timestamp {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;  // 0 to 999,999,999
  std::uint32_t reserved = 0;

  static Timestamp now() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0};
  }
  friend constexpr auto operator<=>(const Timestamp&, const Timestamp&) = default;
};

struct Attributes {
  // The owner or group is one that callers have no id for, and `uid` or `gid` a stand-in (IdMap):
  // no caller is that user or in that group, whatever id he has.
  enum Unmapped : std::uint32_t { kUidUnmapped = 1U << 0, kGidUnmapped = 1U << 1 };
  // What statx tells of the object's flags (inode_flags.h); none where the storage has no flags.
  enum Flag : std::uint32_t {
    kImmutable = 1U << 0,
    kAppendOnly = 1U << 1,
    kNoDump = 1U << 2,
    kCompressed = 1U << 3,
  };

  // Which object this is. Two nodes of one filesystem instance are the same object exactly when
  // both numbers are equal; the pair is not reused while any node, open file or link is left.
  std::uint64_t device = 0;
  std::uint64_t inode = 0;

  std::uint32_t mode = 0;   // type (S_IFMT) and permission bits (07777)
  std::uint32_t links = 0;  // number of hard links; 0 = unlinked, still open
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t special_device = 0;  // st_rdev of a device file, as makedev() gives it
  std::uint64_t size = 0;            // bytes; of a symbolic link the length of its target
  std::uint64_t blocks = 0;          // allocated, in units of 512 bytes
  std::uint32_t block_size = 4096;   // preferred size of a transfer, bytes
  std::uint16_t unmapped = 0;        // of Unmapped
  std::uint16_t flags = 0;           // of Flag
  Timestamp atime;  // last access
  Timestamp mtime;  // last change of the content
  Timestamp ctime;  // last change of the content or of an attribute
  Timestamp btime;  // creation; zero where it is not known

  bool is_directory() const { return S_ISDIR(mode); }
  bool is_regular() const { return S_ISREG(mode); }
  bool is_symlink() const { return S_ISLNK(mode); }
  bool has(Flag flag) const { return (flags & flag) != 0; }
  // Nobody removes, renames or writes it; appends to it at most.
  bool is_protected() const { return (flags & (kImmutable | kAppendOnly)) != 0; }
  std::uint32_t permissions() const { return mode & 07777U; }
};
static_assert(sizeof(Attributes) == 128);

// What `setattr` shall change: the fields whose bit stands in `which`.
struct AttributeChanges {
  enum Field : std::uint32_t {
    kMode = 1U << 0,      // permission bits only; the type never changes
    kUid = 1U << 1,
    kGid = 1U << 2,
    kSize = 1U << 3,      // truncates or extends with zeros
    kAtime = 1U << 4,
    kMtime = 1U << 5,
    kAtimeNow = 1U << 6,  // the time of the call, instead of `atime`
    kMtimeNow = 1U << 7,
  };

  std::uint32_t which = 0;
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size = 0;
  Timestamp atime;
  Timestamp mtime;

  bool has(Field field) const { return (which & field) != 0; }
};

// What a new object shall have. `Filesystem` has applied the umask and the set-group-id rule
// already; a libservice stores exactly these values.
struct NewNode {
  std::uint32_t mode = 0;  // for mknod with the type, otherwise permission bits alone
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t special_device = 0;  // for mknod of a device
};

// What `statfs` tells. Units: blocks of `block_size` bytes.
struct VolumeInfo {
  std::uint64_t block_size = 4096;
  std::uint64_t blocks = 0;
  std::uint64_t blocks_free = 0;
  std::uint64_t blocks_available = 0;  // to an unprivileged caller
  std::uint64_t files = 0;
  std::uint64_t files_free = 0;
  std::uint64_t name_max = 255;  // bytes
  std::uint64_t type = 0x4c535643;  // statfs.f_type
};

}  // namespace libservices

#endif  // LIBSERVICES_ATTRIBUTES_H_
