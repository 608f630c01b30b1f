// SPDX-License-Identifier: Apache-2.0
//
// The names that a branch has in one directory, once they are known: a name that is not among them
// is missing, and no call to the branch is needed to say so.
//
// After a few looks that found nothing the directory is listed, if it is not too large. From then
// on whoever changes names in it says so here: insert() after every change that may have added
// one, erase() after one that surely took it away. The set may hold names that are gone; it never
// lacks one that is there, as long as nobody else changes the branch.
// THREADS: all functions at once.
#ifndef LIBSERVICES_SERVICES_UNION_KNOWN_NAMES_H_
#define LIBSERVICES_SERVICES_UNION_KNOWN_NAMES_H_

#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"

namespace libservices::union_internal {

class KnownNames {
 public:
  static constexpr std::size_t kMost = 16384;             // in one directory
  static constexpr std::int64_t kMostTogether = 1 << 20;  // in all directories of a union
  // How many more may be kept.
  using Room = std::shared_ptr<std::atomic<std::int64_t>>;
  static Room make_room() { return std::make_shared<std::atomic<std::int64_t>>(kMostTogether); }

  KnownNames() = default;
  ~KnownNames() { drop(); }
  KnownNames(const KnownNames&) = delete;
  KnownNames& operator=(const KnownNames&) = delete;

  // False: the branch has no such name. One that is too long is the branch's to refuse.
  bool may_have(std::string_view name) const {
    if (name.size() > NAME_MAX) return true;
    if (state_.load(std::memory_order_acquire) != State::kKnown) return true;
    std::shared_lock lock(mutex_);
    return state_.load(std::memory_order_relaxed) != State::kKnown || names_.contains(name);
  }

  // The branch was asked for a name and had none. `list` is called when all its names are wanted:
  // with a function that takes one, and answers whether it wants more; it says whether the branch
  // gave them all.
  template <class List>
  void missed(const Room& room, List&& list) {
    if (state_.load(std::memory_order_relaxed) != State::kUnknown) return;
    if (misses_.fetch_add(1, std::memory_order_relaxed) + 1 < kMissesBefore) return;
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || state_.load(std::memory_order_relaxed) != State::kUnknown) return;
    room_ = room;
    const bool whole = list([this](std::string_view name) { return keep(name); });
    // A branch that failed, or too many: not tried again.
    state_.store(whole && state_.load() == State::kUnknown ? State::kKnown : State::kGivenUp,
                 std::memory_order_release);
    if (state_.load(std::memory_order_relaxed) == State::kGivenUp) drop();
  }

  void insert(std::string_view name) {
    std::unique_lock lock(mutex_);  // waits for a listing that may have come too early
    if (state_.load(std::memory_order_relaxed) == State::kKnown && !keep(name)) drop();
  }
  void erase(std::string_view name) {
    std::unique_lock lock(mutex_);
    const auto found = names_.find(name);
    if (found == names_.end()) return;
    names_.erase(found);
    room_->fetch_add(1, std::memory_order_relaxed);
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const {
      return std::hash<std::string_view>{}(name);
    }
  };
  enum class State : std::uint8_t { kUnknown, kKnown, kGivenUp };
  static constexpr unsigned kMissesBefore = 4;

  // REQUIRES: mutex_. False, and kGivenUp, when there is no room for it.
  bool keep(std::string_view name) {
    if (!names_.emplace(name).second) return true;
    if (room_->fetch_sub(1, std::memory_order_relaxed) > 0 && names_.size() <= kMost) return true;
    state_.store(State::kGivenUp, std::memory_order_release);
    return false;
  }
  // REQUIRES: mutex_, or nobody else.
  void drop() {
    if (room_ == nullptr) return;
    room_->fetch_add(static_cast<std::int64_t>(names_.size()), std::memory_order_relaxed);
    names_ = {};
  }

  mutable std::shared_mutex mutex_;  // held alone while the directory is listed
  std::atomic<State> state_{State::kUnknown};
  std::atomic<unsigned> misses_{0};
  absl::flat_hash_set<std::string, Hash, std::equal_to<>>
      names_;  // this and the next: guarded by mutex_
  Room room_;
};

// A change that may add `name`, however it ends.
class AddingName {
 public:
  AddingName(KnownNames& names, std::string_view name) : names_(names), name_(name) {}
  ~AddingName() { names_.insert(name_); }
  AddingName(const AddingName&) = delete;
  AddingName& operator=(const AddingName&) = delete;

 private:
  KnownNames& names_;
  const std::string_view name_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_KNOWN_NAMES_H_
