// SPDX-License-Identifier: Apache-2.0
//
// `IdMap<Lower>`: the layer beneath with other owners. What is *stored* for a container, whose
// superuser is user 0, is *shown* with the ids that this container has on the host, or the other
// way round (id_mapping.h).
//
//   IdMap<Local> image({.lower = {.directory = "/srv/image"},
//                       .uids = {{.stored = 0, .shown = 300000, .count = 65536}},
//                       .gids = {{.stored = 0, .shown = 300000, .count = 65536}}});
//
// It is what Linux's idmapped mounts are, with their rules:
//   - An owner outside the ranges is shown as 65534, marked in Attributes::unmapped: `Filesystem`
//     lets nobody use that id's rights or change the object until chown has given it an owner.
//   - Nothing can be made by or given to an id that has no stored one: EOVERFLOW.
//   - The ids in access control lists (system.posix_acl_*) change in the same way. One outside the
//     ranges is read as 4294967295; a list with such an id cannot be set: EINVAL.
// Any other extended attribute stays as it is, with the user id that security.capability may hold.
//
// With `squash_uid` or `squash_gid` all users or groups are shown as that one. New objects are
// stored with the ids that their makers have, chown of that kind succeeds and does nothing, and
// access control lists stay as they are. So does fuse-overlayfs, for storage that takes no owners.
//
// The ids of Context's caller are shown ones, and go down as they are: `Filesystem` has checked
// them against shown owners, and no libservice does so again. Local does not look at them; what it
// makes has NewNode's owner, or the service's own where that is not root's.
// SOURCE: Linux, Documentation/filesystems/idmappings.rst; fs/attr.c, fs/namei.c, fs/posix_acl.c.
#ifndef LIBSERVICES_LAYERS_ID_MAP_H_
#define LIBSERVICES_LAYERS_ID_MAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "libservices/access_list.h"
#include "libservices/id_mapping.h"
#include "libservices/layers/forwarding.h"

namespace libservices {

// Maps the owners in every answer, of whatever operation, and has what maps those in questions.
class ShowOwners : public PassOn {
 public:
  ShowOwners(IdMapping users, IdMapping groups)
      : users_(std::move(users)), groups_(std::move(groups)) {}

  template <class Call>
  auto operator()(Operation, const Context&, Call&& call) {
    auto answer = call();
    using Value = typename decltype(answer)::value_type;
    if constexpr (std::is_same_v<Value, Attributes>) {
      if (answer.ok()) show(*answer);
    } else if constexpr (requires { answer->attributes; }) {
      if (answer.ok()) show(answer->attributes);
    }
    return answer;
  }

  absl::Status check() const {
    absl::Status users = users_.check("uid");
    return users.ok() ? groups_.check("gid") : users;
  }

  void show(Attributes& object) const {
    show(users_, object.uid, object.unmapped, Attributes::kUidUnmapped);
    show(groups_, object.gid, object.unmapped, Attributes::kGidUnmapped);
  }

  // ERRORS: EOVERFLOW.
  Result<NewNode> stored(NewNode fresh) const {
    const auto uid = users_.stored(fresh.uid);
    const auto gid = groups_.stored(fresh.gid);
    if (!uid || !gid) return Errno{EOVERFLOW};
    fresh.uid = *uid;
    fresh.gid = *gid;
    return fresh;
  }
  Result<AttributeChanges> stored(AttributeChanges changes) const {
    using C = AttributeChanges;
    if (users_.squashes()) changes.which &= ~C::kUid;
    if (groups_.squashes()) changes.which &= ~C::kGid;
    const auto uid = changes.has(C::kUid) ? users_.stored(changes.uid) : 0;
    const auto gid = changes.has(C::kGid) ? groups_.stored(changes.gid) : 0;
    if (!uid || !gid) return Errno{EOVERFLOW};
    changes.uid = *uid;
    changes.gid = *gid;
    return changes;
  }

  void show_list(std::span<std::byte> list) const {
    map_list(list, [](const IdMapping& mapping, std::uint32_t id) {
      return mapping.shown(id).value_or(IdMapping::kNone);
    });
  }
  // False: it has an id that cannot be stored.
  bool store_list(std::span<std::byte> list) const {
    bool all = true;
    map_list(list, [&](const IdMapping& mapping, std::uint32_t id) {
      const std::uint32_t stored = mapping.stored(id).value_or(IdMapping::kNone);
      all = all && stored != IdMapping::kNone;
      return stored;
    });
    return all;
  }

 private:
  static void show(const IdMapping& mapping, std::uint32_t& id, std::uint16_t& unmapped,
                   Attributes::Unmapped mark) {
    if ((unmapped & mark) != 0) return;  // an IdMap beneath has no id for it
    const auto shown = mapping.shown(id);
    if (!shown) unmapped |= mark;
    id = shown.value_or(IdMapping::kOverflow);
  }

  template <class Map>
  void map_list(std::span<std::byte> list, Map&& map) const {
    AccessList::map_ids(list, [&](AccessList::Tag tag, std::uint32_t id) {
      const IdMapping& mapping = tag == AccessList::kUser ? users_ : groups_;
      return mapping.squashes() ? id : map(mapping, id);
    });
  }

  const IdMapping users_;
  const IdMapping groups_;
};

template <ReadableService Lower>
class IdMap : public Forwarding<Lower, ShowOwners> {
  using Base = Forwarding<Lower, ShowOwners>;
  using C = const Context&;
  using Name = std::string_view;

 public:
  using typename Base::File;
  using typename Base::Node;

  struct Config {
    typename Lower::Config lower;
    std::vector<IdRange> uids;  // none: each is shown as it is stored
    std::vector<IdRange> gids;
    std::optional<std::uint32_t> squash_uid;  // all users are shown as this one, without `uids`
    std::optional<std::uint32_t> squash_gid;
  };

  explicit IdMap(Config config)
      : Base(std::in_place, std::move(config.lower),
             IdMapping(std::move(config.uids), config.squash_uid),
             IdMapping(std::move(config.gids), config.squash_gid)) {
    static_assert(capabilities_of<IdMap>() == capabilities_of<Lower>());
  }

  // ERRORS: InvalidArgument for ranges that cannot be, and those of Lower.
  absl::Status start() {
    if (absl::Status right = owners().check(); !right.ok()) return right;
    return start_service(this->lower());
  }
  absl::Status stop() { return stop_service(this->lower()); }

  Result<void> readdir(C context, File& directory, std::uint64_t after, Listing wanted,
                       EntrySink sink) {
    return Base::readdir(context, directory, after, wanted, [&](const DirEntry& entry) {
      if (entry.attributes == nullptr) return sink(entry);
      Attributes seen = *entry.attributes;
      owners().show(seen);
      DirEntry given = entry;
      given.attributes = &seen;
      return sink(given);
    });
  }

  Result<Created<Node, File>> create(C context, const Node& directory, Name name,
                                     const NewNode& fresh, OpenFlags flags)
    requires CanWrite<Lower>
  {
    LIBSERVICES_TRY(const NewNode stored, owners().stored(fresh));
    return Base::create(context, directory, name, stored, flags);
  }
  Result<Created<Node, File>> tmpfile(C context, const Node& directory, const NewNode& fresh,
                                      OpenFlags flags)
    requires OffersTmpfile<Lower>
  {
    LIBSERVICES_TRY(const NewNode stored, owners().stored(fresh));
    return Base::tmpfile(context, directory, stored, flags);
  }
  Result<Entry<Node>> mkdir(C context, const Node& directory, Name name, const NewNode& fresh)
    requires CanChangeTree<Lower>
  {
    LIBSERVICES_TRY(const NewNode stored, owners().stored(fresh));
    return Base::mkdir(context, directory, name, stored);
  }
  Result<Entry<Node>> symlink(C context, const Node& directory, Name name, Name target,
                              const NewNode& fresh)
    requires OffersSymlink<Lower>
  {
    LIBSERVICES_TRY(const NewNode stored, owners().stored(fresh));
    return Base::symlink(context, directory, name, target, stored);
  }
  Result<Entry<Node>> mknod(C context, const Node& directory, Name name, const NewNode& fresh)
    requires OffersMknod<Lower>
  {
    LIBSERVICES_TRY(const NewNode stored, owners().stored(fresh));
    return Base::mknod(context, directory, name, stored);
  }

  Result<Attributes> setattr(C context, const Node& node, const AttributeChanges& changes)
    requires CanChangeAttributes<Lower>
  {
    LIBSERVICES_TRY(const AttributeChanges stored, owners().stored(changes));
    if (stored.which == 0 && changes.which != 0) return Base::getattr(context, node);
    return Base::setattr(context, node, stored);
  }

  Result<std::size_t> getxattr(C context, const Node& node, Name name, std::span<std::byte> into)
    requires OffersXattrs<Lower>
  {
    auto size = Base::getxattr(context, node, name, into);
    if (size.ok() && !into.empty() && AccessList::is_name(name)) {
      owners().show_list(into.first(*size));
    }
    return size;
  }
  Result<void> setxattr(C context, const Node& node, Name name, std::span<const std::byte> value,
                        XattrMode mode)
    requires OffersXattrs<Lower>
  {
    if (!AccessList::is_name(name)) {
      return Base::setxattr(context, node, name, value, mode);
    }
    std::vector<std::byte> list(value.begin(), value.end());
    if (!owners().store_list(list)) return Errno{EINVAL};
    return Base::setxattr(context, node, name, list, mode);
  }

 private:
  const ShowOwners& owners() const { return this->around(); }
};

}  // namespace libservices

#endif  // LIBSERVICES_LAYERS_ID_MAP_H_
