// SPDX-License-Identifier: Apache-2.0
//
// The marks of a file that was copied up in part: that it is a metacopy, where the lower file is,
// and which chunks are in the upper (ranges.h). A change of the map counts for the next start when
// it is saved here.
#ifndef LIBSERVICES_SERVICES_UNION_PARTIAL_MARKS_H_
#define LIBSERVICES_SERVICES_UNION_PARTIAL_MARKS_H_

#include <cstdint>
#include <span>
#include <string>

#include "libservices/capabilities.h"
#include "services/union/records.h"
#include "services/union/upper_marks.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class PartialMarks {
 public:
  using Partial = PartialContent<typename Lower::Node>;
  using Node = typename Upper::Node;

  PartialMarks(Upper& upper, UpperMarks<Upper>& marks) : upper_(upper), marks_(marks) {}

  // Of a file that has come up without content. `lower_path`: from the lowers' roots.
  Result<void> mark_new(const Context& context, const Node& node, const RangeMap& map,
                        const std::string& lower_path) {
    LIBSERVICES_CHECK_OK(marks_.set(context, node, kRanges, map.encode(epoch())));
    LIBSERVICES_CHECK_OK(
        marks_.set(context, node, kRedirect, std::as_bytes(std::span(lower_path))));
    return marks_.set(context, node, kMetacopy, {});
  }

  // REQUIRES, of all that follow: partial.mutex is held exclusively.
  Result<void> save(const Context& context, const Node& node, Partial& partial) {
    LIBSERVICES_CHECK_OK(marks_.set(context, node, kRanges, partial.map.encode(epoch())));
    partial.saved = true;
    return {};
  }
  // Before every change: a truncation may have left a map that could not be saved.
  Result<void> save_if_needed(const Context& context, const Node& node, Partial& partial) {
    return partial.saved ? Result<void>() : save(context, node, partial);
  }

  // Nothing is below any more. If a mark stays, it says no more than that all is here.
  void finish(const Context& context, const Node& node, Partial& partial) {
    if (!save(context, node, partial).ok()) return;
    if (!marks_.remove(context, node, kMetacopy).ok()) return;
    (void)marks_.remove(context, node, kRedirect);
    (void)marks_.remove(context, node, kRanges);
    partial.whole.store(true);
  }

  std::uint64_t epoch() {
    if constexpr (KnowsDataEpoch<Upper>) return upper_.data_epoch();
    return 0;
  }

 private:
  Upper& upper_;
  UpperMarks<Upper>& marks_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_PARTIAL_MARKS_H_
