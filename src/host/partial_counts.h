// SPDX-License-Identifier: Apache-2.0
//
// How many files of an instance are in part elsewhere, counted beside the service: a count looks
// at a whole tree.
#ifndef LIBSERVICES_SRC_HOST_PARTIAL_COUNTS_H_
#define LIBSERVICES_SRC_HOST_PARTIAL_COUNTS_H_

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "libservices/any_filesystem.h"

namespace libservices::host {

class PartialCounts {
 public:
  static constexpr std::chrono::seconds kKept{10};

  // `filesystem` is started, and outlives this.
  explicit PartialCounts(AnyFilesystem& filesystem) : filesystem_(filesystem) {}

  // What the last count found; empty: none has ended yet. Begins another when that is old.
  std::optional<std::uint64_t> latest() {
    std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (!counting_ && (!found_ || now - found_at_ > kKept)) {
      counting_ = true;
      counter_ = std::jthread([this](const std::stop_token& stop) { count(stop); });
    }
    return found_;
  }

 private:
  void count(const std::stop_token& stop) {
    const auto counted = filesystem_.partial_files(Context(), stop);
    std::lock_guard lock(mutex_);
    counting_ = false;
    found_at_ = std::chrono::steady_clock::now();
    if (counted.ok()) found_ = *counted;
  }

  AnyFilesystem& filesystem_;
  std::mutex mutex_;  // guards what follows, but `counter_` is joined without it
  bool counting_ = false;
  std::chrono::steady_clock::time_point found_at_;
  std::optional<std::uint64_t> found_;
  std::jthread counter_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_PARTIAL_COUNTS_H_
