// SPDX-License-Identifier: Apache-2.0
#include "src/host/stuck_calls.h"

#include <utility>

namespace libservices::host {

void StuckCalls::start(const std::vector<std::chrono::nanoseconds>& deadlines,
                       std::function<void()> first) {
  first_ = std::move(first);
  instances_ = std::vector<Instance>(deadlines.size());
  for (std::size_t i = 0; i < deadlines.size(); ++i) instances_[i].deadline = deadlines[i];
}

void StuckCalls::begin(std::size_t instance, const void* call) {
  std::lock_guard lock(mutex_);
  if (instance >= instances_.size()) return;
  if (!calls_.emplace(call, Call{instance, Clock::now()}).second) return;
  ++instances_[instance].count;
  if (calls_.size() == 1 && first_) first_();
}

void StuckCalls::end(const void* call) {
  std::lock_guard lock(mutex_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  --instances_[found->second.instance].count;
  calls_.erase(found);
}

std::size_t StuckCalls::count(std::size_t instance) const {
  return instance < instances_.size() ? instances_[instance].count.load() : 0;
}

std::chrono::nanoseconds StuckCalls::deadline(std::size_t instance) const {
  return instance < instances_.size() ? instances_[instance].deadline : std::chrono::nanoseconds();
}

std::size_t StuckCalls::all() const {
  std::lock_guard lock(mutex_);
  return calls_.size();
}

std::optional<std::size_t> StuckCalls::beyond_help(std::size_t most_calls,
                                                   unsigned most_times) const {
  std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  for (const auto& [name, call] : calls_) {
    const Instance& instance = instances_[call.instance];
    if (instance.count.load() > most_calls) return call.instance;
    // Given up when the first of these times was over.
    if (instance.deadline.count() != 0 && now - call.since > (most_times - 1) * instance.deadline) {
      return call.instance;
    }
  }
  return std::nullopt;
}

std::chrono::milliseconds StuckCalls::most(const ipc::RequestHeader& request) {
  const std::chrono::nanoseconds deadline = this->deadline(request.instance);
  if (deadline.count() == 0) return kForEver;
  return std::chrono::ceil<std::chrono::milliseconds>(deadline);
}

}  // namespace libservices::host
