// SPDX-License-Identifier: Apache-2.0
//
// How long it is worth to stay awake for an answer: a budget that follows what was seen.
//
// An answer that came within the budget makes it eight times what that one took: enough for most
// of the next ones. One that did not halves it, so who waits for slow answers soon sleeps at once.
// Budgets are counted in looks, since a clock costs more than a look.
//
// Freestanding. Zero-filled memory is no budget: use the constructor.
// THREADS: any. Two that learn at once cost one lesson.
#ifndef LIBSERVICES_IPC_WAIT_BUDGET_H_
#define LIBSERVICES_IPC_WAIT_BUDGET_H_

#include <atomic>
#include <cstdint>

namespace libservices::ipc {

class WaitBudget {
 public:
  constexpr WaitBudget(std::uint32_t fewest, std::uint32_t most)
      : fewest_(fewest), most_(most), looks_(most) {}

  std::uint32_t looks() const { return looks_.load(std::memory_order_relaxed); }
  void answered_after(std::uint32_t looks) { set(looks < most_ / 8 ? looks * 8 : most_); }
  void in_vain() { set(looks() / 2); }

 private:
  void set(std::uint32_t looks) {
    if (looks < fewest_) looks = fewest_;
    // Not written when it is as before: the line stays shared between the threads that read it.
    if (looks != this->looks()) looks_.store(looks, std::memory_order_relaxed);
  }

  const std::uint32_t fewest_;
  const std::uint32_t most_;
  std::atomic<std::uint32_t> looks_;
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_WAIT_BUDGET_H_
