// SPDX-License-Identifier: Apache-2.0
//
// `IdMapping`: two numberings of the users, or of the groups, and how one becomes the other.
//
//   stored   the id that a branch has in its files: a container's own, 0 for its superuser
//   shown    the id that callers see and name: on the host 300000, say, for that superuser
//
// A range {stored 0, shown 300000, count 65536} makes stored 0 to 65535 from shown 300000 to 365535
// and back. Ids outside all ranges have no counterpart; without any range each id is its own.
//
// A *squashing* mapping shows one id for all, and cannot be turned round: what is stored stays.
// THREADS: constant once made.
#ifndef LIBSERVICES_ID_MAPPING_H_
#define LIBSERVICES_ID_MAPPING_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace libservices {

struct IdRange {
  std::uint32_t stored = 0;  // the first id, as it is stored
  std::uint32_t shown = 0;   // the first id, as it is shown
  std::uint32_t count = 0;
};

class IdMapping {
 public:
  using Id = std::uint32_t;
  static constexpr Id kNone = UINT32_MAX;  // no user and no group: "leave it" for chown
  static constexpr Id kOverflow = 65534;   // SOURCE: Linux, DEFAULT_OVERFLOWUID

  IdMapping() = default;
  explicit IdMapping(std::vector<IdRange> ranges, std::optional<Id> squash = std::nullopt)
      : squash_(squash), by_stored_(std::move(ranges)), by_shown_(by_stored_) {
    std::ranges::sort(by_stored_, {}, &IdRange::stored);
    std::ranges::sort(by_shown_, {}, &IdRange::shown);
  }

  bool squashes() const { return squash_.has_value(); }

  std::optional<Id> shown(Id stored) const {
    if (squash_) return squash_;
    return find(by_stored_, stored, &IdRange::stored, &IdRange::shown);
  }
  std::optional<Id> stored(Id shown) const {
    return find(by_shown_, shown, &IdRange::shown, &IdRange::stored);
  }

  // ERRORS: InvalidArgument for ranges that are empty, overlap or have ids that there are not, and
  // for ranges beside a squash. `kind` is "uid" or "gid".
  absl::Status check(std::string_view kind) const {
    if (squash_ && !by_stored_.empty()) {
      return error(kind, "ids are mapped by ranges, and all shown as one", "keep one of both");
    }
    if (squash_ == kNone) return error(kind, "4294967295 is no id", "use a smaller one");
    for (const IdRange& range : by_stored_) {
      if (range.count == 0) {
        return error(kind, fmt::format("the range {} has no ids", text(range)),
                     "its last number is how many it has");
      }
      if (range.count > kNone - std::max(range.stored, range.shown)) {
        return error(kind,
                     fmt::format("the range {} goes beyond the last id, 4294967294", text(range)),
                     "make it smaller");
      }
    }
    if (absl::Status status = check_apart(kind, by_stored_, &IdRange::stored); !status.ok()) {
      return status;
    }
    return check_apart(kind, by_shown_, &IdRange::shown);
  }

 private:
  using Ranges = std::vector<IdRange>;  // in the order of one side
  using Side = Id IdRange::*;

  static std::optional<Id> find(const Ranges& ranges, Id id, Side from, Side to) {
    if (ranges.empty()) return id;
    const auto after = std::ranges::upper_bound(ranges, id, {}, from);
    if (after == ranges.begin()) return std::nullopt;
    const IdRange& range = *std::prev(after);
    const Id place = id - range.*from;
    if (place >= range.count) return std::nullopt;
    return range.*to + place;
  }

  static absl::Status check_apart(std::string_view kind, const Ranges& ranges, Side side) {
    for (std::size_t i = 1; i < ranges.size(); ++i) {
      const IdRange& before = ranges[i - 1];
      if (ranges[i].*side - before.*side >= before.count) continue;
      return error(kind,
                   fmt::format("the ranges {} and {} overlap: {} {} is in both", text(before),
                               text(ranges[i]), side == &IdRange::stored ? "stored" : "shown",
                               ranges[i].*side),
                   "make them apart");
    }
    return absl::OkStatus();
  }

  static std::string text(const IdRange& range) {
    return fmt::format("{}:{}:{}", range.stored, range.shown, range.count);
  }
  static absl::Status error(std::string_view kind, std::string_view why, std::string_view mend) {
    return absl::InvalidArgumentError(fmt::format("idmap: {}: {} ({})", kind, why, mend));
  }

  std::optional<Id> squash_;
  Ranges by_stored_;
  Ranges by_shown_;
};

}  // namespace libservices

#endif  // LIBSERVICES_ID_MAPPING_H_
