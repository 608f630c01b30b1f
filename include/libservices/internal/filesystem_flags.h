// SPDX-License-Identifier: Apache-2.0
//
// The flags of objects (inode_flags.h) as `Filesystem<Stack>` gives and takes them. Included by
// filesystem.h alone.
#ifndef LIBSERVICES_INTERNAL_FILESYSTEM_FLAGS_H_
#define LIBSERVICES_INTERNAL_FILESYSTEM_FLAGS_H_

#include "libservices/filesystem.h"

namespace libservices {

namespace internal {

// Whether the object's owner or the superuser, who is `caller`, may make `now` into `wanted`.
// SOURCE: vfs_fileattr_set() of Linux, fs/file_attr.c. There the owner may also change the project,
// but not from within a container; here it is not known who is in one.
inline Result<void> check_flag_changes(const Identity& caller, const InodeFlags& now,
                                       const InodeFlags& wanted) {
  using F = InodeFlags;
  const std::uint32_t changed = now.flags ^ wanted.flags;
  const bool plain = wanted.form == F::Form::kFlags;
  // Whoever compares names byte by byte, or has found none, would go on doing so.
  if (plain && (changed & F::kFoldNames) != 0) return Errno{EOPNOTSUPP};
  if (caller.is_superuser()) return {};
  const std::uint32_t privileged =
      plain ? F::kImmutable | F::kAppendOnly | F::kJournalData | F::kInheritProject
            : F::kExtendedImmutable | F::kExtendedAppendOnly | F::kExtendedInheritProject;
  if ((changed & privileged) != 0 || now.project != wanted.project) return Errno{EPERM};
  return {};
}

}  // namespace internal

template <ReadableService Stack>
Result<InodeFlags> Filesystem<Stack>::getflags(const Context& context, const Location& location,
                                               InodeFlags::Form form) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  const Attributes& object = at.target.attributes;
  if (!object.is_regular() && !object.is_directory()) return Errno{ENOTTY};
  if constexpr (OffersFlags<Stack>) {
    return stack().getflags(context, at.target.inode->node, form);
  }
  return Errno{ENOTTY};
}

template <ReadableService Stack>
Result<void> Filesystem<Stack>::setflags(const Context& context, const Location& location,
                                         const InodeFlags& flags) {
  LIBSERVICES_CHECK_OK(internal::check_has_file(location));
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  const Attributes& object = at.target.attributes;
  if (!object.is_regular() && !object.is_directory()) return Errno{ENOTTY};
  if constexpr (OffersFlagChanges<Stack>) {
    if (object.unmapped != 0) return Errno{EPERM};
    if (!internal::owns(context.caller, object)) return Errno{EPERM};
    auto& inode = *at.target.inode;
    // Of those who change flags at the same time each decides on what the one before has left.
    const auto lock = tree_.lists().lock(inode);
    LIBSERVICES_TRY(const InodeFlags now, stack().getflags(context, inode.node, flags.form));
    LIBSERVICES_CHECK_OK(internal::check_flag_changes(context.caller, now, flags));
    const auto changed = stack().setflags(context, inode.node, flags);
    inode.attributes.all_changed();
    tree_.count_change();
    tree_.tell_attributes(inode);
    return changed;
  }
  return Errno{OffersFlags<Stack> && !WritableService<Stack> ? EROFS : ENOTTY};
}

}  // namespace libservices

#endif  // LIBSERVICES_INTERNAL_FILESYSTEM_FLAGS_H_
