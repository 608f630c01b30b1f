// SPDX-License-Identifier: Apache-2.0
//
// What the two ends of a copy strategy share: a ring of bytes, two counters, and sight of each
// other's death.
//
// Order: the sender writes bytes, then adds to `in_place` with release; the receiver loads it with
// acquire, reads them, then adds to `taken` with release; the sender loads that with acquire before
// it writes there again. While a transfer fits into the ring, only the first counter travels.
// Both count all bytes ever, modulo 2^32, so nothing is set back between two transfers.
//
// WARNING: the peer may write anything at any time. Each end keeps its own position, and the other
// end's counter is only compared with it: a lie spoils the bytes that are sent, no others.
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_COPY_CHANNEL_H_
#define LIBSERVICES_IPC_COPY_CHANNEL_H_

#include <poll.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/raw_syscall.h"
#include "ipc/rcqb.h"

namespace libservices::ipc {

// Zero-filled at first. Each counter has a pair of cache lines of its own.
struct CopyChannel {
  alignas(128) std::atomic<std::uint32_t> in_place;
  alignas(128) std::atomic<std::uint32_t> taken;
  // CMA alone: where the receiver wants its bytes, how often it has said so, and the outcome.
  alignas(128) std::atomic<std::uint64_t> wanted_at;
  std::atomic<std::uint64_t> wanted_bytes;
  std::atomic<std::uint32_t> wanted;
  alignas(128) std::atomic<std::int64_t> outcome;
  std::atomic<std::uint32_t> answered;
  alignas(4096) std::byte data[1];  // as many as the ends have agreed on

  static constexpr std::size_t bytes(std::uint32_t capacity) {
    return offsetof(CopyChannel, data) + capacity;
  }
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// One end's view. `capacity` is this end's own knowledge: never read it from shared memory.
struct CopyLink {
  CopyChannel* channel = nullptr;
  std::uint32_t capacity = 0;  // of data: a power of two, at least 4 KiB
  int peer_pid = 0;
  int peer_pidfd = -1;  // -1: the peer is a thread of this process and lives as long
};

// A process that is dead, though it may still be waited for, has a readable pidfd.
inline bool has_ended(int pidfd) {
  if (pidfd < 0) return false;
  pollfd end{pidfd, POLLIN, 0};
  const timespec now{};
  return raw::syscall(SYS_ppoll, &end, 1, &now, nullptr, 0) > 0;
}

// Waits until `ready()`: spins for about 20 us, lets others run, then sleeps between two looks.
// False: the peer died before it was.
template <class Ready>
bool wait_for_peer(const CopyLink& link, Ready&& ready) {
  constexpr unsigned kLooks = 2000;
  constexpr unsigned kYields = 500;
  constexpr timespec kNap{0, 50'000};
  for (unsigned look = 0; !ready(); ++look) {
    if (look < kLooks) {
      cpu_relax();
      continue;
    }
    if (look % 64 == 0 && has_ended(link.peer_pidfd)) return ready();
    if (look < kLooks + kYields) {
      raw::syscall(SYS_sched_yield);
    } else {
      raw::syscall(SYS_nanosleep, &kNap, nullptr);
    }
  }
  return true;
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_CHANNEL_H_
