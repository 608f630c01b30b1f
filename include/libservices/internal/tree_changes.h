// SPDX-License-Identifier: Apache-2.0
//
// The calls that change the tree: create, mkdir, mknod, symlink, link, unlink, rmdir and rename by
// path, with POSIX's checks, over any stack. Over a stack that cannot, EROFS or EOPNOTSUPP.
//
// Each change holds its directory's `entries` exclusively from the last look at the name until the
// name cache knows the outcome, so a name that was looked up in between cannot come back stale.
#ifndef LIBSERVICES_INTERNAL_TREE_CHANGES_H_
#define LIBSERVICES_INTERNAL_TREE_CHANGES_H_

#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <utility>

#include "libservices/internal/tree.h"

namespace libservices::internal {

template <ReadableService Stack>
class TreeChanges {
 public:
  using T = Tree<Stack>;
  using Node = typename Stack::Node;
  using File = typename Stack::File;
  using Pointer = typename T::Pointer;
  using Here = typename T::Here;
  using Walked = typename T::Walked;

  explicit TreeChanges(Tree<Stack>& tree) : tree_(tree) {}

  struct NewFile {
    Pointer inode;
    File file;
  };
  // ERRORS: EEXIST when the name has appeared since the walk.
  Result<NewFile> create(const Context& context, const Walked& at, OpenFlags flags, mode_t mode) {
    if constexpr (WritableService<Stack>) {
      LIBSERVICES_CHECK_OK(still_there(at.parent));  // before permissions, as Linux
      LIBSERVICES_CHECK_OK(may_change(context, at.parent));
      LIBSERVICES_TRY(const auto fresh, inherit(context, at.parent, S_IFREG | (mode & 07777U)));
      std::unique_lock lock(at.parent.inode->entries);
      LIBSERVICES_CHECK_OK(still_there(at.parent));
      LIBSERVICES_CHECK_OK(still_free(context, at));
      const std::uint64_t epoch = tree_.changes();
      LIBSERVICES_TRY(auto made, tree_.stack().create(context, at.parent.inode->node, at.name,
                                                      permissions_of(fresh.fresh), flags));
      Entry<Node> entry{std::move(made.node), made.attributes};
      LIBSERVICES_CHECK_OK(endow(context, at, fresh, entry));
      Here here = tree_.admit(at.parent.inode, at.name, entry, epoch);
      if (!fresh.has_lists) tree_.lists().born_bare(*here.inode);
      changed(*at.parent.inode);
      tree_.tell_name(*at.parent.inode, at.name);
      tree_.events().tell_entry(FileEvent::kCreate, *at.parent.inode, at.name, false);
      return NewFile{std::move(here.inode), std::move(made.file)};
    }
    return Errno{EROFS};
  }

  Result<NewFile> tmpfile(const Context& context, const Here& directory, OpenFlags flags,
                          mode_t mode) {
    if constexpr (OffersTmpfile<Stack>) {
      LIBSERVICES_CHECK_OK(may_change(context, directory));
      LIBSERVICES_TRY(const auto fresh, inherit(context, directory, S_IFREG | (mode & 07777U)));
      LIBSERVICES_TRY(auto made, tree_.stack().tmpfile(context, directory.inode->node,
                                                       permissions_of(fresh.fresh), flags));
      if constexpr (OffersXattrs<Stack>) {
        if (fresh.has_lists) {
          LIBSERVICES_TRY(made.attributes, tree_.lists().endow(context, made.node, fresh));
        }
      }
      Pointer inode = tree_.admit_nameless(made.node, made.attributes);
      if (!fresh.has_lists) tree_.lists().born_bare(*inode);
      return NewFile{std::move(inode), std::move(made.file)};
    }
    return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
  }

  Result<void> mkdir(const Context& context, const Walked& at, mode_t mode) {
    if constexpr (WritableService<Stack>) {
      return make_new(context, at, S_IFDIR | (mode & 01777U), true, [&](const NewNode& fresh) {
        return tree_.stack().mkdir(context, at.parent.inode->node, at.name,
                                   permissions_of(fresh));
      });
    }
    return Errno{at.target.inode ? EEXIST : EROFS};
  }

  Result<void> mknod(const Context& context, const Walked& at, mode_t mode,
                     std::uint64_t special_device) {
    const mode_t type = mode & S_IFMT;
    if (type == S_IFDIR || type == S_IFLNK) return Errno{EPERM};
    if ((type == S_IFCHR || type == S_IFBLK) && !context.caller.is_superuser()) {
      return Errno{EPERM};
    }
    if constexpr (OffersMknod<Stack>) {
      return make_new(context, at, type == 0 ? mode | S_IFREG : mode, false, [&](NewNode fresh) {
        fresh.special_device = special_device;
        return tree_.stack().mknod(context, at.parent.inode->node, at.name, fresh);
      });
    }
    return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
  }

  Result<void> symlink(const Context& context, std::string_view target, const Walked& at) {
    if constexpr (OffersSymlink<Stack>) {
      Context no_umask = context;
      no_umask.umask = 0;
      return make_new(no_umask, at, S_IFLNK | 0777U, false, [&](const NewNode& fresh) {
        return tree_.stack().symlink(context, at.parent.inode->node, at.name, target,
                                     permissions_of(fresh));
      });
    }
    return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
  }

  Result<void> link(const Context& context, const Here& from, const Walked& to) {
    if constexpr (OffersLink<Stack>) {
      const bool is_free = to.last == T::Last::kName && !to.target.inode && !to.trailing_slash;
      if (is_free && from.attributes.unmapped != 0) return Errno{EOVERFLOW};
      auto linked = make(context, to, false, [&]() -> Result<Entry<Node>> {
        if (from.attributes.is_directory()) return Errno{EPERM};
        auto entry =
            tree_.stack().link(context, from.inode->node, to.parent.inode->node, to.name);
        if (entry.ok()) tree_.events().tell_itself(FileEvent::kAttributes, *from.inode);
        return entry;
      });
      from.inode->attributes.content_changed();
      tree_.tell_attributes(*from.inode);
      if (!linked.ok()) return linked.error();
      return {};
    }
    return Errno{WritableService<Stack> ? EOPNOTSUPP : EROFS};
  }

  Result<void> unlink(const Context& context, const Walked& at) {
    if (at.last != T::Last::kName) return Errno{EISDIR};
    return remove(context, at, false);
  }

  Result<void> rmdir(const Context& context, const Walked& at) {
    if (at.last == T::Last::kDot) return Errno{EINVAL};
    if (at.last == T::Last::kDotDot) return Errno{ENOTEMPTY};
    if (at.last != T::Last::kName) return Errno{EBUSY};
    return remove(context, at, true);
  }

  Result<void> rename(const Context& context, const Walked& from, const Walked& to,
                      RenameMode mode);

 private:
  static NewNode permissions_of(NewNode fresh) {
    fresh.mode &= 07777U;
    return fresh;
  }

  using Inherited = typename AccessLists<Stack>::Inherited;
  Result<Inherited> inherit(const Context& context, const Here& directory, std::uint32_t mode) {
    return tree_.lists().inherit(context, *directory.inode, directory.attributes, mode);
  }
  // What was made gets the lists that it inherits; without them it goes again.
  Result<void> endow(const Context& context, const Walked& at, const Inherited& fresh,
                     Entry<Node>& made) {
    if constexpr (OffersXattrs<Stack>) {
      if (!fresh.has_lists) return {};
      auto endowed = tree_.lists().endow(context, made.node, fresh);
      if (!endowed.ok()) {
        const Node& parent = at.parent.inode->node;
        (void)(made.attributes.is_directory() ? tree_.stack().rmdir(context, parent, at.name)
                                              : tree_.stack().unlink(context, parent, at.name));
        return endowed.error();
      }
      made.attributes = *endowed;
    }
    return {};
  }

  Result<void> may_change(const Context& context, const Here& directory) {
    if (!directory.attributes.is_directory()) return Errno{ENOTDIR};
    return tree_.check(context, directory, W_OK | X_OK);
  }

  Result<void> may_remove(const Context& context, const Walked& at) {
    if (at.target.attributes.unmapped != 0) return Errno{EOVERFLOW};
    LIBSERVICES_CHECK_OK(may_change(context, at.parent));
    return check_removal(context.caller, at.parent.attributes, at.target.attributes);
  }

  Result<void> still_there(const Here& directory) {
    std::shared_lock lock(tree_.places_mutex());
    if (directory.inode->removed) return Errno{ENOENT};
    return {};
  }

  // REQUIRES: parent's entries held.
  Result<void> still_free(const Context& context, const Walked& at) {
    auto there = tree_.step_locked(context, at.parent.inode, at.name);
    if (there.ok()) return Errno{EEXIST};
    if (there.error() != Errno{ENOENT}) return there.error();
    return {};
  }

  void changed(typename T::Object& directory) {
    directory.attributes.content_changed();
    tree_.count_change();
    tree_.tell_object(directory, 0, UINT64_MAX);
  }

  // A further entry.
  template <class Make>
  Result<Here> make(const Context& context, const Walked& at, bool slash_allowed, Make&& make_it) {
    if (at.last != T::Last::kName || at.target.inode) return Errno{EEXIST};
    if (at.trailing_slash && !slash_allowed) return Errno{ENOENT};
    LIBSERVICES_CHECK_OK(still_there(at.parent));  // before permissions, as Linux
    LIBSERVICES_CHECK_OK(may_change(context, at.parent));
    std::unique_lock lock(at.parent.inode->entries);
    LIBSERVICES_CHECK_OK(still_there(at.parent));
    LIBSERVICES_CHECK_OK(still_free(context, at));
    const std::uint64_t epoch = tree_.changes();
    LIBSERVICES_TRY(const Entry<Node> made, make_it());
    Here here = tree_.admit(at.parent.inode, at.name, made, epoch);
    changed(*at.parent.inode);
    tree_.tell_name(*at.parent.inode, at.name);
    tree_.events().tell_entry(FileEvent::kCreate, *at.parent.inode, at.name,
                              here.inode->is_directory());
    return here;
  }

  // And a further object.
  template <class Make>
  Result<void> make_new(const Context& context, const Walked& at, std::uint32_t mode,
                        bool slash_allowed, Make&& make_it) {
    Inherited fresh;
    LIBSERVICES_TRY(const Here here, make(context, at, slash_allowed, [&]() -> Result<Entry<Node>> {
      LIBSERVICES_TRY(fresh, inherit(context, at.parent, mode));
      LIBSERVICES_TRY(Entry<Node> made, make_it(fresh.fresh));
      LIBSERVICES_CHECK_OK(endow(context, at, fresh, made));
      return made;
    }));
    if (!fresh.has_lists) tree_.lists().born_bare(*here.inode);
    return {};
  }

  Result<void> remove(const Context& context, const Walked& at, bool directory) {
    if (!at.target.inode) return Errno{ENOENT};
    if (at.trailing_slash && !directory) {
      return Errno{at.target.attributes.is_directory() ? EISDIR : ENOTDIR};
    }
    LIBSERVICES_CHECK_OK(may_remove(context, at));
    if constexpr (WritableService<Stack>) {
      if (directory != at.target.attributes.is_directory()) {
        return Errno{directory ? ENOTDIR : EISDIR};
      }
      std::unique_lock lock(at.parent.inode->entries);
      LIBSERVICES_TRY(Here now, tree_.step_locked(context, at.parent.inode, at.name));
      const Node& parent = at.parent.inode->node;
      if (directory) {
        std::unique_lock inside(now.inode->entries);  // nobody makes an entry in it meanwhile
        LIBSERVICES_CHECK_OK(tree_.stack().rmdir(context, parent, at.name));
        std::unique_lock places(tree_.places_mutex());
        now.inode->removed = true;
      } else {
        LIBSERVICES_CHECK_OK(tree_.stack().unlink(context, parent, at.name));
      }
      tree_.forget_name(at.parent.inode, at.name);
      now.inode->attributes.content_changed();
      tree_.tell_attributes(*now.inode);
      changed(*at.parent.inode);
      tree_.tell_name(*at.parent.inode, at.name);
      lost_name(context, *now.inode, *at.parent.inode, at.name);
      tree_.events().tell_entry(FileEvent::kDelete, *at.parent.inode, at.name, directory);
      return {};
    }
    return Errno{EROFS};
  }

  // Whoever watches it hears of it; and of its end, if that was its last name.
  void lost_name(const Context& context, typename T::Object& object,
                 const typename T::Object& directory, std::string_view name) {
    const auto& events = tree_.events();
    if (events.watched(object) == 0) return;
    if (!object.is_directory()) {
      events.tell_itself(FileEvent::kAttributes, object);
      tree_.displace(object, directory, name);
      const auto now = tree_.attributes(context, object);
      if (now.ok() && now->links != 0) return;
    }
    events.tell_removed(object);
  }

  Tree<Stack>& tree_;
};

}  // namespace libservices::internal

#include "libservices/internal/tree_rename.h"  // IWYU pragma: export

#endif  // LIBSERVICES_INTERNAL_TREE_CHANGES_H_
