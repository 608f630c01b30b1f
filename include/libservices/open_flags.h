// SPDX-License-Identifier: Apache-2.0
//
// The flags of `open`, `rename`, `fsync` and their kin, as values with names.
#ifndef LIBSERVICES_OPEN_FLAGS_H_
#define LIBSERVICES_OPEN_FLAGS_H_

#include <fcntl.h>

#include <cstdint>

namespace libservices {

// The O_* bits of <fcntl.h>. A libservice sees the access mode, O_TRUNC, O_DIRECTORY, O_DIRECT and
// O_SYNC/O_DSYNC; everything about names, creation and offsets has been dealt with by `Filesystem`.
struct OpenFlags {
  int bits = O_RDONLY;

  constexpr bool has(int bit) const { return (bits & bit) == bit; }
  constexpr bool reads() const {
    return (bits & O_PATH) == 0 && (bits & O_ACCMODE) != O_WRONLY;
  }
  constexpr bool writes() const {
    return (bits & O_PATH) == 0 && (bits & O_ACCMODE) != O_RDONLY;
  }
  constexpr bool truncates() const { return has(O_TRUNC); }
  constexpr bool directory() const { return has(O_DIRECTORY); }
};

// What `rename` does when the new name exists.
enum class RenameMode : std::uint8_t {
  kReplace,    // POSIX
  kNoReplace,  // fails with EEXIST (RENAME_NOREPLACE)
  kExchange,   // both must exist and change places (RENAME_EXCHANGE)
  // As kReplace, and a character device 0:0 stays at the old name, at once (RENAME_WHITEOUT). Only
  // for layers: EINVAL from a libservice that cannot.
  kLeaveWhiteout,
};

// Which of the places beside the tree `staging` gives.
enum class Staging : std::uint8_t {
  kDrafts,  // empty after start()
  kKept,    // what lies there stays from one start to the next
};

// Where a write goes: as the file's O_APPEND says, or as the call alone says (RWF_APPEND and
// RWF_NOAPPEND of pwritev2).
enum class Placing : std::uint8_t { kByFlags, kAtEnd, kAtOffset };

enum class SyncScope : std::uint8_t {
  kData,  // fdatasync: the content, and the attributes needed to read it back
  kAll,   // fsync
};

enum class XattrMode : std::uint8_t { kCreateOrReplace, kCreate, kReplace };

enum class SeekTarget : std::uint8_t { kData, kHole };

}  // namespace libservices

#endif  // LIBSERVICES_OPEN_FLAGS_H_
