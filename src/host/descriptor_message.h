// SPDX-License-Identifier: Apache-2.0
//
// One descriptor over a Unix socket.
#ifndef LIBSERVICES_SRC_HOST_DESCRIPTOR_MESSAGE_H_
#define LIBSERVICES_SRC_HOST_DESCRIPTOR_MESSAGE_H_

#include "ipc/socket_message.h"
#include "src/host/descriptor.h"

namespace libservices::host {

inline void send_descriptor(int socket, const Descriptor& descriptor) {
  char byte = 'd';
  const iovec part{&byte, 1};
  const int number = descriptor.get();
  (void)ipc::send_message(socket, &part, 1, &number, 1);
}

// None at the end of the connection.
inline Descriptor receive_descriptor(int socket) {
  char byte = 0;
  int number = -1;
  unsigned count = 1;
  const long received = ipc::receive_message(socket, &byte, sizeof byte, &number, count);
  return Descriptor(received > 0 && count == 1 ? number : -1);
}

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_DESCRIPTOR_MESSAGE_H_
