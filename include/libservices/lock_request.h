// SPDX-License-Identifier: Apache-2.0
//
// What is asked for, and answered, about advisory locks.
#ifndef LIBSERVICES_LOCK_REQUEST_H_
#define LIBSERVICES_LOCK_REQUEST_H_

#include <cstdint>

namespace libservices {

// `kRecord` locks belong to Context::process and end with any close of the file by that process;
// `kOpenFile` (F_OFD_SETLK) and `kFlock` belong to the open file. The first two conflict with each
// other, and flock's among themselves, as on Linux.
struct LockRequest {
  enum class Owner : std::uint8_t { kRecord, kOpenFile, kFlock };
  enum class Type : std::uint8_t { kShared, kExclusive, kUnlock };

  Owner owner = Owner::kRecord;
  Type type = Type::kShared;
  std::uint64_t start = 0;
  std::uint64_t end = UINT64_MAX;  // last byte locked; UINT64_MAX = to the end of any file
  // In answers: who holds it (Context::process; 0 = an open file, or somebody elsewhere).
  std::uint64_t process = 0;
};

}  // namespace libservices

#endif  // LIBSERVICES_LOCK_REQUEST_H_
