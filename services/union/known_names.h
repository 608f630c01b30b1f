// SPDX-License-Identifier: Apache-2.0
//
// The names that a branch has in one directory, once they are known: a name that is not among them
// is missing, and no call to the branch is needed to say so.
//
// After a few looks that found nothing the directory is listed, if it is not too large; of one that
// was made by the union they are known at once. From then on whoever changes names in it says so
// here: insert() after every change that may have added one, erase() after one that surely took it
// away. The set may hold names that are gone; it never lacks one that is there, as long as nobody
// else changes the branch. THREADS: all functions at once.
#ifndef LIBSERVICES_SERVICES_UNION_KNOWN_NAMES_H_
#define LIBSERVICES_SERVICES_UNION_KNOWN_NAMES_H_

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"

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

  // Of a directory that was made just now. REQUIRES: nobody else has this yet.
  void know_empty(const Room& room) {
    room_ = room;
    state_.store(State::kKnown, std::memory_order_release);
  }

  // The first of the places that may have the name, counted from 0; empty: none has it. A name that
  // is too long is the branch's to refuse.
  std::optional<std::size_t> first_place(std::string_view name) const {
    if (name.size() > NAME_MAX) return 0;
    if (state_.load(std::memory_order_acquire) != State::kKnown) return 0;
    std::shared_lock lock(mutex_);
    if (state_.load(std::memory_order_relaxed) != State::kKnown) return 0;
    const auto found = names_.find(name);
    if (found == names_.end()) return std::nullopt;
    return found->second;
  }

  // The `places` were asked for a name, `misses` of them in vain. `list` is called when all their
  // names are wanted: with a function that takes a name and its place, and answers whether it wants
  // more; it says whether the branches gave them all.
  template <class List>
  void missed(const Room& room, std::size_t misses, std::size_t places, List&& list) {
    if (state_.load(std::memory_order_relaxed) != State::kUnknown) return;
    const std::size_t all = misses_.fetch_add(misses, std::memory_order_relaxed) + misses;
    if (all < kMissesBefore * places) return;
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || state_.load(std::memory_order_relaxed) != State::kUnknown) return;
    room_ = room;
    const bool whole =
        list([this](std::string_view name, std::size_t place) { return keep(name, place); });
    // A branch that failed, or too many: not tried again.
    state_.store(whole && state_.load() == State::kUnknown ? State::kKnown : State::kGivenUp,
                 std::memory_order_release);
    if (state_.load(std::memory_order_relaxed) == State::kGivenUp) drop();
  }

  void insert(std::string_view name) {
    std::unique_lock lock(mutex_);  // waits for a listing that may have come too early
    if (state_.load(std::memory_order_relaxed) == State::kKnown && !keep(name, 0)) drop();
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
  static constexpr std::size_t kMissesBefore = 4;  // of each place

  // REQUIRES: mutex_. False, and kGivenUp, when there is no room for it.
  bool keep(std::string_view name, std::size_t place) {
    const auto [known, added] =
        names_.try_emplace(std::string(name), static_cast<std::uint32_t>(place));
    if (!added) {
      known->second = std::min(known->second, static_cast<std::uint32_t>(place));
      return true;
    }
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
  std::atomic<std::size_t> misses_{0};
  // Each with its first place. This and the next: guarded by mutex_.
  absl::flat_hash_map<std::string, std::uint32_t, Hash, std::equal_to<>> names_;
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
