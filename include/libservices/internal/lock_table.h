// SPDX-License-Identifier: Apache-2.0
//
// The advisory locks on one object: byte ranges of fcntl (POSIX record locks and open file
// description locks, which conflict with each other) and flock's whole-file locks, which conflict
// only among themselves, as on Linux.
//
// Where the storage has locks, too (OffersLocks), each change is told it through the open files
// that the owner asked through, with the table locked: those who ask at once are told in turn what
// holds.
//
// THREADS: all members may be called at once.
#ifndef LIBSERVICES_INTERNAL_LOCK_TABLE_H_
#define LIBSERVICES_INTERNAL_LOCK_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/functional/function_ref.h"
#include "libservices/lock_request.h"
#include "libservices/open_file.h"
#include "libservices/result.h"

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

  // Of an owner, for the storage: never 0, and not the same for a process and an open file.
  static std::uint64_t number_of(const Owner& owner) {
    return owner.file != nullptr ? reinterpret_cast<std::uintptr_t>(owner.file)
                                 : owner.process << 1U | 1U;
  }
  // Asks the storage, through an open file of this object.
  using Storage =
      absl::FunctionRef<Result<void>(OpenFile& through, std::uint64_t owner, const LockRequest&)>;
  static Result<void> no_storage(OpenFile&, std::uint64_t, const LockRequest&) { return {}; }

  // ERRORS: EAGAIN, and the storage's.
  Result<void> set(const Owner& owner, const LockRequest& request, OpenFile& through,
                   Storage storage) {
    std::lock_guard lock(mutex_);
    if (request.type == LockRequest::Type::kUnlock) {
      unlock(owner, request, storage);
      return {};
    }
    if (conflict(owner, request)) return Errno{EAGAIN};
    const Use use{owner, &through};
    if (std::find(uses_.begin(), uses_.end(), use) == uses_.end()) uses_.push_back(use);
    auto asked = storage(through, number_of(owner), request);
    if (asked.ok()) {
      put(owner, request);
    } else {
      forget_uses(owner);
    }
    return asked;
  }

  // The first conflicting lock here; kUnlock if there is none.
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

  void drop(const Owner& owner, Storage storage) {
    std::lock_guard lock(mutex_);
    for (const auto kind : {LockRequest::Owner::kRecord, LockRequest::Owner::kFlock}) {
      unlock(owner, {.owner = kind, .type = LockRequest::Type::kUnlock}, storage);
    }
  }

  // An open file ends: so do its locks, in the storage by themselves, and nobody asks through it.
  void end(const OpenFile* file) {
    std::lock_guard lock(mutex_);
    std::erase_if(held_, [&](const Held& held) { return held.owner.file == file; });
    size_.store(held_.size(), std::memory_order_relaxed);
    std::erase_if(uses_, [&](const Use& use) { return use.through == file; });
  }

  // Never waits for the storage.
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  struct Held {
    Owner owner;
    bool flock;
    bool exclusive;
    std::uint64_t start;
    std::uint64_t end;  // inclusive
  };
  struct Use {
    Owner owner;
    OpenFile* through;
    friend bool operator==(const Use&, const Use&) = default;
  };

  static bool is_flock(const LockRequest& request) {
    return request.owner == LockRequest::Owner::kFlock;
  }
  static bool overlap(const Held& held, const LockRequest& request) {
    return held.flock == is_flock(request) && held.end >= request.start &&
           held.start <= request.end;
  }
  bool holds(const Owner& owner, bool flock) const {
    return std::any_of(held_.begin(), held_.end(), [&](const Held& held) {
      return held.owner == owner && held.flock == flock;
    });
  }
  void forget_uses(const Owner& owner) {
    if (holds(owner, false) || holds(owner, true)) return;
    std::erase_if(uses_, [&](const Use& use) { return use.owner == owner; });
  }

  // `request` instead of what the owner has in its range.
  void put(const Owner& owner, const LockRequest& request) {
    std::vector<Held> kept;
    kept.reserve(held_.size() + 2);
    for (const Held& held : held_) {
      if (!(held.owner == owner) || !overlap(held, request)) {
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
    size_.store(held_.size(), std::memory_order_relaxed);
  }

  void unlock(const Owner& owner, LockRequest request, Storage storage) {
    const bool any = std::any_of(held_.begin(), held_.end(), [&](const Held& held) {
      return held.owner == owner && overlap(held, request);
    });
    if (!any) return;
    put(owner, request);
    // Who has none left has it said so that nothing can remain.
    if (!holds(owner, is_flock(request))) {
      request.start = 0;
      request.end = UINT64_MAX;
    }
    for (const Use& use : uses_) {
      if (use.owner == owner) (void)storage(*use.through, number_of(owner), request);
    }
    forget_uses(owner);
  }

  const Held* conflict(const Owner& owner, const LockRequest& request) const {
    for (const Held& held : held_) {
      if (held.owner == owner || !overlap(held, request)) continue;
      if (held.exclusive || request.type == LockRequest::Type::kExclusive) return &held;
    }
    return nullptr;
  }

  mutable std::mutex mutex_;
  std::vector<Held> held_;  // guarded by mutex_, as what follows
  // Through which open files the owners of locks have asked.
  std::vector<Use> uses_;
  std::atomic<std::size_t> size_{0};  // of held_
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_LOCK_TABLE_H_
