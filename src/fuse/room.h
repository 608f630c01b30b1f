// SPDX-License-Identifier: Apache-2.0
//
// Page-aligned memory, there only as far as it is used.
#ifndef LIBSERVICES_SRC_FUSE_ROOM_H_
#define LIBSERVICES_SRC_FUSE_ROOM_H_

#include <sys/mman.h>

#include <cstddef>
#include <span>

namespace libservices::fuse {

class Room {
 public:
  explicit Room(std::size_t size) : size_(size) {
    void* const mapped =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != MAP_FAILED) start_ = static_cast<std::byte*>(mapped);
  }
  ~Room() {
    if (start_ != nullptr) ::munmap(start_, size_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  bool ok() const { return start_ != nullptr; }
  std::span<std::byte> bytes() const { return {start_, size_}; }

 private:
  std::byte* start_ = nullptr;
  const std::size_t size_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_ROOM_H_
