// SPDX-License-Identifier: Apache-2.0
//
// Takes bytes from a file to /dev/fuse through a pipe, without a copy in this process.
#ifndef LIBSERVICES_SRC_FUSE_PIPE_H_
#define LIBSERVICES_SRC_FUSE_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "libservices/result.h"
#include "src/fuse/carrier.h"
#include "src/host/descriptor.h"

namespace libservices::fuse {

// Of one thread, which alone uses it.
class Pipe {
 public:
  // What it takes at once, from the first transfer on; 0: there is no pipe to be had.
  std::size_t most();

  // Answers a request with bytes of a file, as many as there are of those asked for. `room` is used
  // when there are fewer. `wanted` is asked once the bytes are there. False: the kernel has not
  // taken the answer, or it was not wanted. ERRORS: with nothing sent,
  // EAGAIN if the pipe is too small for these bytes, or what the file gave.
  Result<bool> answer(int device, std::uint64_t unique, const Reply::FromFile& from,
                      std::span<std::byte> room, const std::function<bool()>& wanted);

 private:
  Result<std::size_t> fill(const fuse_out_header& header, const Reply::FromFile& from);
  void empty(std::span<std::byte> room);

  bool asked_ = false;
  std::size_t most_ = 0;
  host::Descriptor read_end_;
  host::Descriptor write_end_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_PIPE_H_
