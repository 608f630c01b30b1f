// SPDX-License-Identifier: Apache-2.0
//
// Which files somebody on this machine watches by inotify, now.
//
// SOURCE: proc(5), /proc/PID/fdinfo of an inotify descriptor: "inotify wd:HEX ino:HEX sdev:HEX …".
#ifndef LIBSERVICES_SRC_HOST_INOTIFY_USERS_H_
#define LIBSERVICES_SRC_HOST_INOTIFY_USERS_H_

#include <sys/stat.h>

#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace libservices::host {

class InotifyUsers {
 public:
  // Looks at all processes; of other users' only with `all_users`.
  explicit InotifyUsers(bool all_users);

  // True as well when a process could not be looked at.
  bool may_watch(const struct stat& file) const;

 private:
  void look_at(int process);

  absl::flat_hash_set<std::pair<std::uint64_t, std::uint64_t>> watched_;  // device and inode
  bool some_unknown_ = false;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_INOTIFY_USERS_H_
