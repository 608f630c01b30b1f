// SPDX-License-Identifier: Apache-2.0
#include "ipc/doorbell_queue.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "ipc/queue_stress.h"

namespace libservices::ipc {
namespace {

// A queue whose memory can be looked at and written as another process could do it.
template <std::uint32_t Capacity>
struct Shared {
  std::unique_ptr<DoorbellQueue<Capacity>> queue = std::make_unique<DoorbellQueue<Capacity>>();

  std::atomic<std::uint64_t>& word(std::size_t index) {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(queue.get())[index];
  }
  std::atomic<std::uint64_t>& tail() { return word(0); }
  std::atomic<std::uint64_t>& head_seen() { return word(1); }
  std::atomic<std::uint64_t>& head() { return word(8); }
  std::atomic<std::uint64_t>& slot(std::uint64_t ticket) { return word(16 + ticket % Capacity); }
  // What remains of an enqueuer that died after stage one.
  std::uint64_t die_between_the_stages() { return tail().fetch_add(1); }
};

TEST_CASE("zero-filled memory is an empty queue") {
  Shared<8> shared;
  CHECK(shared.queue->looks_empty());
  CHECK_FALSE(shared.queue->has_next());
  CHECK(shared.queue->try_dequeue() == 0);
}

TEST_CASE("one enqueuer's doorbells come out in order, over many turns") {
  Shared<8> shared;
  std::uint32_t next_in = 1;
  std::uint32_t next_out = 1;
  for (int round = 0; round < 1000; ++round) {
    for (int i = 0; i < 1 + round % 8; ++i) REQUIRE(shared.queue->try_enqueue(next_in++));
    CHECK(shared.queue->has_next());
    while (const std::uint32_t doorbell = shared.queue->try_dequeue()) {
      REQUIRE(doorbell == next_out++);
    }
    REQUIRE(next_in == next_out);
    REQUIRE(shared.queue->looks_empty());
  }
}

TEST_CASE("a full queue refuses, loses nothing, and takes doorbells again afterwards") {
  Shared<8> shared;
  for (std::uint32_t i = 1; i <= 8; ++i) REQUIRE(shared.queue->try_enqueue(i));
  for (int i = 0; i < 20; ++i) CHECK_FALSE(shared.queue->try_enqueue(99));
  for (std::uint32_t i = 1; i <= 8; ++i) CHECK(shared.queue->try_dequeue() == i);
  CHECK(shared.queue->try_dequeue() == 0);
  CHECK(shared.queue->looks_empty());
  for (std::uint32_t i = 1; i <= 8; ++i) REQUIRE(shared.queue->try_enqueue(i));
  for (std::uint32_t i = 1; i <= 8; ++i) CHECK(shared.queue->try_dequeue() == i);
}

TEST_CASE("an enqueuer that dies between the stages holds nobody up") {
  Shared<8> shared;
  for (std::uint32_t round = 0; round < 100; ++round) {
    shared.die_between_the_stages();
    REQUIRE(shared.queue->try_enqueue(2 * round + 1));
    shared.die_between_the_stages();
    shared.die_between_the_stages();
    REQUIRE(shared.queue->try_enqueue(2 * round + 2));
    REQUIRE(shared.queue->try_dequeue() == 2 * round + 1);
    REQUIRE(shared.queue->try_dequeue() == 2 * round + 2);
    REQUIRE(shared.queue->try_dequeue() == 0);
  }
}

TEST_CASE("more dead enqueuers than slots hold nobody up") {
  Shared<8> shared;
  for (int i = 0; i < 50; ++i) shared.die_between_the_stages();
  for (int tries = 0; tries < 100 && !shared.queue->try_enqueue(7); ++tries) {
    CHECK(shared.queue->try_dequeue() == 0);
  }
  std::uint32_t doorbell = 0;
  for (int tries = 0; tries < 100 && doorbell == 0; ++tries) doorbell = shared.queue->try_dequeue();
  CHECK(doorbell == 7);
}

TEST_CASE("an enqueuer whose slot was retired cannot fill it any more") {
  Shared<8> shared;
  const std::uint64_t ticket = shared.die_between_the_stages();
  REQUIRE(shared.queue->try_enqueue(5));
  REQUIRE(shared.queue->try_dequeue() == 5);
  // The late enqueuer's second stage.
  std::uint64_t expected = (ticket / 8) << 32;
  CHECK_FALSE(shared.slot(ticket).compare_exchange_strong(expected, (1 + ticket / 8) << 32 | 9));
}

void stress(unsigned producers, unsigned consumers, unsigned dying) {
  Shared<64> shared;  // small: full and in its next turn often
  pass_items(
      producers, consumers, [&](std::uint32_t item) { return shared.queue->try_enqueue(item); },
      [&] { return shared.queue->try_dequeue(); },
      [&](unsigned producer, std::uint32_t number) {
        if (producer < dying && number % 64 == 0) shared.die_between_the_stages();
      });
}

TEST_CASE("nothing is lost and nothing comes twice, for 1 to 8 producers and 1 to 8 consumers") {
  const Watchdog watchdog(300);
  for (const unsigned producers : {1U, 2U, 4U, 8U}) {
    for (const unsigned consumers : {1U, 2U, 4U, 8U}) {
      CAPTURE(producers);
      CAPTURE(consumers);
      stress(producers, consumers, 0);
    }
  }
}

TEST_CASE("the same while enqueuers die between the stages again and again") {
  const Watchdog watchdog(300);
  for (const unsigned producers : {1U, 3U, 8U}) {
    for (const unsigned consumers : {1U, 2U, 8U}) {
      CAPTURE(producers);
      CAPTURE(consumers);
      stress(producers, consumers, producers);
    }
  }
}

TEST_CASE("what the enqueuer wrote before is seen by who dequeues the doorbell") {
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
  for (std::uint32_t i = 1; i <= kItems;) {
    const std::uint32_t doorbell = shared.queue->try_dequeue();
    if (doorbell == 0) {
      std::this_thread::yield();
      continue;
    }
    CHECK(doorbell == i);
    CHECK(plain[i % 64] == i);
    done.store(i++);
  }
  producer.join();
}

TEST_CASE("a process that is killed holds nobody up, and what it had posted comes out") {
  const Watchdog watchdog(120);
  struct Memory {
    DoorbellQueue<64> queue;
    std::atomic<std::uint32_t> posted;
  };
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    TwoMappings<Memory> memory;
    Victim victim([&] {
      Memory& mine = memory.there();
      for (std::uint32_t i = 1;; ++i) {
        while (!mine.queue.try_enqueue(i)) std::this_thread::yield();
        mine.posted.store(i);
      }
    });
    DoorbellQueue<64>& queue = memory.here().queue;
    std::uint32_t last = 0;
    const auto take = [&] {
      const std::uint32_t doorbell = queue.try_dequeue();
      if (doorbell != 0) CHECK(doorbell == ++last);
      return doorbell != 0;
    };
    while (last < 1000 + 37U * static_cast<unsigned>(round)) {
      if (!take()) std::this_thread::yield();
    }
    victim.kill();
    while (take()) {
    }
    const std::uint32_t posted = memory.here().posted.load();
    CHECK(last >= posted);
    CHECK(last <= posted + 1);
    CHECK(queue.looks_empty());
    for (std::uint32_t i = 1; i <= 64; ++i) REQUIRE(queue.try_enqueue(i));
    for (std::uint32_t i = 1; i <= 64; ++i) REQUIRE(queue.try_dequeue() == i);
  }
}

TEST_CASE("every look at a scribbled queue ends, whatever stands there") {
  const Watchdog watchdog(120);
  std::mt19937_64 random(20240611);
  Shared<64> shared;
  for (int round = 0; round < 2000; ++round) {
    switch (random() % 5) {
      case 0:
        shared.tail().store(random());
        break;
      case 1:
        shared.head().store(random());
        break;
      case 2:
        shared.tail().store(shared.head().load() + random() % 1000);
        break;
      default:
        shared.slot(random()).store(random());
        break;
    }
    (void)shared.queue->try_dequeue();
    (void)shared.queue->has_next();
    (void)shared.queue->looks_empty();
  }
}

TEST_CASE("a scribbled queue comes to rest when the scribbling ends, and works again") {
  const Watchdog watchdog(120);
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    Shared<64> shared;
    for (std::uint32_t i = 1; i < random() % 200; ++i) {
      REQUIRE(shared.queue->try_enqueue(i));
      REQUIRE(shared.queue->try_dequeue() == i);
    }
    for (unsigned i = 0; i < 1 + random() % 20; ++i) {
      switch (random() % 5) {
        case 0:
          shared.tail().store(random() >> random() % 64);
          break;
        case 2:
          shared.head_seen().store(random() >> random() % 64);
          break;
        case 1:
          shared.head().store(random() >> random() % 64);
          break;
        default:
          shared.slot(random()).store(random());
          break;
      }
    }
    int calls = 0;
    while ((!shared.queue->looks_empty() || shared.queue->has_next()) && calls < 1000) {
      (void)shared.queue->try_dequeue();
      ++calls;
    }
    REQUIRE(calls < 1000);
    // Slots that the cursors have not met yet may still be wrong: three turns meet all of them.
    for (std::uint32_t i = 0; i < 3 * 64; ++i) {
      (void)shared.queue->try_enqueue(1000 + i);
      while (!shared.queue->looks_empty() && calls < 10000) {
        (void)shared.queue->try_dequeue();
        ++calls;
      }
    }
    for (std::uint32_t i = 1; i <= 200; ++i) {
      REQUIRE(shared.queue->try_enqueue(i));
      REQUIRE(shared.queue->try_dequeue() == i);
      REQUIRE(shared.queue->looks_empty());
    }
  }
}

}  // namespace
}  // namespace libservices::ipc
