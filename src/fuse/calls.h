// SPDX-License-Identifier: Apache-2.0
//
// The requests of a mount that run, and who watches them.
//
// One that takes longer than the mount's deadline is answered with ETIMEDOUT in the place of its
// thread, which stays in its call: nobody can end that. So is, with EINTR, the request of a task
// that is being killed: the kernel lets it go only when it has an answer. Exactly one of the two
// answers; the thread's own answer is dropped if it comes late.
//
// The watcher looks each hundredth of a second while requests come, and sleeps otherwise.
// THREADS: all members at once. A `Call` is one thread's.
#ifndef LIBSERVICES_SRC_FUSE_CALLS_H_
#define LIBSERVICES_SRC_FUSE_CALLS_H_

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "src/fuse/abi.h"

namespace libservices::fuse {

class Calls {
 public:
  // Given up and not ended, of one mount: beyond it requests are answered with ETIMEDOUT at once.
  static constexpr std::size_t kMostGivenUp = 1024;

  struct Options {
    std::chrono::nanoseconds deadline{0};  // 0: none
    // A call was given up, and has come back; they must not wait.
    std::function<void(const void* call)> given_up;
    std::function<void(const void* call)> came_back;
  };

  explicit Calls(Options options) : options_(std::move(options)) {}
  ~Calls() { stop(); }
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  class Call {
   public:
    // What the watcher does, under its lock: `held_up` when the call takes long, so that another
    // thread may be needed; `answer` in its place. False: not now, it is to be tried again.
    struct Watched {
      std::function<void()> held_up;
      std::function<bool(const fuse_in_header&, int error)> answer;
    };
    Call(Calls& calls, Watched watched);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // From here on it is watched.
    void begin(const fuse_in_header& header);
    // Whether it is to be answered: else that has been done. Once for each begin().
    bool claim();
    bool was_held_up() const { return was_held_up_; }
    // Behind all that comes of it, if it was not to be answered. False: it has not been yet.
    bool end();

   private:
    friend class Calls;
    static constexpr std::uint64_t kNothing = 0;  // else 1 + the tick at which it began
    static constexpr std::uint64_t kHeldUp = std::uint64_t{1} << 63U;  // with it
    static constexpr std::uint64_t kGivenUp = UINT64_MAX;
    using Clock = std::chrono::steady_clock;

    Calls& calls_;
    const Watched watched_;
    std::atomic<std::uint64_t> state_{kNothing};
    fuse_in_header header_{};
    bool was_held_up_ = false;           // the thread's alone
    Clock::time_point give_up_at_;       // these are guarded by mutex_, while it is held up
    Clock::time_point look_at_caller_at_;
    int unanswered_ = 0;  // the error with which it is still to be answered; guarded by mutex_
  };

  // False: there is no thread to be had.
  bool start();
  void stop();

  std::size_t held_up() const { return held_up_.load(std::memory_order_relaxed); }
  // What leaves nothing behind when it is not run.
  static bool may_refuse(std::uint32_t opcode);
  bool are_most_given_up() const {
    return given_up_.load(std::memory_order_relaxed) >= kMostGivenUp;
  }

 private:
  using Clock = Call::Clock;

  void watch();
  bool look(Call& call, Clock::time_point now);
  void give_up(Call& call, std::uint64_t state, int error);
  bool any_runs() const;

  const Options options_;
  std::atomic<std::uint64_t> tick_{0};
  std::atomic<bool> asleep_{false};
  std::atomic<std::size_t> held_up_{0};
  std::atomic<std::size_t> given_up_{0};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Call*> calls_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_CALLS_H_
