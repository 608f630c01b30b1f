// SPDX-License-Identifier: Apache-2.0
//
// Sockets, fifos and watched objects of a mount: the kernel's own that stand for them. The service
// is asked for an O_PATH descriptor (src/protocol/placeholder.h), and the call goes on in the kernel
// by /proc/self/fd, so that it waits and is interrupted there.
#ifndef LIBSERVICES_SRC_CLIENT_SPECIAL_H_
#define LIBSERVICES_SRC_CLIENT_SPECIAL_H_

#include <sys/socket.h>
#include <sys/un.h>

#include "src/client/paths.h"

namespace libservices::client {

// The fifo at `place`, opened by the kernel: its descriptor, which is none of ours. -errno;
// ENXIO for what is no fifo.
long open_fifo(const Place& place, int flags, Rest& rest);

// An address as the kernel can take it: of a path in a mount, that of the kernel's socket.
//
//   KernelAddress address(given, size);
//   if (address.error() != 0) return address.error();
//   raw::syscall(SYS_connect, socket, address.get(), address.size());
class KernelAddress {
 public:
  KernelAddress(int socket, const void* address, socklen_t size);
  ~KernelAddress();
  KernelAddress(const KernelAddress&) = delete;
  KernelAddress& operator=(const KernelAddress&) = delete;

  long error() const { return error_; }
  const void* get() const { return address_; }
  socklen_t size() const { return size_; }

 private:
  long find(const Place& place, Rest& rest);

  const void* address_;
  socklen_t size_;
  long error_ = 0;
  int descriptor_ = -1;
  sockaddr_un own_;
};

// Whether it is of a path that may lead into a mount; then that stands in `path`.
bool is_path_address(int socket, const void* address, socklen_t size,
                     char (&path)[sizeof(sockaddr_un::sun_path) + 1]);

// Whether one of the messages has such an address.
bool has_path_address(int socket, const mmsghdr* messages, unsigned count);

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_SPECIAL_H_
