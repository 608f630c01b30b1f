// SPDX-License-Identifier: Apache-2.0
//
// Times single copies and transfers between two processes: what the tuner and the benchmark share.
//
// A cold source is a random page of 256 MiB, as a service's cache is; a hot one is the same each
// time. The destination is hot. Transfers are timed where they are received, as an application sees
// a read: from asking until all bytes have arrived.
//
// THREADS: one. OWNS: the sending process, which ends with the object or with its creator.
#ifndef LIBSERVICES_IPC_COPY_TRIALS_H_
#define LIBSERVICES_IPC_COPY_TRIALS_H_

#include <sched.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>

#include "absl/status/status.h"
#include "ipc/copy.h"

namespace libservices::ipc {

enum class SourceState { kHot, kCold };

inline constexpr std::size_t kMostTrialBytes = std::size_t{64} << 20U;
inline constexpr std::uint32_t kTrialRingBytes = 1U << 20U;  // as RequestBuffer::data

class CopyTrials {
 public:
  enum class Strategy { kSmc, kSmo, kCma };

  CopyTrials() = default;
  CopyTrials(const CopyTrials&) = delete;
  CopyTrials& operator=(const CopyTrials&) = delete;
  ~CopyTrials();

  // Pins the calling thread to `here` until the end, and forks a sender on `there`; -1: no sender.
  // REQUIRES: the calling process has one thread.
  // ERRORS: no memory, no process, no such processor.
  absl::Status start(int here, int there);
  bool has_sender() const { return sender_ > 0; }

  // Nanoseconds for one copy, over as many as make the clock's 20 ns small.
  double copy(CopyRecipe recipe, std::size_t size, SourceState source);

  // Nanoseconds for one transfer, the median of a few. Of `way`, SMC and CMA read nothing.
  // Nothing when it failed; then no later one succeeds.
  std::optional<double> transfer(Strategy strategy, const CopyClass& way, std::size_t size,
                                 SourceState source);

  // For a peer in a benchmark: where to copy to, and what a cold source is.
  std::byte* destination() { return destination_; }  // kMostTrialBytes
  std::size_t random_place(std::size_t size);        // in kSourceBytes, on a page
  static constexpr std::size_t kSourceBytes = std::size_t{256} << 20U;

  pid_t sender() const { return sender_; }

 private:
  struct Control;

  [[noreturn]] void serve(int cpu, int creator_pidfd);
  const std::byte* place(std::size_t size, SourceState source) {
    return source == SourceState::kHot ? source_ : source_ + random_place(size);
  }

  std::byte* source_ = nullptr;
  std::byte* destination_ = nullptr;
  Control* control_ = nullptr;
  pid_t sender_ = 0;
  int sender_pidfd_ = -1;
  std::uint32_t asked_ = 0;
  std::minstd_rand random_{std::random_device()()};
  std::optional<cpu_set_t> affinity_;  // as it was
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_TRIALS_H_
