// SPDX-License-Identifier: Apache-2.0
//
// Waiting for descriptors, and passing them over sockets. Files are always ready.
#include <alloca.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "src/client/addresses.h"
#include "src/client/special.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr short kReady = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

bool any_ours(const pollfd* list, nfds_t count) {
  if (!active()) return false;
  for (nfds_t i = 0; i < count; ++i) {
    if (calls::is_ours(list[i].fd)) return true;
  }
  return false;
}

// Asks `wait` about the rest of the list, without waiting, if one of ours is ready.
template <class Wait>
int poll_with_ours(pollfd* list, nfds_t count, Wait&& wait) {
  auto* const numbers = static_cast<int*>(alloca(sizeof(int) * count));
  bool ready = false;
  for (nfds_t i = 0; i < count; ++i) {
    numbers[i] = list[i].fd;
    if (!calls::is_ours(list[i].fd)) continue;
    list[i].fd = -1;
    ready = ready || (list[i].events & kReady) != 0;
  }
  int found = wait(ready);
  const int error = errno;
  for (nfds_t i = 0; i < count; ++i) {
    if (list[i].fd == numbers[i]) continue;
    list[i].fd = numbers[i];
    list[i].revents = found < 0 ? 0 : static_cast<short>(list[i].events & kReady);
    if (found >= 0 && list[i].revents != 0) ++found;
  }
  errno = error;
  return found;
}

// Takes ours out of the sets, and puts those back that are ready.
class Sets {
 public:
  Sets(int count, fd_set* reading, fd_set* writing, fd_set* failing) : count_(count) {
    sets_[0] = reading;
    sets_[1] = writing;
    sets_[2] = failing;
  }
  bool any() const {
    for (int i = 0; active() && i < count_; ++i) {
      if (!calls::is_ours(i)) continue;
      for (fd_set* const set : sets_) {
        if (set != nullptr && has(*set, i)) return true;
      }
    }
    return false;
  }
  std::size_t bytes() const { return (static_cast<std::size_t>(count_) + 63) / 64 * 8; }
  // `space` has room for two sets. True when one is ready.
  bool remove(unsigned char* space) {
    memset(space, 0, 2 * bytes());
    bool ready = false;
    for (int i = 0; i < count_; ++i) {
      if (!calls::is_ours(i)) continue;
      for (int kind = 0; kind < 3; ++kind) {
        if (sets_[kind] == nullptr || !has(*sets_[kind], i)) continue;
        words(*sets_[kind])[i / 8] &= static_cast<unsigned char>(~(1U << (i % 8)));
        if (kind == 2) continue;
        space[static_cast<std::size_t>(kind) * bytes() + static_cast<std::size_t>(i) / 8] |=
            static_cast<unsigned char>(1U << (i % 8));
        ready = true;
      }
    }
    return ready;
  }
  int restore(const unsigned char* space, int found) {
    if (found < 0) return found;
    for (int kind = 0; kind < 2; ++kind) {
      if (sets_[kind] == nullptr) continue;
      const unsigned char* const from = space + static_cast<std::size_t>(kind) * bytes();
      for (std::size_t i = 0; i < bytes(); ++i) {
        words(*sets_[kind])[i] |= from[i];
        found += __builtin_popcount(from[i]);
      }
    }
    return found;
  }

 private:
  static unsigned char* words(fd_set& set) { return reinterpret_cast<unsigned char*>(&set); }
  static bool has(fd_set& set, int number) {
    return (words(set)[number / 8] >> (number % 8) & 1U) != 0;
  }
  int count_;
  fd_set* sets_[3];
};

// Calls `visit` for each descriptor in the control messages.
template <class Visit>
void for_each_descriptor(const msghdr& message, Visit&& visit) {
  auto& header = const_cast<msghdr&>(message);
  if (header.msg_control == nullptr) return;
  for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS ||
        at->cmsg_len < CMSG_LEN(sizeof(int))) {
      continue;
    }
    const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(at) + i * sizeof(int), sizeof descriptor);
      visit(descriptor);
    }
  }
}

void share_sent(const msghdr& message) {
  for_each_descriptor(message, [](int descriptor) {
    if (client::OpenRecord* const record = client::find(descriptor)) client::share(*record);
  });
}

void adopt_arrived(const msghdr& message) { for_each_descriptor(message, client::adopt_received); }

}  // namespace

// --- poll ---------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_poll(pollfd* list, nfds_t count, int timeout) {
  const Call call(Symbol::poll);
  if (!any_ours(list, count)) return LIBSERVICES_REAL(poll)(list, count, timeout);
  return poll_with_ours(list, count, [&](bool ready) {
    return LIBSERVICES_REAL(poll)(list, count, ready ? 0 : timeout);
  });
}

LIBSERVICES_EXPORT int ls_ppoll(pollfd* list, nfds_t count, const timespec* timeout,
                                const sigset_t* mask) {
  const Call call(Symbol::ppoll);
  if (!any_ours(list, count)) return LIBSERVICES_REAL(ppoll)(list, count, timeout, mask);
  return poll_with_ours(list, count, [&](bool ready) {
    constexpr timespec kNow{};
    return LIBSERVICES_REAL(ppoll)(list, count, ready ? &kNow : timeout, mask);
  });
}

LIBSERVICES_EXPORT int ls_poll_chk(pollfd* list, nfds_t count, int timeout, std::size_t available) {
  const Call call(Symbol::poll_chk);
  if (available / sizeof *list < count) __builtin_trap();
  return ls_poll(list, count, timeout);
}

LIBSERVICES_EXPORT int ls_ppoll_chk(pollfd* list, nfds_t count, const timespec* timeout,
                                    const sigset_t* mask, std::size_t available) {
  const Call call(Symbol::ppoll_chk);
  if (available / sizeof *list < count) __builtin_trap();
  return ls_ppoll(list, count, timeout, mask);
}

// --- select, epoll ------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_select(int count, fd_set* reading, fd_set* writing, fd_set* failing,
                                 timeval* timeout) {
  const Call call(Symbol::select);
  Sets sets(count, reading, writing, failing);
  if (!sets.any()) return LIBSERVICES_REAL(select)(count, reading, writing, failing, timeout);
  auto* const space = static_cast<unsigned char*>(alloca(2 * sets.bytes()));
  timeval now{};
  const bool ready = sets.remove(space);
  return sets.restore(
      space, LIBSERVICES_REAL(select)(count, reading, writing, failing, ready ? &now : timeout));
}

LIBSERVICES_EXPORT int ls_pselect(int count, fd_set* reading, fd_set* writing, fd_set* failing,
                                  const timespec* timeout, const sigset_t* mask) {
  const Call call(Symbol::pselect);
  Sets sets(count, reading, writing, failing);
  if (!sets.any()) {
    return LIBSERVICES_REAL(pselect)(count, reading, writing, failing, timeout, mask);
  }
  auto* const space = static_cast<unsigned char*>(alloca(2 * sets.bytes()));
  constexpr timespec kNow{};
  const bool ready = sets.remove(space);
  return sets.restore(space, LIBSERVICES_REAL(pselect)(count, reading, writing, failing,
                                                       ready ? &kNow : timeout, mask));
}

LIBSERVICES_EXPORT int ls_epoll_ctl(int set, int operation, int descriptor, epoll_event* event) {
  const Call call(Symbol::epoll_ctl);
  if (calls::is_ours(descriptor)) return int_result(-EPERM);
  return int_result(raw::syscall(SYS_epoll_ctl, set, operation, descriptor, event));
}

// --- descriptors over sockets -------------------------------------------------------------------

LIBSERVICES_EXPORT ssize_t ls_sendmsg(int socket, const msghdr* message, int flags) {
  const Call call(Symbol::sendmsg);
  if (active() && client::readable(message, sizeof *message)) share_sent(*message);
  if (!active() || !client::readable(message, sizeof *message)) {
    const Cancellable cancellable;
    return result(raw::syscall(SYS_sendmsg, socket, message, flags));
  }
  const client::KernelAddress known(socket, message->msg_name, message->msg_namelen);
  if (known.error() != 0) return result(known.error());
  msghdr sent = *message;
  if (message->msg_name != nullptr) {
    sent.msg_name = const_cast<void*>(known.get());
    sent.msg_namelen = known.size();
  }
  const Cancellable cancellable;
  return result(raw::syscall(SYS_sendmsg, socket, &sent, flags));
}

LIBSERVICES_EXPORT int ls_sendmmsg(int socket, mmsghdr* messages, unsigned count, int flags) {
  const Call call(Symbol::sendmmsg);
  for (unsigned i = 0; active() && i < count; ++i) share_sent(messages[i].msg_hdr);
  if (client::has_path_address(socket, messages, count)) {
    return int_result(calls::sendmmsg(socket, messages, count, flags));
  }
  const Cancellable cancellable;
  return int_result(raw::syscall(SYS_sendmmsg, socket, messages, count, flags));
}

LIBSERVICES_EXPORT ssize_t ls_recvmsg(int socket, msghdr* message, int flags) {
  const Call call(Symbol::recvmsg);
  long bytes = 0;
  {
    const Cancellable cancellable;
    bytes = raw::syscall(SYS_recvmsg, socket, message, flags);
  }
  if (bytes >= 0 && active()) adopt_arrived(*message);
  return result(bytes);
}

LIBSERVICES_EXPORT int ls_recvmmsg(int socket, mmsghdr* messages, unsigned count, int flags,
                                   timespec* timeout) {
  const Call call(Symbol::recvmmsg);
  long arrived = 0;
  {
    const Cancellable cancellable;
    arrived = raw::syscall(SYS_recvmmsg, socket, messages, count, flags, timeout);
  }
  for (long i = 0; active() && i < arrived; ++i) adopt_arrived(messages[i].msg_hdr);
  return int_result(arrived);
}

}  // namespace libservices::preload
