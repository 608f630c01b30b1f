// SPDX-License-Identifier: Apache-2.0
//
// Which service has what is mounted at a path: services are found by their mounts as well as by
// their pools' names.
#ifndef LIBSERVICES_SRC_HOST_MOUNT_SERVICES_H_
#define LIBSERVICES_SRC_HOST_MOUNT_SERVICES_H_

#include <sys/types.h>

#include <optional>
#include <string>

namespace libservices::host {

// The pool's name if nobody gives one to the service of a mount: /srv/web becomes srv-web.
// Different paths have different ones: where that would not do, a number follows.
std::string pool_of_mount(const std::string& path);

// Whether the service of that run directory has mounts: it has begun, and not ended yet.
bool has_mount_table(const std::string& run_directory);

struct MountService {
  std::string run_directory;
  pid_t pid = 0;  // 0: it is dead
};
// The service that lives, if there is one, with a mount at `path` (src/host/mountinfo.h makes it),
// in the usual places of `user`'s and root's run directories. Others' are not believed. One that has
// been killed and is just dying is waited for.
std::optional<MountService> service_of_mount(const std::string& path, uid_t user);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_MOUNT_SERVICES_H_
