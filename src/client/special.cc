// SPDX-License-Identifier: Apache-2.0
#include "src/client/special.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/client/calls.h"

namespace libservices::client {
namespace {

using protocol::SocketRequestType;

// An O_PATH descriptor of what stands for the object at `place`, one of the library's own.
long find_object(const Place& place, bool follow, SocketRequestType type, std::uint32_t mode,
                 Rest& rest) {
  constexpr int kMostTimes = 10;  // services may die one after the other
  const Whole whole;
  protocol::OpenRequest words;
  words.target = place.target(follow ? std::uint32_t{protocol::Target::kFollow} : 0U);
  words.flags = O_PATH | (follow ? 0 : O_NOFOLLOW);
  OpenRecord* record = nullptr;
  for (int times = 0; times < kMostTimes; ++times) {
    if (const long error = open_place(place, words, rest, record); error != 0) return error;
    protocol::ObjectRequest request;
    request.type = type;
    request.mode = mode;
    request.handle = record->handle.load();
    const long found = ask_for_object(request, -1);
    (void)release(*record);
    if (found != -ESTALE) return found != 0 ? found : -EIO;
    if (!renew(words.target.base)) break;
  }
  return -EIO;
}

}  // namespace

long open_fifo(const Place& place, int flags, Rest& rest) {
  const int access = flags & O_ACCMODE;
  const std::uint32_t mode = (access != O_WRONLY ? std::uint32_t{R_OK} : 0U) |
                             (access != O_RDONLY ? std::uint32_t{W_OK} : 0U);
  const long found =
      find_object(place, (flags & O_NOFOLLOW) == 0, SocketRequestType::kFindFifo, mode, rest);
  if (found < 0) return found;
  NumberPath path;
  path_by_number(static_cast<int>(found), path);
  const long opened = raw::syscall(SYS_openat, AT_FDCWD, path,
                                   flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW), 0);
  close_own(static_cast<int>(found));
  return opened;
}

bool is_path_address(int socket, const void* address, socklen_t size,
                     char (&path)[sizeof(sockaddr_un::sun_path) + 1]) {
  constexpr std::size_t kHead = offsetof(sockaddr_un, sun_path);
  if (!state.active || size <= kHead || size > sizeof(sockaddr_un) || !readable(address, size)) {
    return false;
  }
  sockaddr_un given;
  __builtin_memcpy(&given, address, size);
  if (given.sun_family != AF_UNIX || given.sun_path[0] == '\0') return false;
  __builtin_memcpy(path, given.sun_path, size - kHead);
  path[size - kHead] = '\0';
  Place place;
  if (resolve(AT_FDCWD, path, place) == 0) return false;
  int domain = 0;
  socklen_t domain_bytes = sizeof domain;
  return raw::syscall(SYS_getsockopt, socket, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) == 0 &&
         domain == AF_UNIX;
}

bool has_path_address(int socket, const mmsghdr* messages, unsigned count) {
  char path[sizeof(sockaddr_un::sun_path) + 1];
  for (unsigned i = 0; state.active && i < count; ++i) {
    if (!readable(&messages[i], sizeof messages[i])) return false;
    const msghdr& header = messages[i].msg_hdr;
    if (header.msg_name != nullptr &&
        is_path_address(socket, header.msg_name, header.msg_namelen, path)) {
      return true;
    }
  }
  return false;
}

KernelAddress::KernelAddress(int socket, const void* address, socklen_t size)
    : address_(address), size_(size) {
  char path[sizeof own_.sun_path + 1];
  if (address == nullptr || !is_path_address(socket, address, size, path)) return;
  error_ = with_path(
      AT_FDCWD, path, [&](const Place& place, Rest& rest) { return find(place, rest); },
      [&](int, const char* outside) {  // it leads out of the mount
        const std::size_t bytes = __builtin_strlen(outside);
        if (bytes > sizeof own_.sun_path) return static_cast<long>(-ENAMETOOLONG);
        own_.sun_family = AF_UNIX;
        __builtin_memcpy(own_.sun_path, outside, bytes);
        address_ = &own_;
        size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes);
        return 0L;
      });
}

long KernelAddress::find(const Place& place, Rest& rest) {
  const long found = find_object(place, true, SocketRequestType::kFindSocket, 0, rest);
  if (found < 0) return found;
  descriptor_ = static_cast<int>(found);
  own_.sun_family = AF_UNIX;
  NumberPath path;
  const std::size_t length = path_by_number(descriptor_, path);
  __builtin_memcpy(own_.sun_path, path, length + 1);
  address_ = &own_;
  size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + 1);
  return 0;
}

KernelAddress::~KernelAddress() { close_own(descriptor_); }

namespace {

// Of the shadow of the object at `place` (src/host/watches.h).
long watch_object(const Place& place, int notifier, std::uint32_t mask, Rest& rest) {
  const bool follow = (mask & IN_DONT_FOLLOW) == 0;
  for (;;) {
    const long found = find_object(place, follow, SocketRequestType::kWatch, 0, rest);
    if (found < 0) return found;
    const int shadow = static_cast<int>(found);
    NumberPath path;
    path_by_number(shadow, path);
    const long watch = raw::syscall(SYS_inotify_add_watch, notifier, path, mask & ~IN_DONT_FOLLOW);
    // It may have gone, with its object or since nobody watched it, before the watch was there.
    struct stat status;
    const bool lives = raw::syscall(SYS_newfstatat, shadow, "", &status, AT_EMPTY_PATH) == 0 &&
                       status.st_nlink != 0;
    close_own(shadow);
    if (watch < 0 || lives) return watch;
    raw::syscall(SYS_inotify_rm_watch, notifier, watch);
  }
}

}  // namespace

namespace calls {
namespace {

// Makes the name, and has the service bind the socket.
long bind_at(const Place& place, int socket, const char* address, Rest& rest) {
  struct stat status;
  if (const long error = raw::syscall(SYS_newfstatat, socket, "", &status, AT_EMPTY_PATH);
      error != 0) {
    return error;
  }
  protocol::ObjectRequest bind;
  {
    Request request(protocol::Operation::kMakeSocket, place.instance);
    if (!request.ok()) return request.error();
    protocol::MknodRequest words;
    words.target = place.target(0);
    words.mode = status.st_mode & 0777U;
    words.umask = current_umask();
    request.set(words);
    if (!request.add(place.path, place.path_bytes)) return -ENAMETOOLONG;
    const long error = request.run();
    if (error == -protocol::kOutside) rest.take(request);
    if (error != 0) return error == -EEXIST ? -EADDRINUSE : error;
    bind.handle = request.answer<protocol::OpenAnswer>().handle;
  }
  bind.type = SocketRequestType::kBindSocket;
  bind.address_bytes = static_cast<std::uint32_t>(__builtin_strlen(address));
  __builtin_memcpy(bind.address, address, bind.address_bytes);
  const long error = ask_for_object(bind, socket);
  if (error == 0) return 0;
  // As the kernel: the name goes again.
  Request request(protocol::Operation::kUnlink, place.instance);
  if (!request.ok()) return request.error();
  protocol::UnlinkRequest words;
  words.target = place.target(0);
  request.set(words);
  if (request.add(place.path, place.path_bytes)) (void)request.run();
  return error == -ESTALE ? -EIO : error;
}

}  // namespace

long bind(int socket, const void* address, socklen_t size) {
  char path[sizeof(sockaddr_un::sun_path) + 1];
  if (!is_path_address(socket, address, size, path)) {
    return raw::syscall(SYS_bind, socket, address, size);
  }
  return with_path(
      AT_FDCWD, path,
      [&](const Place& place, Rest& rest) { return bind_at(place, socket, path, rest); },
      [&](int, const char* outside) {
        sockaddr_un at{};
        at.sun_family = AF_UNIX;
        const std::size_t bytes = __builtin_strlen(outside);
        if (bytes > sizeof at.sun_path) return static_cast<long>(-ENAMETOOLONG);
        __builtin_memcpy(at.sun_path, outside, bytes);
        return raw::syscall(SYS_bind, socket, &at, offsetof(sockaddr_un, sun_path) + bytes);
      });
}

long connect(int socket, const void* address, socklen_t size) {
  const KernelAddress known(socket, address, size);
  if (known.error() != 0) return known.error();
  return raw::syscall(SYS_connect, socket, known.get(), known.size());
}

long inotify_add_watch(int notifier, const char* path, std::uint32_t mask) {
  if (is_ours(notifier)) return -EINVAL;
  return with_path(
      AT_FDCWD, path,
      [&](const Place& place, Rest& rest) { return watch_object(place, notifier, mask, rest); },
      [&](int, const char* outside) {
        return raw::syscall(SYS_inotify_add_watch, notifier, outside, mask);
      },
      (mask & IN_DONT_FOLLOW) == 0);
}

long sendto(int socket, const void* bytes, std::size_t count, int flags, const void* address,
            socklen_t size) {
  const KernelAddress known(socket, address, size);
  if (known.error() != 0) return known.error();
  return raw::syscall(SYS_sendto, socket, bytes, count, flags, known.get(), known.size());
}

long sendmsg(int socket, const msghdr* message, int flags) {
  if (!state.active || !readable(message, sizeof *message) || message->msg_name == nullptr) {
    return raw::syscall(SYS_sendmsg, socket, message, flags);
  }
  const KernelAddress known(socket, message->msg_name, message->msg_namelen);
  if (known.error() != 0) return known.error();
  msghdr sent = *message;
  sent.msg_name = const_cast<void*>(known.get());
  sent.msg_namelen = known.size();
  return raw::syscall(SYS_sendmsg, socket, &sent, flags);
}

long sendmmsg(int socket, mmsghdr* messages, unsigned count, int flags) {
  if (!has_path_address(socket, messages, count)) {
    return raw::syscall(SYS_sendmmsg, socket, messages, count, flags);
  }
  for (unsigned i = 0; i < count; ++i) {
    const long sent = calls::sendmsg(socket, &messages[i].msg_hdr, flags);
    if (sent < 0) return i != 0 ? static_cast<long>(i) : sent;
    messages[i].msg_len = static_cast<unsigned>(sent);
  }
  return count;
}

}  // namespace calls
}  // namespace libservices::client
