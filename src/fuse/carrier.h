// SPDX-License-Identifier: Apache-2.0
//
// What a session and whoever carries its requests hand to each other.
#ifndef LIBSERVICES_SRC_FUSE_CARRIER_H_
#define LIBSERVICES_SRC_FUSE_CARRIER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "src/fuse/abi.h"

namespace libservices::fuse {

inline constexpr std::size_t kMostWrite = 1U << 20U;  // bytes of one read or write request
// Of a carrier for a message, and for an answer's payload.
inline constexpr std::size_t kMessageRoom = kMostWrite + 4096;
inline constexpr std::size_t kPayloadRoom = kMostWrite;

// What goes back. `fixed` and then `payload`, or an error alone.
struct Reply {
  int error = 0;
  bool none = false;  // requests that have no answer, or have it later
  std::uint32_t fixed_bytes = 0;
  alignas(8) std::array<std::byte, sizeof(abi::StatxOut)> fixed;
  std::span<const std::byte> payload;
  // If it cannot be sent, the kernel has not been told of these: to be forgotten again.
  std::vector<std::uint64_t> told;
  std::uint64_t handle = 0;  // and this one closed

  // The payload as bytes of a file, which the carrier takes from there: as many as there are.
  struct FromFile {
    int descriptor = -1;
    std::uint64_t offset = 0;
    std::size_t length = 0;
  };
  std::size_t most_from_file = 0;  // set by the carrier: what it takes so; 0: nothing
  FromFile from_file;
  std::shared_ptr<void> open;  // keeps the descriptor open until the answer is sent

  template <class T>
  void set(const T& words) {
    static_assert(sizeof words <= sizeof fixed);
    std::memcpy(fixed.data(), &words, sizeof words);
    fixed_bytes = sizeof words;
  }
};

// How answers and notices reach the kernel.
class Carrier {
 public:
  // What it wants of the kernel in FUSE_INIT.
  virtual std::uint64_t init_flags() const = 0;
  // False: the kernel does not want it (the request was aborted, the object forgotten).
  virtual bool send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
                    std::span<const std::byte> payload) = 0;
  virtual bool notify(int code, std::span<const std::byte> fixed, std::string_view name) = 0;
  // Makes the kernel know a descriptor for passthrough: its number there, negative when it does not
  // want it.
  virtual std::int32_t announce(int descriptor) = 0;
  virtual void withdraw(std::int32_t number) = 0;

 protected:
  ~Carrier() = default;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_CARRIER_H_
