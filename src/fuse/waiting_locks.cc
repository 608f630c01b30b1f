// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/waiting_locks.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace libservices::fuse {

void WaitingLocks::end() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void WaitingLocks::remember_holder(std::uint64_t process, pid_t pid) {
  std::lock_guard lock(mutex_);
  remember_locked(process, pid);
}

// REQUIRES: mutex_.
void WaitingLocks::remember_locked(std::uint64_t process, pid_t pid) {
  constexpr std::size_t kMost = 65536;  // beyond it, holders' numbers are told as 0
  if (pids_.size() >= kMost) pids_.clear();
  pids_[process] = pid;
}

std::uint32_t WaitingLocks::holder_of(std::uint64_t process) {
  if ((process & kOfKernel) == 0) return static_cast<std::uint32_t>(process);
  std::lock_guard lock(mutex_);
  const auto found = pids_.find(process);
  return found == pids_.end() ? 0 : static_cast<std::uint32_t>(found->second);
}

void WaitingLocks::wait_for(Waiting waiting) {
  std::lock_guard lock(mutex_);
  const auto early = std::find(interrupts_.begin(), interrupts_.end(), waiting.unique);
  waiting.interrupted = early != interrupts_.end();
  waiting_.push_back(std::move(waiting));
  if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  changed_.notify_all();
}

// Only waiting for a lock is interrupted: anything else ends by itself.
void WaitingLocks::interrupt(std::uint64_t unique) {
  std::lock_guard lock(mutex_);
  interrupts_[next_interrupt_++ % interrupts_.size()] = unique;  // it may come before its request
  for (Waiting& waiting : waiting_) waiting.interrupted |= waiting.unique == unique;
  changed_.notify_all();
}

// True: it has been answered. REQUIRES: mutex_.
bool WaitingLocks::ask_for(const Waiting& waiting) {
  Result<void> locked = Errno{EINTR};
  OpenFile& file = *waiting.handle->file;
  if (!waiting.interrupted) locked = filesystem_.lock(waiting.context, file, waiting.request);
  if (!locked.ok() && locked.error() == Errno{EAGAIN}) return false;
  if (locked.ok()) remember_locked(waiting.context.process, waiting.pid);
  const int error = locked.ok() ? 0 : locked.error().value;
  const bool taken = carrier_ != nullptr && carrier_->send(waiting.unique, error, {}, {});
  if (!taken && locked.ok()) {
    LockRequest unlock = waiting.request;
    unlock.type = LockRequest::Type::kUnlock;
    (void)filesystem_.lock(waiting.context, file, unlock);
  }
  return true;
}

// Holders may come through shared memory too, so each lock is asked for again and again.
void WaitingLocks::serve() {
  constexpr std::chrono::milliseconds kSoon(1);
  constexpr std::chrono::milliseconds kLater(20);
  constexpr int kSoonTimes = 20;
  std::unique_lock lock(mutex_);
  for (int times = 0; !ending_;) {
    if (waiting_.empty()) {
      changed_.wait(lock);
      times = 0;
      continue;
    }
    std::erase_if(waiting_, [this](const Waiting& one) { return ask_for(one); });
    if (waiting_.empty()) continue;
    changed_.wait_for(lock, times++ < kSoonTimes ? kSoon : kLater);
  }
}

}  // namespace libservices::fuse
