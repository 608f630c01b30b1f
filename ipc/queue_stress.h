// SPDX-License-Identifier: Apache-2.0
//
// What the tests of all queues do alike: many producers and consumers at once, and two processes.
#ifndef LIBSERVICES_IPC_QUEUE_STRESS_H_
#define LIBSERVICES_IPC_QUEUE_STRESS_H_

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace libservices::ipc {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint32_t kItems = 2000;
#else
constexpr std::uint32_t kItems = 20000;
#endif

struct Watchdog {
  explicit Watchdog(unsigned seconds) { ::alarm(seconds); }
  ~Watchdog() { ::alarm(0); }
};

// Each of `producers` threads puts kItems items in, while `consumers` threads take them all out.
// `enqueue(item)` returns whether it did, `dequeue()` an item or 0; after each item of producer p
// comes `after(p, number)`. An item is the producer in the upper byte, counted from 1, and a number
// from 1.
template <class Enqueue, class Dequeue, class After>
void pass_items(unsigned producers, unsigned consumers, Enqueue enqueue, Dequeue dequeue,
                After after) {
  std::vector<std::unique_ptr<std::atomic<std::uint8_t>[]>> seen;
  for (unsigned p = 0; p < producers; ++p) {
    seen.push_back(std::make_unique<std::atomic<std::uint8_t>[]>(kItems + 1));
  }
  std::atomic<std::uint64_t> taken{0};
  std::atomic<bool> twice{false};
  std::atomic<bool> foreign{false};
  std::vector<std::thread> threads;
  for (unsigned p = 0; p < producers; ++p) {
    threads.emplace_back([&, p] {
      for (std::uint32_t i = 1; i <= kItems; ++i) {
        while (!enqueue((p + 1) << 24 | i)) std::this_thread::yield();
        after(p, i);
      }
    });
  }
  for (unsigned c = 0; c < consumers; ++c) {
    threads.emplace_back([&] {
      while (taken.load() < std::uint64_t{producers} * kItems) {
        const std::uint32_t item = dequeue();
        if (item == 0) {
          std::this_thread::yield();
          continue;
        }
        const std::uint32_t producer = (item >> 24) - 1;
        const std::uint32_t number = item & 0xffffffU;
        if (producer >= producers || number > kItems) {
          foreign = true;
          continue;
        }
        if (seen[producer][number].fetch_add(1) != 0) twice = true;
        taken.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(twice.load());
  CHECK_FALSE(foreign.load());
  CHECK(taken.load() == std::uint64_t{producers} * kItems);
  std::uint32_t rest = 0;
  for (int looks = 0; looks < 100; ++looks) rest |= dequeue();
  CHECK(rest == 0);
}

// A T in zero-filled shared memory, mapped at two addresses; the second is for other processes.
template <class T>
class TwoMappings {
 public:
  TwoMappings() {
    const int memory = ::memfd_create("queue", MFD_CLOEXEC);
    REQUIRE(memory >= 0);
    REQUIRE(::ftruncate(memory, sizeof(T)) == 0);
    here_ = map(memory);
    there_ = map(memory);
    ::close(memory);
    REQUIRE(here_ != there_);
  }
  TwoMappings(const TwoMappings&) = delete;
  TwoMappings& operator=(const TwoMappings&) = delete;
  ~TwoMappings() {
    ::munmap(here_, sizeof(T));
    ::munmap(there_, sizeof(T));
  }
  T& here() { return *here_; }
  T& there() { return *there_; }

 private:
  static T* map(int memory) {
    void* at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    REQUIRE(at != MAP_FAILED);
    return static_cast<T*>(at);
  }
  T* here_;
  T* there_;
};

// A process that runs `work` until it is killed.
class Victim {
 public:
  template <class Work>
  explicit Victim(Work work) : process_(::fork()) {
    REQUIRE(process_ >= 0);
    if (process_ == 0) {
      ::alarm(60);
      work();
      ::_exit(0);
    }
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() { kill(); }
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }

 private:
  pid_t process_;
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_QUEUE_STRESS_H_
