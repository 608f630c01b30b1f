// SPDX-License-Identifier: Apache-2.0
//
// The advisory locks on one object: byte ranges of fcntl (POSIX record locks and open file
// description locks, which conflict with each other) and flock's whole-file locks, which conflict
// only among themselves, as on Linux.
//
// THREADS: all members may be called at once.
#ifndef LIBSERVICES_INTERNAL_LOCK_TABLE_H_
#define LIBSERVICES_INTERNAL_LOCK_TABLE_H_

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "libservices/any_filesystem.h"

namespace libservices::internal {

class LockTable {
 public:
  // Who asks: a process for record locks, else an open file.
  struct Owner {
    std::uint64_t process = 0;
    const OpenFile* file = nullptr;
    friend bool operator==(const Owner&, const Owner&) = default;
  };

  static Owner owner_of(const LockRequest& request, std::uint64_t process, const OpenFile* file) {
    if (request.owner == LockRequest::Owner::kRecord) return {process, nullptr};
    return {0, file};
  }

  // ERRORS: EAGAIN.
  Result<void> set(const Owner& owner, const LockRequest& request) {
    std::lock_guard lock(mutex_);
    if (request.type != LockRequest::Type::kUnlock && conflict(owner, request)) {
      return Errno{EAGAIN};
    }
    std::vector<Held> kept;
    kept.reserve(held_.size() + 2);
    for (const Held& held : held_) {
      if (!(held.owner == owner) || held.flock != is_flock(request) ||
          held.end < request.start || held.start > request.end) {
        kept.push_back(held);
        continue;
      }
      if (held.start < request.start) {  // what sticks out on either side stays as it was
        kept.push_back(held);
        kept.back().end = request.start - 1;
      }
      if (held.end > request.end) {
        kept.push_back(held);
        kept.back().start = request.end + 1;
      }
    }
    if (request.type != LockRequest::Type::kUnlock) {
      kept.push_back({owner, is_flock(request), request.type == LockRequest::Type::kExclusive,
                      request.start, request.end});
    }
    held_.swap(kept);
    return {};
  }

  LockRequest test(const Owner& owner, LockRequest request) const {
    std::lock_guard lock(mutex_);
    if (const Held* held = conflict(owner, request)) {
      request.type = held->exclusive ? LockRequest::Type::kExclusive : LockRequest::Type::kShared;
      request.start = held->start;
      request.end = held->end;
      request.process = held->owner.process;
    } else {
      request.type = LockRequest::Type::kUnlock;
    }
    return request;
  }

  void drop(const Owner& owner) {
    std::lock_guard lock(mutex_);
    std::erase_if(held_, [&](const Held& held) { return held.owner == owner; });
  }

  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return held_.size();
  }

 private:
  struct Held {
    Owner owner;
    bool flock;
    bool exclusive;
    std::uint64_t start;
    std::uint64_t end;  // inclusive
  };

  static bool is_flock(const LockRequest& request) {
    return request.owner == LockRequest::Owner::kFlock;
  }

  const Held* conflict(const Owner& owner, const LockRequest& request) const {
    for (const Held& held : held_) {
      if (held.owner == owner || held.flock != is_flock(request)) continue;
      if (held.end < request.start || held.start > request.end) continue;
      if (held.exclusive || request.type == LockRequest::Type::kExclusive) return &held;
    }
    return nullptr;
  }

  mutable std::mutex mutex_;
  std::vector<Held> held_;  // guarded by mutex_
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_LOCK_TABLE_H_
