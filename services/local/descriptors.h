// SPDX-License-Identifier: Apache-2.0
//
// The objects of a host directory that are known, and the bounded set of descriptors to them.
//
// A known object costs no descriptor: it is found again by its file handle where the service may
// open those (CAP_DAC_READ_SEARCH), else by its last name, and its identity is checked each time.
// Descriptors that were used lately are kept, up to a limit. An object that loses its last name
// while it is known keeps one until it is forgotten, since nothing else leads to it any more.
#ifndef LIBSERVICES_SERVICES_LOCAL_DESCRIPTORS_H_
#define LIBSERVICES_SERVICES_LOCAL_DESCRIPTORS_H_

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/attributes.h"
#include "libservices/result.h"

namespace libservices::local_internal {

// Closes on destruction. Shared by those who use it and the cache.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }

 private:
  const int number_;
};
using DescriptorPtr = std::shared_ptr<Descriptor>;

struct ObjectKey {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
  template <class H>
  friend H AbslHashValue(H hash, const ObjectKey& key) {
    return H::combine(std::move(hash), key.device, key.inode);
  }
};

class Descriptors;

struct Object {
  Object(Descriptors& owner, ObjectKey key, std::uint32_t type, Timestamp born)
      : owner(owner), key(key), type(type), born(born) {}

  Descriptors& owner;
  const ObjectKey key;
  const std::uint32_t type;  // S_IFMT
  const Timestamp born;

  std::mutex mutex;  // guards what follows
  DescriptorPtr descriptor;
  bool pinned = false;                  // has no name left: the descriptor stays
  std::vector<unsigned char> handle;    // struct file_handle, taken when the descriptor is given up
  std::shared_ptr<Object> parent;       // a name that it had, to find it again
  std::string name;
};
using ObjectPtr = std::shared_ptr<Object>;

// THREADS: everything at once. Lock order: Object::mutex → the table's → the cache's.
class Descriptors {
 public:
  // At most `limit` are kept, those of objects without a name apart.
  // `volume` is an open directory of it, by which file handles are opened.
  Descriptors(std::size_t limit, int volume) : limit_(limit), volume_(volume) {}

  // The one object for what statx told. `descriptor` may be null.
  ObjectPtr intern(const Attributes& seen, DescriptorPtr descriptor, ObjectPtr parent,
                   std::string_view name);
  // Null when nobody knows it.
  ObjectPtr known(const ObjectKey& key) const;

  // A descriptor of the object (O_PATH, unless it is the root). ERRORS: ESTALE when the object is
  // not to be found any more.
  Result<DescriptorPtr> open(const ObjectPtr& object);
  // The object is about to lose what may be its last name.
  Result<void> pin(const ObjectPtr& object);

  std::size_t kept() const {
    std::lock_guard lock(cache_mutex_);
    return cache_.size();
  }

 private:
  struct Shard {
    mutable std::mutex mutex;
    absl::flat_hash_map<ObjectKey, std::weak_ptr<Object>> objects;
  };

  Shard& shard_of(const ObjectKey& key) const {
    return shards_[(key.inode ^ (key.inode >> 9U)) % shards_.size()];
  }
  void forget(Object* object);
  Result<DescriptorPtr> reopen(Object& object);
  void keep(const ObjectPtr& object);
  bool give_up(Object& object);

  const std::size_t limit_;
  const int volume_;
  mutable std::array<Shard, 64> shards_;
  mutable std::mutex cache_mutex_;
  std::list<std::weak_ptr<Object>> cache_;  // oldest first; guarded by cache_mutex_
};

// statx of a descriptor itself (`name` empty) or of a name in it, never following a link.
Result<Attributes> attributes_of(int directory, const char* name);

}  // namespace libservices::local_internal

#endif  // LIBSERVICES_SERVICES_LOCAL_DESCRIPTORS_H_
