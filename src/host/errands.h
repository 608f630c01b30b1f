// SPDX-License-Identifier: Apache-2.0
//
// Work that may have to wait for a filesystem, and that nobody waits for: the closing of files, say.
// Each piece has a thread of its own while others wait, so that none holds up another.
//
// THREADS: run() at once.
#ifndef LIBSERVICES_SRC_HOST_ERRANDS_H_
#define LIBSERVICES_SRC_HOST_ERRANDS_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

#include "ipc/back_driver.h"

namespace libservices::host {

class Errands {
 public:
  // Beyond so many threads, work waits for one of them.
  static constexpr std::size_t kMostThreads = 1024;

  ~Errands() { (void)stop(ipc::Patience::kForEver); }

  void run(std::function<void()> work);
  // Ends the threads when all is done. False: some work does not end in this time, and nothing that
  // it uses may be destroyed.
  bool stop(std::chrono::milliseconds most);

 private:
  void serve(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::condition_variable ended_;
  std::deque<std::function<void()>> work_;
  std::size_t threads_ = 0;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_ERRANDS_H_
