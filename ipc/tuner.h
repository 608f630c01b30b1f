// SPDX-License-Identifier: Apache-2.0
//
// The tuner: measures how this processor copies best and makes the copy table of it.
//
// For each of some sizes it tries every kernel with every unrolling, kind of store and prefetch
// distance as a single copy; then, as a pipeline between two processes, chunk sizes with the best
// of those, and every kernel again on either side of the best pipeline. Candidates take turns, so
// that noise meets all alike; the worse part of them drops out after each stage. What is asked of a
// candidate is that it is good for hot and cold sources: its score is how far it is behind the
// best, where it is furthest behind. libc's memcpy, copied whole, stays unless another one is 3 %
// better.
//
// SOURCE: Asterope, which searches the same space for each processor once.
#ifndef LIBSERVICES_IPC_TUNER_H_
#define LIBSERVICES_IPC_TUNER_H_

#include <chrono>
#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "ipc/copy_table.h"

namespace libservices::ipc {

struct TunerConfig {
  // For all measuring. A copy that there is no time for goes the way of the size before it, and a
  // pipeline that of the default table.
  std::chrono::milliseconds budget{10000};
  // Where the two ends of a pipeline run; -1 for `there`: no pipeline is measured.
  int here = 0;
  int there = -1;
};

// Two processors that share a cache, if this process may run on two.
TunerConfig tuner_config_for_this_machine();

// What was gained at one size. In nanoseconds; 0: not measured.
struct TunedSize {
  struct Times {
    double hot = 0;
    double cold = 0;
  };
  std::size_t size = 0;
  CopyClass way;
  Times libc;          // one memcpy
  Times whole;         // one copy as the table says
  Times shared_whole;  // a transfer by SMC
  Times pipeline;      // a transfer as the table says
};

struct Tuned {
  CopyTable table;
  std::vector<TunedSize> sizes;
};

// Takes some 400 MiB and both processors for as long as the budget says.
// REQUIRES: the calling process has one thread.
// ERRORS: no memory, no second process, for a person to read.
absl::StatusOr<Tuned> tune(const TunerConfig& config);

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_TUNER_H_
