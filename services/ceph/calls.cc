// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/calls.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace libservices::ceph_internal {
namespace {

// What a UserPerm refers to is part of it.
struct Caller {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;

  bool is(uid_t other_uid, gid_t other_gid, std::span<const gid_t> others) const {
    return uid == other_uid && gid == other_gid &&
           std::equal(groups.begin(), groups.end(), others.begin(), others.end());
  }
  friend bool operator==(const Caller&, const Caller&) = default;
  template <class H>
  friend H AbslHashValue(H hash, const Caller& caller) {
    return H::combine(std::move(hash), caller.uid, caller.gid, caller.groups);
  }
};
struct Known {
  Caller caller;
  UserPerm* permissions;
};
// Callers by all of their numbers, for ever: so many that no machine has them.
constexpr std::size_t kMostCallers = 65536;

struct Callers {
  std::shared_mutex mutex;  // guards known
  absl::flat_hash_map<Caller, std::unique_ptr<Known>> known;
};
Callers& callers() {
  static Callers* const all = new Callers;
  return *all;
}

const Known* find_caller(Caller caller) {
  Callers& all = callers();
  {
    std::shared_lock lock(all.mutex);
    if (const auto found = all.known.find(caller); found != all.known.end()) {
      return found->second.get();
    }
  }
  std::unique_lock lock(all.mutex);
  // Then only the owner counts, where the key has rights for some groups alone.
  if (all.known.size() >= kMostCallers) caller.groups.clear();
  auto& slot = all.known[caller];
  if (slot == nullptr) {
    auto fresh = std::make_unique<Known>(Known{std::move(caller), nullptr});
    Caller& kept = fresh->caller;
    fresh->permissions = ceph_userperm_new(kept.uid, kept.gid, static_cast<int>(kept.groups.size()),
                                           kept.groups.data());
    slot = std::move(fresh);
  }
  return slot.get();
}

}  // namespace

Errno error_of(std::int64_t answer) {
  const std::int64_t error = -answer;
  switch (error) {
    case ESHUTDOWN:  // the cluster has shut this client out
    case ENOTCONN:   // it is not mounted, or not any more
    case ENOTRECOVERABLE:
      return Errno{EIO};
    default:
      return Errno{error > 0 && error < 4096 ? static_cast<int>(error) : EIO};
  }
}

const UserPerm* permissions_of(uid_t uid, gid_t gid, std::span<const gid_t> groups) {
  thread_local const Known* last = nullptr;
  if (last == nullptr || !last->caller.is(uid, gid, groups)) {
    last = find_caller({uid, gid, {groups.begin(), groups.end()}});
  }
  return last->permissions;
}

}  // namespace libservices::ceph_internal
