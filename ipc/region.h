// SPDX-License-Identifier: Apache-2.0
//
// A region of shared memory that the service makes and applications map: a sealed memfd.
//
// Sealed against growing, shrinking and further seals, so no peer can make the service fault by
// cutting it. It has no name that a stranger could open, and dies with its last user.
#ifndef LIBSERVICES_IPC_REGION_H_
#define LIBSERVICES_IPC_REGION_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace libservices::ipc {

class Region {
 public:
  Region() = default;
  Region(Region&& other) noexcept { *this = std::move(other); }
  Region& operator=(Region&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Region() {
    if (address_ != nullptr) ::munmap(address_, bytes_);
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  // Zero-filled. 0, or an errno.
  int make(const char* name, std::size_t bytes) {
    descriptor_ = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor_ < 0) return errno;
    if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) return errno;
    if (::fcntl(descriptor_, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
      return errno;
    }
    void* address =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
    if (address == MAP_FAILED) return errno;
    address_ = address;
    bytes_ = bytes;
    return 0;
  }

  int descriptor() const { return descriptor_; }
  void* address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

 private:
  int descriptor_ = -1;
  void* address_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_REGION_H_
