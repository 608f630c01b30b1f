// SPDX-License-Identifier: Apache-2.0
#include "ipc/back_driver.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>

namespace libservices::ipc {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kFewestThreads = 2;
constexpr timespec kTick{0, 1'000'000};
constexpr std::uint64_t kHeldUpTicks = 2;
constexpr int kQuietTicks = 100;
constexpr auto kRest = std::chrono::milliseconds(1);
constexpr auto kSuperfluousAfter = std::chrono::seconds(2);

// The processor from which the last request of this thread came.
thread_local std::uint32_t client_cpu = kNoCpu;

// Two threads that answer each other never look busy to the kernel's balancer, so once it has put
// them on one processor it leaves them there, where a round trip takes ten times as long. A
// service thread that finds itself beside its client again and again moves to another one.
class Separation {
 public:
  void request_came_from(std::uint32_t cpu) {
    if (cpu != current_cpu()) {
      together_ = 0;
    } else if (++together_ >= kTogether) {
      together_ = 0;
      leave(cpu);
    }
  }

 private:
  static constexpr unsigned kTogether = 4;
  static constexpr auto kRest = std::chrono::milliseconds(2);  // between two moves

  void leave(std::uint32_t cpu) {
    const auto now = Clock::now();
    if (now < next_) return;
    next_ = now + kRest;
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    cpu_set_t others = allowed;
    CPU_CLR(cpu, &others);
    if (::sched_setaffinity(0, sizeof others, &others) != 0) return;
    (void)::sched_setaffinity(0, sizeof allowed, &allowed);
  }

  unsigned together_ = 0;
  Clock::time_point next_{};
};
thread_local Separation separation;

}  // namespace

void BackDriver::start() {
  started_ = true;
  for (unsigned i = 0; i < kFewestThreads; ++i) add_thread();
}

void BackDriver::stop() {
  if (!started_ || stopping_.exchange(true)) return;
  queue().bell.ring(1);
  be_alert();
  standby_word_.fetch_add(1);
  futex_wake(&standby_word_, INT32_MAX);
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(threads_mutex_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  queue().closed.store(1);
}

void BackDriver::add_thread() {
  std::lock_guard lock(threads_mutex_);
  if (stopping_.load()) return;
  if (thread_count_.load() >= std::max(options_.most_threads, kFewestThreads)) return;
  for (std::size_t i = 0; i < workers_.size(); ++i) {  // in the order of threads_
    if (workers_[i]->ended) {
      threads_[i].join();
      threads_.erase(threads_.begin() + static_cast<std::ptrdiff_t>(i));
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
  }
  workers_.push_back(std::make_unique<Worker>());
  thread_count_.fetch_add(1);
  threads_.emplace_back([this, worker = workers_.back().get()] { run(*worker); });
}

void BackDriver::stay_in_group() {
  if (options_.groups.size() < 2 || !options_.bind_threads) return;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (const int cpu : options_.groups[group_]) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &cores);
  }
  // Where it cannot, its requests only travel further.
  if (CPU_COUNT(&cores) != 0) (void)::sched_setaffinity(0, sizeof cores, &cores);
}

void BackDriver::run(Worker& self) {
  stay_in_group();
  while (!stopping_.load(std::memory_order_relaxed)) {
    idle_.fetch_add(1);
    const bool active = stand_by();
    const bool last = idle_.fetch_sub(1) == 1;
    if (active) {
      if (last && !stopping_.load()) add_thread();  // somebody must stand by
      serve(self);
      continue;
    }
    if (stopping_.load()) break;
    // Superfluous: others stand by, and have for a while.
    std::lock_guard lock(threads_mutex_);
    if (thread_count_.load() > kFewestThreads) {
      thread_count_.fetch_sub(1);
      self.ended = true;
      return;
    }
  }
}

// REQUIRES: counted in active_. Returns when it is not counted any more.
void BackDriver::serve(Worker& self) {
  tell_where(current_cpu());
  ClaimedRequest request;  // kept from one to the next: they often are of the same session
  bool queue_first = false;
  for (;;) {
    // In turn, so that neither the queue nor the hot buffers wait for long.
    queue_first = !queue_first;
    if (next(self, request, queue_first)) {
      if (!run_one(self, request)) return;  // held up, and replaced
      continue;
    }
    int active = active_.load();
    while (active > 1) {  // another one looks for the next request
      if (active_.compare_exchange_weak(active, active - 1)) return;
    }
    if (stopping_.load(std::memory_order_relaxed)) {
      active_.fetch_sub(1);
      return;
    }
    if (!look(self, request)) {
      sleep();
      came_in_vain(self);  // until a request tells otherwise
    } else if (request.posted != 0 && !run_one(self, request)) {
      return;
    }
  }
}

// Claims a request that is there now.
bool BackDriver::next(Worker& self, ClaimedRequest& request, bool queue_first) {
  if (queue_first && claim_from_queue(self, request)) return true;
  return hot_.claim(request, 1, [] { return true; }) ||
         (!queue_first && claim_from_queue(self, request));
}

void BackDriver::came_in_vain(Worker& self) {
  if (++self.in_vain < options_.most_in_vain) return;
  self.in_vain = 0;
  std::this_thread::sleep_for(kRest);
}

// False: it took so long that another thread is active now.
bool BackDriver::run_one(Worker& self, const ClaimedRequest& request) {
  self.in_vain = 0;
  self.running.store(1 + tick_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  answer(request);
  self.served.store(self.served.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return self.running.exchange(0, std::memory_order_relaxed) != kDetached;
}

bool BackDriver::claim_from_queue(Worker& self, ClaimedRequest& request) {
  while (const std::uint32_t doorbell = queue().doorbells.try_dequeue()) {
    request.session = find_(session_of(doorbell));
    request.buffer = buffer_of(doorbell);
    if (request.session == nullptr) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      came_in_vain(self);
      continue;
    }
    request.posted = request.session->claim(request.buffer);
    if (request.posted == 0) {  // a second doorbell, or one for nothing
      refused_.fetch_add(1, std::memory_order_relaxed);
      came_in_vain(self);
      continue;
    }
    hot_.watch(request);
    return true;
  }
  return false;
}

// Clients read it before they wait, so it is written only when it changes.
void BackDriver::tell_where(std::uint32_t cpu) {
  if (queue().awake_on.load(std::memory_order_relaxed) != cpu + 1) {
    queue().awake_on.store(cpu + 1, std::memory_order_relaxed);
  }
}

void BackDriver::answer(const ClaimedRequest& request) {
  tell_where(current_cpu());
  RequestBuffer& buffer = request.session->buffer(request.buffer);
  client_cpu = buffer.cpu.load(std::memory_order_relaxed);
  const auto groups = static_cast<std::uint32_t>(options_.groups.size());
  if (groups > 1 && queues_.group(client_cpu, groups) != group_) hot_.drop(request);
  TakenRequest taken{.header = buffer.copy_once(), .input = {}, .number = 0};
  if (taken.header.is_sound()) {
    taken.input = {taken.header.inlined != 0 ? taken.header.inline_input() : buffer.data,
                   taken.header.input_bytes};
    taken.number = request_number(request.session->salt(), request.buffer, request.posted);
    handle_(*request.session, taken, buffer);
  } else {
    refused_.fetch_add(1, std::memory_order_relaxed);
    buffer.answer.error = EINVAL;
    buffer.answer.output_bytes = 0;
  }
  // Pairs with FrontDriver::is_done(), and with done_later(): both steps are seq_cst.
  buffer.state.exchange(request.posted + 1);
  if (buffer.sleeping.load() != 0) futex_wake(&buffer.state, 1);
  separation.request_came_from(client_cpu);
}

// True when there is something to do: `request` is claimed, or its `posted` is 0.
bool BackDriver::look(const Worker& self, ClaimedRequest& request) {
  constexpr unsigned kLooks = 64;
  request.posted = 0;
  auto end = Clock::time_point::max();
  const auto queued = [this] { return queue().doorbells.has_next(); };
  for (bool first = true;; first = false) {
    const std::uint32_t cpu = current_cpu();
    // The client shares this core: nothing comes before it runs.
    const bool alone = client_cpu == cpu;
    if (!(first && alone) && (hot_.claim(request, alone ? 1 : kLooks, queued) || queued())) {
      return true;
    }
    if (!first) request.session.reset();  // it may end
    if (!queue().doorbells.looks_empty() || stopping_.load(std::memory_order_relaxed)) return true;
    // Woken for nothing a moment ago: by somebody who may do it again and again.
    if (self.in_vain > 1) return false;
    if (!first) {  // the clock costs as much as a tenth of a request
      const auto now = Clock::now();
      if (end == Clock::time_point::max()) end = now + options_.look_for;
      if (now >= end) return false;
    }
    tell_where(cpu);
    ::sched_yield();
  }
}

void BackDriver::sleep() {
  if (!hot_.unwatch_all()) return;
  RequestQueue& shared = queue();
  shared.awake_on.store(0, std::memory_order_relaxed);
  const std::uint32_t seen = shared.bell.announce();
  // Pairs with RequestQueue::wake().
  if (shared.doorbells.looks_empty() && !hot_.has_next() && !stopping_.load()) {
    asleep_.store(true);
    shared.bell.sleep(seen, nullptr);
    asleep_.store(false);
    be_alert();
  }
  // Instead of withdraw(): nobody else sleeps here, and a client may have scribbled over the count.
  shared.bell.sleepers.store(0, std::memory_order_relaxed);
  tell_where(current_cpu());
}

void BackDriver::be_alert() {
  if (alert_.exchange(true)) return;
  standby_word_.fetch_add(1);
  futex_wake(&standby_word_, 1);
}

// True: the caller is active now, and counted. False: it was not needed for a while, or the end.
bool BackDriver::stand_by() {
  std::unique_lock lock(stand_by_mutex_);
  if (!stand_by_left_.wait_for(lock, kSuperfluousAfter, [this] { return !somebody_stands_by_; })) {
    return false;
  }
  somebody_stands_by_ = true;
  lock.unlock();
  const bool active = watch();
  lock.lock();
  somebody_stands_by_ = false;
  stand_by_left_.notify_one();
  return active;
}

// What the one who stands by does.
bool BackDriver::watch() {
  std::uint64_t served = this->served();
  int quiet = 0;
  int waiting = 0;
  for (;;) {
    const std::uint32_t word = standby_word_.load();
    if (stopping_.load()) return false;
    const bool pending = !queue().doorbells.looks_empty() || hot_.has_next();
    waiting = pending ? waiting + 1 : 0;
    if (take_over(waiting > 2)) return true;
    const bool alert = alert_.load();
    futex_wait(&standby_word_, word, alert ? &kTick : nullptr);
    if (!alert) continue;
    tick_.fetch_add(1, std::memory_order_relaxed);
    detach_held_up();
    const std::uint64_t now = this->served();
    quiet = now == served && !pending ? quiet + 1 : 0;
    served = now;
    // Only while the active thread sleeps: it calls be_alert() when it wakes, before it takes a
    // request, and one of the two sees the other. Held-up threads need no watching: somebody else
    // is active.
    if (quiet > kQuietTicks) {
      alert_.store(false);
      if (!asleep_.load()) alert_.store(true);
    }
  }
}

std::uint64_t BackDriver::served() {
  std::lock_guard lock(threads_mutex_);
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->served.load(std::memory_order_relaxed);
  return sum;
}

bool BackDriver::busy() {
  std::lock_guard lock(threads_mutex_);
  return std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& worker) { return worker->running.load() != 0; });
}

bool BackDriver::take_over(bool backlog) {
  int active = active_.load();
  static const int most = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  while (active == 0 || (backlog && active < most)) {
    if (active_.compare_exchange_weak(active, active + 1)) return true;
  }
  return false;
}

void BackDriver::detach_held_up() {
  std::lock_guard lock(threads_mutex_);
  const std::uint64_t tick = tick_.load(std::memory_order_relaxed);
  for (const auto& worker : workers_) {
    std::uint64_t began = worker->running.load(std::memory_order_relaxed);
    if (began == 0 || began == kDetached || tick - (began - 1) < kHeldUpTicks) continue;
    if (worker->running.compare_exchange_strong(began, kDetached)) active_.fetch_sub(1);
  }
}

}  // namespace libservices::ipc
