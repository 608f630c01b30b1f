// SPDX-License-Identifier: Apache-2.0
//
// FUSE passthrough: files whose reads, writes and mappings the kernel takes to the descriptor that
// the stack has for them, without a request.
//
// The kernel keeps one way for each object: as long as it has pages of an object for one open file,
// no other may pass through, and all that pass through do so to the same descriptor. So the first
// open decides for those that come while it is there. Where an object's content may move, from a
// union's lower to its upper, those who have passed go on with what it was, and who comes then
// needs another inode at the kernel.
// SOURCE: fs/fuse/iomode.c of Linux. THREADS: all members at once.
#ifndef LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_
#define LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_

#include <cstdint>
#include <mutex>
#include <optional>

#include "absl/container/flat_hash_map.h"

namespace libservices::fuse {

class Passthrough {
 public:
  enum class Way : std::uint8_t {
    kNone,   // neither: by requests alone
    kPages,  // through the kernel's page cache
    kPassthrough,
    kNewInode,  // none: the inode passes through to what is no longer the object's content
  };
  struct Decision {
    Way way;
    std::int32_t number;  // of the descriptor at the kernel, with kPassthrough; else 0
  };

  // What an open file could pass through to.
  struct Offer {
    int descriptor = -1;
    std::uint64_t device = 0;  // the file behind it
    std::uint64_t inode = 0;
    bool until_changed = false;

    bool is_same_file(const Offer& other) const {
      return device == other.device && inode == other.inode;
    }
  };

  // Whether an open of `node` could pass through now.
  bool may_pass(std::uint64_t node) const {
    std::lock_guard lock(mutex_);
    const auto found = nodes_.find(node);
    return found == nodes_.end() || found->second.number != 0;
  }
  // An open of `node` that may pass through if there is an offer and `announce(descriptor)` makes
  // the kernel know it: the number it has there, or 0. It goes the way `otherwise` if it may not.
  // One that passes without an offer, since others do, holds on to the descriptor by `join()`.
  template <class Announce, class Join>
  Decision open(std::uint64_t node, Way otherwise, const std::optional<Offer>& offer,
                Announce&& announce, Join&& join) {
    std::lock_guard lock(mutex_);
    const auto found = nodes_.find(node);
    const bool is_first = found == nodes_.end();
    std::int32_t number = 0;
    if (!is_first && found->second.number != 0) {
      const bool has_moved = !offer || !offer->is_same_file(found->second.file);
      if (found->second.file.until_changed && has_moved) return {Way::kNewInode, 0};
      number = found->second.number;
      if (!offer) join();
    } else if (is_first && offer) {
      number = announce(offer->descriptor);
    }
    if (number == 0 && otherwise == Way::kNone) return {otherwise, 0};
    Node& known = is_first ? nodes_[node] : found->second;
    if (is_first && number != 0) known.file = *offer;
    known.number = number;
    ++(number != 0 ? known.passing : known.pages);
    return {number != 0 ? Way::kPassthrough : otherwise, number};
  }
  // Whether those that pass do so only as long as the object is not changed.
  bool passes_until_changed(std::uint64_t node) const {
    std::lock_guard lock(mutex_);
    const auto found = nodes_.find(node);
    return found != nodes_.end() && found->second.number != 0 && found->second.file.until_changed;
  }
  // With the kernel's number if no open file needs it any more, else 0.
  std::int32_t close(std::uint64_t node, Way way) {
    if (way == Way::kNone) return 0;
    std::lock_guard lock(mutex_);
    const auto found = nodes_.find(node);
    if (found == nodes_.end()) return 0;
    Node& known = found->second;
    --(way == Way::kPages ? known.pages : known.passing);
    if (known.pages != 0 || known.passing != 0) return 0;
    const std::int32_t number = known.number;
    nodes_.erase(found);
    return number;
  }
  std::uint64_t passing() const {
    std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    for (const auto& [node, known] : nodes_) count += known.passing;
    return count;
  }

 private:
  struct Node {               // with open files of one of the two ways
    std::int32_t number = 0;  // of those that pass
    Offer file;               // that they pass to; its descriptor may be closed by now
    std::uint32_t pages = 0;
    std::uint32_t passing = 0;
  };
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::uint64_t, Node> nodes_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_PASSTHROUGH_H_
