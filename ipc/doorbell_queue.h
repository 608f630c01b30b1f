// SPDX-License-Identifier: Apache-2.0
//
// The request queue: RCQB's two stages for one-word doorbells, in shared memory, made so that
// whoever waits or dies owns nothing that others need.
//
// Stage one: a step on `tail_` hands out a ticket, that is, a slot in a turn. Stage two: the
// enqueuers fill their slots in parallel, each with one compare-and-swap, so two of them meet on
// one cache line only in stage one. A dequeuer has no stage one. It looks at the slot at `head_`,
// and when that is filled takes its doorbell by moving `head_` on. So an idle dequeuer has no
// ticket, which one that is not running or dead would keep from all others; and a slot is written
// once in a turn, by its enqueuer.
//
// | shared memory | producers : consumers | bounded | lock-free               | a crash leaves  |
// |---------------|-----------------------|---------|-------------------------|-----------------|
// | yes, at any   | many : many           | yes     | yes; a full queue       | a hole, which a |
// | address       |                       |         | refuses, does not wait  | dequeuer passes |
//
// Invariants. A slot is one 64-bit word: a turn in its upper half, the doorbell in the lower, 0 for
// none. Ticket t is slot t mod Capacity in turn 1 + t div Capacity.
//   1. A slot leaves turn T - 1 for turn T once, by a compare-and-swap: filled, by the enqueuer
//      that owns the ticket, or retired with doorbell 0, by a dequeuer. Its word then stays until
//      turn T + 1. An enqueuer whose slot is in its turn already has lost it and takes a new
//      ticket.
//   2. head_ moves on by one, from a ticket whose slot is in its turn; who moves it has the
//      doorbell. So every doorbell is taken once.
//   3. A slot leaves turn T - 1 only when head_ has passed its ticket of that turn, so nothing is
//      overwritten before it was taken.
// Memory order. What the enqueuer wrote before (its request) is released by the compare-and-swap
// on the slot and acquired by the dequeuer's load of it. head_ orders nothing: the word of a slot
// is the same all through its turn, and nothing else lies in it. Steps on tail_ are seq_cst for
// the sleepers' sake (bell.h): who takes a ticket and then sees no sleeper is seen by the
// sleeper's last look.
// A hole: the enqueuer has its ticket but has not filled the slot; it is between two instructions,
// preempted, or dead. The dequeuer looks kHoleLooks times and retires the slot. No clock and no
// news of a death decides, since being wrong is harmless (1).
// Full: an enqueuer takes no ticket at head_ + Capacity or later. While there is much room it takes
// the next ticket whatever it is, by fetch-and-add; near the end by compare-and-swap. So only more
// than Capacity / 4 enqueuers at once can pass the end; their tickets become holes, and a dequeuer
// that finds tail_ too far ahead sets it back: a ticket that is drawn twice is decided by (1).
// Hostile contents: a process that scribbles over the queue can lose or invent doorbells of its
// own trust domain. Every call is bounded, a doorbell means nothing until it is checked, and what
// cannot be (cursors or turns out of range) is set right where a dequeuer meets it, so the queue
// comes to rest and works again when the scribbling ends.
//
// SOURCE: RCQS and RCQB, the two-stage relaxed concurrent queues of Kappes and Anastasiadis (PPoPP
// 2021). docs/rcqb.md has the argument in full, ipc/models/doorbell_queue.pml its check.
#ifndef LIBSERVICES_IPC_DOORBELL_QUEUE_H_
#define LIBSERVICES_IPC_DOORBELL_QUEUE_H_

#include <atomic>
#include <cstdint>

#include "ipc/cpu_relax.h"
#include "ipc/fault_point.h"

namespace libservices::ipc {

// The orders that the argument above needs; a test weakens each and must fail.
struct DoorbellOrders {
  static constexpr std::memory_order kTicket = std::memory_order_seq_cst;
  static constexpr std::memory_order kFill = std::memory_order_release;
  static constexpr std::memory_order kTake = std::memory_order_acquire;
};

// A doorbell is any word but 0. Zero-filled memory is an empty queue.
template <std::uint32_t Capacity, class Orders = DoorbellOrders>
class DoorbellQueue {
  static_assert((Capacity & (Capacity - 1)) == 0, "a power of two");

 public:
  // False: the queue is full. Try again.
  bool try_enqueue(std::uint32_t doorbell) {
    for (;;) {
      std::uint64_t ticket = 0;
      if (!draw(ticket)) return false;
      auto& slot = slots_[place(ticket)];
      const std::uint32_t turn = turn_of(ticket);
      LIBSERVICES_FAULT_POINT("ticket drawn");
      will_write(&slot);
      if (!has_room(ticket)) return false;
      std::uint64_t seen = slot.load(std::memory_order_relaxed);
      // Pairs with the load in try_dequeue(). A failure is invariant 1: the slot was retired.
      if (turn_in(seen) == turn - 1 &&
          slot.compare_exchange_strong(seen, word(turn, doorbell), Orders::kFill,
                                       std::memory_order_relaxed)) {
        LIBSERVICES_FAULT_POINT("slot filled");
        return true;
      }
    }
  }

  // 0: nothing there.
  std::uint32_t try_dequeue() {
    int looks = kHoleLooks;
    for (unsigned steps = 0; steps < 4 * Capacity; ++steps) {
      std::uint64_t head = head_.load(std::memory_order_relaxed);
      auto& slot = slots_[place(head)];
      const std::uint32_t turn = turn_of(head);
      // Pairs with the compare-and-swap in try_enqueue().
      std::uint64_t seen = slot.load(Orders::kTake);
      if (turn_in(seen) == turn) {
        const bool taken = head_.compare_exchange_strong(head, head + 1, std::memory_order_relaxed);
        if (taken && doorbell_in(seen) != 0) return doorbell_in(seen);
        continue;
      }
      std::uint64_t tail = tail_.load();
      const std::uint64_t between = tail - head;
      if (head_.load(std::memory_order_relaxed) != head) continue;  // `between` means nothing
      if (between == 0) {
        if (turn_in(seen) == turn - 1) return 0;
        slot.compare_exchange_strong(seen, word(turn - 1, 0), std::memory_order_relaxed);
        continue;
      }
      if (between > 2 * std::uint64_t{Capacity}) {
        tail_.compare_exchange_strong(tail, tail < head ? head : head + Capacity);
        continue;
      }
      while (looks > 0 && slot.load(std::memory_order_relaxed) == seen) {
        cpu_relax();
        --looks;
      }
      looks += kFewerHoleLooks;
      // Retires a hole.
      slot.compare_exchange_strong(seen, word(turn, 0), std::memory_order_relaxed);
    }
    return 0;
  }

  // Whether the next slot is filled: a look that leaves the enqueuers' cursor alone.
  bool has_next() const {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    const std::uint64_t seen = slots_[place(head)].load(std::memory_order_relaxed);
    return turn_in(seen) != turn_of(head) - 1;
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
    return static_cast<std::uint32_t>(1 + ticket / Capacity);
  }
  static std::uint32_t turn_in(std::uint64_t slot) {
    return static_cast<std::uint32_t>(slot >> 32U);
  }
  static std::uint32_t doorbell_in(std::uint64_t slot) { return static_cast<std::uint32_t>(slot); }
  static std::uint64_t word(std::uint32_t turn, std::uint32_t doorbell) {
    return (std::uint64_t{turn} << 32U) | doorbell;
  }

  // Where the slot lies: successive slots on different cache lines, so that the enqueuer of one
  // does not take the line from under the dequeuer of the one before.
  static std::uint32_t place(std::uint64_t ticket) {
    const auto index = static_cast<std::uint32_t>(ticket % Capacity);
    if constexpr (Capacity < 64) return index;
    return index % (Capacity / 8) * 8 + index / (Capacity / 8);
  }

  // Stage one. False: full.
  bool draw(std::uint64_t& ticket) {
    will_write(&tail_);
    ticket = tail_.load(std::memory_order_relaxed);
    will_write(&slots_[place(ticket)]);  // most likely; it comes while tail_ is stepped on
    for (;;) {
      if (ticket - head_seen_.load(std::memory_order_relaxed) < Capacity - Capacity / 4) {
        ticket = tail_.fetch_add(1, Orders::kTicket);
        return true;
      }
      if (!has_room(ticket)) return false;
      if (ticket - head_seen_.load(std::memory_order_relaxed) < Capacity - Capacity / 4) continue;
      if (tail_.compare_exchange_weak(ticket, ticket + 1, Orders::kTicket,
                                      std::memory_order_relaxed)) {
        return true;
      }
    }
  }

  // Whether head_ has passed the slot's last turn. Looks at the dequeuers' cursor only if it had
  // not when somebody looked last. May be stale, never early.
  bool has_room(std::uint64_t ticket) {
    if (ticket - head_seen_.load(std::memory_order_relaxed) < Capacity) return true;
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    head_seen_.store(head, std::memory_order_relaxed);
    return ticket - head < Capacity;
  }

  alignas(64) std::atomic<std::uint64_t> tail_;
  std::atomic<std::uint64_t> head_seen_;  // a value that head_ had
  alignas(64) std::atomic<std::uint64_t> head_;
  alignas(64) std::atomic<std::uint64_t> slots_[Capacity];
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_DOORBELL_QUEUE_H_
