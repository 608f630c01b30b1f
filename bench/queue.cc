// SPDX-License-Identifier: Apache-2.0
//
// What a request queue is worth: DoorbellQueue, beside our Rcqb and Rcqs and the queues that Debian
// packages, from 1+1 to 32+32 threads (enqueuers + dequeuers) on the machine's processors.
//
//   closed, park   an enqueuer waits until a dequeuer has completed its item; who waits looks for a
//                  short time, yields a few times and then sleeps on a futex; who has put something
//                  in wakes one dequeuer if any sleeps (ipc/bell.h)
//   closed, yield  the same, but who waits looks for a short time and then yields the processor
//   open           enqueuers wait for room alone, dequeuers for items; yield
//
// All queues run behind the same loops, with items of one word and room for 1,024 where they are
// bounded. Rows are times, so that a ratio above 1 says that ours is faster: nanoseconds for each
// completed task, over all threads; average and 99th percentile of the time in enqueue, a sample in
// 16, without the wake.
//
//   queue [--quick] [--only NAME]...     --quick (or LIBSERVICES_BENCH_QUICK=1): few and short
//   rounds
#include <atomic_queue/atomic_queue.h>
#include <concurrentqueue/concurrentqueue.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <oneapi/tbb/concurrent_queue.h>
#include <rte_ring.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>
#include <xenium/kirsch_bounded_kfifo_queue.hpp>
#include <xenium/ramalhete_queue.hpp>
#include <xenium/reclamation/generic_epoch_based.hpp>
#include <xenium/vyukov_bounded_queue.hpp>

#include "ipc/bell.h"
#include "ipc/cpu_relax.h"
#include "ipc/doorbell_queue.h"
#include "ipc/rcqb.h"
#include "ipc/rcqs.h"

namespace libservices::ipc {
namespace {

constexpr std::uint32_t kRoom = 1024;
// What a waiting thread does before it sleeps: looks, some µs, and then yields, some more where it
// has the processor for itself. Without the yields a pair of threads that wakes each other in turn
// sleeps ever after, since a wake across processors takes longer than the looks.
constexpr int kLooks = 64;
constexpr int kYields = 16;
constexpr unsigned kSampleEvery = 16;

// ---- the queues: put(item), false when full; get(), 0 when empty; filled(), a hint before get().
// kLastStepLocked: putting ends with an atomic read-modify-write, or makes itself known by one that
// the sleeper's look sees (bell.h). Behind the others the loop puts a fence before it looks for
// sleepers.

struct OurDoorbells {
  static constexpr const char* kName = "DoorbellQueue";
  static constexpr bool kLastStepLocked = true;
  DoorbellQueue<kRoom> queue{};
  bool put(std::uint32_t item) { return queue.try_enqueue(item); }
  std::uint32_t get() { return queue.try_dequeue(); }
  bool filled() { return queue.has_next(); }
};
struct OurRcqs {
  static constexpr const char* kName = "RCQS";
  static constexpr bool kLastStepLocked = true;
  Rcqs<kRoom> queue{};
  bool put(std::uint32_t item) { return queue.try_enqueue(item); }
  std::uint32_t get() { return queue.try_dequeue(); }
  bool filled() { return queue.has_next(); }
};
struct OurRcqb {
  static constexpr const char* kName = "RCQB";
  static constexpr bool kLastStepLocked = false;
  Rcqb<std::uint32_t, kRoom> queue{};
  bool put(std::uint32_t item) { return queue.try_enqueue(item, 1); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.try_dequeue(item, 1) ? item : 0;
  }
  bool filled() { return true; }
};
struct AtomicQueue {
  static constexpr const char* kName = "atomic_queue";
  static constexpr bool kLastStepLocked = true;
  atomic_queue::AtomicQueue<std::uint32_t, kRoom> queue;
  bool put(std::uint32_t item) { return queue.try_push(item); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.try_pop(item) ? item : 0;
  }
  bool filled() { return true; }
};
struct Moodycamel {
  static constexpr const char* kName = "moodycamel";
  static constexpr bool kLastStepLocked = false;
  moodycamel::ConcurrentQueue<std::uint32_t> queue{kRoom};
  bool put(std::uint32_t item) { return queue.enqueue(item); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.try_dequeue(item) ? item : 0;
  }
  bool filled() { return true; }
};
struct BoostLockfree {
  static constexpr const char* kName = "Boost.Lockfree";
  static constexpr bool kLastStepLocked = true;
  boost::lockfree::queue<std::uint32_t, boost::lockfree::capacity<kRoom>> queue;
  bool put(std::uint32_t item) { return queue.bounded_push(item); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.pop(item) ? item : 0;
  }
  bool filled() { return true; }
};
struct OneTbb {
  static constexpr const char* kName = "oneTBB";
  static constexpr bool kLastStepLocked = false;
  tbb::concurrent_bounded_queue<std::uint32_t> queue;
  OneTbb() { queue.set_capacity(kRoom); }
  bool put(std::uint32_t item) { return queue.try_push(item); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.try_pop(item) ? item : 0;
  }
  bool filled() { return true; }
};
struct XeniumVyukov {
  static constexpr const char* kName = "xenium Vyukov";
  static constexpr bool kLastStepLocked = false;
  xenium::vyukov_bounded_queue<std::uint32_t> queue{kRoom};
  bool put(std::uint32_t item) { return queue.try_push(item); }
  std::uint32_t get() {
    std::uint32_t item = 0;
    return queue.try_pop(item) ? item : 0;
  }
  bool filled() { return true; }
};

// These take pointers and keep marks in their low bits.
using Pointer = std::byte*;
Pointer pointer_of(std::uint32_t item) {
  return reinterpret_cast<Pointer>(std::uintptr_t{item} << 6U);
}
std::uint32_t item_of(Pointer pointer) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(pointer) >> 6U);
}
struct XeniumRamalhete {
  static constexpr const char* kName = "xenium Ramalhete";
  static constexpr bool kLastStepLocked = true;
  xenium::ramalhete_queue<Pointer,
                          xenium::policy::reclaimer<xenium::reclamation::generic_epoch_based<>>>
      queue;
  bool put(std::uint32_t item) {
    queue.push(pointer_of(item));
    return true;
  }
  std::uint32_t get() {
    Pointer item = nullptr;
    return queue.try_pop(item) ? item_of(item) : 0;
  }
  bool filled() { return true; }
};
struct XeniumKFifo {
  static constexpr const char* kName = "xenium k-FIFO";
  static constexpr bool kLastStepLocked = true;
  xenium::kirsch_bounded_kfifo_queue<Pointer> queue{4, kRoom / 4};
  bool put(std::uint32_t item) { return queue.try_push(pointer_of(item)); }
  std::uint32_t get() {
    Pointer item = nullptr;
    return queue.try_pop(item) ? item_of(item) : 0;
  }
  bool filled() { return true; }
};
template <unsigned kFlags>
struct DpdkRing {
  static constexpr const char* kName = kFlags == 0                    ? "DPDK ring"
                                       : (kFlags & RING_F_MP_RTS_ENQ) ? "DPDK RTS"
                                                                      : "DPDK HTS";
  static constexpr bool kLastStepLocked = false;
  std::unique_ptr<void, decltype(&std::free)> memory{
      std::aligned_alloc(4096, 4 * sizeof(rte_ring) + 4096 + 2 * kRoom * sizeof(void*)), std::free};
  rte_ring* queue = static_cast<rte_ring*>(memory.get());
  DpdkRing() {
    std::memset(memory.get(), 0, sizeof(rte_ring));
    if (rte_ring_init(queue, "ring", kRoom, kFlags) != 0) std::abort();
  }
  bool put(std::uint32_t item) { return rte_ring_enqueue(queue, pointer_of(item)) == 0; }
  std::uint32_t get() {
    void* item = nullptr;
    return rte_ring_dequeue(queue, &item) == 0 ? item_of(static_cast<Pointer>(item)) : 0;
  }
  bool filled() { return true; }
};

// ---- the loops

enum class Waiting { kPark, kYield };
enum class System { kClosed, kOpen };

std::uint64_t ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  std::uint64_t now;
  asm volatile("mrs %0, cntvct_el0" : "=r"(now));
  return now;
#endif
}

// The processors in turn: the scheduler would leave two that wait for each other on one for long.
void run_on_processor(unsigned number) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  unsigned left = number % static_cast<unsigned>(CPU_COUNT(&allowed));
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || left-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ::sched_setaffinity(0, sizeof(one), &one);
    return;
  }
}

// What an enqueuer waits for in a closed system.
struct alignas(128) Task {
  enum : std::uint32_t { kPosted, kAwaited, kDone };
  std::atomic<std::uint32_t> state{kDone};

  void complete() {
    if (state.exchange(kDone) == kAwaited) ::syscall(SYS_futex, &state, FUTEX_WAKE_PRIVATE, 1);
  }
  template <Waiting kWaiting>
  void await() {
    for (int looks = 0; state.load() != kDone; ++looks) {
      if (looks < kLooks) {
        cpu_relax();
      } else if (kWaiting == Waiting::kYield || looks < kLooks + kYields) {
        ::sched_yield();
      } else {
        std::uint32_t posted = kPosted;
        state.compare_exchange_strong(posted, kAwaited);
        ::syscall(SYS_futex, &state, FUTEX_WAIT_PRIVATE, kAwaited, nullptr);
      }
    }
  }
};

struct Figures {
  double nanoseconds_each = 0;
  double enqueue_average = 0;
  double enqueue_p99 = 0;
};

template <class Queue, System kSystem, Waiting kWaiting>
class Run {
 public:
  Figures operator()(unsigned pairs, std::chrono::milliseconds length) {
    tasks_ = std::vector<Task>(pairs);
    std::vector<std::uint64_t> done(pairs);
    std::vector<std::vector<std::uint32_t>> samples(pairs);
    std::vector<std::thread> enqueuers;
    std::vector<std::thread> dequeuers;
    for (unsigned p = 0; p < pairs; ++p) {
      dequeuers.emplace_back([&, p] {
        run_on_processor(p + 1);
        done[p] = dequeue();
      });
      enqueuers.emplace_back([&, p] {
        run_on_processor(p);
        enqueue(p, samples[p]);
      });
    }
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t start_ticks = ticks();
    go_.store(true);
    std::this_thread::sleep_for(length);
    stop_.store(true);
    const auto taken = std::chrono::steady_clock::now() - start;
    const double tick = std::chrono::duration<double, std::nano>(taken).count() /
                        static_cast<double>(ticks() - start_ticks);
    for (std::thread& thread : enqueuers) thread.join();
    over_.store(true);
    work_.ring(static_cast<int>(pairs));
    for (std::thread& thread : dequeuers) thread.join();

    std::uint64_t items = 0;
    for (const std::uint64_t some : done) items += some;
    std::vector<std::uint32_t> all;
    for (const auto& some : samples) all.insert(all.end(), some.begin(), some.end());
    Figures figures;
    figures.nanoseconds_each = std::chrono::duration<double, std::nano>(taken).count() /
                               static_cast<double>(std::max<std::uint64_t>(items, 1));
    if (!all.empty()) {
      double sum = 0;
      for (const std::uint32_t sample : all) sum += sample;
      const auto p99 = all.begin() + static_cast<std::ptrdiff_t>(all.size() * 99 / 100);
      std::nth_element(all.begin(), p99, all.end());
      figures.enqueue_average = tick * sum / static_cast<double>(all.size());
      figures.enqueue_p99 = tick * *p99;
    }
    return figures;
  }

 private:
  void enqueue(unsigned number, std::vector<std::uint32_t>& samples) {
    Task& task = tasks_[number];
    while (!go_.load()) ::sched_yield();
    for (unsigned count = 0; !stop_.load(std::memory_order_relaxed); ++count) {
      if constexpr (kSystem == System::kClosed) {
        task.state.store(Task::kPosted, std::memory_order_relaxed);
      }
      const bool sampled = count % kSampleEvery == 0;
      const std::uint64_t start = sampled ? ticks() : 0;
      for (int looks = 0; !queue_.put(number + 1); ++looks) {
        if (looks < kLooks) {
          cpu_relax();
        } else {
          ::sched_yield();
        }
      }
      if (sampled) {
        samples.push_back(
            static_cast<std::uint32_t>(std::min<std::uint64_t>(ticks() - start, UINT32_MAX)));
      }
      if constexpr (kWaiting == Waiting::kPark) {
        if constexpr (!Queue::kLastStepLocked) std::atomic_thread_fence(std::memory_order_seq_cst);
        work_.wake(1);
      }
      if constexpr (kSystem == System::kClosed) task.await<kWaiting>();
    }
  }

  std::uint64_t dequeue() {
    std::uint64_t done = 0;
    while (!go_.load()) ::sched_yield();
    const auto serve = [&] {
      const std::uint32_t item = queue_.get();
      if (item == 0) return false;
      if constexpr (kSystem == System::kClosed) tasks_[item - 1].complete();
      if (!stop_.load(std::memory_order_relaxed)) ++done;
      return true;
    };
    for (int looks = 0; !over_.load(std::memory_order_relaxed); ++looks) {
      if (looks < kLooks) {
        if (queue_.filled() && serve()) {
          looks = 0;
        } else {
          cpu_relax();
        }
        continue;
      }
      if (serve()) {
        looks = 0;
      } else if (kWaiting == Waiting::kYield || looks < kLooks + kYields) {
        ::sched_yield();
      } else {
        const std::uint32_t seen = work_.announce();
        const bool served = serve();
        if (!served && !over_.load()) work_.sleep(seen, nullptr);
        work_.withdraw();
        looks = 0;
      }
    }
    return done;
  }

  Queue queue_;
  std::vector<Task> tasks_;
  alignas(128) Bell work_{};
  alignas(128) std::atomic<bool> go_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> over_{false};
};

template <class Queue, System kSystem, Waiting kWaiting>
Figures run(unsigned pairs, std::chrono::milliseconds length) {
  return (*std::make_unique<Run<Queue, kSystem, kWaiting>>())(pairs, length);
}

// ---- the table

struct Column {
  const char* name;
  System system;
  Waiting waiting;
};
constexpr std::array<Column, 3> kColumns{{{"park", System::kClosed, Waiting::kPark},
                                          {"yield", System::kClosed, Waiting::kYield},
                                          {"open", System::kOpen, Waiting::kYield}}};

struct Contestant {
  std::string name;
  std::array<std::function<Figures(unsigned, std::chrono::milliseconds)>, 3> columns;
};

template <class Queue>
Contestant contestant() {
  return {
      Queue::kName,
      {run<Queue, System::kClosed, Waiting::kPark>, run<Queue, System::kClosed, Waiting::kYield>,
       run<Queue, System::kOpen, Waiting::kYield>}};
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int measure(bool quick, const std::vector<std::string_view>& only) {
  std::vector<Contestant> contestants{
      contestant<OurDoorbells>(),
      contestant<OurRcqb>(),
      contestant<OurRcqs>(),
      contestant<AtomicQueue>(),
      contestant<Moodycamel>(),
      contestant<BoostLockfree>(),
      contestant<OneTbb>(),
      contestant<XeniumVyukov>(),
      contestant<XeniumRamalhete>(),
      contestant<XeniumKFifo>(),
      contestant<DpdkRing<0>>(),
      contestant<DpdkRing<RING_F_MP_RTS_ENQ | RING_F_MC_RTS_DEQ>>(),
      contestant<DpdkRing<RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ>>()};
  if (!only.empty()) {
    std::erase_if(contestants, [&](const Contestant& one) {
      return std::find(only.begin(), only.end(), one.name) == only.end();
    });
  }
  const int rounds = quick ? 3 : 5;
  const std::chrono::milliseconds length(quick ? 40 : 150);
  std::string rows;
  for (std::size_t c = 0; c < kColumns.size(); ++c) {
    for (const unsigned pairs : {1U, 2U, 4U, 8U, 16U, 32U}) {
      std::vector<std::array<std::vector<double>, 3>> samples(contestants.size());
      for (int round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < contestants.size(); ++i) {
          const std::size_t turn = (i + static_cast<std::size_t>(round)) % contestants.size();
          const Figures figures = contestants[turn].columns[c](
              pairs, kColumns[c].system == System::kOpen ? length / 2 : length);
          samples[turn][0].push_back(figures.nanoseconds_each);
          samples[turn][1].push_back(figures.enqueue_average);
          samples[turn][2].push_back(figures.enqueue_p99);
        }
      }
      constexpr std::array kFigures{"task", "enq avg", "enq p99"};
      for (std::size_t f = 0; f < kFigures.size(); ++f) {
        if (kColumns[c].system == System::kOpen && f > 0) continue;
        std::string peers;
        for (std::size_t i = 1; i < contestants.size(); ++i) {
          peers += fmt::format("{}\"{}\": {:.1f}", peers.empty() ? "" : ", ", contestants[i].name,
                               median(samples[i][f]));
        }
        rows += fmt::format(
            "{}\n  {{\"name\": \"{} {}+{} {}\", \"threads\": {}, \"unit\": \"ns\", \"ours\": "
            "{:.1f}, "
            "\"peers\": {{{}}}}}",
            rows.empty() ? "" : ",", kColumns[c].name, pairs, pairs, kFigures[f], 2 * pairs,
            median(samples[0][f]), peers);
      }
    }
  }
  fmt::print(
      "{{\"title\": \"queue: {} beside others, time of a completed task and in enqueue, median of "
      "{} "
      "rounds\",\n \"settings\": {{\"rounds\": {}, \"milliseconds\": {}, \"room\": {}, \"looks\": "
      "{}}},\n \"rows\": [{}]}}\n",
      contestants.empty() ? "none" : contestants[0].name, rounds, rounds, length.count(), kRoom,
      kLooks, rows);
  return 0;
}

}  // namespace
}  // namespace libservices::ipc

int main(int count, char** words) {
  bool quick = std::getenv("LIBSERVICES_BENCH_QUICK") != nullptr;
  std::vector<std::string_view> only;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--quick") {
      quick = true;
    } else if (word == "--only" && i + 1 < count) {
      only.emplace_back(words[++i]);
    } else {
      fmt::print(stderr, "usage: queue [--quick] [--only NAME]...\n");
      return 2;
    }
  }
  return libservices::ipc::measure(quick, only);
}
