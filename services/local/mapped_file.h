// SPDX-License-Identifier: Apache-2.0
//
// A file's pages, mapped, for large reads that come again: copying from a mapping takes a half to a
// quarter of the time of a system call that copies the same cached pages.
//
// A mapping costs something to make, so the first reads go by system call. It is made once more
// was read of the file, in large reads, than it has (or 16 MiB), on file systems of which mappings
// and calls see the same pages: ext4, xfs, btrfs, tmpfs, erofs, squashfs. It never replaces the
// call: whatever is not as expected is `nullopt`, and the caller reads as before.
//
// Who cuts the file while it is copied takes the pages away under the copy, which is a SIGBUS. The
// process's handler, installed at the first mapping, ends that copy and nothing else; any other
// SIGBUS goes where it went before.
//
// THREADS: any at once.
#ifndef LIBSERVICES_SERVICES_LOCAL_MAPPED_FILE_H_
#define LIBSERVICES_SERVICES_LOCAL_MAPPED_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

namespace libservices::local_internal {

class MappedFile {
 public:
  static constexpr std::size_t kLargeRead = 16384;  // what is shorter is a call

  // As pread(2) of `fd`, or nullopt.
  std::optional<std::size_t> read(int fd, std::uint64_t offset, std::span<std::byte> into);

 private:
  struct Mapping {
    Mapping(void* address, std::size_t bytes)
        : address(static_cast<const std::byte*>(address)), bytes(bytes) {}
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    const std::byte* const address;
    const std::size_t bytes;
  };

  std::shared_ptr<const Mapping> mapping_for(int fd, std::uint64_t size);

  std::atomic<std::uint64_t> read_{0};  // bytes, in large reads by call
  std::atomic<bool> refused_{false};    // by the file system, or by the kernel
  std::mutex mutex_;
  std::shared_ptr<const Mapping> mapping_;  // guarded by mutex_
};

}  // namespace libservices::local_internal

#endif  // LIBSERVICES_SERVICES_LOCAL_MAPPED_FILE_H_
