// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/open_file.h"

#include <algorithm>

namespace libservices::ceph_internal {

void OpenFile::adopt(const Use& use, Fh* handle) {
  handle_.set(use, handle);
  if (flags.writes()) writes_ = node->client().unsynced().of(node->number());
}

Result<Fh*> OpenFile::in(const Use& use) {
  if (writes_ != nullptr && is_lost(*writes_)) return Errno{EIO};
  if (Fh* const handle = handle_.in(use)) [[likely]]
    return handle;
  if (!is_file()) return Errno{EISDIR};
  // Whoever looks again is the later one.
  if (use.is_dead()) return Errno{EIO};
  const std::lock_guard lock(listing);
  if (Fh* const handle = handle_.in(use)) return handle;
  {
    const std::lock_guard locking(locking_);
    if (!locks_.empty()) return Errno{EIO};
  }
  LIBSERVICES_TRY(Inode* const inode, node->in(use));
  Fh* handle = nullptr;
  const int answer = ceph_ll_open(use.info(), inode, flags.bits & kBits, &handle, permissions);
  if (answer < 0) return node->client().failed(use, answer);
  handle_.set(use, handle);
  return handle;
}

bool OpenFile::may_be_idle() {
  if (!opens_for_reading(*node, flags)) return false;
  const std::lock_guard lock(locking_);
  return locks_.empty();
}

bool OpenFile::locked(const LockOwner& owner) {
  const std::lock_guard lock(locking_);
  if (std::find(locks_.begin(), locks_.end(), owner) != locks_.end()) return false;
  locks_.push_back(owner);
  return true;
}

bool OpenFile::unlocked(const LockOwner& owner) {
  const std::lock_guard lock(locking_);
  return std::erase(locks_, owner) != 0;
}

Result<void> OpenFile::close() {
  Client& client = node->client();
  Result<void> closed;
  const Use use = client.try_use();
  if (use) {
    if (ceph_dir_result* const opened = directory.take(use)) {
      (void)ceph_ll_releasedir(use.info(), opened);
    }
    Fh* const handle = handle_.take(use);
    if (handle != nullptr &&
        !(may_be_idle() && client.keep_idle(use, node->number(), permissions, handle))) {
      const int answer = ceph_ll_close(use.info(), handle);
      if (answer < 0) closed = client.failed(use, answer);
    }
  }
  if (writes_ != nullptr) {
    if (is_lost(*writes_) || (!use && writes_->pending())) closed = Errno{EIO};
    if (client.unsynced().release(node->number(), std::move(writes_))) client.synchronise();
    writes_ = nullptr;
  }
  return closed;
}

}  // namespace libservices::ceph_internal
