// SPDX-License-Identifier: Apache-2.0
//
// The place on a directory's volume where `Local` keeps what is not yet in the tree.
//
// In the work directory three names are ours: `lock`, which one instance at a time holds, the
// directory `staging`, which is emptied when an instance takes it and when it lets go, and the
// directory `kept`.
#ifndef LIBSERVICES_SERVICES_LOCAL_WORK_DIRECTORY_H_
#define LIBSERVICES_SERVICES_LOCAL_WORK_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "services/local/nodes.h"

namespace libservices::local_internal {

class WorkDirectory {
 public:
  // Makes it where it is missing. `place` is the real path of the directory that it serves, and
  // `device` its volume. A failure is also told as an errno: EBUSY when another instance has it,
  // EXDEV on another volume, EINVAL when one directory lies in the other.
  static absl::Status open(const std::string& path, const std::string& place, std::uint64_t device,
                           std::unique_ptr<WorkDirectory>& opened, Errno& why);
  ~WorkDirectory();

  const DescriptorRef& staging() const { return staging_; }
  // Made at first use. ERRORS: those of mkdir and open.
  Result<DescriptorRef> kept() const;

 private:
  WorkDirectory() = default;

  std::unique_ptr<Descriptor> directory_;
  std::unique_ptr<Descriptor> lock_;
  DescriptorRef staging_;
};

}  // namespace libservices::local_internal

#endif  // LIBSERVICES_SERVICES_LOCAL_WORK_DIRECTORY_H_
