// SPDX-License-Identifier: Apache-2.0
//
// How libcephfs is spoken to: what it answers, and as whom it is asked.
//
// SOURCE: libcephfs of Ceph 16.2, cephfs/libcephfs.h.
#ifndef LIBSERVICES_SERVICES_CEPH_CALLS_H_
#define LIBSERVICES_SERVICES_CEPH_CALLS_H_

#include <cephfs/libcephfs.h>

#include <cstdint>
#include <span>

#include "libservices/context.h"
#include "libservices/result.h"

// Named by libcephfs.h, and defined there for C alone. SOURCE: ceph_ll_client.h.
struct inodeno_t {
  std::uint64_t val;
};
struct vinodeno_t {
  inodeno_t ino;
  std::uint64_t snapid;
};

namespace libservices::ceph_internal {

// The one place where what libcephfs answers, a negative number, becomes an errno of ours.
Errno error_of(std::int64_t answer);

// Whether an answer says that the cluster has shut this client out, for good.
constexpr bool is_shut_out(std::int64_t answer) {
  return answer == -ESHUTDOWN || answer == -ENOTCONN;
}

// As whom the cluster is asked. `Filesystem` has checked the permissions, so this matters where the
// key has them for some users alone, and for the owner of what is made.
// The answer is good for ever: libcephfs looks at groups again when it repeats requests that it
// answered long ago, after an MDS died.
const UserPerm* permissions_of(uid_t uid, gid_t gid, std::span<const gid_t> groups);
inline const UserPerm* permissions_of(const Context& context) {
  return permissions_of(context.caller.uid, context.caller.gid, context.caller.groups);
}
// As the service itself.
inline const UserPerm* own_permissions() { return permissions_of(0, 0, {}); }

// There is a function of that name, too.
using Statx = struct ceph_statx;
// st_dev of what is in no snapshot; otherwise it is the snapshot's number.
inline constexpr std::uint64_t kNoSnapshot = static_cast<std::uint64_t>(-2);
inline constexpr unsigned kWanted = CEPH_STATX_BASIC_STATS | CEPH_STATX_BTIME;

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_CALLS_H_
