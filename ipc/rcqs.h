// SPDX-License-Identifier: Apache-2.0
//
// RCQS: the two-stage relaxed concurrent queue, lock-free, for one-word items, in shared memory.
//
// Stage one: a fetch-and-add on `tail_` or `head_` gives an operation its ticket, that is, a slot
// in a turn. Stage two: one compare-and-swap puts the item into the slot or takes it out. Nobody
// waits in either: a dequeuer that comes before its enqueuer ends the slot's turn and draws again,
// and so does the enqueuer then. A call that has drawn Capacity tickets in vain gives up.
// DoorbellQueue has no ticket on the dequeuers' side and needs no repair(); this is the published
// form, in which dequeuers meet on one line in stage one alone.
//
// | shared memory | producers : consumers | bounded | lock-free | what a crash does              |
// |---------------|-----------------------|---------|-----------|--------------------------------|
// | yes, at any   | many : many           | yes     | yes       | nobody waits. An item whose    |
// | address       |                       |         |           | dequeuer died before it took   |
// |               |                       |         |           | it comes out by repair(), or a |
// |               |                       |         |           | turn later                     |
//
// Invariants. A slot is one 64-bit word: a turn in its upper half, the item in the lower, 0 for
// none. Ticket t is slot t mod Capacity in turn t div Capacity.
//   1. A slot's turn never goes back. An enqueuer fills a slot from an empty word of its ticket's
//      turn or an earlier one; a dequeuer leaves it empty in the turn after its ticket's.
//   2. An item is put in by one compare-and-swap and taken out by one; a word with an item does not
//      change otherwise. So every item is taken once.
//   3. Who finds its slot in a later turn than its ticket's has lost it and draws again. So tickets
//      may be lost: by a party that is slow, stopped or dead. Nothing is in a slot whose enqueuer
//      has not finished, and no slot of which both tickets were drawn keeps an item, but while its
//      dequeuer is on its way. If that is dead, the slot's next dequeuer takes the item.
//   Order: items come out in the order of tickets, but for those that (3) delays.
// Memory order. What the enqueuer wrote before is released by the compare-and-swap that puts the
// item in and acquired by the one that takes it out. Steps on the cursors are seq_cst for the
// sleepers' sake (bell.h).
//
// SOURCE: RCQS and RCQB, the two-stage relaxed concurrent queues of Kappes and Anastasiadis (PPoPP
// 2021). docs/rcqb.md has the argument in full, ipc/models/rcqs.pml its check.
#ifndef LIBSERVICES_IPC_RCQS_H_
#define LIBSERVICES_IPC_RCQS_H_

#include <atomic>
#include <cstdint>

#include "ipc/cpu_relax.h"

namespace libservices::ipc {

// The orders that the argument above needs; a test weakens each and must fail.
struct RcqsOrders {
  static constexpr std::memory_order kTicket = std::memory_order_seq_cst;
  static constexpr std::memory_order kFill = std::memory_order_release;
  static constexpr std::memory_order kTake = std::memory_order_acquire;
};

// An item is any word but 0. Zero-filled memory is an empty queue.
template <std::uint32_t Capacity, class Orders = RcqsOrders>
class Rcqs {
  static_assert((Capacity & (Capacity - 1)) == 0, "a power of two");

 public:
  // False: the queue is full, or looks so. Try again.
  bool try_enqueue(std::uint32_t item) {
    for (std::uint32_t draws = 0; draws < Capacity && !looks_full(); ++draws) {
      const std::uint64_t ticket = tail_.fetch_add(1, Orders::kTicket);
      auto& slot = slots_[ticket % Capacity];
      const std::uint32_t turn = turn_of(ticket);
      will_write(&slot);
      std::uint64_t seen = slot.load(std::memory_order_relaxed);
      // Not at or before the ticket's turn: lost. An item: its dequeuer is late or dead, or the
      // queue is full. Pairs with the compare-and-swap in take().
      while (distance(turn, turn_in(seen)) <= 0 && item_in(seen) == 0) {
        if (slot.compare_exchange_weak(seen, word(turn, item), Orders::kFill,
                                       std::memory_order_relaxed)) {
          return true;
        }
      }
    }
    return false;
  }

  // 0: nothing there, or nothing yet; looks_empty() tells.
  std::uint32_t try_dequeue() {
    for (std::uint32_t draws = 0; draws < Capacity && !looks_empty(); ++draws) {
      const std::uint64_t ticket = head_.fetch_add(1, Orders::kTicket);
      auto& slot = slots_[ticket % Capacity];
      const std::uint32_t turn = turn_of(ticket);
      will_write(&slot);
      std::uint64_t seen = slot.load(std::memory_order_relaxed);
      while (distance(turn, turn_in(seen)) <= 0) {
        if (take(slot, seen, turn + 1) && item_in(seen) != 0) return item_in(seen);
      }
    }
    return 0;
  }

  // Call it when a party has died: `deliver(item)` gets the items whose dequeuers have drawn their
  // tickets but taken nothing, each once, and their enqueuers that have put nothing in yet draw
  // again. So does a dequeuer that was only late.
  // THREADS: any number at once, beside all other calls.
  template <class Deliver>
  void repair(Deliver&& deliver) {
    const std::uint64_t head = head_.load();
    for (std::uint32_t index = 0; index < Capacity; ++index) {
      std::uint64_t seen = slots_[index].load(std::memory_order_relaxed);
      const std::uint32_t turn = turn_of(head) + (head % Capacity > index ? 1 : 0);
      while (distance(turn_in(seen), turn) > 0) {
        if (take(slots_[index], seen, turn)) {
          if (item_in(seen) != 0) deliver(item_in(seen));
          break;
        }
      }
    }
  }

  // For a sleeper's last look: whether no ticket has been drawn that the other side does not hold.
  bool looks_empty() const {
    const std::uint64_t head = head_.load();
    return static_cast<std::int64_t>(tail_.load() - head) <= 0;
  }
  bool looks_full() const {
    const std::uint64_t tail = tail_.load();
    return static_cast<std::int64_t>(tail - head_.load()) >= std::int64_t{Capacity};
  }
  // Whether the next slot has an item: a look that leaves the enqueuers' cursor alone.
  bool has_next() const {
    return item_in(slots_[head_.load(std::memory_order_relaxed) % Capacity].load(
               std::memory_order_relaxed)) != 0;
  }

 private:
  static std::uint32_t turn_of(std::uint64_t ticket) {
    return static_cast<std::uint32_t>(ticket / Capacity);
  }
  static std::uint32_t turn_in(std::uint64_t slot) {
    return static_cast<std::uint32_t>(slot >> 32U);
  }
  static std::uint32_t item_in(std::uint64_t slot) { return static_cast<std::uint32_t>(slot); }
  static std::uint64_t word(std::uint32_t turn, std::uint32_t item) {
    return (std::uint64_t{turn} << 32U) | item;
  }
  static std::int32_t distance(std::uint32_t from, std::uint32_t to) {
    return static_cast<std::int32_t>(to - from);
  }
  // Ends the turns before `turn`. Pairs with the compare-and-swap in try_enqueue().
  static bool take(std::atomic<std::uint64_t>& slot, std::uint64_t& seen, std::uint32_t turn) {
    return slot.compare_exchange_strong(seen, word(turn, 0), Orders::kTake,
                                        std::memory_order_relaxed);
  }

  alignas(64) std::atomic<std::uint64_t> tail_;
  alignas(64) std::atomic<std::uint64_t> head_;
  alignas(64) std::atomic<std::uint64_t> slots_[Capacity];
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_RCQS_H_
