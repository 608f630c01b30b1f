// SPDX-License-Identifier: Apache-2.0
//
// A request of the kernel, taken apart and checked. No I/O in here.
//
// The kernel is trusted with the mount, but the same bytes will come from virtual machines
// (virtio-fs), so nothing is believed: lengths, terminators and counts are checked before anything
// is looked at, and a request that is no such one is told from one that we do not know.
#ifndef LIBSERVICES_SRC_FUSE_MESSAGE_H_
#define LIBSERVICES_SRC_FUSE_MESSAGE_H_

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "libservices/result.h"
#include "src/fuse/abi.h"

namespace libservices::fuse {

// One kind of request: its parts follow the header in this order.
struct Form {
  std::uint32_t opcode;
  std::string_view name;
  std::uint16_t least;   // bytes of the fixed part in the oldest version that we speak
  std::uint16_t most;    // in the newest
  std::uint8_t names;    // strings, each with its NUL
  bool has_payload;      // whatever is left
};

inline constexpr std::size_t kForms = 53;  // by opcode
// Null: none that we know.
const Form* form_of(std::uint32_t opcode);

struct Message {
  fuse_in_header header{};
  const Form* form = nullptr;
  std::span<const std::byte> fixed;
  std::array<std::string_view, 2> names;  // without the NUL, never with a NUL or '/' in them
  std::span<const std::byte> payload;
  std::span<const std::byte> groups;  // supplementary ones of a creation: 32-bit numbers

  // The fixed part. What an old version does not have is 0.
  template <class T>
  T as() const {
    static_assert(std::is_trivially_copyable_v<T>);
    T words{};
    if (!fixed.empty()) {
      std::memcpy(static_cast<void*>(&words), fixed.data(), std::min(fixed.size(), sizeof words));
    }
    return words;
  }
};

// What the session has agreed on with the kernel, as far as requests look otherwise by it.
struct Negotiated {
  bool setxattr_ext = false;  // FUSE_SETXATTR_EXT
};

// `message` refers to `bytes`. Its header is set where an answer can be given at all: with a nonzero
// `unique`. ERRORS: ENOSYS for an opcode that we do not know, EIO for what is no request.
Result<void> decode(std::span<const std::byte> bytes, Negotiated negotiated, Message& message);
// The same of a request whose header and fixed part lie elsewhere than what follows them.
Result<void> decode(const fuse_in_header& header, std::span<const std::byte> fixed,
                    std::span<const std::byte> rest, Message& message);

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_MESSAGE_H_
