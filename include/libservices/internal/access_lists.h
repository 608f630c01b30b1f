// SPDX-License-Identifier: Apache-2.0
//
// The access control lists of a stack's objects: looked at in permission checks, set, inherited by
// what is made, and kept in agreement with the mode, whose group bits are the list's mask.
//
// Storage may do the last by itself, as a host's filesystem does, or only store what it is given:
// whatever a call has to change is looked at again behind the storage's own answer.
//
// THREADS: a list and the mode of its object change under one of `changing_`, behind all locks of
// the tree; the stack is called with it held.
#ifndef LIBSERVICES_INTERNAL_ACCESS_LISTS_H_
#define LIBSERVICES_INTERNAL_ACCESS_LISTS_H_

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "libservices/capabilities.h"
#include "libservices/internal/inode.h"
#include "libservices/internal/permissions.h"

namespace libservices::internal {

template <ReadableService Stack>
class AccessLists {
 public:
  using Kind = AccessList::Kind;
  using Node = typename Stack::Node;
  using Object = Inode<Node>;
  using Pointer = std::shared_ptr<const AccessList>;

  explicit AccessLists(Stack& stack) : stack_(stack) {}

  // `for_ever`: the stack changes only through this instance.
  void start(bool for_ever) {
    if (!for_ever) bare_ = std::make_unique<BareObjects>();
  }

  // What the object has. `seen`: its attributes, not older than what may be believed of them.
  // ERRORS: the stack's; EIO for a list that is none.
  Result<KnownList> find(const Context& context, Object& object, Kind kind,
                         const Attributes& seen) {
    if constexpr (OffersXattrs<Stack>) {
      if (auto known = bare_ ? bare_->find(kind, seen) : object.lists.find(kind)) return *known;
      const std::uint64_t ticket = object.lists.ticket();
      LIBSERVICES_TRY(KnownList asked, ask(context, object.node, kind));
      if (!bare_) {
        object.lists.store(kind, asked, ticket);
      } else if (asked.list == nullptr) {
        bare_->store(kind, seen, asked.refused);
      }
      return asked;
    }
    return KnownList{nullptr, true};
  }

  // For sure, and without a look at its attributes.
  bool has_none(const Object& object) const {
    return !OffersXattrs<Stack> || (!bare_ && object.lists.has_none(Kind::kAccess));
  }

  // ERRORS: EACCES, and those of find().
  Result<void> check(const Context& context, Object& object, const Attributes& seen, int wanted) {
    if (!asks_list(context.caller, seen) || has_none(object)) {
      return check_access(context.caller, seen, wanted);
    }
    LIBSERVICES_TRY(const KnownList known, find(context, object, Kind::kAccess, seen));
    return check_access(context.caller, seen, wanted, known.list.get());
  }

  // Held by who changes the mode or a list of `object`.
  [[nodiscard]] std::unique_lock<std::mutex> lock(const Object& object) {
    return std::unique_lock(changing_[object.id % changing_.size()]);
  }

  // `after`: its attributes when its mode has been set, under lock().
  Result<void> follow_mode(const Context& context, Object& object, const Attributes& after) {
    if constexpr (OffersXattrs<Stack>) {
      if (has_none(object) || S_ISLNK(object.type)) return {};
      object.lists.forget();
      const std::uint64_t ticket = object.lists.ticket();
      LIBSERVICES_TRY(const KnownList known, ask(context, object.node, Kind::kAccess));
      if (known.list == nullptr) {
        if (!bare_) object.lists.store(Kind::kAccess, known, ticket);
        return {};
      }
      AccessList list = *known.list;
      list.set_mode(after.mode);
      if (list == *known.list) return {};
      auto set = store(context, object.node, Kind::kAccess, list);
      object.lists.forget();
      return set;
    }
    return {};
  }

  // Sets or removes (none) a valid list, under lock(). `now`: the object's attributes. Returns them
  // as they are then.
  Result<Attributes> set(const Context& context, Object& object, Kind kind,
                         const std::optional<AccessList>& list, const Attributes& now)
    requires OffersXattrs<Stack> && WritableService<Stack>
  {
    object.lists.forget();
    auto done = list ? put(context, object.node, kind, *list, mode_with(context, now, kind, *list))
                     : remove(context, object.node, kind);
    object.lists.forget();
    LIBSERVICES_CHECK_OK(done);
    return stack_.getattr(context, object.node);
  }

  // What a new object begins with.
  struct Inherited {
    NewNode fresh;  // as it is made
    bool has_lists = false;
    std::uint32_t mode = 0;  // what it has in the end, and the lists
    AccessList access;
    Pointer standard;  // null: not for directories' children that are none
  };
  // `mode` has the type. Without a default list of `directory` the umask decides.
  Result<Inherited> inherit(const Context& context, Object& directory, const Attributes& seen,
                            std::uint32_t mode) {
    Inherited made;
    Pointer standard;
    if (!S_ISLNK(mode) && (bare_ || !object_has_no_default(directory))) {
      LIBSERVICES_TRY(KnownList known, find(context, directory, Kind::kDefault, seen));
      standard = std::move(known.list);
    }
    if (standard == nullptr) {
      made.fresh = new_node(context, seen, mode);
      return made;
    }
    Context no_umask = context;
    no_umask.umask = 0;
    made.fresh = new_node(no_umask, seen, mode);
    made.has_lists = true;
    made.access = *standard;
    made.mode = made.access.narrow(made.fresh.mode);
    // Nobody but its owner comes in before the list stands.
    made.fresh.mode = made.mode & ~0077U;
    if (S_ISDIR(mode)) made.standard = std::move(standard);
    return made;
  }

  // Gives a new object what it inherits. Storage may have done so already, with what it knows.
  Result<Attributes> endow(const Context& context, const Node& node, const Inherited& made)
    requires OffersXattrs<Stack> && WritableService<Stack>
  {
    std::uint32_t mode = made.mode;
    auto done = made.standard ? store(context, node, Kind::kDefault, *made.standard) : Result<void>();
    if (done.ok()) done = put(context, node, Kind::kAccess, made.access, mode & 07777U);
    if (!done.ok()) {
      if (done.error() != Errno{EOPNOTSUPP}) return done.error();
      // A union's upper that takes no lists, below a directory of a lower that has one.
      for (const AccessList::Entry& entry : made.access.entries()) {
        if (entry.tag == AccessList::kOwningGroup) {
          mode &= ~0070U | std::uint32_t{entry.permissions & 7U} << 3U;
        }
      }
      LIBSERVICES_CHECK_OK(set_mode(context, node, mode & 07777U));
    }
    return stack_.getattr(context, node);
  }

  // `object` was made just now, and inherited nothing.
  void born_bare(Object& object) {
    if (bare_ || !OffersXattrs<Stack>) return;
    constexpr std::uint64_t kFirst = 0;  // the ticket before anybody changed them
    object.lists.store(Kind::kAccess, {}, kFirst);
    object.lists.store(Kind::kDefault, {}, kFirst);
  }

 private:
  static bool object_has_no_default(const Object& object) {
    return !OffersXattrs<Stack> || object.lists.has_none(Kind::kDefault);
  }

  // The set-group-id bit goes if he who sets the list is not in the group.
  static std::uint32_t mode_with(const Context& context, const Attributes& now, Kind kind,
                                 const AccessList& list) {
    if (kind == Kind::kDefault) return now.permissions();
    std::uint32_t mode = (now.permissions() & ~0777U) | list.mode();
    const Identity& caller = context.caller;
    if ((mode & S_ISGID) != 0 &&
        (caller.drops_set_id || !(caller.is_superuser() || caller.in_group(now.gid)))) {
      mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
    return mode;
  }

  Result<KnownList> ask(const Context& context, const Node& node, Kind kind) {
    constexpr std::size_t kUsual = 1024;  // bytes: 127 entries
    std::array<std::byte, kUsual> usual;
    std::vector<std::byte> large;
    std::span<std::byte> room = usual;
    for (;;) {  // it may grow between the question for its size and the answer
      auto size = stack_.getxattr(context, node, AccessList::name_of(kind), room);
      if (!size.ok() && size.error() == Errno{ERANGE}) {
        LIBSERVICES_TRY(const std::size_t whole,
                        stack_.getxattr(context, node, AccessList::name_of(kind), {}));
        large.resize(whole);
        room = large;
        continue;
      }
      if (!size.ok() && size.error() == Errno{ENODATA}) return KnownList{};
      if (!size.ok() && size.error() == Errno{EOPNOTSUPP}) return KnownList{nullptr, true};
      if (!size.ok()) return size.error();
      auto list = AccessList::parse(room.first(*size));
      if (!list.ok()) return Errno{EIO};
      if (list->empty()) return KnownList{};
      return KnownList{std::make_shared<const AccessList>(*std::move(list))};
    }
  }

  Result<void> store(const Context& context, const Node& node, Kind kind, const AccessList& list) {
    return stack_.setxattr(context, node, AccessList::name_of(kind), list.encode(),
                           XattrMode::kCreateOrReplace);
  }
  Result<void> remove(const Context& context, const Node& node, Kind kind) {
    auto removed = stack_.removexattr(context, node, AccessList::name_of(kind));
    if (!removed.ok() && removed.error() == Errno{ENODATA}) return {};
    return removed;
  }
  Result<void> set_mode(const Context& context, const Node& node, std::uint32_t mode) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kMode;
    changes.mode = mode;
    auto changed = stack_.setattr(context, node, changes);
    if (!changed.ok()) return changed.error();
    return {};
  }

  // An access list that says no more than a mode is given to the storage all the same, which may
  // turn it into one at once, and then taken away.
  Result<void> put(const Context& context, const Node& node, Kind kind, const AccessList& list,
                   std::uint32_t mode) {
    LIBSERVICES_CHECK_OK(store(context, node, kind, list));
    if (kind == Kind::kDefault) return {};
    LIBSERVICES_TRY(const Attributes after, stack_.getattr(context, node));
    if (after.permissions() != mode) LIBSERVICES_CHECK_OK(set_mode(context, node, mode));
    return list.is_mode() ? remove(context, node, kind) : Result<void>();
  }

  Stack& stack_;
  std::unique_ptr<BareObjects> bare_;  // null: the stack changes only through this instance
  std::array<std::mutex, 64> changing_;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_ACCESS_LISTS_H_
