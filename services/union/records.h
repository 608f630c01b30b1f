// SPDX-License-Identifier: Apache-2.0
//
// What a union knows of an object: the branches that have it, and the identity that callers see.
//
// Identity. Callers see one device number and, as inode number, that of a branch's object with the
// branch in its upper bits: of the topmost lower part of a directory, of the lower object that a
// file was copied from (its origin, marks.h), else of the upper object. So a copy-up, a rename and
// a restart change nothing.
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
#include "services/union/ranges.h"

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

// A part of an object in a lower branch.
template <class LowerNode>
struct LowerPart {
  std::uint32_t branch = 0;  // 1 = the first
  LowerNode node;
  bool impure = false;            // a directory: marks in it may matter (marks.h)
  bool whiteouts_inside = false;  // a directory: empty files in it may be whiteouts
  std::optional<RangeMap> ranges;  // a file that has only these bytes: the others are in the next
};

// What lies where of a file that was copied up in part (ranges.h). It ends when the file is whole.
template <class LowerNode>
struct PartialContent {
  PartialContent(RangeMap map, std::vector<LowerPart<LowerNode>> sources, std::uint64_t blocks)
      : sources(std::move(sources)), blocks(blocks), map(std::move(map)) {}

  const std::vector<LowerPart<LowerNode>> sources;  // of what is below; empty: it cannot be found
  const std::uint64_t blocks;                       // that the lower file takes
  std::atomic<bool> whole{false};
  // Held shared to read, and to write what is here; exclusively to change what is.
  std::shared_mutex mutex;
  RangeMap map;       // this and what follows: guarded by mutex
  bool saved = true;    // the upper's attribute says what `map` does
  bool settled = true;  // no chunk is in doubt (ranges.h)
};

template <class UpperNode, class LowerNode>
struct Record {
  using InLower = LowerPart<LowerNode>;
  using Partial = PartialContent<LowerNode>;

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
  // Null: the content is in one branch.
  std::shared_ptr<Partial> partial() const {
    if (!has_partial.load(std::memory_order_acquire)) return nullptr;
    std::lock_guard lock(mutex);
    return partial_content != nullptr && !partial_content->whole.load() ? partial_content : nullptr;
  }

  const std::uint64_t inode;
  const std::uint32_t type;           // S_IFMT
  const Timestamp born;               // a copy-up is no birth
  // From the top: of a directory, what merges; of a file, what its content consists of. Set before
  // the record is seen, then left alone.
  std::vector<InLower> lowers;
  std::atomic<bool> in_upper{false};      // upper_node is set: never unset
  std::atomic<bool> has_partial{false};   // partial_content is set: never unset
  std::atomic<bool> removed{false};       // a directory: it has no names, whatever the lowers have
  std::atomic<bool> impure{false};        // a directory: its upper part has entries with marks
  std::atomic<bool> marked{false};        // the upper's object has marks: where it is, is impure
  std::atomic<bool> indexed{false};       // the upper's object is in the index, too
  std::atomic<bool> whiteouts_inside{false};  // a directory: see LowerPart, of its upper part
  // Names that the lowers go on having and that are not taken from there any more; of an indexed
  // object those of all times, of any other those of this instance.
  std::atomic<std::uint32_t> names_hidden{0};
  std::uint32_t lower_links = 0;  // of an indexed object
  std::shared_mutex entries;      // directories: shared to look, exclusive to change
  std::mutex copy_up;             // held while the object comes into the upper
  KnownNames upper_names;  // directories: of the upper's part, and of the lowers' parts
  KnownNames lower_names;

  mutable std::mutex mutex;  // guards what follows
  std::optional<UpperNode> upper_node;
  std::shared_ptr<Partial> partial_content;
  std::shared_ptr<Record> parent;  // where a copy-up goes; null: the root, or no name left
  std::string name;
  // A directory: where its lower parts are, from the lowers' roots. Empty: under its own name.
  std::string redirect;
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
    return plain_number(key);
  }

  // Before use: the device of each branch's root.
  void set_devices(std::vector<std::uint64_t> devices) { devices_ = std::move(devices); }
  std::uint64_t device_of(std::uint32_t branch) const { return devices_[branch]; }

  // The record that is known by `key`, or by `alias`, or the one that `make` makes of `number`. It
  // is known by both from then on.
  template <class Make>
  Pointer intern(const BranchKey& key, const std::optional<BranchKey>& alias, std::uint64_t number,
                 std::uint32_t type, Make&& make) {
    {
      std::shared_lock lock(mutex_);
      if (Pointer known = find(key, type)) return known;
    }
    Pointer made = make(number);
    std::unique_lock lock(mutex_);
    Pointer known = find(key, type);
    if (!known && alias) known = find(*alias, type);
    if (!known) known = std::move(made);
    records_[key] = known;
    if (alias) records_[*alias] = known;
    if (key.branch == 0) number_locked(key, known->inode);
    if (++since_sweep_ > 4096) sweep();
    return known;
  }

  Pointer known(const BranchKey& key, std::uint32_t type) const {
    std::shared_lock lock(mutex_);
    return find(key, type);
  }

  // `record` has come into the upper as `key`, and keeps its number.
  void copied_up(const BranchKey& key, const Pointer& record) {
    std::unique_lock lock(mutex_);
    records_[key] = record;
    number_locked(key, record->inode);
  }

  // The upper object has lost its last name: its number may be given to another one.
  void forget(const BranchKey& key) {
    std::unique_lock lock(mutex_);
    renumbered_.erase(key);
    records_.erase(key);
  }

 private:
  std::uint64_t plain_number(const BranchKey& key) const {
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

  Pointer find(const BranchKey& key, std::uint32_t type) const {
    const auto found = records_.find(key);
    Pointer known = found != records_.end() ? found->second.lock() : nullptr;
    return known != nullptr && known->type == type ? known : nullptr;
  }

  // REQUIRES: mutex_ held exclusively.
  void number_locked(const BranchKey& key, std::uint64_t number) {
    if (number != plain_number(key)) renumbered_[key] = number;
  }
  void sweep() {
    since_sweep_ = 0;
    absl::erase_if(records_, [](const auto& entry) { return entry.second.expired(); });
    absl::erase_if(renumbered_,
                   [&](const auto& entry) { return !records_.contains(entry.first); });
  }

  std::vector<std::uint64_t> devices_;
  mutable std::shared_mutex mutex_;  // guards what follows
  absl::flat_hash_map<BranchKey, std::weak_ptr<R>> records_;
  absl::flat_hash_map<BranchKey, std::uint64_t> renumbered_;
  std::size_t since_sweep_ = 0;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_RECORDS_H_
