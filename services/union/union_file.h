// SPDX-License-Identifier: Apache-2.0
//
// An open file of a union: the upper's open file, those of the lowers, or both for a file that was
// copied up in part. It changes to the upper's when the object is copied up, so a descriptor that
// was opened before sees what is written after.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_FILE_H_
#define LIBSERVICES_SERVICES_UNION_UNION_FILE_H_

#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "services/union/branches.h"
#include "services/union/listing.h"
#include "services/union/lower_content.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class UnionFile {
 public:
  using B = Branches<Upper, Lower>;

  struct State {
    typename B::Pointer record;
    OpenFlags flags;
    // Held shared to use the upper's file, exclusively to set it.
    std::shared_mutex mutex;
    std::optional<typename Upper::File> upper;
    std::shared_ptr<typename B::Partial> partial;  // while it counts
    LowerFiles<Lower> lower_files;
    std::uint64_t size = 0;     // of a lower file when it was opened: it never changes
    std::mutex listing_mutex;   // guards listing
    std::optional<UnionListing<Upper, Lower>> listing;
  };

  UnionFile() = default;
  UnionFile(UnionFile&&) noexcept = default;
  UnionFile& operator=(UnionFile&&) noexcept = default;

  std::unique_ptr<State> state = std::make_unique<State>();
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_UNION_FILE_H_
