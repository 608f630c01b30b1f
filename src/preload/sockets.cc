// SPDX-License-Identifier: Apache-2.0
//
// Calls on sockets whose address may be a path in a mount. Addresses that come back need nothing:
// the kernel keeps them as they were given.
#include <sys/socket.h>

#include "src/client/special.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {

LIBSERVICES_EXPORT int ls_bind(int socket, const sockaddr* address, socklen_t size) {
  const Call call(Symbol::bind);
  if (calls::is_ours(socket)) return failure<int>(ENOTSOCK);
  return int_result(calls::bind(socket, address, size));
}

LIBSERVICES_EXPORT int ls_connect(int socket, const sockaddr* address, socklen_t size) {
  const Call call(Symbol::connect);
  if (calls::is_ours(socket)) return failure<int>(ENOTSOCK);
  const client::KernelAddress known(socket, address, size);
  if (known.error() != 0) return int_result(known.error());
  const Cancellable cancellable;
  return int_result(raw::syscall(SYS_connect, socket, known.get(), known.size()));
}

LIBSERVICES_EXPORT ssize_t ls_sendto(int socket, const void* bytes, std::size_t count, int flags,
                                     const sockaddr* address, socklen_t size) {
  const Call call(Symbol::sendto);
  if (calls::is_ours(socket)) return failure<ssize_t>(ENOTSOCK);
  const client::KernelAddress known(socket, address, size);
  if (known.error() != 0) return result(known.error());
  const Cancellable cancellable;
  return result(raw::syscall(SYS_sendto, socket, bytes, count, flags, known.get(), known.size()));
}

}  // namespace libservices::preload
