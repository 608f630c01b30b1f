// SPDX-License-Identifier: Apache-2.0
//
// Errands with names: things that come to their end at the same time, where some storage may keep
// one of them from it for ever, and somebody wants to know which.
//
//   Endings endings;
//   endings.begin("/mnt/x", [&] { status = filesystem.stop(); });
//   if (!endings.await(most)) … endings.left() …
#ifndef LIBSERVICES_SRC_HOST_ENDINGS_H_
#define LIBSERVICES_SRC_HOST_ENDINGS_H_

#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "src/host/errands.h"

namespace libservices::host {

class Endings {
 public:
  // What the work uses, and this, must stay until it has ended: after await() has said no, until
  // the process has.
  void begin(std::string what, std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      left_.push_back(what);
    }
    errands_.run([this, what = std::move(what), work = std::move(work)] {
      work();
      const std::lock_guard lock(mutex_);
      std::erase(left_, what);
    });
  }
  // Whether all have ended, in that time. No other begins after it.
  bool await(std::chrono::milliseconds most) { return errands_.stop(most); }
  // What has not ended.
  std::string left() const {
    const std::lock_guard lock(mutex_);
    return fmt::format("{}", fmt::join(left_, ", "));
  }

 private:
  mutable std::mutex mutex_;  // guards left_
  std::vector<std::string> left_;
  Errands errands_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_ENDINGS_H_
