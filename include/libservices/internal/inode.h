// SPDX-License-Identifier: Apache-2.0
//
// An object of the tree as a `Filesystem` knows it, and the table that keeps it one object however
// many names, open files and threads lead to it.
#ifndef LIBSERVICES_INTERNAL_INODE_H_
#define LIBSERVICES_INTERNAL_INODE_H_

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "libservices/internal/known_lists.h"
#include "libservices/internal/lock_table.h"
#include "libservices/libservice.h"

namespace libservices::internal {

// The attributes that were last seen, and whether they still hold.
//
// Whoever asks the stack takes `ticket()` before and hands it to `store()` after: an answer that a
// change has overtaken is not kept. A change of the content leaves type, mode and owner true, so a
// walk through a busy directory need not ask again.
//
// Reading takes no lock (a walk reads at every step): the words are copied, and copied again when
// `sequence_` tells that a writer was at them. Every word is stored with release and loaded with
// acquire, so who has seen a word of a writer sees the writer's `sequence_` too.
class AttributeCache {
 public:
  explicit AttributeCache(const Attributes& attributes) { set_words(attributes); }

  std::uint64_t ticket() const { return version_.load(std::memory_order_acquire); }

  // Everything, if nothing changed since it was stored at `oldest` or later.
  std::optional<Attributes> all(std::uint64_t oldest) const { return read(kFresh, oldest); }
  // Type, mode and owner are true; size and times may be old.
  std::optional<Attributes> for_access(std::uint64_t oldest) const {
    return read(kAccessFresh, oldest);
  }

  // A directory that its mode, without a list, lets everybody search. False: look at the
  // attributes.
  bool anyone_may_search(std::uint64_t oldest) const {
    return oldest == 0 && (state_.load(std::memory_order_acquire) & kAnyoneMaySearch) != 0;
  }

  // Whether it had Attributes::unmapped when it was seen last, which may be long ago.
  bool was_unmapped() const {
    constexpr std::size_t kAt = offsetof(Attributes, unmapped);
    const std::uint64_t word = words_[kAt / 8].load(std::memory_order_acquire);
    return static_cast<std::uint16_t>(word >> (kAt % 8 * 8)) != 0;
  }

  void store(const Attributes& attributes, std::uint64_t ticket, std::uint64_t now) {
    std::lock_guard lock(mutex_);
    if (version_.load(std::memory_order_relaxed) != ticket) return;
    write(&attributes, fresh(attributes), now);
  }
  // The answer of a change itself: kept unless another change came between.
  void store_changed(const Attributes& attributes, std::uint64_t ticket, std::uint64_t now) {
    std::lock_guard lock(mutex_);
    const bool alone = version_.fetch_add(1, std::memory_order_acq_rel) == ticket;
    write(alone ? &attributes : nullptr, alone ? fresh(attributes) : 0U, now);
  }

  void content_changed() { forget(kFresh); }
  void all_changed() { forget(kFresh | kAccessFresh | kAnyoneMaySearch); }

  bool may_have_set_id() const {
    const auto known = for_access(0);
    return !known || (known->mode & (S_ISUID | S_ISGID)) != 0;
  }

 private:
  static constexpr std::uint64_t kFresh = 1;  // in state_
  static constexpr std::uint64_t kAccessFresh = 2;
  static constexpr std::uint64_t kAnyoneMaySearch = 4;  // never without kAccessFresh
  static constexpr std::size_t kWords = sizeof(Attributes) / 8;
  static_assert(sizeof(Attributes) % 8 == 0 && std::is_trivially_copyable_v<Attributes>);

  static std::uint64_t fresh(const Attributes& attributes) {
    const bool open = attributes.is_directory() && (attributes.mode & 0111U) == 0111U;
    return kFresh | kAccessFresh | (open ? kAnyoneMaySearch : 0U);
  }

  std::optional<Attributes> read(std::uint64_t wanted, std::uint64_t oldest) const {
    constexpr int kLooks = 100;
    std::array<std::uint64_t, kWords> words;
    for (int looks = 0;; ++looks) {
      const std::uint64_t before = sequence_.load(std::memory_order_acquire);
      const std::uint64_t state = state_.load(std::memory_order_acquire);
      const std::uint64_t stored = stored_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
      if (before % 2 == 0 && sequence_.load(std::memory_order_relaxed) == before) {
        if ((state & wanted) == 0 || stored < oldest) return std::nullopt;
        return std::bit_cast<Attributes>(words);
      }
      if (looks >= kLooks) std::lock_guard wait(mutex_);  // for a writer that does not run
    }
  }

  // REQUIRES: mutex_. Null leaves the attributes as they are.
  void write(const Attributes* attributes, std::uint64_t state, std::uint64_t now) {
    const std::uint64_t sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_relaxed);
    state_.store(state, std::memory_order_release);
    if (attributes != nullptr) {
      stored_.store(now, std::memory_order_release);
      set_words(*attributes);
    }
    sequence_.store(sequence + 2, std::memory_order_release);
  }
  void set_words(const Attributes& attributes) {
    const auto words = std::bit_cast<std::array<std::uint64_t, kWords>>(attributes);
    for (std::size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
  }
  void forget(std::uint64_t what) {
    std::lock_guard lock(mutex_);
    version_.fetch_add(1, std::memory_order_acq_rel);
    write(nullptr, state_.load(std::memory_order_relaxed) & ~what, 0);
  }

  mutable std::mutex mutex_;                // held to write
  std::atomic<std::uint64_t> version_{0};   // counts the changes
  std::atomic<std::uint64_t> sequence_{0};  // odd while what follows is written
  std::atomic<std::uint64_t> state_{0};
  std::atomic<std::uint64_t> stored_{0};  // nanoseconds of the steady clock
  std::array<std::atomic<std::uint64_t>, kWords> words_;
};

template <class Node>
struct Inode {
  struct Key {
    std::uint64_t device;
    std::uint64_t number;
    friend bool operator==(const Key&, const Key&) = default;
    template <class H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.device, key.number);
    }
  };

  Inode(Node node, const Attributes& attributes, std::uint64_t id)
      : node(std::move(node)),
        key{attributes.device, attributes.inode},
        id(id),
        type(attributes.mode & S_IFMT),
        born(attributes.btime),
        attributes(attributes) {}

  bool is_directory() const { return S_ISDIR(type); }

  const Node node;
  const Key key;
  const std::uint64_t id;  // never reused while the filesystem runs: the name cache's key
  const std::uint32_t type;
  const Timestamp born;
  AttributeCache attributes;
  KnownLists lists;

  // Directories: held shared to look up names at the stack and exclusively to change entries.
  std::shared_mutex entries;
  // Regular files: held shared to write at an offset and exclusively to append.
  std::shared_mutex content;
  std::atomic<bool> unread{true};  // the next read may move atime (Linux's relatime)
  // Open files whose content somebody may change without a call here: size and times are not kept.
  std::atomic<std::uint32_t> outside_writers{0};
  // Those of them that would gain by set-id bits which nobody takes away.
  std::atomic<std::uint32_t> outside_strangers{0};
  // Somebody has, or had, a mapping of it to write through: the same, and for ever, since nobody
  // tells when it ends.
  std::atomic<bool> mapped{false};
  std::atomic<bool> has_locks{false};
  std::atomic<std::uint8_t> watched{0};  // Watched, of events.h
  LockTable locks;

  // Where a directory is, or what `watched` is about, guarded by Tree's places_mutex_. Null parent:
  // the root, or removed.
  std::shared_ptr<Inode> parent;
  std::string name;
  bool removed = false;
};

// One Inode for each object that something holds on to.
template <class Node>
class InodeTable {
 public:
  using Object = Inode<Node>;
  using Pointer = std::shared_ptr<Object>;

  // `made` says whether the object was not known before.
  struct Interned {
    Pointer object;
    bool made;
  };
  Interned intern(Node node, const Attributes& attributes) {
    const typename Object::Key key{attributes.device, attributes.inode};
    Shard& shard = shard_of(key);
    Pointer known;  // released behind the lock: the last reference takes it again
    std::lock_guard lock(shard.mutex);
    auto& weak = shard.objects[key];
    known = weak.lock();
    // A host may have given the number to a new object behind our back.
    if (known && known->type == (attributes.mode & S_IFMT) && known->born == attributes.btime) {
      return {known, false};
    }
    Pointer made(new Object(std::move(node), attributes, next_id_.fetch_add(1)),
                 [this](Object* object) { release(object); });
    if (made->type == S_IFREG && is_mapped(key.number)) made->mapped.store(true);
    weak = made;
    return {std::move(made), true};
  }

  // Null: nothing holds on to it.
  Pointer find(const typename Object::Key& key) {
    Shard& shard = shard_of(key);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.objects.find(key);
    return found == shard.objects.end() ? nullptr : found->second.lock();
  }

  // Files of this number are `mapped` when they come again; nullopt: all files are.
  void remember_mapped(std::optional<std::uint64_t> number) {
    std::lock_guard lock(mapped_mutex_);
    all_mapped_ = all_mapped_ || !number;
    if (number) mapped_.insert(*number);
    any_mapped_.store(true, std::memory_order_release);
  }

  std::size_t size() const {
    std::size_t count = 0;
    for (const Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      count += shard.objects.size();
    }
    return count;
  }

 private:
  struct Shard {
    mutable std::mutex mutex;
    absl::flat_hash_map<typename Object::Key, std::weak_ptr<Object>> objects;
  };

  Shard& shard_of(const typename Object::Key& key) {
    return shards_[(key.number ^ (key.number >> 7U) ^ key.device) % shards_.size()];
  }

  bool is_mapped(std::uint64_t number) {
    if (!any_mapped_.load(std::memory_order_acquire)) return false;
    std::lock_guard lock(mapped_mutex_);
    return all_mapped_ || mapped_.contains(number);
  }

  void release(Object* object) {
    {
      Shard& shard = shard_of(object->key);
      std::lock_guard lock(shard.mutex);
      auto found = shard.objects.find(object->key);
      if (found != shard.objects.end() && found->second.expired()) shard.objects.erase(found);
    }
    delete object;
  }

  std::array<Shard, 64> shards_;
  std::atomic<std::uint64_t> next_id_{1};
  std::mutex mapped_mutex_;  // behind a shard's; guards what follows
  absl::flat_hash_set<std::uint64_t> mapped_;
  bool all_mapped_ = false;
  std::atomic<bool> any_mapped_{false};
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_INODE_H_
