// SPDX-License-Identifier: Apache-2.0
//
// Who asks, until when, and on whose account: the first argument of every operation.
//
// The transport fills it from what the kernel says of the peer, and every layer passes it down
// unchanged. `Filesystem` has checked the caller's permissions before a libservice is called; a
// libservice does not check them again.
#ifndef LIBSERVICES_CONTEXT_H_
#define LIBSERVICES_CONTEXT_H_

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>

namespace libservices {

// Supplementary groups that are looked up when a decision hangs on one. THREADS: one call's.
class GroupSource {
 public:
  virtual bool has(gid_t group) const = 0;

 protected:
  ~GroupSource() = default;
};

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::span<const gid_t> groups;  // supplementary; owned by the session
  const GroupSource* more_groups = nullptr;
  // The kernel hands the call on and has decided that it is allowed, knowing capabilities that ids
  // do not tell: those of a user namespace's superuser over its own users' files.
  bool is_allowed = false;
  bool drops_set_id = false;  // set-id bits go with a change of content, whoever makes it

  // User 0 stands for all capabilities, as in a container without capability bounds.
  bool is_superuser() const { return uid == 0 || is_allowed; }
  bool keeps_set_id() const { return is_superuser() && !drops_set_id; }
  bool in_group(gid_t group) const {
    return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end() ||
           (more_groups != nullptr && more_groups->has(group));
  }
};

struct Context {
  Identity caller;
  mode_t umask = 0;           // used by `Filesystem` alone
  std::uint64_t tenant = 0;   // the container pool
  std::uint64_t request = 0;  // number of the request in its session, for traces
  std::uint32_t number = 0;   // of the request among all of the pool (KeptOffset); 0: none
  std::uint64_t process = 0;  // owner of POSIX record locks: one number for each process
  // Of a large read: how many bytes are in place already, for somebody who takes them meanwhile, and
  // how many should come at once.
  std::atomic<std::uint32_t>* read_progress = nullptr;
  std::uint32_t read_part = 0;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

}  // namespace libservices

#endif  // LIBSERVICES_CONTEXT_H_
