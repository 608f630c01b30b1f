// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Filesystem<Stack>` that are longer than a few lines: open and the attribute
// changes. Included by filesystem.h alone.
#ifndef LIBSERVICES_INTERNAL_FILESYSTEM_CALLS_H_
#define LIBSERVICES_INTERNAL_FILESYSTEM_CALLS_H_

#include "libservices/filesystem.h"

namespace libservices {

template <ReadableService Stack>
Result<OpenFilePtr> Filesystem<Stack>::open(const Context& context, const Location& asked,
                                            OpenFlags flags, mode_t mode) {
  Location location = asked;
  if (flags.has(O_PATH)) flags.bits &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  if (flags.has(O_NOFOLLOW)) location.follow = Follow::kNo;
  if (flags.has(O_TMPFILE)) {
    if (!flags.writes() || flags.has(O_CREAT)) return Errno{EINVAL};
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    LIBSERVICES_TRY(auto made, changes_.tmpfile(context, at.target, flags, mode));
    return content_.keep(flags, std::move(made.inode), std::move(made.file));
  }
  const bool creates = flags.has(O_CREAT);
  if (creates && flags.directory()) return Errno{EINVAL};
  if (creates && flags.has(O_EXCL)) location.follow = Follow::kNo;
  for (;;) {
    LIBSERVICES_TRY(auto at,
                    walk(context, location, creates ? T::Walk::kCreate : T::Walk::kObject));
    if (!at.target.inode) {
      if (at.trailing_slash) return Errno{EISDIR};
      auto made = changes_.create(context, at, flags, mode);
      if (made.ok()) return content_.keep(flags, std::move(made->inode), std::move(made->file));
      if (made.error() == Errno{EEXIST} && !flags.has(O_EXCL)) continue;  // lost a race: open it
      return made.error();
    }
    if (creates && flags.has(O_EXCL)) return Errno{EEXIST};
    const Attributes& object = at.target.attributes;
    if (flags.directory() && !object.is_directory()) return Errno{ENOTDIR};
    if (flags.has(O_PATH)) return content_.keep(flags, std::move(at.target.inode), std::nullopt);
    if (object.is_symlink()) return Errno{ELOOP};
    if (object.is_directory() && (flags.writes() || flags.truncates() || creates)) {
      return Errno{EISDIR};
    }
    const bool changes = flags.writes() || flags.truncates();
    if (!WritableService<Stack> && changes && !is_special(object)) return Errno{EROFS};
    LIBSERVICES_CHECK_OK(
        tree_.check(context, at.target, (flags.reads() ? R_OK : 0) | (changes ? W_OK : 0)));
    if (flags.has(O_NOATIME) && !internal::owns(context.caller, object)) return Errno{EPERM};
    if (is_special(object)) return Errno{ENXIO};  // a fifo or device needs the kernel's own file
    auto opened = stack().open(context, at.target.inode->node, flags);
    if (!opened.ok()) {
      // Removed between the walk and here, by us or by others: as if the walk had come later.
      if (creates && opened.error() == Errno{ENOENT}) continue;
      return opened.error();
    }
    typename T::Object& inode = *at.target.inode;
    OpenFilePtr file =
        content_.keep(flags, std::move(at.target.inode), std::move(opened->file));
    if (flags.truncates()) {
      inode.attributes.all_changed();
      tree_.count_change();
      tree_.tell_object(inode, 0, UINT64_MAX);
      tree_.events().tell(FileEvent::kModify, inode);
      const auto dropped = content_.drop_set_id(context, inode);
      if (!dropped.ok()) {
        (void)close(context, std::move(file));
        return dropped.error();
      }
    }
    return file;
  }
}

template <ReadableService Stack>
Result<void> Filesystem<Stack>::setattr(const Context& context, const Location& location,
                                        const AttributeChanges& asked) {
  LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
  AttributeChanges changes = asked;
  bool by_path = true;
  if (location.itself && !location.as_path) {
    const OpenFlags flags = location.base->flags();
    if (flags.has(O_PATH)) return Errno{EBADF};
    if (changes.has(AttributeChanges::kSize)) {
      if (!flags.writes()) return Errno{EINVAL};
      by_path = false;
    }
  }
  if constexpr (WritableService<Stack>) {
    auto& inode = *at.target.inode;
    LIBSERVICES_CHECK_OK(internal::check_changes(
        context.caller, at.target.attributes, by_path,
        [&](int wanted) { return tree_.check(context, at.target, wanted); }, changes));
    if (changes.which == 0) return {};
    const bool sets_id =
        changes.has(AttributeChanges::kMode) && (changes.mode & (S_ISUID | S_ISGID)) != 0;
    if (sets_id && inode.outside_strangers.load() != 0) return Errno{ETXTBSY};
    // ftruncate to the size that it has is a change of the content; truncate is none.
    if (!by_path && changes.size == at.target.attributes.size &&
        !changes.has(AttributeChanges::kMtime)) {
      changes.which |= AttributeChanges::kMtimeNow;
    }
    std::unique_lock<std::mutex> lock;
    if (changes.has(AttributeChanges::kMode)) lock = tree_.lists().lock(inode);
    const std::uint64_t ticket = inode.attributes.ticket();
    LIBSERVICES_TRY(const Attributes after, stack().setattr(context, inode.node, changes));
    inode.attributes.store_changed(after, ticket, tree_.now());
    tree_.count_change();
    tree_.tell_object(inode, 0, changes.has(AttributeChanges::kSize) ? UINT64_MAX : 0);
    tell_changes(inode, changes);
    if (!changes.has(AttributeChanges::kMode)) return {};
    return tree_.lists().follow_mode(context, inode, after);
  }
  return Errno{EROFS};
}

// SOURCE: fsnotify_change of Linux 6.
template <ReadableService Stack>
void Filesystem<Stack>::tell_changes(const typename T::Object& inode,
                                     const AttributeChanges& changes) {
  using Changes = AttributeChanges;
  const auto& events = tree_.events();
  if (events.watched(inode) == 0) return;
  const bool atime = changes.has(Changes::kAtime) || changes.has(Changes::kAtimeNow);
  const bool mtime = changes.has(Changes::kMtime) || changes.has(Changes::kMtimeNow);
  const bool names = changes.has(Changes::kMode) || changes.has(Changes::kUid) ||
                     changes.has(Changes::kGid) || (atime && mtime);
  if (changes.has(Changes::kSize) || (mtime && !atime)) events.tell(FileEvent::kModify, inode);
  if (atime && !mtime) events.tell(FileEvent::kAccess, inode);
  if (names) events.tell(FileEvent::kAttributes, inode);
}

}  // namespace libservices

#endif  // LIBSERVICES_INTERNAL_FILESYSTEM_CALLS_H_
