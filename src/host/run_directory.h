// SPDX-License-Identifier: Apache-2.0
//
// A pool's run directory: where its service and the programs that use it meet.
//
//   lock     held by the service while it lives; its pid stands in it
//   socket   sessions of filesystem libraries (ipc)
//   status   each connection is told the service's state as JSON
//   mounts   the mount table
//   open_files   what the next service needs if this one is killed
//   objects/     the kernel's sockets and fifos that stand for those of the mounts
//   placeholders/   empty but for moments
//
// /run/libservices/POOL for root, if that may write there, $XDG_RUNTIME_DIR/libservices/POOL for
// others, and without that variable /tmp/libservices-UID/POOL.
#ifndef LIBSERVICES_SRC_HOST_RUN_DIRECTORY_H_
#define LIBSERVICES_SRC_HOST_RUN_DIRECTORY_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/host/descriptor.h"
#include "src/host/pool.h"

namespace libservices::host {

// Of the pool for this user. ERRORS: InvalidArgument for a name that is none.
absl::StatusOr<std::string> run_directory_of(std::string_view pool);

// Paths in it.
std::string socket_path(std::string_view run_directory);
std::string status_path(std::string_view run_directory);

// The service's hold on its run directory; destruction ends it and removes what is in it.
class RunDirectory {
 public:
  RunDirectory() = default;
  RunDirectory(RunDirectory&& other) noexcept { *this = std::move(other); }
  RunDirectory& operator=(RunDirectory&& other) noexcept {
    path_.swap(other.path_);
    lock_ = std::move(other.lock_);
    return *this;
  }
  ~RunDirectory() { remove(); }

  // Makes it if it is missing, and removes what a dead service has left. Who may look up names in
  // it is `mode`'s matter (0700 or 0711).
  // ERRORS: AlreadyExists when a service runs there; for a person to read.
  static absl::StatusOr<RunDirectory> claim(const std::string& path, mode_t mode);

  const std::string& path() const { return path_; }
  void remove();

  // Removes what a dead service has left, for good: no other one goes on with its open files.
  static void clear(const std::string& path);

 private:
  std::string path_;
  Descriptor lock_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_RUN_DIRECTORY_H_
