// SPDX-License-Identifier: Apache-2.0
#include "ipc/rcqs.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "ipc/queue_stress.h"

namespace libservices::ipc {
namespace {

// A queue in whose memory parties can die.
template <std::uint32_t Capacity>
struct Shared {
  std::unique_ptr<Rcqs<Capacity>> queue = std::make_unique<Rcqs<Capacity>>();

  std::atomic<std::uint64_t>& word(std::size_t index) {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(queue.get())[index];
  }
  void enqueuer_dies_between_the_stages() { word(0).fetch_add(1); }
  void dequeuer_dies_between_the_stages() { word(8).fetch_add(1); }
  std::vector<std::uint32_t> repair() {
    std::vector<std::uint32_t> items;
    queue->repair([&](std::uint32_t item) { items.push_back(item); });
    return items;
  }
};

TEST_CASE("zero-filled memory is an empty queue") {
  Shared<8> shared;
  CHECK(shared.queue->looks_empty());
  CHECK_FALSE(shared.queue->looks_full());
  CHECK_FALSE(shared.queue->has_next());
  CHECK(shared.queue->try_dequeue() == 0);
}

TEST_CASE("one enqueuer's items come out in order, over many turns") {
  Shared<8> shared;
  std::uint32_t next_in = 1;
  std::uint32_t next_out = 1;
  for (int round = 0; round < 1000; ++round) {
    for (int i = 0; i < 1 + round % 8; ++i) REQUIRE(shared.queue->try_enqueue(next_in++));
    CHECK(shared.queue->has_next());
    while (const std::uint32_t item = shared.queue->try_dequeue()) REQUIRE(item == next_out++);
    REQUIRE(next_in == next_out);
  }
}

TEST_CASE("a full queue refuses, loses nothing, and takes items again afterwards") {
  Shared<8> shared;
  for (int round = 0; round < 3; ++round) {
    for (std::uint32_t i = 1; i <= 8; ++i) REQUIRE(shared.queue->try_enqueue(i));
    CHECK(shared.queue->looks_full());
    for (int i = 0; i < 20; ++i) CHECK_FALSE(shared.queue->try_enqueue(99));
    for (std::uint32_t i = 1; i <= 8; ++i) CHECK(shared.queue->try_dequeue() == i);
    CHECK(shared.queue->try_dequeue() == 0);
  }
}

TEST_CASE("an enqueuer that dies between the stages holds nobody up") {
  Shared<8> shared;
  for (std::uint32_t round = 0; round < 100; ++round) {
    shared.enqueuer_dies_between_the_stages();
    REQUIRE(shared.queue->try_enqueue(2 * round + 1));
    shared.enqueuer_dies_between_the_stages();
    REQUIRE(shared.queue->try_enqueue(2 * round + 2));
    REQUIRE(shared.queue->try_dequeue() == 2 * round + 1);
    REQUIRE(shared.queue->try_dequeue() == 2 * round + 2);
    REQUIRE(shared.queue->try_dequeue() == 0);
  }
}

TEST_CASE("an item whose dequeuer died comes out by repair, once") {
  Shared<8> shared;
  REQUIRE(shared.queue->try_enqueue(5));
  REQUIRE(shared.queue->try_enqueue(6));
  shared.dequeuer_dies_between_the_stages();
  CHECK(shared.repair() == std::vector<std::uint32_t>{5});
  CHECK(shared.repair().empty());
  CHECK(shared.queue->try_dequeue() == 6);
  CHECK(shared.queue->try_dequeue() == 0);
}

TEST_CASE("an item whose dequeuer died comes out a turn later without repair") {
  Shared<8> shared;
  REQUIRE(shared.queue->try_enqueue(100));
  shared.dequeuer_dies_between_the_stages();
  std::uint32_t sum = 0;
  for (std::uint32_t i = 1; i <= 20; ++i) {
    REQUIRE(shared.queue->try_enqueue(i));
    while (const std::uint32_t item = shared.queue->try_dequeue()) sum += item;
  }
  CHECK(sum == 100 + 210);
}

TEST_CASE("a dequeuer that dies before its enqueuer has come keeps no item") {
  Shared<8> shared;
  for (std::uint32_t round = 1; round < 100; ++round) {
    shared.dequeuer_dies_between_the_stages();
    CHECK(shared.repair().empty());
    REQUIRE(shared.queue->try_enqueue(round));
    REQUIRE(shared.queue->try_dequeue() == round);
  }
}

void stress(unsigned producers, unsigned consumers, bool dying) {
  Shared<64> shared;  // small: full and in its next turn often
  pass_items(
      producers, consumers, [&](std::uint32_t item) { return shared.queue->try_enqueue(item); },
      [&] { return shared.queue->try_dequeue(); },
      [&](unsigned, std::uint32_t number) {
        if (dying && number % 64 == 0) shared.enqueuer_dies_between_the_stages();
      });
}

TEST_CASE("nothing is lost and nothing comes twice, for 1 to 8 producers and 1 to 8 consumers") {
  const Watchdog watchdog(300);
  for (const unsigned producers : {1U, 2U, 4U, 8U}) {
    for (const unsigned consumers : {1U, 2U, 4U, 8U}) {
      CAPTURE(producers);
      CAPTURE(consumers);
      stress(producers, consumers, false);
    }
  }
}

TEST_CASE("the same while enqueuers die between the stages again and again") {
  const Watchdog watchdog(300);
  for (const unsigned producers : {1U, 3U, 8U}) stress(producers, 3, true);
}

TEST_CASE("what the enqueuer wrote before is seen by who dequeues the item") {
  const Watchdog watchdog(60);
  Shared<64> shared;
  std::vector<std::uint64_t> plain(64);  // not atomic: ThreadSanitizer sees a missing order
  std::atomic<std::uint32_t> done{0};
  std::thread producer([&] {
    for (std::uint32_t i = 1; i <= kItems; ++i) {
      while (done.load() + 32 < i) std::this_thread::yield();
      plain[i % 64] = i;
      while (!shared.queue->try_enqueue(i)) std::this_thread::yield();
    }
  });
  // A dequeuer that overtakes its enqueuer ends the ticket, and the item comes with a later one.
  for (std::uint32_t i = 1; i <= kItems;) {
    const std::uint32_t item = shared.queue->try_dequeue();
    if (item == 0) {
      std::this_thread::yield();
      continue;
    }
    CHECK(item == i);
    CHECK(plain[i % 64] == i);
    done.store(i++);
  }
  producer.join();
}

TEST_CASE("a process that is killed holds nobody up, and what it had put in comes out") {
  const Watchdog watchdog(120);
  struct Memory {
    Rcqs<64> queue;
    std::atomic<std::uint32_t> posted;
    std::atomic<std::uint32_t> taken[2];  // by each of the processes
  };
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    TwoMappings<Memory> memory;
    Victim enqueuer([&] {
      Memory& mine = memory.there();
      for (std::uint32_t i = 1;; ++i) {
        while (!mine.queue.try_enqueue(1)) std::this_thread::yield();
        mine.posted.store(i);
      }
    });
    Victim dequeuer([&] {
      Memory& mine = memory.there();
      for (std::uint32_t taken = 0;;) {
        if (mine.queue.try_dequeue() != 0) {
          mine.taken[1].store(++taken);
        } else {
          std::this_thread::yield();
        }
      }
    });
    Memory& mine = memory.here();
    std::uint32_t taken = 0;
    while (taken < 500 + 37U * static_cast<unsigned>(round)) {
      if (mine.queue.try_dequeue() != 0) {
        ++taken;
      } else {
        std::this_thread::yield();
      }
    }
    dequeuer.kill();
    enqueuer.kill();
    mine.queue.repair([&](std::uint32_t) { ++taken; });
    while (mine.queue.try_dequeue() != 0) ++taken;
    const std::uint32_t all = taken + mine.taken[1].load();
    // The enqueuer may have died after its last item was in and before it said so, the dequeuer
    // with an item in hand.
    CHECK(all >= mine.posted.load() - 1);
    CHECK(all <= mine.posted.load() + 1);
    for (std::uint32_t i = 1; i <= 64; ++i) REQUIRE(mine.queue.try_enqueue(i));
    for (std::uint32_t i = 1; i <= 64; ++i) REQUIRE(mine.queue.try_dequeue() == i);
  }
}

}  // namespace
}  // namespace libservices::ipc
