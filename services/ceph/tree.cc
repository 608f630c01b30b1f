// SPDX-License-Identifier: Apache-2.0
//
// The members of `Ceph` that work on names.
#include <fcntl.h>
#include <sys/stat.h>

#include "services/ceph/ceph.h"
#include "services/ceph/names.h"

namespace libservices {

using ceph_internal::checked;
using ceph_internal::error_of;
using ceph_internal::kWanted;
using ceph_internal::Name;
using ceph_internal::OpenFile;
using ceph_internal::permissions_of;

namespace {

constexpr std::size_t kLongestTarget = 4095;

// As whom an object is made: the MDS gives it this owner.
const UserPerm* owner_of(const Context& context, const NewNode& fresh) {
  const Identity& caller = context.caller;
  if (fresh.uid != caller.uid) return permissions_of(fresh.uid, fresh.gid, {});
  return permissions_of(fresh.uid, fresh.gid, caller.groups);
}

}  // namespace

Result<Entry<Ceph::Node>> Ceph::lookup(C context, const Node& directory, std::string_view name) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  Inode* inode = nullptr;
  Statx seen{};
  const int answer = ceph_ll_lookup(mount(), directory->inode(), text.c_str(), &inode, &seen,
                                    kWanted, AT_SYMLINK_NOFOLLOW, permissions_of(context));
  if (answer < 0) return error_of(answer);
  return admit(inode, seen);
}

Result<void> Ceph::dress(C context, Inode* inode, Statx& seen, const NewNode& fresh) const {
  const std::uint32_t mode = fresh.mode & 07777U;
  const bool mode_differs = !S_ISLNK(seen.stx_mode) && (seen.stx_mode & 07777U) != mode;
  int mask = 0;
  if (seen.stx_uid != fresh.uid) mask |= CEPH_SETATTR_UID;
  if (seen.stx_gid != fresh.gid) mask |= CEPH_SETATTR_GID;
  // A set-group-id directory changes both; a change of the owner may take bits away.
  if (mode_differs || (mask != 0 && (mode & 06000U) != 0)) mask |= CEPH_SETATTR_MODE;
  if (mask == 0) return {};
  Statx wanted{};
  wanted.stx_uid = fresh.uid;
  wanted.stx_gid = fresh.gid;
  wanted.stx_mode = static_cast<std::uint16_t>(mode);
  LIBSERVICES_TRY([[maybe_unused]] const auto set,
                  checked(ceph_ll_setattr(mount(), inode, &wanted, mask, permissions_of(context))));
  LIBSERVICES_TRY(
      [[maybe_unused]] const auto asked,
      checked(ceph_ll_getattr(mount(), inode, &seen, kWanted, 0, permissions_of(context))));
  return {};
}

template <class Make, class Remove>
Result<Entry<Ceph::Node>> Ceph::add(C context, const Node& directory, std::string_view name,
                                    const NewNode& fresh, Make make, Remove remove) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  const auto lock = client_->lock_name(directory->number(), name);
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_TRY([[maybe_unused]] const auto made,
                  checked(make(text.c_str(), owner_of(context, fresh), &inode, &seen)));
  Entry<Node> entry = admit(inode, seen);
  if (directory->in_snapshot()) return entry;  // a snapshot is as its directory is
  if (const auto dressed = dress(context, inode, seen, fresh); !dressed.ok()) {
    (void)remove(text.c_str());
    return dressed.error();
  }
  entry.attributes = client_->attributes_of(seen);
  return entry;
}

Result<Created<Ceph::Node, Ceph::File>> Ceph::create(C context, const Node& directory,
                                                     std::string_view name, const NewNode& fresh,
                                                     OpenFlags flags) {
  const int bits = (flags.bits & (O_ACCMODE | O_DIRECT | O_SYNC | O_DSYNC)) | O_CREAT | O_EXCL;
  Fh* handle = nullptr;
  auto made = add(
      context, directory, name, fresh,
      [&](const char* text, const UserPerm* owner, Inode** inode, Statx* seen) {
        return ceph_ll_create(mount(), directory->inode(), text, S_IFREG | (fresh.mode & 07777U),
                              bits, inode, &handle, seen, kWanted, 0, owner);
      },
      [&](const char* text) {
        (void)ceph_ll_close(mount(), handle);
        return ceph_ll_unlink(mount(), directory->inode(), text, permissions_of(context));
      });
  if (!made.ok()) return made.error();
  auto file = std::make_unique<OpenFile>(made->node, flags);
  file->handle = handle;
  return Created<Node, File>{std::move(made->node), std::move(file), made->attributes};
}

Result<Entry<Ceph::Node>> Ceph::mkdir(C context, const Node& directory, std::string_view name,
                                      const NewNode& fresh) {
  return add(
      context, directory, name, fresh,
      [&](const char* text, const UserPerm* owner, Inode** inode, Statx* seen) {
        return ceph_ll_mkdir(mount(), directory->inode(), text, fresh.mode & 07777U, inode, seen,
                             kWanted, 0, owner);
      },
      [&](const char* text) {
        return ceph_ll_rmdir(mount(), directory->inode(), text, permissions_of(context));
      });
}

Result<Entry<Ceph::Node>> Ceph::mknod(C context, const Node& directory, std::string_view name,
                                      const NewNode& fresh) {
  const std::uint32_t type = (fresh.mode & S_IFMT) == 0 ? S_IFREG : fresh.mode & S_IFMT;
  if (S_ISDIR(type)) return Errno{EPERM};
  if (S_ISLNK(type)) return Errno{EINVAL};
  if (fresh.special_device > UINT32_MAX) return Errno{EINVAL};  // the MDS has 32 bits for it
  return add(
      context, directory, name, fresh,
      [&](const char* text, const UserPerm* owner, Inode** inode, Statx* seen) {
        return ceph_ll_mknod(mount(), directory->inode(), text, type | (fresh.mode & 07777U),
                             fresh.special_device, inode, seen, kWanted, 0, owner);
      },
      [&](const char* text) {
        return ceph_ll_unlink(mount(), directory->inode(), text, permissions_of(context));
      });
}

Result<Entry<Ceph::Node>> Ceph::symlink(C context, const Node& directory, std::string_view name,
                                        std::string_view target, const NewNode& fresh) {
  if (target.empty()) return Errno{ENOENT};
  if (target.size() > kLongestTarget) return Errno{ENAMETOOLONG};
  if (target.find('\0') != std::string_view::npos) return Errno{EINVAL};
  const std::string value(target);
  return add(
      context, directory, name, fresh,
      [&](const char* text, const UserPerm* owner, Inode** inode, Statx* seen) {
        return ceph_ll_symlink(mount(), directory->inode(), text, value.c_str(), inode, seen,
                               kWanted, 0, owner);
      },
      [&](const char* text) {
        return ceph_ll_unlink(mount(), directory->inode(), text, permissions_of(context));
      });
}

Result<Entry<Ceph::Node>> Ceph::link(C context, const Node& node, const Node& directory,
                                     std::string_view name) {
  if (node->is(S_IFDIR)) return Errno{EPERM};
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  {
    const auto lock = client_->lock_name(directory->number(), name);
    LIBSERVICES_TRY([[maybe_unused]] const auto linked,
                    checked(ceph_ll_link(mount(), node->inode(), directory->inode(), text.c_str(),
                                         permissions_of(context))));
  }
  LIBSERVICES_TRY(const Attributes seen, getattr(context, node));
  return Entry<Node>{node, seen};
}

Result<void> Ceph::unlink(C context, const Node& directory, std::string_view name) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  const auto lock = client_->lock_name(directory->number(), name);
  const int answer =
      ceph_ll_unlink(mount(), directory->inode(), text.c_str(), permissions_of(context));
  if (answer < 0) return error_of(answer);
  return {};
}

Result<void> Ceph::rmdir(C context, const Node& directory, std::string_view name) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  const auto lock = client_->lock_name(directory->number(), name);
  const int answer =
      ceph_ll_rmdir(mount(), directory->inode(), text.c_str(), permissions_of(context));
  if (answer < 0) return error_of(answer);
  return {};
}

bool Ceph::is_within(const Node& directory, std::uint64_t ancestor) const {
  const UserPerm* const own = permissions_of(0, 0, {});
  Node at = directory;
  while (at->number() != ancestor) {
    Inode* inode = nullptr;
    Statx seen{};
    // The root's is the root.
    if (ceph_ll_lookup(mount(), at->inode(), "..", &inode, &seen, CEPH_STATX_INO, 0, own) < 0) {
      return false;
    }
    Node above = admit(inode, seen).node;
    if (above->number() == at->number()) return false;
    at = std::move(above);
  }
  return true;
}

Result<void> Ceph::rename(C context, const Node& directory, std::string_view name,
                          const Node& new_directory, std::string_view new_name, RenameMode mode) {
  if (!directory->is(S_IFDIR) || !new_directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name from, Name::of(name));
  LIBSERVICES_TRY(const Name to, Name::of(new_name));
  if (mode == RenameMode::kExchange || mode == RenameMode::kLeaveWhiteout) return Errno{EINVAL};
  const bool stays = directory->number() == new_directory->number();
  // Held while a directory comes to another one: nobody moves those above them meanwhile.
  std::unique_lock<std::mutex> moving;
  auto locks = client_->lock_names(directory->number(), name, new_directory->number(), new_name);
  auto looked = lookup(context, directory, name);
  if (looked.ok() && looked->node->is(S_IFDIR) && !stays) {
    locks = {};
    moving = client_->lock_moves();
    locks = client_->lock_names(directory->number(), name, new_directory->number(), new_name);
    looked = lookup(context, directory, name);
  }
  if (!looked.ok()) return looked.error();
  const Entry<Node>& here = *looked;
  if (here.node->is(S_IFDIR) && !stays && is_within(new_directory, here.attributes.inode)) {
    return Errno{EINVAL};
  }
  auto there = lookup(context, new_directory, new_name);
  if (!there.ok() && there.error() != Errno{ENOENT}) return there.error();
  if (there.ok()) {
    if (mode == RenameMode::kNoReplace) return Errno{EEXIST};
    // Two names of one object stay as they are. SOURCE: so does the MDS; but libcephfs would take
    // the first name for gone.
    if (here.attributes.inode == there->attributes.inode) return {};
    // The MDS would look into the directory first.
    if (there->node->is(S_IFDIR) && !here.node->is(S_IFDIR)) return Errno{EISDIR};
    // An MDS that is asked for this never answers, and nobody else who asks for the directory.
    if (there->node->is(S_IFDIR) && !stays && is_within(directory, there->attributes.inode)) {
      return Errno{ENOTEMPTY};
    }
  } else if (mode == RenameMode::kNoReplace && !config_.exclusive) {
    return rename_to_free(context, here, directory, from.c_str(), new_directory, to.c_str());
  }
  const int answer = ceph_ll_rename(mount(), directory->inode(), from.c_str(),
                                    new_directory->inode(), to.c_str(), permissions_of(context));
  if (answer < 0) return error_of(answer);
  return {};
}

// Of others' names nobody knows between two calls what they are. So a directory takes the name by
// making one there, which the cluster refuses where it is taken, and replaces that, which it
// refuses where that is not empty any more. For the rest there is no such way: a file could replace
// one. REQUIRES: the locks of both names.
Result<void> Ceph::rename_to_free(C context, const Entry<Node>& moved, const Node& directory,
                                  const char* name, const Node& new_directory,
                                  const char* new_name) {
  const UserPerm* const caller = permissions_of(context);
  if (!moved.node->is(S_IFDIR)) return Errno{EINVAL};
  const Attributes& a = moved.attributes;
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_TRY(
      [[maybe_unused]] const auto made,
      checked(ceph_ll_mkdir(mount(), new_directory->inode(), new_name, a.permissions(), &inode,
                            &seen, kWanted, 0, permissions_of(a.uid, a.gid, {}))));
  const Node placeholder = admit(inode, seen).node;
  const int answer =
      ceph_ll_rename(mount(), directory->inode(), name, new_directory->inode(), new_name, caller);
  if (answer >= 0) return {};
  // Only if it is still empty, and a directory.
  (void)ceph_ll_rmdir(mount(), new_directory->inode(), new_name, caller);
  // Somebody else has put something there, or something else.
  return answer == -ENOTEMPTY || answer == -ENOTDIR ? Errno{EEXIST} : error_of(answer);
}

}  // namespace libservices
