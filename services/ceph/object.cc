// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/object.h"

namespace libservices::ceph_internal {

Result<Inode*> Object::find(const Use& use) const {
  // Whoever looks again is the later one.
  if (use.is_dead()) return Errno{EIO};
  const std::lock_guard lock(finding_);
  if (Inode* const inode = inode_.in(use)) return inode;
  Inode* inode = nullptr;
  const int answer = ceph_ll_lookup_vino(use.info(), {{number_}, snapshot_}, &inode);
  if (answer < 0) return client_->failed(use, answer);
  inode_.set(use, inode);
  return inode;
}

}  // namespace libservices::ceph_internal
