// SPDX-License-Identifier: Apache-2.0
//
// An object of the cluster, and what belongs to one mount.
#ifndef LIBSERVICES_SERVICES_CEPH_OBJECT_H_
#define LIBSERVICES_SERVICES_CEPH_OBJECT_H_

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "services/ceph/calls.h"
#include "services/ceph/client.h"

namespace libservices::ceph_internal {

// Something of libcephfs's with the mount that it is from, and never with another. On a dead mount
// it is nobody's to give back: the mount's end takes it.
template <class Thing>
class OfMount {
 public:
  OfMount() = default;
  OfMount(const Mount* mount, Thing* thing) : first_{mount, thing, nullptr}, now_(&first_) {}
  OfMount(const OfMount&) = delete;
  OfMount& operator=(const OfMount&) = delete;

  // Null where it has none in this mount.
  Thing* in(const Use& use) const {
    const Pair* const pair = now_.load(std::memory_order_acquire);  // pairs with set()
    return pair != nullptr && pair->mount == use.mount() ? pair->thing : nullptr;
  }
  // REQUIRES: one at a time.
  void set(const Use& use, Thing* thing) {
    later_ = std::make_unique<Pair>(Pair{use.mount(), thing, std::move(later_)});
    now_.store(later_.get(), std::memory_order_release);
  }
  Thing* take(const Use& use) {
    const Pair* const pair = now_.exchange(nullptr, std::memory_order_acq_rel);
    return pair != nullptr && pair->mount == use.mount() ? pair->thing : nullptr;
  }

 private:
  struct Pair {
    const Mount* mount = nullptr;
    Thing* thing = nullptr;
    std::unique_ptr<Pair> before;  // somebody may be looking at it
  };
  Pair first_;
  std::unique_ptr<Pair> later_;
  std::atomic<const Pair*> now_{nullptr};
};

// Kept in libcephfs for as long as this lives. On the next mount it is found again by its number.
class Object {
 public:
  // Takes over one reference.
  Object(std::shared_ptr<Client> client, const Use& use, Inode* inode, const Statx& seen)
      : client_(std::move(client)),
        number_(seen.stx_ino),
        snapshot_(seen.stx_dev),
        mode_(seen.stx_mode),
        inode_(use.mount(), inode) {}
  ~Object() {
    const Use use = client_->try_use();
    if (!use) return;
    if (Inode* const inode = inode_.in(use)) ceph_ll_put(use.info(), inode);
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  // ERRORS: ESTALE when it is gone, and the cluster's.
  Result<Inode*> in(const Use& use) const {
    if (Inode* const inode = inode_.in(use)) [[likely]]
      return inode;
    return find(use);
  }
  std::uint64_t number() const { return number_; }
  bool is(std::uint32_t type) const { return (mode_ & S_IFMT) == type; }
  // A snapshot, something in one, or the directory that they are made in.
  bool in_snapshot() const { return snapshot_ != kNoSnapshot; }
  Client& client() const { return *client_; }

 private:
  Result<Inode*> find(const Use& use) const;

  const std::shared_ptr<Client> client_;
  const std::uint64_t number_;
  const std::uint64_t snapshot_;
  const std::uint32_t mode_;
  mutable std::mutex finding_;  // one at a time
  mutable OfMount<Inode> inode_;
};
using ObjectPtr = std::shared_ptr<const Object>;

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_OBJECT_H_
