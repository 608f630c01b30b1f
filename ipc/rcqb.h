// SPDX-License-Identifier: Apache-2.0
//
// RCQB: the two-stage relaxed concurrent queue, blocking, for requests of one to a few cache lines
// between processes, in shared memory.
//
// Use it where items are larger than a word and the parties trust each other with the contents.
// For one word take Rcqs, and towards processes that may write anything DoorbellQueue.
//
// Stage one: a fetch-and-add on `tail_` or `head_` gives an operation its ticket, that is, a slot
// in a turn. Stage two: the slot's state works as a lock. The enqueuer waits for `empty`, locks the
// slot, stores the item and marks it `valid`; the dequeuer that drew the same ticket follows: waits
// for `valid`, locks, takes the item and marks the slot `empty` for the next turn. Operations on
// different slots run in parallel, so the order of items is that of tickets only.
// enqueue() and dequeue() do so as published and wait, with their ticket, while the queue is full
// or empty. try_enqueue() and try_dequeue() take a ticket only when its slot is ready.
//
// | shared memory | producers : consumers | bounded | lock-free | what a crash does             |
// |---------------|-----------------------|---------|-----------|-------------------------------|
// | yes, at any   | many : many           | yes     | no        | repair() frees what the dead  |
// | address       |                       |         |           | one had; until then who drew  |
// |               |                       |         |           | a ticket of its slot waits    |
//
// Invariants. A slot's word is its turn, its state, and in the two locked states the owner.
// Ticket t is slot t mod Capacity in turn t div Capacity.
//   1. The words of a slot are, in each turn: empty, filling (locked by the enqueuer), valid,
//      taking (locked by a dequeuer), then empty in the next turn. repair() may go from any of
//      them to the next turn, but leaves locked words of the living alone.
//   2. Each step into a locked state is a compare-and-swap on the whole word; only the owner leaves
//      it, or repair() when the owner is dead. The item is touched in a locked state only.
//   3. Who finds its slot in a later turn than its ticket's has lost it and draws again; it has
//      stored and taken nothing.
// A crash. Owners are numbers that the caller gives, one for each process, and `is_dead` answers
// from the kernel (a pidfd, a socket's hang-up), never from a clock. A lock tells its owner. A
// ticket does not: a party may die after its fetch-and-add and before it has written anything. So
// repair() retires every ticket that was drawn and has not led to a lock, whoever drew it: its
// enqueuer and its dequeuer, if alive, even if stopped for long, draw again by (3). An item whose
// dequeuer may be dead is handed to the caller.
// Memory order. The locking compare-and-swaps acquire, marking valid and marking empty release:
// the item is passed on by the first pair, its room by the second. Steps on the cursors are
// seq_cst for the sleepers' sake (bell.h).
//
// SOURCE: RCQS and RCQB, the two-stage relaxed concurrent queues of Kappes and Anastasiadis (PPoPP
// 2021). docs/rcqb.md has the argument in full, ipc/models/rcqb.pml its check.
#ifndef LIBSERVICES_IPC_RCQB_H_
#define LIBSERVICES_IPC_RCQB_H_

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "ipc/cpu_relax.h"
#include "ipc/raw_syscall.h"

namespace libservices::ipc {

// The orders that the argument above needs; a test weakens each and must fail.
struct RcqbOrders {
  static constexpr std::memory_order kTicket = std::memory_order_seq_cst;
  static constexpr std::memory_order kLockEmpty = std::memory_order_acquire;
  static constexpr std::memory_order kMarkValid = std::memory_order_release;
  static constexpr std::memory_order kLockValid = std::memory_order_acquire;
  static constexpr std::memory_order kMarkEmpty = std::memory_order_release;
};

// How enqueue() and dequeue() wait: called, with the number of times so far, while the slot is not
// ready. A policy that learns of a death calls repair() here.
struct SpinThenYield {
  void operator()(unsigned times) const {
    if (times < 256) {
      cpu_relax();
    } else {
      raw::syscall(SYS_sched_yield);
    }
  }
};

// Zero-filled memory is an empty queue. `owner` is 1 to kMostOwners.
template <class T, std::uint32_t Capacity, class Orders = RcqbOrders>
class Rcqb {
  static_assert((Capacity & (Capacity - 1)) == 0, "a power of two");
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::uint32_t kMostOwners = (1U << 30U) - 1;

  template <class Waiting = SpinThenYield>
  void enqueue(const T& item, std::uint32_t owner, Waiting&& waiting = {}) {
    while (!fill(tail_.fetch_add(1, Orders::kTicket), item, owner, waiting)) {
    }
  }
  template <class Waiting = SpinThenYield>
  T dequeue(std::uint32_t owner, Waiting&& waiting = {}) {
    T item;
    while (!take(head_.fetch_add(1, Orders::kTicket), item, owner, waiting)) {
    }
    return item;
  }

  // False: the queue is full.
  bool try_enqueue(const T& item, std::uint32_t owner) {
    return try_next(tail_, kEmpty, [&](std::uint64_t ticket) {
      return fill(ticket, item, owner, [](unsigned) {});
    });
  }
  // False: nothing there, or the next item is not valid yet.
  bool try_dequeue(T& item, std::uint32_t owner) {
    return try_next(head_, kValid, [&](std::uint64_t ticket) {
      return take(ticket, item, owner, [](unsigned) {});
    });
  }

  // The tickets drawn so far; what repair() has to look at.
  struct Drawn {
    std::uint64_t tail;
    std::uint64_t head;
  };
  Drawn drawn() const { return {.tail = tail_.load(), .head = head_.load()}; }

  // When an owner has died: take drawn(), then call it. `is_dead(owner)` tells who is dead;
  // `deliver(const T&)` gets the items whose dequeuers may be dead, each once. Returns in how many
  // slots a living party has to go on first; while that is not 0, call it again with the same
  // `drawn` whenever a wait is long.
  // THREADS: any number at once, beside all other calls; `owner` is the caller's.
  template <class IsDead, class Deliver>
  unsigned repair(const Drawn& drawn, std::uint32_t owner, IsDead&& is_dead, Deliver&& deliver) {
    unsigned unsettled = 0;
    for (std::uint32_t index = 0; index < Capacity; ++index) {
      Slot& slot = slots_[index];
      for (;;) {
        std::uint64_t seen = slot.state.load(std::memory_order_relaxed);
        const std::uint32_t turn = turn_in(seen);
        const State state = state_in(seen);
        const std::int32_t enqueuers = drawn_from(drawn.tail, index, turn);
        const std::int32_t dequeuers = drawn_from(drawn.head, index, turn);
        if (enqueuers <= 0 && dequeuers <= 0) break;
        if (state == kEmpty || (state == kFilling && is_dead(owner_in(seen)))) {
          slot.state.compare_exchange_strong(seen, word(turn + 1, kEmpty, 0),
                                             std::memory_order_relaxed);
        } else if ((state == kValid && dequeuers > 0) ||
                   (state == kTaking && is_dead(owner_in(seen)))) {
          T item;
          if (take_locked(slot, seen, item, owner)) deliver(item);
        } else {
          // Those with tickets of a later turn, or for the item, may be dead.
          if (enqueuers > 1 || dequeuers > (state == kTaking ? 1 : 0)) ++unsettled;
          break;
        }
      }
    }
    return unsettled;
  }

  // For a sleeper's last look: whether no ticket has been drawn that the other side does not hold.
  bool looks_empty() const { return static_cast<std::int64_t>(tail_.load() - head_.load()) <= 0; }
  bool looks_full() const {
    return static_cast<std::int64_t>(tail_.load() - head_.load()) >= std::int64_t{Capacity};
  }

 private:
  enum State : std::uint32_t { kEmpty, kFilling, kValid, kTaking };
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> state;  // turn: 32 bits, state: 2, owner: 30
    T item;
  };

  static std::uint64_t word(std::uint32_t turn, State state, std::uint32_t owner) {
    return (std::uint64_t{turn} << 32U) | (std::uint64_t{state} << 30U) | owner;
  }
  static std::uint32_t turn_of(std::uint64_t ticket) {
    return static_cast<std::uint32_t>(ticket / Capacity);
  }
  static std::uint32_t turn_in(std::uint64_t seen) {
    return static_cast<std::uint32_t>(seen >> 32U);
  }
  static State state_in(std::uint64_t seen) { return static_cast<State>((seen >> 30U) & 3U); }
  static std::uint32_t owner_in(std::uint64_t seen) {
    return static_cast<std::uint32_t>(seen) & kMostOwners;
  }
  static std::int32_t distance(std::uint32_t from, std::uint32_t to) {
    return static_cast<std::int32_t>(to - from);
  }
  // How many tickets of the slot at `index` have been drawn from `cursor`, from `turn` on.
  static std::int32_t drawn_from(std::uint64_t cursor, std::uint32_t index, std::uint32_t turn) {
    return distance(turn, turn_of(cursor) + (cursor % Capacity > index ? 1 : 0));
  }

  // Stage two. False: the slot was retired.
  template <class Waiting>
  bool fill(std::uint64_t ticket, const T& item, std::uint32_t owner, Waiting&& waiting) {
    Slot& slot = slots_[ticket % Capacity];
    const std::uint32_t turn = turn_of(ticket);
    will_write(&slot);
    for (unsigned times = 0;; ++times) {
      std::uint64_t seen = slot.state.load(std::memory_order_relaxed);
      if (distance(turn, turn_in(seen)) > 0) return false;
      if (turn_in(seen) != turn) {
        waiting(times);
        continue;
      }
      // Pairs with the store in take_locked() in the turn before.
      if (slot.state.compare_exchange_strong(seen, word(turn, kFilling, owner), Orders::kLockEmpty,
                                             std::memory_order_relaxed)) {
        slot.item = item;
        slot.state.store(word(turn, kValid, 0), Orders::kMarkValid);
        return true;
      }
    }
  }
  template <class Waiting>
  bool take(std::uint64_t ticket, T& item, std::uint32_t owner, Waiting&& waiting) {
    Slot& slot = slots_[ticket % Capacity];
    const std::uint32_t turn = turn_of(ticket);
    for (unsigned times = 0;; ++times) {
      std::uint64_t seen = slot.state.load(std::memory_order_relaxed);
      if (distance(turn, turn_in(seen)) > 0) return false;
      if (turn_in(seen) == turn && state_in(seen) == kTaking) return false;  // repair() has it
      if (turn_in(seen) == turn && state_in(seen) == kValid) {
        if (take_locked(slot, seen, item, owner)) return true;
        continue;
      }
      waiting(times);
    }
  }
  bool take_locked(Slot& slot, std::uint64_t seen, T& item, std::uint32_t owner) {
    const std::uint32_t turn = turn_in(seen);
    // Pairs with the store in fill().
    if (!slot.state.compare_exchange_strong(seen, word(turn, kTaking, owner), Orders::kLockValid,
                                            std::memory_order_relaxed)) {
      return false;
    }
    item = slot.item;
    slot.state.store(word(turn + 1, kEmpty, 0), Orders::kMarkEmpty);
    return true;
  }

  // Takes the next ticket of `cursor` if its slot is in state `ready`, or passed by, and goes on.
  template <class Finish>
  bool try_next(std::atomic<std::uint64_t>& cursor, State ready, Finish&& finish) {
    for (;;) {
      will_write(&cursor);
      std::uint64_t ticket = cursor.load(std::memory_order_relaxed);
      const std::uint64_t seen = slots_[ticket % Capacity].state.load(std::memory_order_relaxed);
      const std::int32_t ahead = distance(turn_of(ticket), turn_in(seen));
      if (ahead < 0 || (ahead == 0 && state_in(seen) != ready)) {
        if (cursor.load(std::memory_order_relaxed) == ticket) return false;
        continue;
      }
      if (cursor.compare_exchange_strong(ticket, ticket + 1, Orders::kTicket,
                                         std::memory_order_relaxed) &&
          finish(ticket)) {
        return true;
      }
    }
  }

  alignas(64) std::atomic<std::uint64_t> tail_;
  alignas(64) std::atomic<std::uint64_t> head_;
  Slot slots_[Capacity];
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_RCQB_H_
