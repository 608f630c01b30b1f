// SPDX-License-Identifier: Apache-2.0
//
// The mount of one filesystem instance at the kernel, from its start to its end.
#ifndef LIBSERVICES_SRC_HOST_FUSE_MOUNT_H_
#define LIBSERVICES_SRC_HOST_FUSE_MOUNT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "libservices/host.h"
#include "src/fuse/device.h"
#include "src/fuse/session.h"

namespace libservices::host {

class FuseMount {
 public:
  // Of a filesystem that runs, before other requests do: changes are listened to from here on.
  FuseMount(const HostConfig::Mount& mount, AnyFilesystem& filesystem, fuse::Calls::Options calls);
  // When no request runs any more. Stops.
  ~FuseMount() { (void)stop(); }
  FuseMount(const FuseMount&) = delete;
  FuseMount& operator=(const FuseMount&) = delete;

  // When it returns the mount answers. A path that does not exist is made, and removed again by
  // stop(). ERRORS: for a person to read.
  absl::Status start();
  // False: requests do not end in this time, and nothing that they use may be destroyed.
  bool stop(std::chrono::milliseconds most = fuse::Threads::kForEver);

  // Whether the filesystem has lost something since this was asked: then the kernel shall forget
  // what it was told (fuse::Session::forget_answers). By one thread.
  bool has_lost() {
    const std::uint64_t now = filesystem_.losses();
    return std::exchange(losses_, now) != now;
  }

  nlohmann::json status() const;
  fuse::Session& session() { return session_; }

 private:
  absl::Status make_path();
  void remove_path();

  const AnyFilesystem& filesystem_;
  std::uint64_t losses_ = 0;
  const std::string path_;
  const std::string source_;
  const HostConfig::Fuse options_;
  const fuse::Calls::Options calls_;
  std::string made_;  // the topmost directory that was made; empty: none
  fuse::Session session_;
  std::unique_ptr<fuse::Device> device_;
  bool ended_ = false;
  std::uint64_t number_ = 0;  // st_dev of what is mounted
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_FUSE_MOUNT_H_
