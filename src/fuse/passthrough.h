// SPDX-License-Identifier: Apache-2.0
//
// FUSE passthrough: files whose reads, writes and mappings the kernel takes to the descriptor that
// the stack has for them, without a request.
//
// The kernel keeps one way for each object: as long as it has pages of an object for one open file,
// no other may pass through, and all that pass through do so to the same descriptor. So the first
// open decides for those that come while it is there.
// SOURCE: fs/fuse/iomode.c of Linux. THREADS: all members at once.
#ifndef LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_
#define LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_

#include <cstdint>
#include <mutex>

#include "absl/container/flat_hash_map.h"

namespace libservices::fuse {

class Passthrough {
 public:
  enum class Way : std::uint8_t {
    kNone,         // neither: by requests alone
    kPages,        // through the kernel's page cache
    kPassthrough,
  };
  struct Decision {
    Way way;
    std::int32_t number;  // of the descriptor at the kernel, with kPassthrough; else 0
  };

  // An open of `object` that may pass through if `announce()` makes the kernel know a descriptor:
  // the number it has there, or 0. It goes the way `otherwise` if it may not. One that passes
  // through to a known descriptor holds on to it by `join()`.
  template <class Announce, class Join>
  Decision open(std::uint64_t object, Way otherwise, Announce&& announce, Join&& join) {
    std::lock_guard lock(mutex_);
    const auto found = objects_.find(object);
    const bool is_first = found == objects_.end();
    const std::int32_t number = is_first ? announce() : found->second.number;
    if (number == 0 && otherwise == Way::kNone) return {otherwise, 0};
    if (number != 0 && !is_first) join();
    Object& known = is_first ? objects_[object] : found->second;
    known.number = number;
    ++(number != 0 ? known.passing : known.pages);
    return {number != 0 ? Way::kPassthrough : otherwise, number};
  }
  // With the kernel's number if no open file needs it any more, else 0.
  std::int32_t close(std::uint64_t object, Way way) {
    if (way == Way::kNone) return 0;
    std::lock_guard lock(mutex_);
    const auto found = objects_.find(object);
    if (found == objects_.end()) return 0;
    Object& known = found->second;
    --(way == Way::kPages ? known.pages : known.passing);
    if (known.pages != 0 || known.passing != 0) return 0;
    const std::int32_t number = known.number;
    objects_.erase(found);
    return number;
  }
  std::uint64_t passing() const {
    std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    for (const auto& [object, known] : objects_) count += known.passing;
    return count;
  }

 private:
  struct Object {             // with open files of one of the two ways
    std::int32_t number = 0;  // of those that pass
    std::uint32_t pages = 0;
    std::uint32_t passing = 0;
  };
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::uint64_t, Object> objects_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_
