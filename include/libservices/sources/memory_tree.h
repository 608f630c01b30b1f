// SPDX-License-Identifier: Apache-2.0
//
// The objects of `Memory`: files, directories with cookies that stay valid, and their volume.
//
// Lock order: Memory's tree mutex → MemoryVolume::backed_mutex → MemoryObject::mutex, and never two
// objects' at once.
#ifndef LIBSERVICES_SOURCES_MEMORY_TREE_H_
#define LIBSERVICES_SOURCES_MEMORY_TREE_H_

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "libservices/attributes.h"
#include "libservices/result.h"
#include "libservices/sources/memory_bytes.h"

namespace libservices::internal {

struct MemoryObject;
using MemoryPointer = std::shared_ptr<MemoryObject>;

struct MemoryEntry {
  std::string name;
  std::uint64_t cookie = 0;
  MemoryPointer object;
};

// The entries of one directory. Guarded by Memory's tree mutex, as a whole.
class MemoryDirectory {
 public:
  bool empty() const { return by_name_.empty(); }

  MemoryEntry* find(std::string_view name) {
    auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : at->second.get();
  }

  // REQUIRES: there is no entry of that name.
  void add(std::string_view name, MemoryPointer object) {
    auto entry = std::make_unique<MemoryEntry>(
        MemoryEntry{std::string(name), ++last_cookie_, std::move(object)});
    by_cookie_.emplace_hint(by_cookie_.end(), entry->cookie, entry.get());
    const std::string_view key = entry->name;  // lives as long as the entry
    by_name_.emplace(key, std::move(entry));
  }

  MemoryPointer remove(std::string_view name) {
    auto at = by_name_.find(name);
    MemoryPointer object = std::move(at->second->object);
    by_cookie_.erase(at->second->cookie);
    by_name_.erase(at);
    return object;
  }

  // Calls `visit(entry)` for those behind cookie `after`, in order, until it answers false.
  template <class Visit>
  void visit_after(std::uint64_t after, Visit visit) const {
    for (auto at = by_cookie_.upper_bound(after); at != by_cookie_.end(); ++at) {
      if (!visit(*at->second)) return;
    }
  }

  // The parent, null for a root; it is alive as long as it has this directory in it.
  MemoryObject* parent = nullptr;
  bool removed = false;

 private:
  std::uint64_t last_cookie_ = 0;  // never reused, so that a cookie names a place for ever
  std::unordered_map<std::string_view, std::unique_ptr<MemoryEntry>> by_name_;
  absl::btree_map<std::uint64_t, MemoryEntry*> by_cookie_;
};

struct MemoryObject {
  explicit MemoryObject(std::shared_ptr<PageBudget> budget) : content(std::move(budget)) {}

  Attributes snapshot() const {
    std::shared_lock lock(mutex);
    return attributes_locked();
  }
  Attributes attributes_locked() const {
    Attributes now = attributes;
    if (now.is_regular()) content.show(now);
    return now;
  }
  // What is readable by now.
  std::uint64_t size_locked() const {
    return content.descriptor() ? attributes_locked().size : attributes.size;
  }

  // Constant from birth on.
  bool is_directory() const { return directory != nullptr; }
  bool is_regular() const { return (type & S_IFMT) == S_IFREG; }
  bool is_symlink() const { return (type & S_IFMT) == S_IFLNK; }

  void change_links(int by) {
    std::unique_lock lock(mutex);
    attributes.links += static_cast<std::uint32_t>(by);
    attributes.ctime = Timestamp::now();
  }
  // An entry of this directory came, went or changed.
  void entries_changed(int subdirectories) {
    std::unique_lock lock(mutex);
    attributes.links += static_cast<std::uint32_t>(subdirectories);
    attributes.mtime = attributes.ctime = Timestamp::now();
  }
  // REQUIRES: mutex held exclusively.
  void content_changed() {
    attributes.mtime = attributes.ctime = Timestamp::now();
    content.changed();
  }

  std::uint32_t type = 0;  // S_IFMT bits
  std::string target;      // of a symbolic link; constant from birth on
  std::unique_ptr<MemoryDirectory> directory;

  mutable std::shared_mutex mutex;  // guards what follows
  Attributes attributes;
  MemoryBytes content;
  std::map<std::string, std::string, std::less<>> xattrs;
  bool may_be_named = false;  // made without a name, and may still be given one
};

// What one instance shares: numbers and space.
struct MemoryVolume {
  struct Backed {
    const MemoryObject* object;
    std::weak_ptr<MemoryObject> alive;
  };

  MemoryVolume(std::uint64_t pages, std::uint64_t files)
      : budget(std::make_shared<PageBudget>(pages)), max_files(files) {
    static std::atomic<std::uint64_t> instances{0};
    device = 0x4d000000U + instances.fetch_add(1, std::memory_order_relaxed);
  }

  // A new object without a name. ERRORS: ENOSPC.
  static Result<MemoryPointer> make(const std::shared_ptr<MemoryVolume>& volume,
                                    const NewNode& fresh, std::uint32_t type) {
    if (volume->files.fetch_add(1, std::memory_order_relaxed) >= volume->max_files) {
      volume->files.fetch_sub(1, std::memory_order_relaxed);
      return Errno{ENOSPC};
    }
    MemoryPointer object(new MemoryObject(volume->budget), [volume](MemoryObject* gone) {
      // Each of the list keeps this function, and by it the volume.
      if (gone->content.descriptor()) {
        std::lock_guard lock(volume->backed_mutex);
        std::erase_if(volume->backed, [gone](const Backed& each) { return each.object == gone; });
      }
      delete gone;
      volume->files.fetch_sub(1, std::memory_order_relaxed);
    });
    object->type = type & S_IFMT;
    Attributes& a = object->attributes;
    a.device = volume->device;
    a.inode = volume->last_inode.fetch_add(1, std::memory_order_relaxed) + 1;
    a.mode = (type & S_IFMT) | (fresh.mode & 07777U);
    a.uid = fresh.uid;
    a.gid = fresh.gid;
    a.special_device = S_ISCHR(type) || S_ISBLK(type) ? fresh.special_device : 0;
    a.atime = a.mtime = a.ctime = a.btime = Timestamp::now();
    if (S_ISDIR(type)) {
      object->directory = std::make_unique<MemoryDirectory>();
      a.links = 2;
      a.size = kPageBytes;
    }
    return object;
  }

  // Room for one more memfd: of too many, one that nobody uses becomes pages again.
  // ERRORS: EOPNOTSUPP when all are in use. REQUIRES: no object's mutex held.
  Result<void> make_room_for_descriptor();
  void has_descriptor(const MemoryPointer& object) {
    std::lock_guard lock(backed_mutex);
    backed.push_back({object.get(), object});
  }

  std::shared_ptr<PageBudget> budget;
  std::uint64_t device = 0;
  std::uint64_t max_files;  // constant once the instance is built
  std::atomic<std::uint64_t> files{0};
  std::atomic<std::uint64_t> last_inode{0};
  std::mutex backed_mutex;  // before MemoryObject::mutex
  std::deque<Backed> backed;  // the objects with a memfd; guarded by backed_mutex
};

inline Result<void> MemoryVolume::make_room_for_descriptor() {
  constexpr std::size_t kMost = 1024;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::size_t most = std::clamp<std::size_t>(limit.rlim_cur / 8, 1, kMost);
  std::vector<MemoryPointer> held;  // the last reference to one goes behind the lock
  std::lock_guard lock(backed_mutex);
  for (std::size_t looks = backed.size(); backed.size() >= most && looks > 0; --looks) {
    held.push_back(backed.front().alive.lock());
    const MemoryPointer& object = held.back();
    backed.pop_front();
    if (!object) continue;
    std::unique_lock its(object->mutex);
    if (object->content.is_in_use() || !object->content.move_back(object->attributes).ok()) {
      backed.push_back({object.get(), object});
    }
  }
  if (backed.size() >= most) return Errno{EOPNOTSUPP};
  return {};
}

// Empties the tree below `top` without recursion: trees may be deeper than the stack.
inline void dismantle(const MemoryPointer& top) {
  std::vector<MemoryPointer> left{top};
  while (!left.empty()) {
    const MemoryPointer object = std::move(left.back());
    left.pop_back();
    if (!object->is_directory()) continue;
    object->directory->visit_after(0, [&](MemoryEntry& entry) {
      left.push_back(std::move(entry.object));
      return true;
    });
    *object->directory = MemoryDirectory{};
  }
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_SOURCES_MEMORY_TREE_H_
