// SPDX-License-Identifier: Apache-2.0
//
// Request queues as they lie in their region, and how both ends wait.
//
// Waiting costs what it must: an application spins while the service is awake on another core,
// lets others run when both share a core, and sleeps on its buffer's state after that. A service
// thread looks for a while after the last request, then sleeps on `bell`. Whoever would wake first
// looks whether anybody sleeps, so between two busy ends there is no system call at all.
//
// Sleeping without missing a wake (both directions alike): the sleeper announces itself, then
// looks again; the waker publishes, then looks for sleepers. All four steps are seq_cst, so they
// have one order and at least one of the two sees the other. (No fences: ThreadSanitizer knows
// none. On x86-64 the publishing step is a locked instruction as it is.)
//
// Freestanding: the preload library includes it.
#ifndef LIBSERVICES_IPC_QUEUE_H_
#define LIBSERVICES_IPC_QUEUE_H_

#include <linux/futex.h>
#include <sys/rseq.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/bell.h"
#include "ipc/doorbell_queue.h"
#include "ipc/fault_point.h"
#include "ipc/raw_syscall.h"
#include "ipc/request.h"

namespace libservices::ipc {

inline long futex_wait(std::atomic<std::uint32_t>* word, std::uint32_t value,
                       const timespec* relative) {
  return raw::syscall(SYS_futex, word, FUTEX_WAIT, value, relative, nullptr, 0);
}
inline long futex_wake(std::atomic<std::uint32_t>* word, int most) {
  return raw::syscall(SYS_futex, word, FUTEX_WAKE, most, nullptr, nullptr, 0);
}

// The number of the calling thread's processor, from the kernel's restartable-sequence area when
// libc has registered one (glibc 2.35), else by system call.
inline std::uint32_t current_cpu() {
#if __has_builtin(__builtin_thread_pointer)
  if (__rseq_size != 0) {
    const auto* area = reinterpret_cast<const volatile std::uint32_t*>(
        static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset);
    return area[1];  // struct rseq: cpu_id_start, cpu_id
  }
#endif
  unsigned cpu = 0;
  raw::syscall(SYS_getcpu, &cpu, nullptr, nullptr);
  return cpu;
}

inline constexpr std::uint32_t kQueueCapacity = 8192;
inline constexpr std::uint32_t kNoCpu = UINT32_MAX;

struct RequestQueue {
  DoorbellQueue<kQueueCapacity> doorbells;
  alignas(64) Bell bell;                            // the thread that looks sleeps on it
  alignas(64) std::atomic<std::uint32_t> awake_on;  // 1 + processor of a thread that looks; 0: none
  std::atomic<std::uint32_t> closed;                // 1: the service has ended

  // False: the service has ended. `ended` says so when it was killed; asked while the queue is
  // full.
  template <class Ended>
  bool post(std::uint32_t doorbell, Ended&& ended) {
    for (unsigned tries = 1; !doorbells.try_enqueue(doorbell); ++tries) {
      if (closed.load(std::memory_order_relaxed) != 0) return false;
      if (tries % 1024 == 0 && ended()) return false;
      raw::syscall(SYS_sched_yield);
    }
    LIBSERVICES_FAULT_POINT("doorbell in the queue");
    wake();  // after the seq_cst step on the tail in try_enqueue()
    return true;
  }
  // After a seq_cst step that tells of work; pairs with BackDriver::sleep().
  void wake() { bell.wake(1); }
};

// The queues of one trust domain as they lie in its region: one for each core group.
struct QueueSet {
  static constexpr std::uint32_t kMostGroups = 64;
  static constexpr std::uint32_t kMostCpus = 4096;  // those above use the queues of those below

  // Written before anybody else maps it. A processor that the service may not use is in some group.
  std::uint8_t group_of[kMostCpus];
  alignas(64) RequestQueue queues[1];  // as many as there are groups

  static constexpr std::size_t bytes(std::uint32_t groups) {
    return sizeof(QueueSet) + (groups - 1) * sizeof(RequestQueue);
  }
  static constexpr std::uint32_t groups_in(std::uint64_t bytes) {
    return bytes < sizeof(QueueSet)
               ? 0
               : static_cast<std::uint32_t>((bytes - sizeof(QueueSet)) / sizeof(RequestQueue)) + 1;
  }
  // Another process of the domain may have written here: the bound is the reader's own.
  std::uint32_t group(std::uint32_t cpu, std::uint32_t groups) const {
    const std::uint32_t group =
        static_cast<const volatile std::uint8_t&>(group_of[cpu % kMostCpus]);
    return group < groups ? group : 0;
  }
};

// A doorbell names a session's request buffer: 1 + session * 64 + buffer.
inline constexpr std::uint32_t kMostSessions = 1U << 20U;
inline std::uint32_t doorbell_of(std::uint32_t session, std::uint32_t buffer) {
  return 1 + session * kBuffersInSession + buffer;
}
inline std::uint32_t session_of(std::uint32_t doorbell) {
  return (doorbell - 1) / kBuffersInSession;
}
inline std::uint32_t buffer_of(std::uint32_t doorbell) {
  return (doorbell - 1) % kBuffersInSession;
}

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_QUEUE_H_
