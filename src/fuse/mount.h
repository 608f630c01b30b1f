// SPDX-License-Identifier: Apache-2.0
//
// Mounting and unmounting at the kernel: mount(2) where this process may, else the helper
// `fusermount3`, which may for everybody.
#ifndef LIBSERVICES_SRC_FUSE_MOUNT_H_
#define LIBSERVICES_SRC_FUSE_MOUNT_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/host/descriptor.h"

namespace libservices::fuse {

struct MountWords {
  std::string path;    // an existing directory
  std::string source;  // what mount(8) shows as the device
  bool allow_other = false;
  bool read_only = false;
  // As in fstab: mount_options.h says which. Those of mount(8) itself count for nothing.
  std::vector<std::string> options;
};

// The descriptor of /dev/fuse that serves it. What stands at the path, left by a service that died, is
// taken away first. ERRORS: for a person to read.
absl::StatusOr<host::Descriptor> mount(const MountWords& words);

// Lazily: whatever still uses it keeps it until it lets go. False: it is not mounted, is in use, or
// may not be unmounted (errno; EPERM when the helper has failed, which does not say why).
enum class Detach : std::uint8_t { kWhenUnused, kLazily };
bool unmount(const std::string& path, Detach detach = Detach::kLazily);

// The same of what this process serves: first the kernel writes out what it has gathered. In a process
// of its own, since a server must not wait for itself.
// After `most` it is unmounted without that.
void unmount_own(const std::string& path,
                 std::chrono::milliseconds most = std::chrono::milliseconds::max());

// st_dev of what stands at the path, without a question to whoever serves it; 0: none.
std::uint64_t device_at(const std::string& path);

// Whether a FUSE filesystem without a service stands there: every call on it gives ENOTCONN.
bool is_stale(const std::string& path);

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_MOUNT_H_
