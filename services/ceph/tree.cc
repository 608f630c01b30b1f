// SPDX-License-Identifier: Apache-2.0
//
// The members of `Ceph` that work on names.
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>

#include "services/ceph/ceph.h"
#include "services/ceph/names.h"

namespace libservices {

using ceph_internal::kWanted;
using ceph_internal::Name;
using ceph_internal::own_permissions;
using ceph_internal::permissions_of;
using ceph_internal::Use;

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
  return client_->asking([&](const Use& use) { return find(context, use, directory, text); });
}

Result<Entry<Ceph::Node>> Ceph::find(C context, const Use& use, const Node& directory,
                                     const Name& name) const {
  LIBSERVICES_TRY(Inode* const above, directory->in(use));
  Inode* inode = nullptr;
  Statx seen{};
  const int answer = ceph_ll_lookup(use.info(), above, name.c_str(), &inode, &seen, kWanted,
                                    AT_SYMLINK_NOFOLLOW, permissions_of(context));
  if (answer < 0) return client_->failed(use, answer);
  return admit(use, inode, seen);
}

Result<void> Ceph::dress(C context, const Use& use, Inode* inode, Statx& seen,
                         const NewNode& fresh) const {
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
  LIBSERVICES_CHECK_OK(client_->checked(
      use, ceph_ll_setattr(use.info(), inode, &wanted, mask, permissions_of(context))));
  LIBSERVICES_CHECK_OK(client_->checked(
      use, ceph_ll_getattr(use.info(), inode, &seen, kWanted, 0, permissions_of(context))));
  return {};
}

template <class Make, class Remove>
Result<Entry<Ceph::Node>> Ceph::add(C context, const Node& directory, std::string_view name,
                                    const NewNode& fresh, Make make, Remove remove) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  return changing(directory, [&](const Use& use) -> Result<Entry<Node>> {
    LIBSERVICES_TRY(Inode* const above, directory->in(use));
    const auto lock = client_->lock_name(directory->number(), name);
    Inode* inode = nullptr;
    Statx seen{};
    LIBSERVICES_CHECK_OK(client_->checked(
        use, make(use, above, text.c_str(), owner_of(context, fresh), &inode, &seen)));
    Entry<Node> entry = admit(use, inode, seen);
    if (directory->in_snapshot()) return entry;  // a snapshot is as its directory is
    if (const auto dressed = dress(context, use, inode, seen, fresh); !dressed.ok()) {
      (void)remove(use, above, text.c_str());
      return dressed.error();
    }
    entry.attributes = client_->attributes_of(seen);
    return entry;
  });
}

Result<Created<Ceph::Node, Ceph::File>> Ceph::create(C context, const Node& directory,
                                                     std::string_view name, const NewNode& fresh,
                                                     OpenFlags flags) {
  const int bits = (flags.bits & OpenFile::kBits) | O_CREAT | O_EXCL;
  const UserPerm* const caller = permissions_of(context);
  Use made_in;  // until the handle has its file
  Fh* handle = nullptr;
  LIBSERVICES_TRY(Entry<Node> made, add(
                                        context, directory, name, fresh,
                                        [&](const Use& use, Inode* above, const char* text,
                                            const UserPerm* owner, Inode** inode, Statx* seen) {
                                          made_in = Use(use.mount());
                                          return ceph_ll_create(use.info(), above, text,
                                                                S_IFREG | (fresh.mode & 07777U),
                                                                bits, inode, &handle, seen, kWanted,
                                                                0, owner);
                                        },
                                        [&](const Use& use, Inode* above, const char* text) {
                                          (void)ceph_ll_close(use.info(), handle);
                                          return ceph_ll_unlink(use.info(), above, text, caller);
                                        }));
  auto file = std::make_unique<OpenFile>(made_in, made.node, flags, caller);
  file->adopt(made_in, handle);
  return Created<Node, File>{std::move(made.node), std::move(file), made.attributes};
}

Result<Entry<Ceph::Node>> Ceph::mkdir(C context, const Node& directory, std::string_view name,
                                      const NewNode& fresh) {
  return add(
      context, directory, name, fresh,
      [&](const Use& use, Inode* above, const char* text, const UserPerm* owner, Inode** inode,
          Statx* seen) {
        return ceph_ll_mkdir(use.info(), above, text, fresh.mode & 07777U, inode, seen, kWanted, 0,
                             owner);
      },
      [&](const Use& use, Inode* above, const char* text) {
        return ceph_ll_rmdir(use.info(), above, text, permissions_of(context));
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
      [&](const Use& use, Inode* above, const char* text, const UserPerm* owner, Inode** inode,
          Statx* seen) {
        return ceph_ll_mknod(use.info(), above, text, type | (fresh.mode & 07777U),
                             fresh.special_device, inode, seen, kWanted, 0, owner);
      },
      [&](const Use& use, Inode* above, const char* text) {
        return ceph_ll_unlink(use.info(), above, text, permissions_of(context));
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
      [&](const Use& use, Inode* above, const char* text, const UserPerm* owner, Inode** inode,
          Statx* seen) {
        return ceph_ll_symlink(use.info(), above, text, value.c_str(), inode, seen, kWanted, 0,
                               owner);
      },
      [&](const Use& use, Inode* above, const char* text) {
        return ceph_ll_unlink(use.info(), above, text, permissions_of(context));
      });
}

Result<Entry<Ceph::Node>> Ceph::link(C context, const Node& node, const Node& directory,
                                     std::string_view name) {
  if (node->is(S_IFDIR)) return Errno{EPERM};
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  return changing(directory, [&](const Use& use) -> Result<Entry<Node>> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    LIBSERVICES_TRY(Inode* const above, directory->in(use));
    {
      const auto lock = client_->lock_name(directory->number(), name);
      const auto links = client_->lock_links(node->number());
      LIBSERVICES_CHECK_OK(client_->checked(
          use, ceph_ll_link(use.info(), inode, above, text.c_str(), permissions_of(context))));
    }
    LIBSERVICES_TRY(const Attributes seen, attributes(context, use, node));
    return Entry<Node>{node, seen};
  });
}

Result<void> Ceph::unlink(C context, const Node& directory, std::string_view name) {
  return drop(context, directory, name, ceph_ll_unlink);
}

Result<void> Ceph::rmdir(C context, const Node& directory, std::string_view name) {
  return drop(context, directory, name, ceph_ll_rmdir);
}

Result<void> Ceph::drop(C context, const Node& directory, std::string_view name, Dropper call) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name text, Name::of(name));
  return changing(directory, [&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Inode* const above, directory->in(use));
    const auto lock = client_->lock_name(directory->number(), name);
    LIBSERVICES_CHECK_OK(
        client_->checked(use, call(use.info(), above, text.c_str(), permissions_of(context))));
    return {};
  });
}

bool Ceph::is_within(const Use& use, const Node& directory, std::uint64_t ancestor) const {
  Node at = directory;
  while (at->number() != ancestor) {
    const Result<Inode*> here = at->in(use);
    Inode* inode = nullptr;
    Statx seen{};
    // The root's is the root.
    if (!here.ok() || ceph_ll_lookup(use.info(), *here, "..", &inode, &seen, CEPH_STATX_INO, 0,
                                     own_permissions()) < 0) {
      return false;
    }
    Node above = admit(use, inode, seen).node;
    if (above->number() == at->number()) return false;
    at = std::move(above);
  }
  return true;
}

struct Ceph::Names {
  const Node& directory;
  const Name from;
  const Node& new_directory;
  const Name to;

  bool stay() const { return directory->number() == new_directory->number(); }
};

Result<void> Ceph::rename(C context, const Node& directory, std::string_view name,
                          const Node& new_directory, std::string_view new_name, RenameMode mode) {
  if (!directory->is(S_IFDIR) || !new_directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const Name from, Name::of(name));
  LIBSERVICES_TRY(const Name to, Name::of(new_name));
  if (mode == RenameMode::kExchange || mode == RenameMode::kLeaveWhiteout) return Errno{EINVAL};
  const Names names{directory, from, new_directory, to};
  return changing(directory, [&](const Use& use) -> Result<void> {
    // Held while a directory comes to another one: nobody moves those above them meanwhile.
    std::unique_lock<std::mutex> moving;
    const auto lock = [&] {
      return client_->lock_names(directory->number(), name, new_directory->number(), new_name);
    };
    auto locks = lock();
    auto here = find(context, use, directory, from);
    if (here.ok() && here->node->is(S_IFDIR) && !names.stay()) {
      locks = {};
      moving = client_->lock_moves();
      locks = lock();
      here = find(context, use, directory, from);
    }
    if (!here.ok()) return here.error();
    return rename_in(context, use, *here, names, mode);
  });
}

// REQUIRES: the locks of both names, and of moves where a directory comes to another one.
Result<void> Ceph::rename_in(C context, const Use& use, const Entry<Node>& here, const Names& names,
                             RenameMode mode) {
  const auto& [directory, from, new_directory, to] = names;
  if (here.node->is(S_IFDIR) && !names.stay() &&
      is_within(use, new_directory, here.attributes.inode)) {
    return Errno{EINVAL};
  }
  auto there = find(context, use, new_directory, to);
  if (!there.ok() && there.error() != Errno{ENOENT}) return there.error();
  if (there.ok()) {
    if (mode == RenameMode::kNoReplace) return Errno{EEXIST};
    // Two names of one object stay as they are. SOURCE: so does the MDS; but libcephfs would take
    // the first name for gone.
    if (here.attributes.inode == there->attributes.inode) return {};
    // The MDS would look into the directory first.
    if (there->node->is(S_IFDIR) && !here.node->is(S_IFDIR)) return Errno{EISDIR};
    // An MDS that is asked for this never answers, and nobody else who asks for the directory.
    if (there->node->is(S_IFDIR) && !names.stay() &&
        is_within(use, directory, there->attributes.inode)) {
      return Errno{ENOTEMPTY};
    }
  } else if (mode == RenameMode::kNoReplace && !config_.exclusive) {
    return rename_to_free(context, use, here, names);
  }
  LIBSERVICES_TRY(Inode* const above, directory->in(use));
  LIBSERVICES_TRY(Inode* const new_above, new_directory->in(use));
  ceph_internal::Client::NameLock links;
  if (there.ok() && !there->node->is(S_IFDIR)) {
    links = client_->lock_links(there->node->number());
    LIBSERVICES_TRY(const Attributes replaced, attributes(context, use, there->node));
    if (replaced.links > 1) return rename_onto_link(context, names);
  }
  LIBSERVICES_CHECK_OK(
      client_->checked(use, ceph_ll_rename(use.info(), above, from.c_str(), new_above, to.c_str(),
                                           permissions_of(context))));
  if (!names.stay()) learn_times(context, use, above);
  return {};
}

// The MDS tells a rename's client nothing of the directory that it took the name from, and the
// client goes on with the times that it knows. This attribute is asked for each time, and all
// others come along.
void Ceph::learn_times(C context, const Use& use, Inode* directory) {
  std::array<char, 64> unused{};
  (void)ceph_ll_getxattr(use.info(), directory, "ceph.dir.rctime", unused.data(), unused.size(),
                         permissions_of(context));
}

// When the MDS has stored a rename, libcephfs takes all names of what was replaced for gone that it
// knows at that time, also those that are left, for as long as it has the right to remember them
// (Client::put_request, _try_to_trim_inode). So who knows none does it. REQUIRES: the locks of both
// names, and of the links of what is replaced.
Result<void> Ceph::rename_onto_link(C context, const Names& names) {
  std::unique_lock<std::mutex> lock;
  LIBSERVICES_TRY(const std::shared_ptr<ceph_internal::Client> client, client_->forgetful(lock));
  const auto find = [&](const Use& use, const Node& node) -> Result<Node> {
    Inode* inode = nullptr;
    LIBSERVICES_CHECK_OK(client->checked(
        use, ceph_ll_lookup_vino(use.info(), {{node->number()}, ceph_internal::kNoSnapshot}, &inode)));
    Statx seen{};
    seen.stx_ino = node->number();
    seen.stx_mode = S_IFDIR;
    seen.stx_dev = ceph_internal::kNoSnapshot;
    return Node(std::make_shared<const ceph_internal::Object>(client, use, inode, seen));
  };
  LIBSERVICES_TRY(const Node from,
                  client->asking([&](const Use& use) { return find(use, names.directory); }));
  LIBSERVICES_TRY(const Node to,
                  client->asking([&](const Use& use) { return find(use, names.new_directory); }));
  return client->changing(from, [&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Inode* const above, from->in(use));
    LIBSERVICES_TRY(Inode* const new_above, to->in(use));
    LIBSERVICES_CHECK_OK(
        client->checked(use, ceph_ll_rename(use.info(), above, names.from.c_str(), new_above,
                                            names.to.c_str(), permissions_of(context))));
    // Stored, before the other one learns other names.
    (void)ceph_ll_sync_inode(use.info(), new_above, 0);
    return {};
  });
}

// Of others' names nobody knows between two calls what they are. So a directory takes the name by
// making one there, which the cluster refuses where it is taken, and replaces that, which it
// refuses where that is not empty any more. For the rest there is no such way: a file could replace
// one. REQUIRES: the locks of both names.
Result<void> Ceph::rename_to_free(C context, const Use& use, const Entry<Node>& moved,
                                  const Names& names) {
  const UserPerm* const caller = permissions_of(context);
  if (!moved.node->is(S_IFDIR)) return Errno{EINVAL};
  LIBSERVICES_TRY(Inode* const above, names.directory->in(use));
  LIBSERVICES_TRY(Inode* const new_above, names.new_directory->in(use));
  const char* const new_name = names.to.c_str();
  const Attributes& a = moved.attributes;
  Inode* inode = nullptr;
  Statx seen{};
  LIBSERVICES_CHECK_OK(
      client_->checked(use, ceph_ll_mkdir(use.info(), new_above, new_name, a.permissions(), &inode,
                                          &seen, kWanted, 0, permissions_of(a.uid, a.gid, {}))));
  const Node placeholder = admit(use, inode, seen).node;
  const int answer =
      ceph_ll_rename(use.info(), above, names.from.c_str(), new_above, new_name, caller);
  if (answer >= 0) {
    learn_times(context, use, above);
    return {};
  }
  // Only if it is still empty, and a directory.
  (void)ceph_ll_rmdir(use.info(), new_above, new_name, caller);
  // Somebody else has put something there, or something else.
  return answer == -ENOTEMPTY || answer == -ENOTDIR ? Errno{EEXIST} : client_->failed(use, answer);
}

}  // namespace libservices
