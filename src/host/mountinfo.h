// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of its mounts, without a question to whoever serves them: a service that is
// dead, or that waits, keeps nobody waiting who looks.
#ifndef LIBSERVICES_SRC_HOST_MOUNTINFO_H_
#define LIBSERVICES_SRC_HOST_MOUNTINFO_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace libservices::host {

struct MountInfo {
  std::uint64_t id = 0;
  std::string path;           // its root in this process's tree
  std::string options;        // of the mount: rw,nodev,idmapped
  std::string type;           // fuse.libservices
  std::string source;         // what stands first in fstab
  std::string super_options;  // of the filesystem: rw,user_id=0,…

  // The value of `key=`, which is a number.
  std::optional<std::uint32_t> number_of(std::string_view key) const;
};

// A line of /proc/self/mountinfo.
std::optional<MountInfo> parse_mountinfo(const std::string& line);

// The mount that `path` is in, or that stands upon it; empty: there is no such path.
std::optional<MountInfo> mount_of(const std::string& path);
// The same if `path` is its root.
std::optional<MountInfo> mount_on(const std::string& path);

// Absolute, and without symbolic links as far as it exists. Mounts upon it are not asked.
std::string real_mount_path(const std::string& path);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_MOUNTINFO_H_
