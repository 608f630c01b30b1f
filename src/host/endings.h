// SPDX-License-Identifier: Apache-2.0
//
// Things that come to their end at the same time, each on a thread of its own, since some storage
// may keep one of them from it for ever.
//
//   Endings endings;
//   endings.begin("/mnt/x", [&] { status = filesystem.stop(); });
//   if (!endings.await(most)) … endings.left() …
#ifndef LIBSERVICES_SRC_HOST_ENDINGS_H_
#define LIBSERVICES_SRC_HOST_ENDINGS_H_

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/back_driver.h"

namespace libservices::host {

// THREADS: one.
class Endings {
 public:
  // What the work uses, and this, must stay until it has ended: after await() has said no, until
  // the process has.
  void begin(std::string what, std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      left_.push_back(what);
    }
    auto run = [this, what = std::move(what), work = std::move(work)] {
      work();
      const std::lock_guard lock(mutex_);
      std::erase(left_, what);
      changed_.notify_all();
    };
    try {
      threads_.emplace_back(run);
    } catch (const std::system_error&) {  // there is none to be had
      run();
    }
  }

  // Whether all have ended, in that time.
  bool await(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    const auto none_left = [this] { return left_.empty(); };
    bool ended = true;
    if (most == ipc::Patience::kForEver) {
      changed_.wait(lock, none_left);
    } else {
      ended = changed_.wait_for(lock, most, none_left);
    }
    lock.unlock();
    for (std::thread& thread : threads_) {
      if (ended) {
        thread.join();
      } else {
        thread.detach();
      }
    }
    threads_.clear();
    return ended;
  }
  // What has not ended.
  std::string left() const {
    const std::lock_guard lock(mutex_);
    return fmt::format("{}", fmt::join(left_, ", "));
  }

 private:
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<std::string> left_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_ENDINGS_H_
