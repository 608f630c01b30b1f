// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/pipe.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace libservices::fuse {
namespace {

constexpr std::size_t kPage = 4096;
// Each page of a file takes one of a pipe's buffers, whatever there is of it, and the header one.
constexpr std::size_t kBesides = 3 * kPage;

}  // namespace

std::size_t Pipe::most() {
  if (asked_) return most_;
  asked_ = true;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return 0;
  read_end_ = host::Descriptor(ends[0]);
  write_end_ = host::Descriptor(ends[1]);
  (void)::fcntl(ends[0], F_SETPIPE_SZ, static_cast<int>(kMostWrite));  // users may have less
  const int size = ::fcntl(ends[0], F_GETPIPE_SZ);
  if (size > static_cast<int>(kBesides)) most_ = static_cast<std::size_t>(size) - kBesides;
  return most_;
}

// The header and then the file's bytes: how many of those.
Result<std::size_t> Pipe::fill(const fuse_out_header& header, const Reply::FromFile& from) {
  if (::write(write_end_.get(), &header, sizeof header) != sizeof header) return Errno{EIO};
  auto at = static_cast<off64_t>(from.offset);
  std::size_t count = 0;
  while (count < from.length) {
    // Not SPLICE_F_MOVE: that would take the pages away from the file's own cache.
    const ssize_t more =
        ::splice(from.descriptor, &at, write_end_.get(), nullptr, from.length - count, 0);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return Errno{errno};
    if (more == 0) break;  // the end of the file
    count += static_cast<std::size_t>(more);
  }
  return count;
}

void Pipe::empty(std::span<std::byte> room) {
  while (::read(read_end_.get(), room.data(), room.size()) > 0) {
  }
}

Result<bool> Pipe::answer(int device, std::uint64_t unique, const Reply::FromFile& from,
                          std::span<std::byte> room, const std::function<bool()>& wanted) {
  fuse_out_header header{static_cast<std::uint32_t>(sizeof(fuse_out_header) + from.length), 0,
                         unique};
  const auto filled = fill(header, from);
  if (!filled.ok()) {  // a short answer would be the end of the file to the kernel
    empty(room);
    return filled.error();
  }
  if (!wanted()) {
    empty(room);
    return false;
  }
  if (*filled == from.length) {
    const ssize_t taken = ::splice(read_end_.get(), nullptr, device, nullptr, header.len, 0);
    if (taken == static_cast<ssize_t>(header.len)) return true;
    empty(room);
    return false;
  }
  // The file ends before: the header says another length.
  std::size_t count = 0;
  const ssize_t old_header = ::read(read_end_.get(), &header, sizeof header);
  while (old_header == sizeof header && count < *filled) {
    const ssize_t more = ::read(read_end_.get(), room.data() + count, *filled - count);
    if (more <= 0) break;
    count += static_cast<std::size_t>(more);
  }
  empty(room.subspan(count));
  header.len = static_cast<std::uint32_t>(sizeof header + count);
  const iovec parts[] = {{&header, sizeof header}, {room.data(), count}};
  return ::writev(device, parts, 2) == static_cast<ssize_t>(header.len);
}

}  // namespace libservices::fuse
