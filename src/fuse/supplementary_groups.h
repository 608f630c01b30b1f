// SPDX-License-Identifier: Apache-2.0
//
// The supplementary groups of a FUSE request's caller, which the request does not name: read from
// /proc when a decision hangs on one of them. Few do: the group's permissions and everybody's are
// mostly the same.
#ifndef LIBSERVICES_SRC_FUSE_SUPPLEMENTARY_GROUPS_H_
#define LIBSERVICES_SRC_FUSE_SUPPLEMENTARY_GROUPS_H_

#include <optional>
#include <vector>

#include "libservices/context.h"
#include "src/fuse/message.h"

namespace libservices::fuse {

class SupplementaryGroups final : public GroupSource {
 public:
  // `message` must outlive it.
  explicit SupplementaryGroups(const Message& message) : message_(message) {}

  bool has(gid_t group) const override;

 private:
  const Message& message_;
  mutable std::optional<std::vector<gid_t>> of_process_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_SUPPLEMENTARY_GROUPS_H_
