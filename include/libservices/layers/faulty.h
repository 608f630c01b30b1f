// SPDX-License-Identifier: Apache-2.0
//
// `Faulty<Lower>`: makes operations fail, or take long, as its plan says, to test what stands
// above.
//
//   auto plan = std::make_shared<FaultPlan>();
//   Faulty<Memory> service({.lower = {}, .plan = plan});
//   plan->add({.operation = Operation::fsync, .error = {EIO}, .first_call = 3});
//
// A failing operation does not reach the layer beneath, except that `after` lets it happen first:
// the answer is lost, as it is when a connection breaks. Plans can be changed at any time.
#ifndef LIBSERVICES_LAYERS_FAULTY_H_
#define LIBSERVICES_LAYERS_FAULTY_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "libservices/layers/forwarding.h"

namespace libservices {

struct Fault {
  enum class When : std::uint8_t { kBefore, kAfter };

  Operation operation = Operation::read;
  Errno error{EIO};  // 0: none, it only takes long
  std::uint64_t first_call = 1;  // the first call that fails, counted from when the fault was added
  std::uint64_t every = 0;       // then every so many calls; 0 = no further one
  When when = When::kBefore;
  std::chrono::steady_clock::time_point not_before{};
  std::chrono::nanoseconds delay{};  // before anything else, as of a backend that does not answer
};

class FaultPlan {
 public:
  enum class Moment : std::uint8_t { kBefore, kAfter };
  // Called around each operation that changes something: where a crash test ends the process.
  using Hook = std::function<void(Operation, Moment)>;

  void add(Fault fault) {
    std::lock_guard lock(mutex_);
    planned_.push_back({fault, 0});
    active_.store(true, std::memory_order_release);
  }
  void set_hook(Hook hook) {
    std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
    active_.store(true, std::memory_order_release);
  }
  // Each write hands down at most so many bytes. UINT64_MAX = all.
  void limit_writes(std::uint64_t bytes) { write_bytes_.store(bytes, std::memory_order_relaxed); }
  void clear() {
    std::lock_guard lock(mutex_);
    planned_.clear();
    hook_ = nullptr;
    active_.store(false, std::memory_order_release);
  }

  std::uint64_t failed() const { return failed_.load(std::memory_order_relaxed); }
  std::uint64_t write_bytes() const { return write_bytes_.load(std::memory_order_relaxed); }

  template <class Call>
  auto run(Operation operation, Call&& call) -> decltype(call()) {
    // Pairs with the stores in add, set_hook and clear.
    if (!active_.load(std::memory_order_acquire)) return call();
    Hook hook;
    const Fault fault = next(operation, hook);
    const bool fails = fault.error.value != 0;
    if (fault.delay.count() != 0) std::this_thread::sleep_for(fault.delay);
    if (fails && fault.when == Fault::When::kBefore) return fault.error;
    if (hook) hook(operation, Moment::kBefore);
    auto result = call();
    if (hook) hook(operation, Moment::kAfter);
    if (fails) return fault.error;
    return result;
  }

 private:
  struct Planned {
    Fault fault;
    std::uint64_t calls;
  };

  // The fault of this call; its error is 0 if there is none.
  Fault next(Operation operation, Hook& hook) {
    std::lock_guard lock(mutex_);
    if (operation >= Operation::create) hook = hook_;  // the first that changes something
    Fault found{.error = {0}};
    bool is_found = false;
    for (Planned& planned : planned_) {
      const Fault& fault = planned.fault;
      if (fault.operation != operation || is_found) continue;
      if (std::chrono::steady_clock::now() < fault.not_before) continue;
      const std::uint64_t call = ++planned.calls;
      const bool again = fault.every != 0 && call > fault.first_call &&
                         (call - fault.first_call) % fault.every == 0;
      if (call == fault.first_call || again) {
        found = fault;
        is_found = true;
        failed_.fetch_add(1, std::memory_order_relaxed);
      }
    }
    return found;
  }

  std::atomic<bool> active_{false};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> write_bytes_{UINT64_MAX};
  std::mutex mutex_;  // guards what follows
  std::vector<Planned> planned_;
  Hook hook_;
};

class FaultyAround : public PassOn {
 public:
  explicit FaultyAround(std::shared_ptr<FaultPlan> plan) : plan_(std::move(plan)) {
    if (!plan_) plan_ = std::make_shared<FaultPlan>();
  }

  template <class Call>
  auto operator()(Operation operation, const Context&, Call&& call) {
    return plan_->run(operation, std::forward<Call>(call));
  }
  FaultPlan& plan() { return *plan_; }

 private:
  std::shared_ptr<FaultPlan> plan_;
};

template <ReadableService Lower>
class Faulty : public Forwarding<Lower, FaultyAround> {
  using Base = Forwarding<Lower, FaultyAround>;

 public:
  using typename Base::File;

  struct Config {
    typename Lower::Config lower;
    std::shared_ptr<FaultPlan> plan = nullptr;  // null: one of its own
  };

  explicit Faulty(Config config)
      : Base(std::in_place, std::move(config.lower), std::move(config.plan)) {}

  FaultPlan& plan() { return this->around().plan(); }

  Result<std::size_t> write(const Context& context, File& file, std::uint64_t offset,
                            std::span<const std::byte> from)
    requires CanWrite<Lower>
  {
    return Base::write(context, file, offset,
                       from.first(std::min<std::uint64_t>(from.size(), plan().write_bytes())));
  }
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_FAULTY_H_
