// SPDX-License-Identifier: Apache-2.0
#include "ipc/back_driver.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>

namespace libservices::ipc {
namespace {

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
  using Clock = std::chrono::steady_clock;

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
  // Nobody stands by until all are there, and makes more.
  std::lock_guard lock(stand_by_mutex_);
  for (unsigned i = 0; i < kFewestThreads; ++i) add_thread();
}

void BackDriver::stop() { (void)stop(Patience::kForEver); }

bool BackDriver::stop(std::chrono::milliseconds most) {
  if (!started_ || stopping_.exchange(true)) return true;
  queue().bell.ring(1);
  be_alert();
  standby_word_.fetch_add(1);
  futex_wake(&standby_word_, INT32_MAX);
  std::vector<std::thread> threads;
  std::unique_lock lock(threads_mutex_);
  const auto ended = [this] { return running_threads_ == 0; };
  if (most == Patience::kForEver) {
    thread_ended_.wait(lock, ended);
  } else if (!thread_ended_.wait_for(lock, most, ended)) {
    queue().closed.store(1);
    for (std::thread& thread : threads_) thread.detach();
    threads_.clear();
    return false;
  }
  threads.swap(threads_);
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  queue().closed.store(1);
  return true;
}

// False: there are as many as there may be.
bool BackDriver::add_thread() {
  std::lock_guard lock(threads_mutex_);
  if (stopping_.load()) return false;
  const unsigned held_up = held_up_.load();
  const unsigned others = thread_count_.load() - std::min(held_up, thread_count_.load());
  if (others > std::max(options_.most_threads, 1U)) return false;
  if (held_up >= options_.most_held_up) return false;
  for (std::size_t i = 0; i < workers_.size(); ++i) {  // in the order of threads_
    if (workers_[i]->ended) {
      threads_[i].join();
      threads_.erase(threads_.begin() + static_cast<std::ptrdiff_t>(i));
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
  }
  return make_thread();
}

// REQUIRES: threads_mutex_.
bool BackDriver::make_thread() {
  workers_.push_back(std::make_unique<Worker>());
  thread_count_.fetch_add(1);
  ++running_threads_;
  try {
    threads_.emplace_back([this, worker = workers_.back().get()] {
      run(*worker);
      std::lock_guard lock(threads_mutex_);
      worker->ended = true;
      --running_threads_;
      thread_ended_.notify_all();
    });
  } catch (const std::system_error&) {  // a limit of the machine or of the container
    workers_.pop_back();
    thread_count_.fetch_sub(1);
    --running_threads_;
    return false;
  }
  return true;
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
    idle_.fetch_sub(1);
    if (active) {
      serve(self);
      continue;
    }
    if (stopping_.load()) break;
    // Superfluous: others stand by, and have for a while.
    std::lock_guard lock(threads_mutex_);
    if (thread_count_.load() > kFewestThreads + held_up_.load()) {
      thread_count_.fetch_sub(1);
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
  const bool in_time = answer(self, request);
  self.served.store(self.served.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return in_time;
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

// False: it was held up, and another thread is active now.
bool BackDriver::answer(Worker& self, const ClaimedRequest& request) {
  tell_where(current_cpu());
  RequestBuffer& buffer = request.session->buffer(request.buffer);
  client_cpu = buffer.cpu.load(std::memory_order_relaxed);
  const auto groups = static_cast<std::uint32_t>(options_.groups.size());
  if (groups > 1 && queues_.group(client_cpu, groups) != group_) hot_.drop(request);
  Running& running = self.running;
  TakenRequest taken{
      .header = buffer.copy_once(), .input = {}, .number = 0, .running = running};
  self.request = &request;
  self.header = &taken.header;
  running.claimed_ = false;
  // Pairs with look_at_threads(), which reads what stands above.
  running.state_.store(1 + tick_.load(std::memory_order_relaxed), std::memory_order_release);
  if (taken.header.is_sound()) {
    taken.input = {taken.header.inlined != 0 ? taken.header.inline_input() : buffer.data,
                   taken.header.input_bytes};
    taken.number = request_number(request.session->salt(), request.buffer, request.posted);
    handle_(*request.session, taken, buffer);
    if (!running.claimed_) (void)running.claim();
  } else {
    refused_.fetch_add(1, std::memory_order_relaxed);
    if (running.claim()) {
      buffer.answer.error = EINVAL;
      buffer.answer.output_bytes = 0;
    }
  }
  if (!running.given_up_) complete(request);
  separation.request_came_from(client_cpu);
  if (!running.was_held_up_) return true;
  if (running.given_up_) options_.patience->came_back(taken.header);
  // Behind hold_up() and give_up(), which look at the request.
  std::lock_guard lock(threads_mutex_);
  running.state_.store(Running::kNothing);
  // Pairs with FrontDriver::take_buffer().
  if (running.given_up_) buffer.held.store(0, std::memory_order_release);
  held_up_.fetch_sub(1);
  return false;
}

void BackDriver::complete(const ClaimedRequest& request) {
  RequestBuffer& buffer = request.session->buffer(request.buffer);
  // Pairs with FrontDriver::is_done(), and with done_later(): both steps are seq_cst.
  buffer.state.exchange(request.posted + 1);
  if (buffer.sleeping.load() != 0) futex_wake(&buffer.state, 1);
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

// While no request comes: until one does, or one that is held up is to be given up.
void BackDriver::sleep_until_needed(std::uint32_t word) {
  if (next_give_up_ == Clock::time_point::max()) {
    futex_wait(&standby_word_, word, nullptr);
    return;
  }
  const auto left = std::max(next_give_up_ - Clock::now(), Clock::duration(1));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec wait{seconds.count(), (left - seconds).count()};
  futex_wait(&standby_word_, word, &wait);
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
    if (alert) {
      futex_wait(&standby_word_, word, &kTick);
      tick_.fetch_add(1, std::memory_order_relaxed);
    } else {
      sleep_until_needed(word);
    }
    look_at_threads();
    if (!alert) continue;
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
                     [](const auto& worker) { return worker->running.state_.load() != 0; });
}

bool BackDriver::take_over(bool backlog) {
  int active = active_.load();
  static const unsigned processors = std::max(1U, std::thread::hardware_concurrency());
  const auto most = static_cast<int>(std::max(1U, std::min(processors, options_.most_threads)));
  while (active == 0 || (backlog && active < most)) {
    if (!has_successor()) return false;
    if (active_.compare_exchange_weak(active, active + 1)) return true;
  }
  return false;
}

// Somebody must stand by when the caller does not: without that nothing that is held up would be
// given up, and nothing else served.
bool BackDriver::has_successor() {
  const auto count = static_cast<int>(thread_count_.load() - held_up_.load());
  return count - active_.load() > 1 || add_thread();
}

void BackDriver::look_at_threads() {
  std::lock_guard lock(threads_mutex_);
  const std::uint64_t tick = tick_.load(std::memory_order_relaxed);
  const auto now = held_up_.load() != 0 ? Clock::now() : Clock::time_point::min();
  next_give_up_ = Clock::time_point::max();
  for (const auto& worker : workers_) {
    const std::uint64_t state = worker->running.state_.load(std::memory_order_acquire);
    if (state == Running::kNothing || state == Running::kGivenUp) continue;
    const bool is_held_up = (state & Running::kHeldUp) != 0;
    if (!is_held_up && tick - (state - 1) >= kHeldUpTicks) hold_up(*worker, state);
    if (!is_held_up) continue;
    // A session that has ended waits for no answer.
    const bool nobody_waits =
        options_.patience != nullptr && worker->request->session->ended_.load();
    if (worker->give_up_at <= now || nobody_waits) give_up(*worker, state);
    if (worker->give_up_at > now) next_give_up_ = std::min(next_give_up_, worker->give_up_at);
  }
}

// Another thread becomes active in its place. REQUIRES: threads_mutex_, for which a thread that was
// held up waits before it goes on: so its request stays as it is.
void BackDriver::hold_up(Worker& worker, std::uint64_t state) {
  held_up_.fetch_add(1);  // before the thread can count itself out
  if (!worker.running.state_.compare_exchange_strong(state, state | Running::kHeldUp)) {
    held_up_.fetch_sub(1);
    return;
  }
  active_.fetch_sub(1);
  worker.give_up_at = Clock::time_point::max();
  if (options_.patience == nullptr) return;
  const std::chrono::milliseconds most = options_.patience->most(*worker.header);
  if (most == Patience::kForEver) return;
  worker.give_up_at = Clock::now() + most;
  next_give_up_ = std::min(next_give_up_, worker.give_up_at);
}

// Answers in its place. REQUIRES: threads_mutex_.
void BackDriver::give_up(Worker& worker, std::uint64_t state) {
  // Pairs with Running::claim().
  if (!worker.running.state_.compare_exchange_strong(state, Running::kGivenUp)) return;
  options_.patience->given_up(*worker.header);
  RequestBuffer& buffer = worker.request->session->buffer(worker.request->buffer);
  buffer.held.store(1, std::memory_order_relaxed);
  buffer.answer.error = ETIMEDOUT;
  buffer.answer.output_bytes = 0;
  complete(*worker.request);
}

}  // namespace libservices::ipc
