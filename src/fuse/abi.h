// SPDX-License-Identifier: Apache-2.0
//
// FUSE's kernel interface, as far as <linux/fuse.h> of the build machine may not have it yet.
//
// SOURCE: include/uapi/linux/fuse.h of Linux; the number behind each name is the protocol's minor
// version that brought it. Everything is negotiated: an older kernel never sees any of it.
#ifndef LIBSERVICES_SRC_FUSE_ABI_H_
#define LIBSERVICES_SRC_FUSE_ABI_H_

#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <cstddef>
#include <cstdint>

namespace libservices::fuse::abi {

// We speak 7.31 (Linux 5.4, whose requests have all the fields that we use) up to this.
inline constexpr std::uint32_t kOldestMinor = 31;
inline constexpr std::uint32_t kNewestMinor = 42;

inline constexpr std::uint64_t kCreateSuppGroup = 1ULL << 34;    // 7.38
inline constexpr std::uint64_t kDirectIoAllowMmap = 1ULL << 36;  // 7.39
inline constexpr std::uint64_t kPassthrough = 1ULL << 37;        // 7.40
inline constexpr std::uint64_t kNoExportSupport = 1ULL << 38;    // 7.40
inline constexpr std::uint64_t kOverIoUring = 1ULL << 41;        // 7.42

inline constexpr int kNotifyIncEpoch = 8;  // fuse_notify_code, 7.44; EINVAL before

inline constexpr std::uint32_t kOpenPassthrough = 1U << 7;  // fuse_open_out.open_flags, 7.40

inline constexpr std::uint32_t kStatx = 52;      // fuse_opcode, 7.39
inline constexpr std::uint32_t kExtGroups = 32;  // fuse_ext_type, 7.38

struct OpenOut {  // fuse_open_out, with what was padding before 7.40
  std::uint64_t fh;
  std::uint32_t open_flags;
  std::int32_t backing_id;
};
static_assert(sizeof(OpenOut) == sizeof(fuse_open_out));

struct InitOut {  // fuse_init_out, with what was unused before 7.40
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint16_t max_background;
  std::uint16_t congestion_threshold;
  std::uint32_t max_write;
  std::uint32_t time_gran;
  std::uint16_t max_pages;
  std::uint16_t map_alignment;
  std::uint32_t flags2;
  std::uint32_t max_stack_depth;
  std::uint32_t unused[6];
};
static_assert(sizeof(InitOut) == sizeof(fuse_init_out));

struct StatxIn {
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t fh;
  std::uint32_t sx_flags;
  std::uint32_t sx_mask;
};

struct StatxTime {
  std::int64_t seconds;
  std::uint32_t nanoseconds;
  std::int32_t reserved;
};

struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare[2];
  std::uint32_t mask;  // from here on: struct fuse_statx
  std::uint32_t blksize;
  std::uint64_t attributes;
  std::uint32_t nlink;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t spare0;
  std::uint64_t ino;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  StatxTime atime;
  StatxTime btime;
  StatxTime ctime;
  StatxTime mtime;
  std::uint32_t rdev_major;
  std::uint32_t rdev_minor;
  std::uint32_t dev_major;
  std::uint32_t dev_minor;
  std::uint64_t spare2[14];
};
static_assert(sizeof(StatxOut) == 288);

struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
inline constexpr unsigned long kIocClone = _IOR(229, 0, std::uint32_t);
inline constexpr unsigned long kIocBackingOpen = _IOW(229, 1, BackingMap);
inline constexpr unsigned long kIocBackingClose = _IOW(229, 2, std::uint32_t);

// FUSE over io_uring, 7.42. A request lies in two places: this, and beside it what follows the fixed
// part. The answer takes the same places: its header, and all that follows it in the payload.
struct RingHeader {  // fuse_uring_req_header
  alignas(8) std::byte in_out[128];  // fuse_in_header, fuse_out_header
  alignas(8) std::byte fixed[128];
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint32_t payload_bytes;
  std::uint32_t padding;
  std::uint64_t reserved;
};
static_assert(sizeof(RingHeader) == 288);
struct RingCommand {  // fuse_uring_cmd_req, in the second half of a submission
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint16_t queue;
  std::uint8_t padding[6];
};
inline constexpr std::uint32_t kRingRegister = 1;        // fuse_uring_cmd
inline constexpr std::uint32_t kRingCommitAndFetch = 2;

// 32 bits of a device number, as the kernel encodes it.
inline std::uint32_t encode_device(std::uint64_t device) {
  const std::uint32_t minor = gnu_dev_minor(device);
  return (minor & 0xffU) | (gnu_dev_major(device) << 8U) | ((minor & ~0xffU) << 12U);
}
inline std::uint64_t decode_device(std::uint32_t device) {
  return gnu_dev_makedev(device >> 8U & 0xfffU, (device & 0xffU) | (device >> 12U & 0xfff00U));
}

}  // namespace libservices::fuse::abi

#endif  // LIBSERVICES_SRC_FUSE_ABI_H_
