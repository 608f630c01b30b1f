// SPDX-License-Identifier: Apache-2.0
//
// Which request buffers of a session the application's threads have. Freestanding, for
// FrontDriver. THREADS: all members at once.
#ifndef LIBSERVICES_IPC_TAKEN_BUFFERS_H_
#define LIBSERVICES_IPC_TAKEN_BUFFERS_H_

#include <atomic>
#include <cstdint>

#include "ipc/request.h"

namespace libservices::ipc {

class TakenBuffers {
 public:
  using Region = std::atomic<void*>;  // of the session; null: there is none
  static constexpr std::uint32_t kNobody = INT32_MAX - 1;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // The index of one that is free, from `hint` on, for `user`; or kNone. The last buffers are for
  // users (instances, say) that have few: one whose requests do not end does not keep the others
  // from theirs.
  std::uint32_t take(std::uint32_t hint, std::uint32_t user, const Region& region) {
    for (std::uint32_t i = 0; i < kBuffersInSession; ++i) {
      const std::uint32_t index = (hint + i) % kBuffersInSession;
      std::atomic<std::uint32_t>& by_whom = slots_[index].by_whom;
      std::uint32_t by = by_whom.load(std::memory_order_relaxed);
      if (by != 0 && !is_free_again(index, by, region)) continue;
      // So many steps are taken only when nearly all are in use.
      if (i >= kBuffersForAll && user != kNobody && count_of(user) >= kMostOfTheLast) return kNone;
      if (by_whom.compare_exchange_strong(by, user + 1)) return index;
    }
    return kNone;
  }
  void give_back(std::uint32_t index) {
    slots_[index].by_whom.store(0, std::memory_order_release);
  }
  // Instead of that, while the service may still use it.
  void set_aside(std::uint32_t index) {
    std::atomic<std::uint32_t>& by_whom = slots_[index].by_whom;
    by_whom.store(by_whom.load(std::memory_order_relaxed) | kAside, std::memory_order_release);
  }
  // Whether buffers of this user are set aside.
  bool has_aside(std::uint32_t user) const {
    for (const Slot& each : slots_) {
      if (each.by_whom.load(std::memory_order_relaxed) == ((user + 1) | kAside)) return true;
    }
    return false;
  }
  // Whether a thread has one.
  bool any() const {
    for (const Slot& each : slots_) {
      if (const std::uint32_t by = each.by_whom.load(); by != 0 && !is_aside(by)) return true;
    }
    return false;
  }
  // What was set aside belongs to a session that is left.
  void forget_aside() {
    for (Slot& each : slots_) {
      std::uint32_t by = each.by_whom.load();
      if (is_aside(by)) (void)each.by_whom.compare_exchange_strong(by, 0);
    }
  }
  void forget() {
    for (Slot& each : slots_) each.by_whom.store(0, std::memory_order_relaxed);
  }

 private:
  // 1 + the user whose thread has the buffer, with kAside once that thread has gone on without it;
  // 0: free. Not beside the buffer, where the service looks.
  struct alignas(64) Slot {
    std::atomic<std::uint32_t> by_whom{0};
  };
  static constexpr std::uint32_t kAside = 1U << 31U;
  static constexpr std::uint32_t kBuffersForAll = kBuffersInSession - 16;
  static constexpr std::uint32_t kMostOfTheLast = 4;

  static bool is_aside(std::uint32_t by) { return (by & kAside) != 0; }
  static bool is_free_again(std::uint32_t index, std::uint32_t by, const Region& region) {
    if (!is_aside(by)) return false;
    void* const memory = region.load(std::memory_order_acquire);
    // Pairs with BackDriver::answer().
    return memory != nullptr &&
           buffer_at(memory, index)->held.load(std::memory_order_acquire) == 0;
  }
  std::uint32_t count_of(std::uint32_t user) const {
    std::uint32_t count = 0;
    for (const Slot& each : slots_) {
      if ((each.by_whom.load(std::memory_order_relaxed) & ~kAside) == user + 1) ++count;
    }
    return count;
  }

  Slot slots_[kBuffersInSession];
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_TAKEN_BUFFERS_H_
