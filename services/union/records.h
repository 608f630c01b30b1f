// SPDX-License-Identifier: Apache-2.0
//
// What a union knows of an object: the branches that have it, and the identity that callers see.
//
// Identity. Callers see one device number and, as inode number, that of the branch object that was
// found first, with the branch in its upper bits. A copy-up does not change it while the instance
// runs: the table remembers which upper objects stand for which earlier numbers.
#ifndef LIBSERVICES_SERVICES_UNION_RECORDS_H_
#define LIBSERVICES_SERVICES_UNION_RECORDS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/libservice.h"
#include "services/union/known_names.h"

namespace libservices::union_internal {

// An object of a branch. Branch 0 is the upper, 1 the first lower.
struct BranchKey {
  std::uint32_t branch = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;

  friend bool operator==(const BranchKey&, const BranchKey&) = default;
  template <class H>
  friend H AbslHashValue(H hash, const BranchKey& key) {
    return H::combine(std::move(hash), key.branch, key.device, key.inode);
  }
};

template <class UpperNode, class LowerNode>
struct Record {
  struct InLower {
    std::uint32_t branch;  // 1 = the first
    LowerNode node;
  };

  // `first` is the branch object as it was found first.
  Record(std::uint64_t inode, const Attributes& first)
      : inode(inode), type(first.mode & S_IFMT), born(first.btime) {}

  bool is_directory() const { return S_ISDIR(type); }
  std::optional<UpperNode> upper() const {
    std::lock_guard lock(mutex);
    return upper_node;
  }
  bool has_upper() const { return in_upper.load(std::memory_order_acquire); }
  // More than one branch has a part of this directory.
  bool is_merged() const { return lowers.size() + (has_upper() ? 1 : 0) > 1; }

  const std::uint64_t inode;
  const std::uint32_t type;           // S_IFMT
  const Timestamp born;               // a copy-up is no birth
  std::vector<InLower> lowers;        // from the top; of a non-directory the first at most.
                                      // Set before the record is seen, then left alone
  std::atomic<bool> in_upper{false};  // upper_node is set: never unset
  std::atomic<std::uint32_t> names_removed{0};  // that the lowers go on having
  std::shared_mutex entries;                    // directories: shared to look, exclusive to change
  std::mutex copy_up;                           // held while the object comes into the upper
  KnownNames upper_names;  // directories: of the upper's part, and of the lowers' parts
  KnownNames lower_names;

  mutable std::mutex mutex;  // guards what follows
  std::optional<UpperNode> upper_node;
  std::shared_ptr<Record> parent;  // where a copy-up goes; null: the root, or no name left
  std::string name;
};

// One record for each object that something refers to, by every branch object it consists of.
template <class UpperNode, class LowerNode>
class RecordTable {
 public:
  using R = Record<UpperNode, LowerNode>;
  using Pointer = std::shared_ptr<R>;

  // The number that callers see for a branch object.
  std::uint64_t number_of(const BranchKey& key) const {
    if (key.branch == 0) {
      std::shared_lock lock(mutex_);
      if (const auto known = renumbered_.find(key); known != renumbered_.end()) {
        return known->second;
      }
    }
    constexpr unsigned kBranchShift = 52;
    const std::uint64_t device = key.branch < devices_.size() ? devices_[key.branch] : 0;
    if (key.device == device && key.inode >> kBranchShift == 0 && key.branch < 2048) {
      return key.inode | std::uint64_t{key.branch} << kBranchShift;
    }
    // Another device below the branch's directory, or a number that leaves no room.
    std::uint64_t mixed = key.inode + 0x9e3779b97f4a7c15ULL * (key.device + key.branch + 1);
    mixed = (mixed ^ (mixed >> 31U)) * 0xbf58476d1ce4e5b9ULL;
    return (mixed ^ (mixed >> 29U)) | std::uint64_t{1} << 63U;
  }

  // Before use: the device of each branch's root.
  void set_devices(std::vector<std::uint64_t> devices) { devices_ = std::move(devices); }

  // The record that is known by `key`, or the one that `make` makes.
  template <class Make>
  Pointer intern(const BranchKey& key, std::uint32_t type, Make&& make) {
    {
      std::shared_lock lock(mutex_);
      if (Pointer known = find(key, type)) return known;
    }
    Pointer made = make(number_of(key));
    std::unique_lock lock(mutex_);
    if (Pointer known = find(key, type)) return known;
    records_[key] = made;
    if (++since_sweep_ > 4096) sweep();
    return made;
  }

  Pointer known(const BranchKey& key, std::uint32_t type) const {
    std::shared_lock lock(mutex_);
    return find(key, type);
  }

  // `record` has come into the upper as `key`, and keeps its number.
  void copied_up(const BranchKey& key, const Pointer& record) {
    std::unique_lock lock(mutex_);
    records_[key] = record;
    renumbered_[key] = record->inode;
  }

  // The upper object has lost its last name: its number may be given to another one.
  void forget(const BranchKey& key) {
    std::unique_lock lock(mutex_);
    renumbered_.erase(key);
    records_.erase(key);
  }

 private:
  Pointer find(const BranchKey& key, std::uint32_t type) const {
    const auto found = records_.find(key);
    Pointer known = found != records_.end() ? found->second.lock() : nullptr;
    return known != nullptr && known->type == type ? known : nullptr;
  }

  void sweep() {
    since_sweep_ = 0;
    absl::erase_if(records_, [](const auto& entry) { return entry.second.expired(); });
  }

  std::vector<std::uint64_t> devices_;
  mutable std::shared_mutex mutex_;  // guards what follows
  absl::flat_hash_map<BranchKey, std::weak_ptr<R>> records_;
  absl::flat_hash_map<BranchKey, std::uint64_t> renumbered_;
  std::size_t since_sweep_ = 0;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_RECORDS_H_
