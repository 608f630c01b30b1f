// SPDX-License-Identifier: Apache-2.0
#include "ipc/rcqb.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "ipc/queue_stress.h"

namespace libservices::ipc {
namespace {

// Two cache lines that tell when they are not one item's.
struct Request {
  std::array<std::uint64_t, 16> words;

  static Request of(std::uint64_t number) {
    Request request;
    request.words.fill(number);
    return request;
  }
  std::uint32_t number() const {
    return std::count(words.begin(), words.end(), words[0]) == 16
               ? static_cast<std::uint32_t>(words[0])
               : 0xffffffffU;
  }
};

constexpr std::uint32_t kMe = 1;
constexpr std::uint32_t kDead = 2;
constexpr auto kIsDead = [](std::uint32_t owner) { return owner == kDead; };

// Thrown by a waiting policy: the party goes no further, as if it had died while it waited.
struct Died {};
constexpr auto kDie = [](unsigned) { throw Died(); };

// A queue in whose memory parties can die.
template <std::uint32_t Capacity>
struct Shared {
  using Queue = Rcqb<Request, Capacity>;
  std::unique_ptr<Queue> queue = std::make_unique<Queue>();

  std::atomic<std::uint64_t>& tail() {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(queue.get());
  }
  std::atomic<std::uint64_t>& head() { return *(&tail() + 8); }
  std::atomic<std::uint64_t>& state(std::uint64_t ticket) {
    return *(&tail() + 16 + 24 * (ticket % Capacity));
  }
  void enqueuer_dies_between_the_stages() { tail().fetch_add(1); }
  void dequeuer_dies_between_the_stages() { head().fetch_add(1); }
  void enqueuer_dies_in_its_slot() {
    const std::uint64_t ticket = tail().fetch_add(1);
    state(ticket).store((ticket / Capacity) << 32 | 1U << 30 | kDead);
  }
  void dequeuer_dies_in_its_slot() {
    const std::uint64_t ticket = head().fetch_add(1);
    state(ticket).store((ticket / Capacity) << 32 | 3U << 30 | kDead);
  }

  bool put(std::uint32_t number) { return queue->try_enqueue(Request::of(number), kMe); }
  std::uint32_t get() {
    Request request;
    return queue->try_dequeue(request, kMe) ? request.number() : 0;
  }
  std::vector<std::uint32_t> repair(unsigned unsettled = 0) {
    std::vector<std::uint32_t> items;
    CHECK(queue->repair(queue->drawn(), kMe, kIsDead, [&](const Request& request) {
      items.push_back(request.number());
    }) == unsettled);
    return items;
  }
  void works() {
    for (std::uint32_t i = 1; i <= 5 * Capacity; ++i) {
      queue->enqueue(Request::of(i), kMe);
      REQUIRE(queue->dequeue(kMe).number() == i);
    }
    for (std::uint32_t i = 1; i <= Capacity; ++i) REQUIRE(put(i));
    REQUIRE_FALSE(put(99));
    for (std::uint32_t i = 1; i <= Capacity; ++i) REQUIRE(get() == i);
    REQUIRE(get() == 0);
  }
};

using Numbers = std::vector<std::uint32_t>;

TEST_CASE("zero-filled memory is an empty queue") {
  Shared<8> shared;
  CHECK(shared.queue->looks_empty());
  CHECK_FALSE(shared.queue->looks_full());
  CHECK(shared.get() == 0);
  shared.works();
}

TEST_CASE("one enqueuer's items come out in order, over many turns") {
  Shared<8> shared;
  std::uint32_t next_in = 1;
  std::uint32_t next_out = 1;
  for (int round = 0; round < 1000; ++round) {
    for (int i = 0; i < 1 + round % 8; ++i) REQUIRE(shared.put(next_in++));
    while (const std::uint32_t number = shared.get()) REQUIRE(number == next_out++);
    REQUIRE(next_in == next_out);
  }
}

TEST_CASE("a full queue refuses, and an enqueuer that waits goes on when there is room") {
  const Watchdog watchdog(60);
  Shared<2> shared;
  REQUIRE(shared.put(1));
  REQUIRE(shared.put(2));
  CHECK(shared.queue->looks_full());
  CHECK_FALSE(shared.put(3));
  std::atomic<bool> waits{false};
  std::thread enqueuer([&] {
    shared.queue->enqueue(Request::of(3), kMe, [&](unsigned) {
      waits = true;
      std::this_thread::yield();
    });
  });
  while (!waits.load()) std::this_thread::yield();
  CHECK(shared.get() == 1);
  enqueuer.join();
  CHECK(shared.get() == 2);
  CHECK(shared.get() == 3);
}

TEST_CASE("a dequeuer of an empty queue waits for the item of its slot") {
  const Watchdog watchdog(60);
  Shared<2> shared;
  std::atomic<bool> waits{false};
  std::thread dequeuer([&] {
    CHECK(shared.queue
              ->dequeue(kMe,
                        [&](unsigned) {
                          waits = true;
                          std::this_thread::yield();
                        })
              .number() == 7);
  });
  while (!waits.load()) std::this_thread::yield();
  REQUIRE(shared.put(7));
  dequeuer.join();
}

TEST_CASE("a party that dies between the stages holds nobody up after repair") {
  const Watchdog watchdog(60);
  Shared<4> shared;
  for (std::uint32_t round = 0; round < 50; ++round) {
    shared.enqueuer_dies_between_the_stages();
    REQUIRE(shared.put(1));
    CHECK(shared.get() == 0);  // behind the dead one's slot
    CHECK(shared.repair().empty());
    // The living one's slot was valid, so it is not retired.
    CHECK(shared.get() == 1);

    shared.dequeuer_dies_between_the_stages();
    CHECK(shared.repair().empty());
    REQUIRE(shared.put(2));
    CHECK(shared.get() == 2);

    REQUIRE(shared.put(3));
    REQUIRE(shared.put(4));
    shared.dequeuer_dies_between_the_stages();
    CHECK(shared.repair() == Numbers{3});
    CHECK(shared.get() == 4);
  }
  shared.works();
}

TEST_CASE("a party that dies while it holds a slot holds nobody up after repair") {
  const Watchdog watchdog(60);
  Shared<4> shared;
  for (std::uint32_t round = 0; round < 50; ++round) {
    shared.enqueuer_dies_in_its_slot();
    REQUIRE(shared.put(1));
    CHECK(shared.get() == 0);
    CHECK(shared.repair().empty());
    CHECK(shared.get() == 1);

    REQUIRE(shared.put(2));
    shared.dequeuer_dies_in_its_slot();
    CHECK(shared.repair() == Numbers{2});
    CHECK(shared.get() == 0);
  }
  shared.works();
}

TEST_CASE("parties that die while they wait, for room or for items, hold nobody up") {
  const Watchdog watchdog(60);
  Shared<2> shared;
  for (std::uint32_t round = 0; round < 50; ++round) {
    for (int dead = 0; dead < 3; ++dead) {
      CHECK_THROWS_AS(shared.queue->dequeue(kDead, kDie), Died);
    }
    CHECK(shared.repair().empty());
    shared.works();
    REQUIRE(shared.put(1));
    REQUIRE(shared.put(2));
    CHECK_THROWS_AS(shared.queue->enqueue(Request::of(9), kDead, kDie), Died);
    const auto drawn = shared.queue->drawn();
    const auto repair = [&] {
      return shared.queue->repair(drawn, kMe, kIsDead, [](const Request&) { FAIL("an item"); });
    };
    CHECK(repair() == 1);  // its slot still has an item of the turn before
    CHECK(shared.get() == 1);
    CHECK(shared.get() == 2);
    CHECK(repair() == 0);
    CHECK(repair() == 0);
    shared.works();
  }
}

TEST_CASE("who was only late draws again, and repair leaves the locks of the living alone") {
  Shared<4> shared;
  const std::uint64_t ticket = shared.tail().fetch_add(1);
  const std::uint64_t expected = shared.state(ticket).load();
  CHECK(shared.repair().empty());
  std::uint64_t seen = expected;
  CHECK_FALSE(shared.state(ticket).compare_exchange_strong(seen, expected | 1U << 30 | kMe));
  // A living enqueuer in its slot, and a dead dequeuer with the same ticket.
  const std::uint64_t locked = shared.tail().fetch_add(1);
  shared.state(locked).store((locked / 4) << 32 | 1U << 30 | kMe);
  shared.head().store(locked + 1);
  CHECK(shared.repair(1).empty());
  shared.state(locked).store((locked / 4) << 32 | 2U << 30);
  CHECK(shared.repair().size() == 1);
  shared.works();
}

TEST_CASE("nothing is lost and nothing comes twice, for 1 to 8 producers and 1 to 8 consumers") {
  const Watchdog watchdog(300);
  for (const unsigned producers : {1U, 2U, 4U, 8U}) {
    for (const unsigned consumers : {1U, 2U, 4U, 8U}) {
      CAPTURE(producers);
      CAPTURE(consumers);
      Shared<16> shared;
      pass_items(
          producers, consumers, [&](std::uint32_t item) { return shared.put(item); },
          [&] { return shared.get(); }, [](unsigned, std::uint32_t) {});
    }
  }
}

TEST_CASE("the same with parties that wait, while others repair for no reason") {
  const Watchdog watchdog(300);
  for (const unsigned parties : {1U, 3U, 8U}) {
    CAPTURE(parties);
    Shared<4> shared;
    std::vector<std::atomic<std::uint8_t>> seen(parties * kItems + 1);
    std::atomic<unsigned> running{2 * parties};
    std::atomic<std::uint32_t> taken{0};
    const auto take = [&](const Request& request) {
      const std::uint32_t number = request.number();
      if (number < seen.size()) seen[number].fetch_add(1);
      taken.fetch_add(1);
    };
    std::vector<std::thread> threads;
    for (unsigned p = 0; p < parties; ++p) {
      threads.emplace_back([&, p] {
        for (std::uint32_t i = 1; i <= kItems; ++i) {
          shared.queue->enqueue(Request::of(p * kItems + i), kMe);
        }
        running.fetch_sub(1);
      });
      threads.emplace_back([&] {
        while (taken.load() < parties * kItems) {
          Request request;
          if (shared.queue->try_dequeue(request, kMe)) {
            take(request);
          } else {
            std::this_thread::yield();
          }
        }
        running.fetch_sub(1);
      });
    }
    while (running.load() > 0) {
      shared.queue->repair(
          shared.queue->drawn(), kMe, [](std::uint32_t) { return false; }, take);
      ::usleep(100);
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(std::all_of(seen.begin() + 1, seen.end(), [](const auto& times) { return times == 1; }));
  }
}

TEST_CASE("processes that are killed at any point hold nobody up, and no item comes twice") {
  const Watchdog watchdog(120);
  struct Memory {
    Rcqb<Request, 8> queue;
    std::atomic<std::uint32_t> posted;
    std::atomic<std::uint32_t> taken;
  };
  constexpr std::uint32_t kDeadToo = 3;
  const auto is_dead = [](std::uint32_t owner) { return owner == kDead || owner == kDeadToo; };
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    TwoMappings<Memory> memory;
    Victim enqueuer([&] {
      Memory& mine = memory.there();
      for (std::uint32_t i = 1;; ++i) {
        mine.queue.enqueue(Request::of(i), kDead);
        mine.posted.store(i);
      }
    });
    Victim dequeuer([&] {
      Memory& mine = memory.there();
      for (std::uint32_t taken = 0;;) {
        (void)mine.queue.dequeue(kDeadToo);
        mine.taken.store(++taken);
      }
    });
    Memory& mine = memory.here();
    std::set<std::uint32_t> got;
    const auto take = [&](const Request& request) {
      CHECK(request.number() != 0xffffffffU);
      CHECK(got.insert(request.number()).second);
    };
    while (got.size() < 200 + 37U * static_cast<unsigned>(round)) {
      take(mine.queue.dequeue(kMe));
    }
    dequeuer.kill();
    enqueuer.kill();
    const auto drawn = mine.queue.drawn();
    unsigned unsettled = 0;
    do {
      unsettled = mine.queue.repair(drawn, kMe, is_dead, take);
      Request request;
      while (mine.queue.try_dequeue(request, kMe)) take(request);
    } while (unsettled > 0);
    const auto all = static_cast<std::uint32_t>(got.size()) + mine.taken.load();
    // Each may have died after its last item and before it said so.
    CHECK(all >= mine.posted.load() - 1);
    CHECK(all <= mine.posted.load() + 1);
    for (std::uint32_t i = 1; i <= 30; ++i) {
      mine.queue.enqueue(Request::of(i), kMe);
      REQUIRE(mine.queue.dequeue(kMe).number() == i);
    }
  }
}

}  // namespace
}  // namespace libservices::ipc
