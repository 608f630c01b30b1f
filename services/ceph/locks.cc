// SPDX-License-Identifier: Apache-2.0
//
// Advisory locks among the clients of a cluster.
//
// libcephfs 16.2 has no flock for files that are opened by inode. So an flock is a record lock on
// one byte that no record lock of ours covers: those go on excluding each other only, and flocks do
// among all who come through here. Other kinds of clients see them as record locks behind any end.
#include <fcntl.h>

#include <algorithm>

#include "services/ceph/ceph.h"

namespace libservices {
namespace {

using ceph_internal::Use;

constexpr std::uint64_t kFlockByte = INT64_MAX - 1;

// Whether anything is left to ask of the cluster.
bool is_empty(const LockRequest& request) {
  return request.owner != LockRequest::Owner::kFlock && request.start >= kFlockByte;
}

// REQUIRES: !is_empty(request).
struct flock range_of(const LockRequest& request) {
  struct flock range {};
  switch (request.type) {
    case LockRequest::Type::kShared:
      range.l_type = F_RDLCK;
      break;
    case LockRequest::Type::kExclusive:
      range.l_type = F_WRLCK;
      break;
    case LockRequest::Type::kUnlock:
      range.l_type = F_UNLCK;
      break;
  }
  range.l_whence = SEEK_SET;
  if (request.owner == LockRequest::Owner::kFlock) {
    range.l_start = kFlockByte;
    range.l_len = 1;
  } else {
    range.l_start = static_cast<off_t>(request.start);
    range.l_len = static_cast<off_t>(std::min(request.end, kFlockByte - 1) - request.start + 1);
  }
  return range;
}

}  // namespace

bool Ceph::tells_locks(const File& file) const {
  return !config_.exclusive && !config_.unchanging && file->is_file() && !file->node->in_snapshot();
}

Result<void> Ceph::lock(C, File& file, std::uint64_t owner, const LockRequest& request) {
  if (!tells_locks(file) || is_empty(request)) return {};
  // A lock that may have been taken on a mount that died is lost with it, and so is the file.
  return client_->asking([&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Fh* const handle, file->in(use));
    const ceph_internal::LockOwner holder{owner, request.owner == LockRequest::Owner::kFlock};
    const bool unlocks = request.type == LockRequest::Type::kUnlock;
    const bool first = !unlocks && file->locked(holder);
    struct flock range = range_of(request);
    const int answer = ceph_ll_setlk(use.info(), handle, &range, owner, 0);
    if (answer == -EAGAIN && first) (void)file->unlocked(holder);
    if (answer < 0) return client_->failed(use, answer);
    if (use.is_dead()) return Errno{EIO};
    if (unlocks && request.start == 0 && request.end == UINT64_MAX) (void)file->unlocked(holder);
    return {};
  });
}

Result<LockRequest> Ceph::test_lock(C, File& file, std::uint64_t owner,
                                    const LockRequest& request) {
  LockRequest found = request;
  found.type = LockRequest::Type::kUnlock;
  if (!tells_locks(file) || is_empty(request)) return found;
  return client_->asking([&](const Use& use) -> Result<LockRequest> {
    LIBSERVICES_TRY(Fh* const handle, file->in(use));
    struct flock range = range_of(request);
    const int answer = ceph_ll_getlk(use.info(), handle, &range, owner);
    if (answer < 0) return client_->failed(use, answer);
    if (range.l_type == F_UNLCK) return found;
    found.type =
        range.l_type == F_RDLCK ? LockRequest::Type::kShared : LockRequest::Type::kExclusive;
    found.process = 0;
    if (request.owner == LockRequest::Owner::kFlock) return found;
    found.start = static_cast<std::uint64_t>(range.l_start);
    found.end =
        range.l_len == 0 ? UINT64_MAX : found.start + static_cast<std::uint64_t>(range.l_len) - 1;
    if (found.end >= kFlockByte - 1) found.end = UINT64_MAX;
    return found;
  });
}

}  // namespace libservices
