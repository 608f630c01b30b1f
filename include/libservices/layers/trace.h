// SPDX-License-Identifier: Apache-2.0
//
// `Trace<Lower>`: counts each operation and its failures, and tells a sink of each if one is given.
//
// For seeing what a stack asks of the layer beneath: in tests, and while looking for what is slow.
// Counting costs one atomic increment; the clock is read only where durations are wanted.
//
// THREADS: the sink is called by the thread of the operation, so by several at once.
#ifndef LIBSERVICES_LAYERS_TRACE_H_
#define LIBSERVICES_LAYERS_TRACE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "libservices/layers/forwarding.h"

namespace libservices {

struct TraceRecord {
  Operation operation;
  Errno error;  // 0 for success
  std::chrono::nanoseconds duration;
  std::uint64_t request;  // Context::request
};

using TraceSink = std::function<void(const TraceRecord&)>;

struct TraceCounts {
  std::uint64_t calls = 0;
  std::uint64_t failures = 0;
  std::chrono::nanoseconds duration{0};  // of all calls together; zero without durations
};

enum class TraceDetail : std::uint8_t { kCounts, kDurations };

class TraceAround : public PassOn {
 public:
  TraceAround(TraceDetail detail, TraceSink sink) : detail_(detail), sink_(std::move(sink)) {}

  template <class Call>
  auto operator()(Operation operation, const Context& context, Call&& call) {
    Counters& counters = counters_[static_cast<std::size_t>(operation)];
    counters.calls.fetch_add(1, std::memory_order_relaxed);
    if (detail_ == TraceDetail::kCounts && !sink_) {
      auto result = call();
      count_failure(counters, result.error());
      return result;
    }
    const auto begin = std::chrono::steady_clock::now();
    auto result = call();
    const std::chrono::nanoseconds duration = std::chrono::steady_clock::now() - begin;
    count_failure(counters, result.error());
    counters.nanoseconds.fetch_add(static_cast<std::uint64_t>(duration.count()),
                                   std::memory_order_relaxed);
    if (sink_) sink_({operation, result.error(), duration, context.request});
    return result;
  }

  TraceCounts counts(Operation operation) const {
    const Counters& counters = counters_[static_cast<std::size_t>(operation)];
    return {counters.calls.load(std::memory_order_relaxed),
            counters.failures.load(std::memory_order_relaxed),
            std::chrono::nanoseconds(counters.nanoseconds.load(std::memory_order_relaxed))};
  }

 private:
  struct Counters {
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::uint64_t> nanoseconds{0};
  };
  static void count_failure(Counters& counters, Errno error) {
    if (error.value != 0) counters.failures.fetch_add(1, std::memory_order_relaxed);
  }

  const TraceDetail detail_;
  const TraceSink sink_;
  std::array<Counters, kOperationCount> counters_;
};

template <ReadableService Lower>
class Trace : public Forwarding<Lower, TraceAround> {
  using Base = Forwarding<Lower, TraceAround>;

 public:
  struct Config {
    typename Lower::Config lower;
    TraceDetail detail = TraceDetail::kCounts;
    TraceSink sink = nullptr;
  };

  explicit Trace(Config config)
      : Base(std::in_place, std::move(config.lower), config.detail, std::move(config.sink)) {}

  TraceCounts counts(Operation operation) const { return this->around().counts(operation); }
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_TRACE_H_
