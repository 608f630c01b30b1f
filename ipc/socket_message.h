// SPDX-License-Identifier: Apache-2.0
//
// Messages with descriptors over a session's socket (SOCK_SEQPACKET), and the first two of them.
//
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_SOCKET_MESSAGE_H_
#define LIBSERVICES_IPC_SOCKET_MESSAGE_H_

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "ipc/raw_syscall.h"

namespace libservices::ipc {

inline constexpr unsigned kMostDescriptors = 80;  // in one message; the kernel allows 253
inline constexpr std::uint32_t kProtocolMagic = 0x6c737673;  // "lsvs"
inline constexpr std::uint32_t kProtocolVersion = 3;

// The first message of a connection. `purpose` is the upper layer's but for kSession.
struct Hello {
  enum Purpose : std::uint32_t { kSession = 0 };
  std::uint32_t magic = kProtocolMagic;
  std::uint32_t version = kProtocolVersion;
  std::uint32_t purpose = kSession;
  std::uint32_t cpu = 0;  // where the caller runs: where its first requests will come from
};

// The answer to kSession, with the descriptors of the session's region and of the request queues,
// then the upper layer's; the upper layer's bytes follow in the same message.
struct Welcome {
  std::int32_t error = 0;  // an errno: refused. EPROTO: another version
  std::uint32_t version = kProtocolVersion;
  std::uint32_t session = 0;
  std::uint32_t upper_bytes = 0;
  std::uint64_t salt = 0;  // of the numbers of its requests (request.h)
  std::uint64_t region_bytes = 0;
  std::uint64_t queue_bytes = 0;
};

// Sends all of `parts` and `descriptors`. 0, or a negative errno.
inline long send_message(int socket, const iovec* parts, unsigned part_count,
                         const int* descriptors, unsigned descriptor_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = part_count;
  if (descriptor_count > kMostDescriptors) return -EINVAL;
  if (descriptor_count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptor_count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
    __builtin_memcpy(CMSG_DATA(header), descriptors, descriptor_count * sizeof(int));
  }
  for (;;) {
    const long sent = raw::syscall(SYS_sendmsg, socket, &message, MSG_NOSIGNAL);
    if (sent != -EINTR) return sent < 0 ? sent : 0;
  }
}

// The bytes received, 0 at the end of the connection, or a negative errno (EMSGSIZE when the
// message was longer than `into`). The descriptors are close-on-exec.
inline long receive_message(int socket, void* into, std::size_t size, int* descriptors,
                            unsigned& descriptor_count, int flags = 0) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  iovec part{into, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const unsigned room = descriptor_count;
  descriptor_count = 0;
  long received = 0;
  do {
    received = raw::syscall(SYS_recvmsg, socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (received == -EINTR);
  if (received < 0) return received;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const unsigned count = static_cast<unsigned>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (unsigned i = 0; i < count; ++i) {
      int descriptor = -1;
      __builtin_memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      if (descriptor_count < room) {
        descriptors[descriptor_count++] = descriptor;
      } else {
        raw::syscall(SYS_close, descriptor);
      }
    }
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    for (unsigned i = 0; i < descriptor_count; ++i) raw::syscall(SYS_close, descriptors[i]);
    descriptor_count = 0;
    return -EMSGSIZE;
  }
  return received;
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_SOCKET_MESSAGE_H_
