// SPDX-License-Identifier: Apache-2.0
//
// Calls whose callers have been told ETIMEDOUT, and that have not ended: how many, of which
// instance, since when. Nothing can end such a call but the end of its process.
//
// THREADS: all members at once, but for start().
#ifndef LIBSERVICES_SRC_HOST_STUCK_CALLS_H_
#define LIBSERVICES_SRC_HOST_STUCK_CALLS_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "ipc/back_driver.h"

namespace libservices::host {

class StuckCalls final : public ipc::Patience {
 public:
  using Clock = std::chrono::steady_clock;
  // Of one instance. Beyond it calls of that instance get ETIMEDOUT at once, so that it takes no
  // more threads.
  static constexpr std::size_t kMost = 1024;

  // Before the first call: the instances' deadlines, by number; 0: none. `first` is called when
  // there is a stuck call after there was none; it must not wait.
  void start(const std::vector<std::chrono::nanoseconds>& deadlines, std::function<void()> first);

  bool are_most(std::size_t instance) const {
    return instance < instances_.size() &&
           instances_[instance].count.load(std::memory_order_relaxed) >= kMost;
  }

  // `call` names the call, for as long as it is stuck.
  void begin(std::size_t instance, const void* call);
  void end(const void* call);

  std::size_t count(std::size_t instance) const;
  std::chrono::nanoseconds deadline(std::size_t instance) const;
  std::size_t all() const;

  // An instance with more stuck calls than `most_calls`, or one for longer than `most_times` its
  // deadline: only a new process helps.
  std::optional<std::size_t> beyond_help(std::size_t most_calls, unsigned most_times) const;

  // ipc::Patience
  std::chrono::milliseconds most(const ipc::RequestHeader& request) override;
  void given_up(const ipc::RequestHeader& request) override { begin(request.instance, &request); }
  void came_back(const ipc::RequestHeader& request) override { end(&request); }

 private:
  struct Instance {
    std::chrono::nanoseconds deadline{};
    std::atomic<std::size_t> count{0};
  };
  struct Call {
    std::size_t instance = 0;
    Clock::time_point since;
  };

  std::vector<Instance> instances_;
  std::function<void()> first_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<const void*, Call> calls_;  // guarded by mutex_
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_STUCK_CALLS_H_
