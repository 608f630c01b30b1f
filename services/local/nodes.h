// SPDX-License-Identifier: Apache-2.0
//
// What `Local` knows of the objects of a host directory, and the descriptors it holds on them.
//
// For `Local` alone. A record says which object is meant and under which name it was last seen; a
// descriptor is opened when one is needed and given up again when too many are open. An object
// that loses its name through us while a record of it is held keeps its descriptor.
//
// THREADS: all members from any thread. Locks are held by shard or by record, never while another
// record is locked; system calls are made without the table's locks.
// OWNS: a record owns its descriptor and the records of the directories above it.
#ifndef LIBSERVICES_SERVICES_LOCAL_NODES_H_
#define LIBSERVICES_SERVICES_LOCAL_NODES_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/attributes.h"
#include "libservices/result.h"

namespace libservices::local_internal {

// A file descriptor with one owner.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int fd() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};
using DescriptorRef = std::shared_ptr<const Descriptor>;

// The path by which calls without an AT_EMPTY_PATH form reach the object of a descriptor.
struct ProcPath {
  explicit ProcPath(int fd);
  const char* c_str() const { return text.data(); }
  std::array<char, 32> text;
};

// One component of a path with its NUL: EINVAL for "", ".", ".." and what holds '/' or NUL,
// ENAMETOOLONG beyond 255 bytes.
class Name {
 public:
  explicit Name(std::string_view name);
  int error() const { return error_; }
  const char* c_str() const { return text_.data(); }
  std::string_view view() const { return {text_.data(), size_}; }

 private:
  int error_ = 0;
  std::size_t size_ = 0;
  std::array<char, 256> text_;
};

// A name or a link's target for a system call; empty when it holds NUL.
inline std::string terminated(std::string_view text) {
  return text.find('\0') == std::string_view::npos ? std::string(text) : std::string();
}

// statx of `name` below `fd`, or of `fd` itself where `name` is "". Links are not followed.
// `mount` becomes the number of the mount that it is on, 0 where the kernel does not say.
Result<Attributes> attributes_of(int fd, const char* name, std::uint64_t* mount = nullptr);

// Retries a system call that a signal interrupted.
template <class Call>
auto uninterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// Which object: the numbers, and the birth time because the host may use a number again.
struct ObjectIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  Timestamp born;
  std::uint32_t type = 0;  // S_IFMT

  static ObjectIdentity of(const Attributes& a) {
    return {a.device, a.inode, a.btime, a.mode & S_IFMT};
  }
  friend bool operator==(const ObjectIdentity&, const ObjectIdentity&) = default;
};

class Nodes;

class Record {
 public:
  Record(std::shared_ptr<Nodes> nodes, const ObjectIdentity& identity)
      : identity_(identity), nodes_(std::move(nodes)) {}
  ~Record();
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;

  const ObjectIdentity& identity() const { return identity_; }
  bool is(std::uint32_t type) const { return identity_.type == type; }

 private:
  friend class Nodes;

  const ObjectIdentity identity_;
  const std::shared_ptr<Nodes> nodes_;
  std::atomic<bool> used_{false};  // since the clock's hand passed last

  std::mutex mutex_;  // guards what follows
  std::shared_ptr<Record> parent_;
  std::string name_;
  DescriptorRef descriptor_;
  std::weak_ptr<const Descriptor> in_use_;  // an open file's
  std::unique_ptr<file_handle, void (*)(void*)> handle_{nullptr, std::free};
  int pins_ = 0;           // while > 0 the descriptor stays
  bool nameless_ = false;  // made without a name; that is one of the pins
};
using RecordPtr = std::shared_ptr<Record>;

class Nodes : public std::enable_shared_from_this<Nodes> {
  struct Epoch;

 public:
  // Keeps about `limit` descriptors, those of pinned records not counted.
  explicit Nodes(std::size_t limit);

  // From here on, objects of the volume of `root` (an open directory) may be found again by their
  // handles, if the host allows that to us.
  void use_handles(int root, std::uint64_t device);
  void forget_handles();

  // The record of an object that was seen as `name` in `parent` when `epoch` had been that of
  // `parent`. False in `settled` when a change of names in `parent` may have come between: look
  // again.
  RecordPtr intern(const Attributes& seen, const RecordPtr& parent, std::string_view name,
                   std::uint64_t epoch, bool& settled);
  // The number of changes of names in the directory that have ended.
  std::uint64_t epoch_of(const RecordPtr& directory) const;

  // A record that has no name: it keeps `descriptor`.
  RecordPtr intern_nameless(const Attributes& seen, DescriptorRef descriptor);
  // A record that was interned unsettled: it keeps `descriptor`.
  void hold(const RecordPtr& record, DescriptorRef descriptor);

  // A descriptor (O_PATH) of the object. ESTALE when it is not where it was and cannot be found.
  Result<DescriptorRef> descriptor(const RecordPtr& record);
  Result<Attributes> attributes(const RecordPtr& record);
  // The descriptor if one is kept.
  DescriptorRef cached(const RecordPtr& record);
  // That, or an open file's.
  DescriptorRef at_hand(const RecordPtr& record);
  // An open file of the object lends its descriptor to calls on the object, until it is closed.
  void in_use(const RecordPtr& record, const DescriptorRef& descriptor);
  void no_longer_in_use(const RecordPtr& record, const DescriptorRef& descriptor);
  // Where the object was seen last; false if nowhere.
  bool last_seen(const RecordPtr& record, RecordPtr& parent, std::string& name);

  // Changes of names are made under this: in `first`, and in `second` for a rename. Those of one
  // name come one after the other.
  class Change {
   public:
    Change(Nodes& nodes, const RecordPtr& first, std::string_view first_name,
           const RecordPtr* second, std::string_view second_name);

    // The object under `name` is about to lose it: whoever holds a record of it keeps it.
    Result<void> losing(int directory, const Name& name);
    // The object now under `name` in `parent` was moved there.
    void moved(int directory, const RecordPtr& parent, const Name& name);
    // The name went away as announced; without this what `losing` did is undone.
    void done() { done_ = true; }
    ~Change();

   private:
    Nodes& nodes_;
    std::shared_lock<std::shared_mutex> renames_;
    std::unique_lock<std::mutex> low_;
    std::unique_lock<std::mutex> high_;
    Epoch* first_ = nullptr;
    Epoch* second_ = nullptr;
    RecordPtr victim_;
    bool done_ = false;
  };

  // `record` has got the name `name` in `parent`.
  void named(const RecordPtr& record, const RecordPtr& parent, std::string_view name);

  std::size_t open_descriptors() const { return open_.load(std::memory_order_relaxed); }

 private:
  friend class Record;
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // device, inode

  static constexpr std::size_t kShards = 64;
  struct alignas(64) Shard {
    std::mutex mutex;
    absl::flat_hash_map<Key, std::weak_ptr<Record>> records;
  };
  struct alignas(64) Clock {
    std::mutex mutex;
    std::vector<std::weak_ptr<Record>> slots;
    std::size_t hand = 0;
  };
  // A change began when `started` went up, and is over when `finished` did.
  struct alignas(64) Epoch {
    std::atomic<std::uint64_t> started{0};
    std::atomic<std::uint64_t> finished{0};
  };

  static std::size_t hash(const Key& key);
  bool unchanged_since(const RecordPtr& directory, std::uint64_t epoch) const;
  Epoch& epoch_slot(const RecordPtr& directory);
  Shard& shard_of(const Key& key) { return shards_[hash(key) % kShards]; }
  RecordPtr find(const Attributes& seen);
  RecordPtr find_or_make(const Attributes& seen);
  void forget(const Key& key);
  Result<DescriptorRef> open_again(const RecordPtr& record);
  Result<DescriptorRef> open_by_handle(const RecordPtr& record);
  Result<DescriptorRef> open_by_name(const RecordPtr& record);
  DescriptorRef keep(const RecordPtr& record, DescriptorRef descriptor, int pins);
  void unpin(const RecordPtr& record);
  void enlist(const RecordPtr& record);
  void evict(const RecordPtr& record);

  std::vector<Clock> clocks_;
  const std::size_t clock_size_;
  std::array<Shard, kShards> shards_;
  std::array<Epoch, kShards> epochs_;
  std::array<std::mutex, kShards> name_locks_;
  std::shared_mutex renames_;
  std::atomic<std::size_t> open_{0};
  std::atomic<int> handle_root_{-1};
  std::atomic<std::uint64_t> handle_device_{0};
};

}  // namespace libservices::local_internal

#endif  // LIBSERVICES_SERVICES_LOCAL_NODES_H_
