// SPDX-License-Identifier: Apache-2.0
//
// The writer of a pool's mount table, which is the file `mounts` of its run directory.
//
// The file appears under its name when it is complete, and goes with its owner. A mount path need
// not exist on the host; where it does not, listing its parent does not show it.
// THREADS: one at a time. Readers in any process may look at the same time.
#ifndef LIBSERVICES_SRC_HOST_MOUNT_TABLE_FILE_H_
#define LIBSERVICES_SRC_HOST_MOUNT_TABLE_FILE_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/protocol/mount_table.h"

namespace libservices::host {

// The path as the mount table has it: without doubled slashes and without one at the end.
// ERRORS: InvalidArgument, for a person to read.
absl::StatusOr<std::string> normalised_mount_path(std::string_view path);

class MountTableFile {
 public:
  // The file is made in `directory`.
  explicit MountTableFile(std::string directory) : directory_(std::move(directory)) {}
  MountTableFile(const MountTableFile&) = delete;
  MountTableFile& operator=(const MountTableFile&) = delete;
  ~MountTableFile() { remove(); }

  // What applications learn from the table beside the mounts.
  struct Facts {
    std::uint64_t number = 0;  // another one for each service
    std::uint64_t placeholder_device = 0;
    std::chrono::milliseconds restart_wait{0};  // when the service is killed
    ipc::CopyTable copies{};
  };

  // An empty table of this process.
  // ERRORS: the file cannot be made, for a person to read.
  absl::Status create(const Facts& facts);
  // Tells who has mapped it that the service has ended for good.
  void remove();

  // ERRORS: AlreadyExists for a path twice, InvalidArgument, ResourceExhausted.
  absl::Status add(std::string_view path, std::uint32_t instance);

  const protocol::MountTable* table() const { return table_; }

 private:
  std::string directory_;
  protocol::MountTable* table_ = nullptr;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_MOUNT_TABLE_FILE_H_
