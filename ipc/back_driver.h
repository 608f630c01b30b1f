// SPDX-License-Identifier: Apache-2.0
//
// The back driver: the service's end of one request queue, and the threads that serve it. They stay
// on the processors of the queue's core group, unless they are left free.
//
// Usually one thread, the *active* one, takes doorbells, looks at the hot buffers, and runs
// requests; while there are none it looks for a bounded time and then sleeps, at no cost. One more
// is *standing by*: while requests come it looks every millisecond whether the active one is held
// up in a long request, or whether more wait than one can serve, and then becomes active as well.
// So a long call (an fsync, a slow disk) never holds up a short one for more than about two
// milliseconds, and threads are there when they are needed: at least two, at most `most_threads`
// at work beside those that are held up, which have a bound of their own.
//
// Who stands by also answers, with ETIMEDOUT, requests that have run for longer than the upper
// layer has patience (Patience), and gives up those of sessions that have ended. Their threads stay in their calls, which nobody can end, and
// their buffers stay theirs: `RequestBuffer::held` says until when.
//
// THREADS: start() and stop() alone. The handler runs in the driver's threads, several at once.
#ifndef LIBSERVICES_IPC_BACK_DRIVER_H_
#define LIBSERVICES_IPC_BACK_DRIVER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "ipc/hot_buffers.h"
#include "ipc/queue.h"
#include "ipc/request.h"
#include "ipc/server_session.h"
#include "ipc/topology.h"

namespace libservices::ipc {

// Finds the session of a doorbell; null for one that is not (or no longer) of this queue.
using SessionFinder = std::function<std::shared_ptr<ServerSession>(std::uint32_t session)>;

// What a service thread is doing, for who stands by.
class Running {
 public:
  // Whether the caller still waits. Once for each request, before anything of its answer but the
  // data is written: when it does not, it has got an error meanwhile, nothing is to be written,
  // and what nobody will ever hear of is to be undone.
  bool claim() {
    claimed_ = true;
    // Pairs with give_up(): exactly one of the two completes the request.
    const std::uint64_t was = state_.exchange(kNothing);
    was_held_up_ = (was & kHeldUp) != 0;  // given up or not
    given_up_ = was == kGivenUp;
    if (given_up_) state_.store(kGivenUp);
    return !given_up_;
  }

 private:
  friend class BackDriver;
  // 1 + the tick at which the request began; with kHeldUp when another thread is active in the
  // place of this one.
  static constexpr std::uint64_t kNothing = 0;
  static constexpr std::uint64_t kHeldUp = std::uint64_t{1} << 63U;
  static constexpr std::uint64_t kGivenUp = UINT64_MAX;

  std::atomic<std::uint64_t> state_{kNothing};
  bool claimed_ = false;  // these are the thread's alone
  bool was_held_up_ = false;
  bool given_up_ = false;
};

// A request as the service took it. `header` is a private copy. `input` is private too (behind the
// header's words), or it is the buffer's, where a hostile peer may change it meanwhile.
struct TakenRequest {
  RequestHeader header;
  std::span<const std::byte> input;
  std::uint32_t number;  // request_number()
  Running& running;
};

// Runs one request; the answer goes into `buffer`, after Running::claim(). It returns when the
// answer is complete.
using RequestHandler =
    std::function<void(ServerSession&, const TakenRequest& request, RequestBuffer& buffer)>;

// For how long callers are kept waiting. THREADS: all members at once. They must not wait.
class Patience {
 public:
  static constexpr std::chrono::milliseconds kForEver = std::chrono::milliseconds::max();

  // Asked once a request has been held up.
  virtual std::chrono::milliseconds most(const RequestHeader& request) = 0;
  // A request was answered in the place of its thread; and that one has come back.
  virtual void given_up(const RequestHeader& request) = 0;
  virtual void came_back(const RequestHeader& request) = 0;

 protected:
  ~Patience() = default;
};

struct BackDriverOptions {
  // The core groups, each with a queue of its own; empty: those of this machine.
  std::vector<CoreGroup> groups;
  unsigned most_threads = 32;  // at work: one more stands by, and others are held up
  unsigned most_held_up = 4096;
  Patience* patience = nullptr;  // null: for ever
  // Whether threads stay on the cores of their group, when there are several groups.
  bool bind_threads = true;
  // After so many wakes or doorbells in a row that were for nothing, a thread rests for a
  // millisecond: who makes them has no more than a small share of a processor.
  unsigned most_in_vain = 16;
  // How long to look for the next request after the last one before sleeping.
  std::chrono::microseconds look_for{50};
};

class BackDriver {
 public:
  // Serves the queue of group `group` of `queues`, which outlives the driver.
  BackDriver(QueueSet& queues, std::uint32_t group, SessionFinder find, RequestHandler handle,
             const BackDriverOptions& options)
      : queues_(queues),
        group_(group),
        find_(std::move(find)),
        handle_(std::move(handle)),
        options_(options),
        hot_(group) {}
  ~BackDriver() { stop(); }
  BackDriver(const BackDriver&) = delete;
  BackDriver& operator=(const BackDriver&) = delete;

  void start();
  // Runs what was posted, and ends the threads.
  void stop();

  // The same, in this time. False: some requests do not end; their threads are left to themselves,
  // and nothing that they use may be destroyed: the process has to end.
  bool stop(std::chrono::milliseconds most);

  unsigned threads() const { return thread_count_.load(std::memory_order_relaxed); }
  // A session begins: what one before it has written where only this side should is mended.
  void mend() {
    if (!stopping_.load()) queue().closed.store(0);
  }
  // Whether a request is being run.
  bool busy();
  // A request is to be expected: who serves it shall be awake when it comes.
  void wake() { queue().wake(); }
  // A session ends.
  void forget(ServerSession& session) { hot_.forget(session); }
  // Doorbells that named no posted request: written by somebody who should not.
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;
  struct alignas(64) Worker {
    Running running;
    std::atomic<std::uint64_t> served{0};  // written by the thread alone
    // What it runs; read by others while it is held up.
    const ClaimedRequest* request = nullptr;
    const RequestHeader* header = nullptr;
    unsigned in_vain = 0;          // wakes and doorbells since the last request
    bool ended = false;            // guarded by threads_mutex_
    Clock::time_point give_up_at;  // of one that is held up; guarded by threads_mutex_
  };

  RequestQueue& queue() { return queues_.queues[group_]; }

  bool add_thread();
  bool make_thread();
  void run(Worker& self);
  void stay_in_group();
  void serve(Worker& self);
  bool next(Worker& self, ClaimedRequest& request, bool queue_first);
  void came_in_vain(Worker& self);
  bool run_one(Worker& self, const ClaimedRequest& request);
  bool claim_from_queue(Worker& self, ClaimedRequest& request);
  void tell_where(std::uint32_t cpu);
  bool answer(Worker& self, const ClaimedRequest& request);
  void complete(const ClaimedRequest& request);
  bool look(const Worker& self, ClaimedRequest& request);
  std::uint64_t served();
  void sleep();
  bool stand_by();
  bool watch();
  void sleep_until_needed(std::uint32_t word);
  bool take_over(bool backlog);
  bool has_successor();
  void look_at_threads();
  void hold_up(Worker& worker, std::uint64_t state);
  void give_up(Worker& worker, std::uint64_t state);
  void be_alert();

  QueueSet& queues_;
  const std::uint32_t group_;
  const SessionFinder find_;
  const RequestHandler handle_;
  const BackDriverOptions options_;
  HotBuffers hot_;

  bool started_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<int> active_{0};       // threads that take doorbells and are not held up
  std::atomic<int> idle_{0};         // threads that stand by, or wait to
  std::atomic<bool> alert_{true};    // requests came lately: who stands by looks each millisecond
  std::atomic<bool> asleep_{false};  // the active thread sleeps
  std::atomic<std::uint32_t> standby_word_{0};  // futex of who stands by
  std::atomic<std::uint64_t> tick_{0};          // looks of who stands by
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<unsigned> thread_count_{0};
  std::atomic<unsigned> held_up_{0};

  std::mutex stand_by_mutex_;
  std::condition_variable stand_by_left_;
  bool somebody_stands_by_ = false;  // guarded by stand_by_mutex_
  std::mutex threads_mutex_;
  std::vector<std::thread> threads_;              // guarded by threads_mutex_
  std::vector<std::unique_ptr<Worker>> workers_;  // guarded by threads_mutex_
  std::condition_variable thread_ended_;
  unsigned running_threads_ = 0;  // guarded by threads_mutex_
  Clock::time_point next_give_up_ = Clock::time_point::max();  // of who stands by
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_BACK_DRIVER_H_
