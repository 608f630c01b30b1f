// SPDX-License-Identifier: Apache-2.0
//
// The run directory of one service that nobody looks for by name, on tmpfs where there is one: that
// of `with`, and of a mount without a pool.
//
// Who is killed leaves his. The next one of the same name takes such directories away, of its own
// user alone: a lock on the directory, held from before anybody could think it left until the
// process and those that it forked are gone, says which ones are.
#ifndef LIBSERVICES_SRC_HOST_PRIVATE_RUN_DIRECTORY_H_
#define LIBSERVICES_SRC_HOST_PRIVATE_RUN_DIRECTORY_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "src/host/descriptor.h"

namespace libservices::host {

class PrivateRunDirectory {
 public:
  // `name`, a dot and six letters. ERRORS: for a person to read.
  static absl::StatusOr<PrivateRunDirectory> make(std::string_view name);

  PrivateRunDirectory() = default;
  PrivateRunDirectory(PrivateRunDirectory&& other) noexcept { *this = std::move(other); }
  PrivateRunDirectory& operator=(PrivateRunDirectory&& other) noexcept {
    path_.swap(other.path_);
    std::swap(hold_, other.hold_);
    return *this;
  }
  ~PrivateRunDirectory();  // removes it

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  Descriptor hold_;
};

// Where they are made, the best place first.
std::vector<std::string> private_run_directory_parents();

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_PRIVATE_RUN_DIRECTORY_H_
