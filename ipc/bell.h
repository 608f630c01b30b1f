// SPDX-License-Identifier: Apache-2.0
//
// The sleeper word: how those who wait for a queue in shared memory sleep, and how those who have
// put something into it wake them without a system call while nobody sleeps.
//
// The sleeper announces itself, looks again and only then sleeps; the waker publishes, and then
// looks whether anybody sleeps:
//
//   const std::uint32_t seen = bell.announce();     queue.try_enqueue(item);   // publishes
//   if (queue.looks_empty()) {                      bell.wake(1);
//     bell.sleep(seen, nullptr);
//   }
//   bell.withdraw();
//
// REQUIRES: what publishes, and the look between announce() and sleep(), are seq_cst steps, as the
// steps on the cursors of our queues are. Then publishing, the look, announce() and wake()'s look
// at `sleepers` have one order, and the sleeper sees the item or the waker sees the sleeper. No
// wake is lost between the look and the sleep either, because a ring changes `rings`, and sleep()
// returns when that is not what announce() saw. A ring releases what was published before it, and
// announce() acquires it, so who has seen a ring sees what it was for; and announce() sees `rings`
// before the look. (No fences: ThreadSanitizer knows none.) ipc/models/bell.pml checks it.
//
// | shared memory | sleepers : wakers | lock-free | what a crash does                          |
// |---------------|-------------------|-----------|--------------------------------------------|
// | yes, at any   | many : many       | but for   | a sleeper that died stays counted: a wake  |
// | address       |                   | the sleep | costs a system call from then on. A waker  |
// |               |                   |           | that died before it rang has woken nobody: |
// |               |                   |           | who hears of its death rings               |
//
// sleep() may return without cause. `rings` may only mislead one who slept through 2^32 rings.
// Zero-filled memory is a bell that nobody sleeps on. Freestanding: the preload library includes
// it.
#ifndef LIBSERVICES_IPC_BELL_H_
#define LIBSERVICES_IPC_BELL_H_

#include <linux/futex.h>
#include <time.h>

#include <atomic>
#include <cstdint>

#include "ipc/raw_syscall.h"

namespace libservices::ipc {

// The orders that the argument above needs; a test weakens each and must fail.
struct BellOrders {
  static constexpr std::memory_order kAnnounce = std::memory_order_seq_cst;
  static constexpr std::memory_order kLook = std::memory_order_seq_cst;
  static constexpr std::memory_order kRing = std::memory_order_release;
  static constexpr std::memory_order kSeen = std::memory_order_acquire;
};

template <class Orders>
struct BasicBell {
  std::atomic<std::uint32_t> rings;  // the futex
  std::atomic<std::uint32_t> sleepers;

  // Before the last look. Every announce() is followed by one withdraw().
  std::uint32_t announce() {
    sleepers.fetch_add(1, Orders::kAnnounce);
    return rings.load(Orders::kSeen);  // pairs with ring()
  }
  void withdraw() { sleepers.fetch_sub(1, std::memory_order_relaxed); }

  // `relative` is the longest time to sleep, nullptr for no limit.
  void sleep(std::uint32_t seen, const timespec* relative) {
    raw::syscall(SYS_futex, &rings, FUTEX_WAIT, seen, relative, nullptr, 0);
  }

  // After publishing. Wakes at most `most`, and those who have announced themselves but do not
  // sleep yet.
  void wake(int most) {
    if (sleepers.load(Orders::kLook) != 0) ring(most);
  }
  void ring(int most) {
    rings.fetch_add(1, Orders::kRing);  // pairs with announce()
    raw::syscall(SYS_futex, &rings, FUTEX_WAKE, most, nullptr, nullptr, 0);
  }
};
using Bell = BasicBell<BellOrders>;

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_BELL_H_
