// SPDX-License-Identifier: Apache-2.0
//
// Threads that wait in the kernel, and are taken out of there by a signal.
//
// WARNING: they must never use a mount that this process serves. A thread that waits for an answer
// of a process that is being killed keeps that process from dying, and so it waits for ever.
#ifndef LIBSERVICES_SRC_FUSE_THREADS_H_
#define LIBSERVICES_SRC_FUSE_THREADS_H_

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <vector>

namespace libservices::fuse {

class Threads {
 public:
  static constexpr std::chrono::milliseconds kForEver = std::chrono::milliseconds::max();

  // From the first on the handler of SIGRTMIN + 8, which does nothing, is this process's.
  Threads();
  ~Threads() { (void)stop(); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // False: there is none to be had, or they are being stopped. `work` looks at is_stopping() before
  // each wait, which the signal ends with EINTR.
  bool begin(std::function<void()> work);
  // Waits until all have ended. False: some do not in this time; this object must stay.
  bool stop(std::chrono::milliseconds most = kForEver);
  bool is_stopping() const { return stopping_.load(std::memory_order_acquire); }
  std::size_t size() const;

 private:
  void run(const std::function<void()>& work);

  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable ended_;
  std::vector<pthread_t> threads_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_THREADS_H_
