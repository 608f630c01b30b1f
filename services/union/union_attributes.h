// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Union` that change attributes, and its extended attributes: the marks of overlayfs
// itself are not the callers' to see or to set. Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_ATTRIBUTES_H_
#define LIBSERVICES_SERVICES_UNION_UNION_ATTRIBUTES_H_

#include <string>
#include <string_view>

#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
Result<Attributes> Union<Upper, Lower>::setattr(C context, const Node& node,
                                                const AttributeChanges& changes) {
  const bool resizes = changes.has(AttributeChanges::kSize);
  const auto content = !resizes            ? Content::kUnchanged
                       : changes.size == 0 ? Content::kNone
                                           : Content::kChanging;
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node, content));
  const auto change = [&] { return upper().setattr(context, upper_node, changes); };
  const auto partial = resizes ? node->partial() : nullptr;
  if (partial) LIBSERVICES_CHECK_OK(partials_.settle(context, upper_node, *partial));
  LIBSERVICES_TRY(
      const Attributes seen,
      partial ? partials_.resize(context, upper_node, *partial, changes.size, change) : change());
  return branches_.shown(*node, seen);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::getxattr(C context, const Node& node,
                                                  std::string_view name, std::span<std::byte> into)
  requires OffersXattrs<Lower>
{
  if (union_internal::is_overlay_name(name)) return Errno{ENODATA};
  if (auto upper_node = node->upper()) return upper().getxattr(context, *upper_node, name, into);
  const auto& part = node->lowers.front();
  return branches_.lower(part.branch).getxattr(context, part.node, name, into);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::setxattr(C context, const Node& node, std::string_view name,
                                           std::span<const std::byte> value,
                                           XattrMode mode)
  requires OffersXattrs<Lower>
{
  if (union_internal::is_overlay_name(name)) return Errno{EPERM};
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node));
  return upper().setxattr(context, upper_node, name, value, mode);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::listxattr(C context, const Node& node,
                                                   std::span<char> into)
  requires OffersXattrs<Lower>
{
  const auto names_of = [&]() -> Result<std::string> {
    if (auto upper_node = node->upper()) {
      return union_internal::attribute_names(context, upper(), *upper_node);
    }
    const auto& part = node->lowers.front();
    return union_internal::attribute_names(context, branches_.lower(part.branch), part.node);
  };
  LIBSERVICES_TRY(const std::string all, names_of());
  std::string shown;
  union_internal::for_each_name(all, [&](std::string_view name) {
    if (!union_internal::is_overlay_name(name)) shown.append(name).push_back('\0');
  });
  if (into.empty()) return shown.size();
  if (into.size() < shown.size()) return Errno{ERANGE};
  shown.copy(into.data(), shown.size());
  return shown.size();
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::removexattr(C context, const Node& node,
                                              std::string_view name)
  requires OffersXattrs<Lower>
{
  if (union_internal::is_overlay_name(name)) return Errno{ENODATA};
  LIBSERVICES_TRY(const std::size_t size, getxattr(context, node, name, {}));
  (void)size;  // what is not there is no reason to copy the file
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node));
  return upper().removexattr(context, upper_node, name);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<InodeFlags> Union<Upper, Lower>::getflags(C context, const Node& node, InodeFlags::Form form)
  requires OffersFlags<Upper> && OffersFlags<Lower>
{
  if (auto upper_node = node->upper()) return upper().getflags(context, *upper_node, form);
  const auto& part = node->lowers.front();
  return branches_.lower(part.branch).getflags(context, part.node, form);
}

// A file that nobody can write any more must have its content: no more comes up later.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::setflags(C context, const Node& node, const InodeFlags& flags)
  requires OffersFlagChanges<Upper> && OffersFlags<Lower>
{
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node));
  if (const auto partial = node->partial(); partial && flags.protects()) {
    LIBSERVICES_CHECK_OK(partials_.settle(context, upper_node, *partial));
    LIBSERVICES_CHECK_OK(partials_.complete(context, upper_node, *partial));
  }
  return upper().setflags(context, upper_node, flags);
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_ATTRIBUTES_H_
