// SPDX-License-Identifier: Apache-2.0
//
// A lock for a few instructions on the path of every request: half the price of a std::mutex,
// since giving it back is a plain store.
//
// Use it only where nothing that waits is called inside. Who finds it taken spins for a moment and
// then lets others run, so a holder that was preempted gets on.
#ifndef LIBSERVICES_INTERNAL_SPIN_LOCK_H_
#define LIBSERVICES_INTERNAL_SPIN_LOCK_H_

#include <atomic>
#include <chrono>
#include <thread>

namespace libservices::internal {

class SpinLock {
 public:
  void lock() {
    for (int tries = 0; locked_.exchange(true, std::memory_order_acquire); ++tries) wait(tries);
  }
  void unlock() { locked_.store(false, std::memory_order_release); }

 private:
  void wait(int tries) const {
    constexpr int kLooks = 100;
    constexpr int kYields = 100;
    for (int looks = 0; looks < kLooks; ++looks) {
      if (!locked_.load(std::memory_order_relaxed)) return;
    }
    if (tries < kYields) {
      std::this_thread::yield();
    } else {  // a thread of higher priority, which would yield to nobody
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  std::atomic<bool> locked_{false};
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_SPIN_LOCK_H_
