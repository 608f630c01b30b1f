// SPDX-License-Identifier: Apache-2.0
//
// One weakened memory order, named by the argument, in one of the queues or the bell, run with
// ThreadSanitizer: the test that runs this program passes only if a race is reported. With none
// weakened there must be no report.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "ipc/bell.h"
#include "ipc/doorbell_queue.h"
#include "ipc/rcqb.h"
#include "ipc/rcqs.h"

namespace libservices::ipc {
namespace {

constexpr std::uint32_t kItems = 20000;
constexpr std::uint32_t kRoom = 4;

struct WeakFill : DoorbellOrders {
  static constexpr std::memory_order kFill = std::memory_order_relaxed;
};
struct WeakTake : DoorbellOrders {
  static constexpr std::memory_order kTake = std::memory_order_relaxed;
};
struct WeakRcqsFill : RcqsOrders {
  static constexpr std::memory_order kFill = std::memory_order_relaxed;
};
struct WeakRcqsTake : RcqsOrders {
  static constexpr std::memory_order kTake = std::memory_order_relaxed;
};
struct WeakLockEmpty : RcqbOrders {
  static constexpr std::memory_order kLockEmpty = std::memory_order_relaxed;
};
struct WeakMarkValid : RcqbOrders {
  static constexpr std::memory_order kMarkValid = std::memory_order_relaxed;
};
struct WeakLockValid : RcqbOrders {
  static constexpr std::memory_order kLockValid = std::memory_order_relaxed;
};
struct WeakMarkEmpty : RcqbOrders {
  static constexpr std::memory_order kMarkEmpty = std::memory_order_relaxed;
};
struct WeakRing : BellOrders {
  static constexpr std::memory_order kRing = std::memory_order_relaxed;
};
struct WeakSeen : BellOrders {
  static constexpr std::memory_order kSeen = std::memory_order_relaxed;
};

// Items stand for plain memory that their enqueuer wrote and their dequeuer reads; each word is
// written once. Several dequeuers race for few items, since one that finds that there is something
// before it draws its ticket has acquired the enqueuer's step on the cursor.
template <class Queue>
void words() {
  auto queue = std::make_unique<Queue>();
  auto plain = std::make_unique<std::uint32_t[]>(kItems + 1);
  std::atomic<std::uint32_t> taken{0};
  std::atomic<std::uint32_t> wrong{0};
  std::vector<std::thread> dequeuers;
  for (int d = 0; d < 3; ++d) {
    dequeuers.emplace_back([&, d] {
      while (taken.load(std::memory_order_relaxed) < kItems) {
        const std::uint32_t item = queue->try_dequeue();
        if (item == 0) {
          if (d > 0) std::this_thread::yield();
          continue;
        }
        if (plain[item] != item) wrong.fetch_add(1, std::memory_order_relaxed);
        taken.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::uint32_t i = 1; i <= kItems; ++i) {
    plain[i] = i;
    while (!queue->try_enqueue(i)) std::this_thread::yield();
    while (i % 4 == 0 && taken.load(std::memory_order_relaxed) + 2 < i) std::this_thread::yield();
  }
  for (std::thread& dequeuer : dequeuers) dequeuer.join();
  if (wrong.load() != 0) std::puts("an item came before its contents");
}

// The items themselves are plain memory. The cursors' steps, which are seq_cst, order nothing for a
// slot: its two parties step on different ones.
template <class Orders>
void slots() {
  auto queue = std::make_unique<Rcqb<std::uint64_t, kRoom, Orders>>();
  std::thread enqueuer([&] {
    for (std::uint64_t i = 1; i <= kItems; ++i) queue->enqueue(i, 1);
  });
  std::uint64_t sum = 0;
  for (std::uint32_t i = 1; i <= kItems; ++i) sum += queue->dequeue(2);
  enqueuer.join();
  if (sum != std::uint64_t{kItems} * (kItems + 1) / 2) std::puts("items were lost");
}

// Who has seen a ring sees what it was for.
template <class Orders>
void rings() {
  auto bell = std::make_unique<BasicBell<Orders>>();
  std::uint32_t plain = 0;
  std::thread waker([&] {
    plain = 1;
    bell->ring(1);
  });
  while (bell->announce() == 0) {
    bell->withdraw();
    std::this_thread::yield();
  }
  if (plain != 1) std::puts("a ring came before what it was for");
  waker.join();
}

int run(std::string_view name) {
  if (name == "none") {
    words<DoorbellQueue<kRoom>>();
    words<Rcqs<kRoom>>();
    slots<RcqbOrders>();
    rings<BellOrders>();
  } else if (name == "doorbell_queue.kFill") {
    words<DoorbellQueue<kRoom, WeakFill>>();
  } else if (name == "doorbell_queue.kTake") {
    words<DoorbellQueue<kRoom, WeakTake>>();
  } else if (name == "rcqs.kFill") {
    words<Rcqs<kRoom, WeakRcqsFill>>();
  } else if (name == "rcqs.kTake") {
    words<Rcqs<kRoom, WeakRcqsTake>>();
  } else if (name == "rcqb.kLockEmpty") {
    slots<WeakLockEmpty>();
  } else if (name == "rcqb.kMarkValid") {
    slots<WeakMarkValid>();
  } else if (name == "rcqb.kLockValid") {
    slots<WeakLockValid>();
  } else if (name == "rcqb.kMarkEmpty") {
    slots<WeakMarkEmpty>();
  } else if (name == "bell.kRing") {
    rings<WeakRing>();
  } else if (name == "bell.kSeen") {
    rings<WeakSeen>();
  } else {
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace libservices::ipc

int main(int count, char** words) { return count == 2 ? libservices::ipc::run(words[1]) : 2; }
