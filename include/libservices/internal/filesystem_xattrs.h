// SPDX-License-Identifier: Apache-2.0
//
// The extended attributes of `Filesystem<Stack>`, and among them the access control lists, which
// have rules of their own. Included by filesystem.h alone.
#ifndef LIBSERVICES_INTERNAL_FILESYSTEM_XATTRS_H_
#define LIBSERVICES_INTERNAL_FILESYSTEM_XATTRS_H_

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "libservices/filesystem.h"

namespace libservices {

namespace internal {

// No other name space can be used. `may_access` is check_access() for
// the caller and object. SOURCE: xattr(7).
template <class MayAccess>
Result<void> check_xattr(const Identity& caller, const Attributes& object, std::string_view name,
                         XattrUse use, MayAccess&& may_access) {
  if (name.empty() || name.size() > 255) return Errno{ERANGE};
  if (use == XattrUse::kWrite && object.unmapped != 0) return Errno{EPERM};
  if (name.starts_with("trusted.")) {
    if (caller.is_superuser()) return {};
    return Errno{use == XattrUse::kRead ? ENODATA : EPERM};
  }
  if (name.starts_with("security.")) {
    if (use == XattrUse::kRead || caller.is_superuser()) return {};
    return Errno{EPERM};
  }
  if (name.starts_with("user.")) {
    if (!object.is_regular() && !object.is_directory()) {
      return Errno{use == XattrUse::kRead ? ENODATA : EPERM};
    }
    if (use == XattrUse::kWrite && object.is_directory() && (object.mode & S_ISVTX) != 0 &&
        !owns(caller, object)) {
      return Errno{EPERM};
    }
    return may_access(use == XattrUse::kRead ? R_OK : W_OK);
  }
  return Errno{EOPNOTSUPP};
}

}  // namespace internal

template <ReadableService Stack>
Result<void> Filesystem<Stack>::may_use_xattr(const Context& context, const typename T::Here& at,
                                              std::string_view name, internal::XattrUse use) {
  return internal::check_xattr(context.caller, at.attributes, name, use,
                               [&](int wanted) { return tree_.check(context, at, wanted); });
}

// As Linux: who can name an object may read its lists.
template <ReadableService Stack>
Result<std::size_t> Filesystem<Stack>::get_list(const Context& context, const typename T::Here& at,
                                                std::string_view name, std::span<std::byte> into) {
  const AccessList::Kind kind = AccessList::kind_of(name);
  if (at.attributes.is_symlink()) return Errno{EOPNOTSUPP};
  LIBSERVICES_TRY(const internal::KnownList known,
                  tree_.lists().find(context, *at.inode, kind, at.attributes));
  if (known.list == nullptr) return Errno{known.refused ? EOPNOTSUPP : ENODATA};
  const std::vector<std::byte> value = known.list->encode();
  if (into.empty()) return value.size();
  if (into.size() < value.size()) return Errno{ERANGE};
  std::ranges::copy(value, into.begin());
  return value.size();
}

// An empty `value` removes the list. SOURCE: the order of Linux's checks, fs/posix_acl.c.
template <ReadableService Stack>
Result<void> Filesystem<Stack>::set_list(const Context& context, const typename T::Here& at,
                                         std::string_view name, std::span<const std::byte> value) {
  if constexpr (WritableService<Stack> && OffersXattrs<Stack>) {
    const AccessList::Kind kind = AccessList::kind_of(name);
    std::optional<AccessList> list;
    if (!value.empty()) {
      LIBSERVICES_TRY(list, AccessList::parse(value));
      if (list->names_nobody()) return Errno{EINVAL};
      if (list->empty()) list.reset();
    }
    if (at.attributes.unmapped != 0) return Errno{EPERM};
    if (at.attributes.is_symlink()) return Errno{EOPNOTSUPP};
    if (kind == AccessList::Kind::kDefault && !at.attributes.is_directory()) {
      if (list) return Errno{EACCES};
      return {};
    }
    if (!internal::owns(context.caller, at.attributes)) return Errno{EPERM};
    if (list && !list->is_valid()) return Errno{EINVAL};
    auto& inode = *at.inode;
    const auto lock = tree_.lists().lock(inode);
    LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, inode, false));
    const std::uint64_t ticket = inode.attributes.ticket();
    auto after = tree_.lists().set(context, inode, kind, list, now);
    if (after.ok()) {
      inode.attributes.store_changed(*after, ticket, tree_.now());
    } else {
      inode.attributes.all_changed();
    }
    tree_.count_change();
    tree_.tell_attributes(inode);
    if (!after.ok()) return after.error();
    tree_.events().tell(FileEvent::kAttributes, inode);
    return {};
  }
  return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
}

template <ReadableService Stack>
Result<std::size_t> Filesystem<Stack>::getxattr(const Context& context, const Location& location,
                                                std::string_view name, std::span<std::byte> into) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  if (AccessList::is_name(name)) return get_list(context, at.target, name, into);
  LIBSERVICES_CHECK_OK(may_use_xattr(context, at.target, name, internal::XattrUse::kRead));
  if constexpr (OffersXattrs<Stack>) {
    return stack().getxattr(context, at.target.inode->node, name, into);
  }
  return Errno{EOPNOTSUPP};
}

template <ReadableService Stack>
Result<void> Filesystem<Stack>::setxattr(const Context& context, const Location& location,
                                         std::string_view name, std::span<const std::byte> value,
                                         XattrMode mode) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  if (AccessList::is_name(name)) return set_list(context, at.target, name, value);
  LIBSERVICES_CHECK_OK(may_use_xattr(context, at.target, name, internal::XattrUse::kWrite));
  if constexpr (WritableService<Stack> && OffersXattrs<Stack>) {
    LIBSERVICES_CHECK_OK(stack().setxattr(context, at.target.inode->node, name, value, mode));
    at.target.inode->attributes.content_changed();
    tree_.tell_attributes(*at.target.inode);
    tree_.events().tell(FileEvent::kAttributes, *at.target.inode);
    return {};
  }
  return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
}

template <ReadableService Stack>
Result<std::size_t> Filesystem<Stack>::listxattr(const Context& context, const Location& location,
                                                 std::span<char> into) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  if constexpr (OffersXattrs<Stack>) {
    const auto& node = at.target.inode->node;
    std::string all;
    for (;;) {  // it may grow between the question for its size and the listing
      LIBSERVICES_TRY(const std::size_t size, stack().listxattr(context, node, {}));
      all.resize(size);
      if (size == 0) break;
      auto listed = stack().listxattr(context, node, all);
      if (!listed.ok() && listed.error() == Errno{ERANGE}) continue;
      LIBSERVICES_TRY(const std::size_t length, std::move(listed));
      all.resize(length);
      break;
    }
    std::string shown;
    for (std::size_t start = 0; start < all.size();) {
      const std::string_view name(all.c_str() + start);
      const bool hidden = name.starts_with("trusted.") && context.caller.uid != 0;
      const bool known = !name.starts_with("system.") || AccessList::is_name(name);
      if (!hidden && known) shown.append(name).push_back('\0');
      start += name.size() + 1;
    }
    if (into.empty()) return shown.size();
    if (into.size() < shown.size()) return Errno{ERANGE};
    shown.copy(into.data(), shown.size());
    return shown.size();
  }
  return std::size_t{0};
}

template <ReadableService Stack>
Result<void> Filesystem<Stack>::removexattr(const Context& context, const Location& location,
                                            std::string_view name) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  if (AccessList::is_name(name)) return set_list(context, at.target, name, {});
  LIBSERVICES_CHECK_OK(may_use_xattr(context, at.target, name, internal::XattrUse::kWrite));
  if constexpr (WritableService<Stack> && OffersXattrs<Stack>) {
    LIBSERVICES_CHECK_OK(stack().removexattr(context, at.target.inode->node, name));
    at.target.inode->attributes.content_changed();
    tree_.tell_attributes(*at.target.inode);
    tree_.events().tell(FileEvent::kAttributes, *at.target.inode);
    return {};
  }
  return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
}

}  // namespace libservices

#endif  // LIBSERVICES_INTERNAL_FILESYSTEM_XATTRS_H_
