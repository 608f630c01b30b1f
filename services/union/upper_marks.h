// SPDX-License-Identifier: Apache-2.0
//
// The marks that a union writes into its upper branch: attributes in one of overlayfs's name
// spaces, `trusted.overlay.*` or, where a service may not set those, `user.overlay.*` (marks.h).
//
// THREADS: all functions at once, after choose().
#ifndef LIBSERVICES_SERVICES_UNION_UPPER_MARKS_H_
#define LIBSERVICES_SERVICES_UNION_UPPER_MARKS_H_

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "services/union/marks.h"
#include "services/union/records.h"

namespace libservices::union_internal {

template <class Upper>
class UpperMarks {
 public:
  using Node = typename Upper::Node;

  explicit UpperMarks(Upper& upper) : upper_(upper) {}

  // At start: takes the first name space in which `tried` can have a mark. ERRORS: the upper's, of
  // the last.
  Result<void> choose(const Context& context, const Node& tried) {
    Result<void> marked;
    for (const std::string_view prefix : {kTrusted, kUser}) {
      prefix_ = prefix;
      constexpr std::array<std::byte, 1> kTried{std::byte{'n'}};
      marked = set(context, tried, kOpaque, kTried);
      if (marked.ok()) break;
    }
    return marked;
  }

  Result<void> set(const Context& context, const Node& node, std::string_view mark,
                   std::span<const std::byte> value) {
    return upper_.setxattr(context, node, full_name(mark), value, XattrMode::kCreateOrReplace);
  }
  Result<void> set_yes(const Context& context, const Node& node, std::string_view mark) {
    constexpr std::array<std::byte, 1> kYes{std::byte{'y'}};
    return set(context, node, mark, kYes);
  }
  Result<void> remove(const Context& context, const Node& node, std::string_view mark) {
    return upper_.removexattr(context, node, full_name(mark));
  }

  // `directory` is about to get an entry with marks.
  template <class LowerNode>
  Result<void> set_impure(const Context& context, Record<Node, LowerNode>& directory) {
    if (directory.impure.load()) return {};
    const auto node = directory.upper();
    if (!node) return {};
    LIBSERVICES_CHECK_OK(set_yes(context, *node, kImpure));
    directory.impure.store(true);
    return {};
  }

 private:
  std::string full_name(std::string_view mark) const { return std::string(prefix_).append(mark); }

  Upper& upper_;
  std::string_view prefix_ = kTrusted;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_UPPER_MARKS_H_
