// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/threads.h"

#include <signal.h>

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace libservices::fuse {
namespace {

int wake_up_signal() { return SIGRTMIN + 8; }

}  // namespace

Threads::Threads() {
  struct sigaction wake {};
  wake.sa_handler = [](int) {};  // without SA_RESTART: what waits ends with EINTR
  ::sigaction(wake_up_signal(), &wake, nullptr);
}

bool Threads::begin(std::function<void()> work) {
  sigset_t most;
  sigset_t before;
  ::sigfillset(&most);  // the others are for the service's own threads
  ::sigdelset(&most, wake_up_signal());
  std::lock_guard lock(mutex_);
  if (is_stopping()) return false;
  ::pthread_sigmask(SIG_SETMASK, &most, &before);
  bool begun = true;
  try {
    std::thread thread([this, work = std::move(work)] { run(work); });
    threads_.push_back(thread.native_handle());
    thread.detach();
  } catch (const std::system_error&) {
    begun = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return begun;
}

void Threads::run(const std::function<void()>& work) {
  work();
  std::lock_guard lock(mutex_);
  std::erase_if(threads_,
                [](pthread_t one) { return ::pthread_equal(one, ::pthread_self()) != 0; });
  // Under the lock: who waits may end this object as soon as it has it.
  ended_.notify_all();
}

bool Threads::stop(std::chrono::milliseconds most) {
  const auto begun = std::chrono::steady_clock::now();
  constexpr std::chrono::milliseconds kAgain(10);  // a signal may come just before the wait
  std::unique_lock lock(mutex_);
  stopping_.store(true, std::memory_order_release);
  while (!threads_.empty()) {
    if (most != kForEver && std::chrono::steady_clock::now() - begun > most) return false;
    for (const pthread_t thread : threads_) ::pthread_kill(thread, wake_up_signal());
    ended_.wait_for(lock, kAgain);
  }
  return true;
}

std::size_t Threads::size() const {
  std::lock_guard lock(mutex_);
  return threads_.size();
}

}  // namespace libservices::fuse
