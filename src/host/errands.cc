// SPDX-License-Identifier: Apache-2.0
#include "src/host/errands.h"

#include <system_error>
#include <thread>
#include <utility>

namespace libservices::host {

void Errands::run(std::function<void()> work) {
  std::unique_lock lock(mutex_);
  work_.push_back(std::move(work));
  if (idle_ >= work_.size() || threads_ >= kMostThreads) {
    changed_.notify_one();
    return;
  }
  ++threads_;
  try {
    std::thread([this] {
      std::unique_lock own(mutex_);
      serve(own);
      --threads_;
      ended_.notify_all();
    }).detach();
  } catch (const std::system_error&) {  // a limit
    --threads_;
    if (threads_ != 0) return;  // another one comes to it
    work = std::move(work_.back());
    work_.pop_back();
    lock.unlock();
    work();
  }
}

void Errands::serve(std::unique_lock<std::mutex>& lock) {
  constexpr std::chrono::seconds kSuperfluousAfter(2);
  for (;;) {
    if (work_.empty()) {
      if (stopping_) return;
      ++idle_;
      const bool has_work = changed_.wait_for(lock, kSuperfluousAfter,
                                              [this] { return !work_.empty() || stopping_; });
      --idle_;
      if (!has_work) return;
      continue;
    }
    const std::function<void()> work = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

bool Errands::stop(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  const auto ended = [this] { return threads_ == 0; };
  if (most != ipc::Patience::kForEver) return ended_.wait_for(lock, most, ended);
  ended_.wait(lock, ended);
  return true;
}

}  // namespace libservices::host
