// SPDX-License-Identifier: Apache-2.0
//
// How a process comes to a session: one connection, one message there and one back, two mappings.
//
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_ATTACH_H_
#define LIBSERVICES_IPC_ATTACH_H_

#include <errno.h>
#include <sys/mman.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>

#include "ipc/queue.h"
#include "ipc/request.h"
#include "ipc/socket_message.h"

namespace libservices::ipc {

// Of about 0.5 us each, before who waits for its welcome sleeps.
inline constexpr unsigned kLooksForWelcome = 200;

// What a session is to its process.
struct Attachment {
  int socket = -1;
  std::uint32_t session = 0;
  std::uint64_t salt = 0;  // of its requests' numbers
  void* region = nullptr;  // kSessionRegionBytes
  QueueSet* queues = nullptr;
  std::uint64_t queue_bytes = 0;
};

// Maps what the welcome came with. 0, or a negative errno.
inline long map_session(const Welcome& welcome, const int* descriptors, Attachment& made) {
  const long region = raw::syscall(SYS_mmap, nullptr, kSessionRegionBytes, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, descriptors[0], 0);
  if (region < 0 && region > -4096) return region;
  const long queues = raw::syscall(SYS_mmap, nullptr, welcome.queue_bytes, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, descriptors[1], 0);
  if (queues < 0 && queues > -4096) {
    raw::syscall(SYS_munmap, region, kSessionRegionBytes);
    return queues;
  }
  // A child must not come to use its parent's session.
  raw::syscall(SYS_madvise, region, kSessionRegionBytes, MADV_DONTFORK);
  raw::syscall(SYS_madvise, queues, welcome.queue_bytes, MADV_DONTFORK);
  made.session = welcome.session;
  made.salt = welcome.salt;
  made.region = reinterpret_cast<void*>(region);
  made.queues = reinterpret_cast<QueueSet*>(queues);
  made.queue_bytes = welcome.queue_bytes;
  return 0;
}

// On a connection. `upper` receives at most `upper_size` bytes of the upper layer's welcome and
// `descriptors` its descriptors; all counts are set.
inline long greet(int socket, Attachment& made, void* upper, std::size_t upper_size,
                  std::size_t& upper_bytes, int* descriptors, unsigned& descriptor_count) {
  Hello hello;
  hello.cpu = current_cpu();
  const iovec part{&hello, sizeof hello};
  if (const long error = send_message(socket, &part, 1, nullptr, 0); error != 0) return error;
  alignas(8) char bytes[2048];
  int received_descriptors[kMostDescriptors];
  unsigned count = 0;
  long received = -EAGAIN;
  // The answer comes after some 50 us. Who sleeps meanwhile is woken for about as long.
  for (unsigned look = 0; received == -EAGAIN && look <= kLooksForWelcome; ++look) {
    if (look != 0) raw::syscall(SYS_sched_yield);
    count = kMostDescriptors;
    received = receive_message(socket, bytes, sizeof bytes, received_descriptors, count,
                               look < kLooksForWelcome ? MSG_DONTWAIT : 0);
  }
  if (received < 0) return received;
  Welcome welcome;
  long error = 0;
  if (received < static_cast<long>(sizeof welcome)) {
    error = received == 0 ? -ECONNRESET : -EPROTO;
  } else {
    __builtin_memcpy(&welcome, bytes, sizeof welcome);
    error = -welcome.error;
    if (error == 0 &&
        (welcome.version != kProtocolVersion || count < 2 ||
         welcome.region_bytes < kSessionRegionBytes ||
         QueueSet::groups_in(welcome.queue_bytes) == 0 || count - 2 > descriptor_count)) {
      error = -EPROTO;
    }
  }
  if (error == 0) error = map_session(welcome, received_descriptors, made);
  for (unsigned i = 0; i < count; ++i) {
    if (error == 0 && i >= 2) {
      descriptors[i - 2] = received_descriptors[i];
    } else {
      raw::syscall(SYS_close, received_descriptors[i]);
    }
  }
  if (error != 0) return error;
  made.socket = socket;
  descriptor_count = count - 2;
  upper_bytes = static_cast<std::size_t>(received) - sizeof welcome;
  if (upper_bytes > upper_size) upper_bytes = upper_size;
  __builtin_memcpy(upper, bytes + sizeof welcome, upper_bytes);
  return 0;
}

// 0, or a negative errno: FrontDriver::attach() says which.
inline long attach_to(const char* socket_path, Attachment& made, void* upper,
                      std::size_t upper_size, std::size_t& upper_bytes, int* descriptors,
                      unsigned& descriptor_count) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = __builtin_strlen(socket_path);
  if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
  __builtin_memcpy(address.sun_path, socket_path, length + 1);
  const long socket = raw::syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (socket < 0) return socket;
  const int end = static_cast<int>(socket);
  long error = raw::syscall(SYS_connect, end, &address, sizeof address);
  if (error == 0) {
    error = greet(end, made, upper, upper_size, upper_bytes, descriptors, descriptor_count);
  }
  if (error != 0) raw::syscall(SYS_close, end);
  return error;
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_ATTACH_H_
