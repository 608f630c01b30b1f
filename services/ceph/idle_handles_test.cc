// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/idle_handles.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace libservices::ceph_internal {
namespace {

using Idle = IdleHandles<int, int>;

TEST_CASE("a handle is for the next one of its owner, once") {
  Idle idle;
  int one = 1, two = 2;
  CHECK(idle.empty());
  CHECK(idle.take(7, 1) == nullptr);
  CHECK(idle.keep(7, 1, &one));
  CHECK_FALSE(idle.keep(7, 1, &two));  // one of each file
  CHECK(idle.take(7, 2) == nullptr);
  CHECK(idle.take(8, 1) == nullptr);
  CHECK(idle.take(7, 1) == &one);
  CHECK(idle.take(7, 1) == nullptr);
  CHECK(idle.empty());
}

TEST_CASE("one that nobody wants ends with the round behind its own") {
  Idle idle;
  int one = 1, two = 2;
  CHECK(idle.keep(1, 5, &one));
  CHECK(idle.end(Idle::Which::kOld).empty());
  CHECK(idle.keep(2, 5, &two));
  CHECK(idle.end(Idle::Which::kOld) == std::vector<std::pair<int, int*>>{{5, &one}});
  CHECK_FALSE(idle.empty());
  CHECK(idle.end(Idle::Which::kAll) == std::vector<std::pair<int, int*>>{{5, &two}});
  CHECK(idle.empty());
}

TEST_CASE("there are never more than so many") {
  Idle idle;
  int handle = 0;
  std::size_t kept = 0;
  for (std::uint64_t file = 0; file < 3 * Idle::kMost; ++file) {
    kept += idle.keep(file, 1, &handle) ? 1U : 0U;
  }
  CHECK(kept == Idle::kMost);
  CHECK(idle.end(Idle::Which::kAll).size() == kept);
}

TEST_CASE("from many threads each handle is with one of them, or ends") {
  constexpr int kThreads = 4;
  constexpr int kTurns = 20000;
  Idle idle;
  std::vector<std::atomic<int>> users(64);
  std::vector<int> handles(users.size());
  std::atomic<int> shared{0};
  const auto use = [&](int* handle, int change) {
    const auto which = static_cast<std::size_t>(handle - handles.data());
    if (users[which].fetch_add(change) + change > 1) ++shared;
  };
  for (std::size_t i = 0; i < handles.size(); ++i)
    REQUIRE(idle.keep(i % 8, 0, &handles[i]) == (i < 8));
  std::atomic<bool> stop{false};
  std::thread ending([&] {
    while (!stop) {
      for (auto& [owner, handle] : idle.end(Idle::Which::kOld)) {
        use(handle, 1);
        use(handle, -1);
        (void)idle.keep(static_cast<std::uint64_t>(handle - handles.data()), 0, handle);
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTurns; ++i) {
        const auto file = static_cast<std::uint64_t>(i) % 8;
        int* const handle = idle.take(file, 0);
        if (handle == nullptr) continue;
        use(handle, 1);
        use(handle, -1);
        (void)idle.keep(file, 0, handle);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop = true;
  ending.join();
  CHECK(shared == 0);
}

}  // namespace
}  // namespace libservices::ceph_internal
