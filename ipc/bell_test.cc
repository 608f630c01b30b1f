// SPDX-License-Identifier: Apache-2.0
#include "ipc/bell.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "ipc/queue_stress.h"

namespace libservices::ipc {
namespace {

TEST_CASE("a sleep that began before a ring ends with it, one that saw an older ring at once") {
  const Watchdog watchdog(60);
  auto bell = std::make_unique<Bell>();
  const std::uint32_t seen = bell->announce();
  bell->wake(1);
  bell->sleep(seen, nullptr);
  bell->withdraw();
  CHECK(bell->sleepers.load() == 0);
}

TEST_CASE("nobody is rung for while nobody sleeps") {
  auto bell = std::make_unique<Bell>();
  bell->wake(1);
  CHECK(bell->rings.load() == 0);
}

TEST_CASE("a sleep with a limit ends") {
  const Watchdog watchdog(60);
  auto bell = std::make_unique<Bell>();
  const timespec millisecond{.tv_sec = 0, .tv_nsec = 1000000};
  bell->sleep(bell->announce(), &millisecond);
  bell->withdraw();
}

TEST_CASE("no wake is lost between many sleepers and many wakers, in two processes") {
  const Watchdog watchdog(120);
  struct Memory {
    Bell bell;
    std::atomic<std::uint32_t> items;
  };
  TwoMappings<Memory> memory;
  constexpr std::uint32_t kEach = kItems / 4;
  constexpr unsigned kWakers = 3;
  // At an address of its own; with a process of its own the futex is the same.
  Victim other([&] {
    for (std::uint32_t i = 0; i < kEach; ++i) {
      memory.there().items.fetch_add(1);
      memory.there().bell.wake(1);
    }
  });
  std::vector<std::thread> threads;
  std::atomic<std::uint32_t> taken{0};
  const auto all = [&] { return taken.load() == (kWakers + 1) * kEach; };
  for (unsigned s = 0; s < 3; ++s) {
    threads.emplace_back([&] {
      Memory& mine = memory.here();
      while (!all()) {
        std::uint32_t items = mine.items.load();
        if (items != 0) {
          if (mine.items.compare_exchange_strong(items, items - 1)) taken.fetch_add(1);
          continue;
        }
        const std::uint32_t seen = mine.bell.announce();
        if (mine.items.load() == 0 && !all()) mine.bell.sleep(seen, nullptr);
        mine.bell.withdraw();
      }
      mine.bell.wake(3);
    });
  }
  for (unsigned w = 0; w < kWakers; ++w) {
    threads.emplace_back([&] {
      for (std::uint32_t i = 0; i < kEach; ++i) {
        memory.here().items.fetch_add(1);
        memory.here().bell.wake(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(all());
  CHECK(memory.here().bell.sleepers.load() == 0);
}

}  // namespace
}  // namespace libservices::ipc
