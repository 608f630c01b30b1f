// SPDX-License-Identifier: Apache-2.0
//
// The end of a mount, from another process than its service.
#ifndef LIBSERVICES_SRC_DAEMON_UNMOUNT_H_
#define LIBSERVICES_SRC_DAEMON_UNMOUNT_H_

#include <string>

#include "absl/status/status.h"
#include "src/fuse/mount.h"

namespace libservices::daemon {

// Unmounts `path`, and returns when a service that was there for this mount alone has written
// everything and ended. With kLazily, who uses the mount keeps it until he lets go, and nobody is
// waited for. The mount of a service that has died is taken away with what that one has left,
// whoever still uses it.
// ERRORS: nothing of libservices is mounted there, it is in use, or this user may not; for a person
// to read.
absl::Status unmount(const std::string& path, fuse::Detach detach);

}  // namespace libservices::daemon

#endif  // LIBSERVICES_SRC_DAEMON_UNMOUNT_H_
