// SPDX-License-Identifier: Apache-2.0
//
// The request queue: RCQB (relaxed concurrent queue, blocking) of one-word doorbells, in shared
// memory.
//
// RCQB works in two stages. A fetch-and-add on `tail_` hands out slots in order (stage one); the
// enqueuers then fill their slots in parallel (stage two), so two of them meet on one cache line
// only in stage one. As published, a dequeuer takes a ticket as well and waits on its slot; here
// an idle dequeuer owns nothing, because with fewer cores than threads the owner of the next
// ticket is usually not running, and because a dead one would block its slot for ever.
//
// | shared memory | producers : consumers | bounded | lock-free            | what a crash does |
// |---------------|-----------------------|---------|----------------------|------------------------|
// | yes, any      | many : many           | yes     | yes, but for a full  | a hole, which the next
// | | address       |                       |         | queue (enqueue waits)| dequeuer passes over
// |
//
// Invariants. A slot is one 64-bit word: the turn in its upper half, the doorbell in the lower, 0
// for none. Ticket t is slot t mod capacity in turn t div capacity.
//   1. A slot's turn only grows, by one, when its doorbell is taken or its hole is retired.
//   2. Only the enqueuer that owns ticket t puts a doorbell into that slot in that turn, by a
//      compare-and-swap from (turn, 0); if the slot was retired it takes another ticket. So every
//      doorbell is in the queue once, and is taken once.
//   3. head_ never passes a slot of which the turn has not been ended. It is a hint that anyone
//      may help forward.
// Memory order. What the enqueuer wrote before (its request) is released by the compare-and-swap
// on the slot and acquired by the dequeuer's load of it. head_ orders nothing; a stale value costs
// another look. Steps on tail_ are seq_cst for the sleeping protocol's sake (queue.h): who takes a
// ticket and then sees no sleeper is seen by the sleeper's last look.
// A hole: the enqueuer has its ticket but has not filled the slot: it is between two instructions,
// preempted, or dead. The dequeuer looks kHoleLooks times and then retires the slot. No clock and
// no news of anyone's death decides, since being wrong is harmless: a late enqueuer finds its
// slot's turn ended and takes the next ticket.
// tail_ runs ahead while enqueuers meet a full queue. No slot can be filled at head_ + Capacity or
// later, so a dequeuer may set tail_ back to there: a ticket that is then drawn twice is decided by
// the slot's compare-and-swap, and the loser takes another.
// Hostile contents: a process that scribbles over the queue can lose or invent doorbells of its
// own trust domain. Every look is bounded, a doorbell means nothing until it is checked, and what
// cannot be (cursors or turns out of range) is set right where a dequeuer meets it, so the queue
// comes to rest and works again when the scribbling ends.
//
// SOURCE: RCQS and RCQB, the two-stage relaxed concurrent queues of Kappes and Anastasiadis (PPoPP
// 2021), with claimed 4 to 52 times the task throughput of LCRQ, WFQ and BQ.
#ifndef LIBSERVICES_IPC_RCQB_H_
#define LIBSERVICES_IPC_RCQB_H_

#include <atomic>
#include <cstdint>

namespace libservices::ipc {

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A doorbell is any word but 0. Zero-filled memory is an empty queue.
template <std::uint32_t Capacity>
class DoorbellQueue {
  static_assert((Capacity & (Capacity - 1)) == 0, "a power of two");

 public:
  // False: the queue is full, that is, Capacity doorbells wait. Try again.
  bool try_enqueue(std::uint32_t doorbell) {
    for (;;) {
      const std::uint64_t ticket = tail_.fetch_add(1);
      auto& slot = slots_[ticket % Capacity];
      const std::uint32_t turn = turn_of(ticket);
      std::uint64_t seen = slot.load(std::memory_order_relaxed);
      for (;;) {
        if (turn_in(seen) == turn && doorbell_in(seen) == 0) {
          // Pairs with the load in try_dequeue().
          if (slot.compare_exchange_weak(seen, word(turn, doorbell), std::memory_order_release,
                                         std::memory_order_relaxed)) {
            return true;
          }
          continue;
        }
        if (static_cast<std::int32_t>(turn_in(seen) - turn) >= 0) break;  // retired: next ticket
        // A whole round behind: full. The ticket stays a hole, which a dequeuer retires.
        return false;
      }
    }
  }

  // 0: nothing there.
  std::uint32_t try_dequeue() {
    int looks = kHoleLooks;
    for (unsigned steps = 0; steps < 2 * Capacity; ++steps) {
      std::uint64_t head = head_.load(std::memory_order_relaxed);
      auto& slot = slots_[head % Capacity];
      const std::uint32_t turn = turn_of(head);
      // Pairs with the compare-and-swap in try_enqueue().
      std::uint64_t seen = slot.load(std::memory_order_acquire);
      const auto ahead = static_cast<std::int32_t>(turn_in(seen) - turn);
      if (ahead == 1) {  // ended by another dequeuer, who has not advanced head_ yet
        advance(head);
        continue;
      }
      if (head_.load(std::memory_order_relaxed) != head) continue;  // it was stale
      const std::uint32_t doorbell = ahead == 0 ? doorbell_in(seen) : 0;
      if (ahead == 0 && doorbell == 0) {
        std::uint64_t tail = tail_.load();
        const std::uint64_t between = tail - head;
        if (head_.load(std::memory_order_relaxed) != head) continue;  // `between` means nothing
        if (between == 0) return 0;
        if (between > 2 * std::uint64_t{Capacity}) {
          tail_.compare_exchange_strong(tail, tail < head ? head : head + Capacity);
          continue;
        }
        while (looks > 0 && slot.load(std::memory_order_relaxed) == seen) {
          cpu_relax();
          --looks;
        }
        looks += kFewerHoleLooks;
      }
      // Delivers, retires a hole, or sets a scribbled slot right.
      if (slot.compare_exchange_strong(seen, word(turn + 1, 0), std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        advance(head);
        if (doorbell != 0) return doorbell;
      }
    }
    return 0;
  }

  // Whether the next slot is filled: a look that leaves the enqueuers' cache line alone.
  bool has_next() const {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    const std::uint64_t seen = slots_[head % Capacity].load(std::memory_order_relaxed);
    return turn_in(seen) == turn_of(head) ? doorbell_in(seen) != 0 : turn_in(seen) != turn_of(head);
  }

  // Whether a dequeuer would find something now; may be wrong either way by what is under way.
  bool looks_empty() const {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    return tail_.load() == head;
  }

 private:
  static constexpr int kHoleLooks = 256;  // about 10 µs: longer than an enqueuer that is running
  static constexpr int kFewerHoleLooks = 8;  // at each further hole of one call

  static std::uint32_t turn_of(std::uint64_t ticket) {
    return static_cast<std::uint32_t>(ticket / Capacity);
  }
  static std::uint32_t turn_in(std::uint64_t slot) {
    return static_cast<std::uint32_t>(slot >> 32U);
  }
  static std::uint32_t doorbell_in(std::uint64_t slot) { return static_cast<std::uint32_t>(slot); }
  static std::uint64_t word(std::uint32_t turn, std::uint32_t doorbell) {
    return (std::uint64_t{turn} << 32U) | doorbell;
  }
  void advance(std::uint64_t head) {
    head_.compare_exchange_strong(head, head + 1, std::memory_order_relaxed);
  }

  alignas(64) std::atomic<std::uint64_t> tail_;
  alignas(64) std::atomic<std::uint64_t> head_;
  alignas(64) std::atomic<std::uint64_t> slots_[Capacity];
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_RCQB_H_
