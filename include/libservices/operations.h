// SPDX-License-Identifier: Apache-2.0
//
// The list of a libservice's operations: the one place from which forwarding layers, traces and
// fault injection are made, so that no layer silently drops one.
//
// LIBSERVICES_OPERATIONS(X) expands X(name) for every operation that takes a Context. A test
// compares the list with the concepts of libservice.h and capabilities.h.
#ifndef LIBSERVICES_OPERATIONS_H_
#define LIBSERVICES_OPERATIONS_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

#define LIBSERVICES_READ_OPERATIONS(X) \
  X(root)                              \
  X(lookup)                            \
  X(getattr)                           \
  X(open)                              \
  X(read)                              \
  X(close)                             \
  X(readdir)                           \
  X(readlink)                          \
  X(statfs)                            \
  X(getxattr)                          \
  X(listxattr)                         \
  X(seek)                              \
  X(backing)                           \
  X(getflags)                          \
  X(lock)                              \
  X(test_lock)

#define LIBSERVICES_WRITE_OPERATIONS(X) \
  X(create)                             \
  X(write)                              \
  X(fsync)                              \
  X(setattr)                            \
  X(mkdir)                              \
  X(unlink)                             \
  X(rmdir)                              \
  X(rename)                             \
  X(symlink)                            \
  X(link)                               \
  X(mknod)                              \
  X(tmpfile)                            \
  X(staging)                            \
  X(setxattr)                           \
  X(removexattr)                        \
  X(append)                             \
  X(fallocate)                          \
  X(copy_range)                         \
  X(clone)                              \
  X(setflags)

#define LIBSERVICES_OPERATIONS(X) \
  LIBSERVICES_READ_OPERATIONS(X)  \
  LIBSERVICES_WRITE_OPERATIONS(X)

namespace libservices {

enum class Operation : std::uint8_t {
#define LIBSERVICES_ENUMERATE(name) name,
  LIBSERVICES_OPERATIONS(LIBSERVICES_ENUMERATE)
#undef LIBSERVICES_ENUMERATE
};

inline constexpr std::string_view kOperationNames[] = {
#define LIBSERVICES_NAME(name) #name,
    LIBSERVICES_OPERATIONS(LIBSERVICES_NAME)
#undef LIBSERVICES_NAME
};

inline constexpr std::size_t kOperationCount = std::size(kOperationNames);

constexpr std::string_view name_of(Operation operation) {
  return kOperationNames[static_cast<std::size_t>(operation)];
}

}  // namespace libservices

#endif  // LIBSERVICES_OPERATIONS_H_
