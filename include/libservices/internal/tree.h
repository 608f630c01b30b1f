// SPDX-License-Identifier: Apache-2.0
//
// The tree of a `Filesystem`: known objects and names over a stack.
//
// Lock order: rename_mutex_ → Inode::entries (a parent's before its child's) → places_mutex_ → the
// caches' own. The stack is called with at most rename_mutex_, `entries` and AccessLists::lock()
// held.
#ifndef LIBSERVICES_INTERNAL_TREE_H_
#define LIBSERVICES_INTERNAL_TREE_H_

#include <algorithm>
#include <climits>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/capabilities.h"
#include "libservices/change_listener.h"
#include "libservices/internal/access_lists.h"
#include "libservices/internal/events.h"
#include "libservices/internal/inode.h"
#include "libservices/internal/name_cache.h"
#include "libservices/internal/permissions.h"
#include "libservices/open_file.h"

namespace libservices::internal {

template <ReadableService Stack>
class Tree {
 public:
  using Node = typename Stack::Node;
  using Object = Inode<Node>;
  using Pointer = std::shared_ptr<Object>;

  // An object, with attributes of which at least type, mode and owner are true.
  struct Here {
    Pointer inode;
    Attributes attributes;
  };

  // An object that a name led to. `seen` is what the stack said when it was asked for the name.
  struct Found {
    Pointer inode;
    std::optional<Attributes> seen;
  };

  enum class Last : std::uint8_t { kName, kRoot, kDot, kDotDot, kItself };

  // Where a path led: `target.inode` is null if the last name does not exist.
  struct Walked {
    Here parent;  // this and `name`: set when last == kName, but for Walk::kObject
    Here target;
    std::string name;
    Last last = Last::kName;
    bool trailing_slash = false;
  };

  // What becomes of the last component.
  enum class Walk : std::uint8_t {
    kObject,  // it must exist; a link is followed if the location or a trailing slash says so
    kCreate,  // as kObject, but it may be missing (open with O_CREAT)
    kEntry,   // the entry itself, which may be missing; never followed
  };

  Tree(typename Stack::Config config, std::size_t cached_names)
      : stack_(std::move(config)), lists_(stack_), names_(cached_names) {}

  Stack& stack() { return stack_; }
  AccessLists<Stack>& lists() { return lists_; }
  std::shared_mutex& places_mutex() { return places_mutex_; }
  std::mutex& rename_mutex() { return rename_mutex_; }
  std::size_t known_objects() const { return inodes_.size(); }
  std::size_t cached_names() const { return names_.size(); }

  absl::Status start() {
    if (absl::Status started = start_service(stack_); !started.ok()) return started;
    coherence_ = coherence_of(stack_);
    if constexpr (CountsLosses<Stack>) losses_before_ = stack_.losses();
    lists_.start(oldest_valid() == 0 && coherence_.kind != Coherence::Kind::kAskAgain);
    auto root = stack_.root(Context{});
    if (!root.ok()) {
      (void)stop_service(stack_);
      return absl::ErrnoToStatus(root.error().value, "the stack has no root directory");
    }
    root_ = inodes_.intern(root->node, root->attributes).object;
    return absl::OkStatus();
  }

  absl::Status stop() {
    names_.clear();
    root_.reset();
    return stop_service(stack_);
  }

  // Attributes that are true now (kAll), or true as far as access goes.
  Result<Attributes> attributes(const Context& context, Object& inode, bool all = true) {
    const bool outside = all && (inode.outside_writers.load() != 0 || inode.mapped.load());
    const std::uint64_t oldest = outside ? UINT64_MAX : oldest_valid();
    if (auto known = all ? inode.attributes.all(oldest) : inode.attributes.for_access(oldest)) {
      return *known;
    }
    const std::uint64_t ticket = inode.attributes.ticket();
    const std::uint64_t time = now();
    LIBSERVICES_TRY(const Attributes asked, stack_.getattr(context, inode.node));
    inode.attributes.store(asked, ticket, time);
    return asked;
  }

  Result<Here> here(const Context& context, Pointer inode) {
    LIBSERVICES_TRY(const Attributes seen, attributes(context, *inode, false));
    return Here{std::move(inode), seen};
  }

  // Whether the caller may use an object so: R_OK, W_OK, X_OK. ERRORS: EACCES.
  Result<void> check(const Context& context, const Here& at, int wanted) {
    return lists_.check(context, *at.inode, at.attributes, wanted);
  }

  // The object that the stack just named: known from now on as `name` in `directory`.
  // REQUIRES: directory->entries held.
  Here admit(const Pointer& directory, std::string_view name, const Entry<Node>& entry,
             std::uint64_t epoch) {
    auto [inode, made] = inodes_.intern(entry.node, entry.attributes);
    if ((made && epoch == changes()) || !caches()) {
      inode->attributes.store(entry.attributes, inode->attributes.ticket(), now());
    }
    if (inode->is_directory() || is_placed(*directory, *inode)) place(inode, directory, name);
    if (caches()) names_.put(directory->id, name, inode, now());
    return Here{inode, entry.attributes};
  }

  // An object without a name (O_TMPFILE).
  Pointer admit_nameless(const Node& node, const Attributes& attributes) {
    return inodes_.intern(node, attributes).object;
  }

  // The name is gone, or has become another object. REQUIRES: directory->entries exclusively.
  void forget_name(const Pointer& directory, std::string_view name) {
    if (caches()) names_.put(directory->id, name, nullptr, now());
  }
  void drop_name(const Pointer& directory, std::string_view name) {
    names_.erase(directory->id, name);
  }

  void remember_mapped(std::optional<std::uint64_t> inode) { inodes_.remember_mapped(inode); }

  // Any change of content or attributes: answers that are under way will not be kept as new.
  void count_change() { changes_.fetch_add(1, std::memory_order_acq_rel); }

  const Coherence& coherence() const { return coherence_; }
  void set_listener(ChangeListener* listener) { listener_ = listener; }
  void tell_object(const Object& object, std::uint64_t offset, std::uint64_t length) {
    if (listener_ != nullptr) listener_->object_changed(object.id, offset, length);
  }
  void tell_attributes(const Object& object) { tell_object(object, 0, 0); }
  void tell_name(const Object& directory, std::string_view name) {
    if (listener_ != nullptr) listener_->name_changed(directory.id, name);
  }
  Events<Object>& events() { return events_; }
  // What happens to the object, and to the entries of a directory, is told from now on. A directory
  // gives its entries to `sink` meanwhile, when none can come or go.
  Result<void> watch(const Context& context, const Pointer& object, EntrySink sink);
  void unwatch(Object& object) {
    object.watched.fetch_and(static_cast<std::uint8_t>(~kWatchedItself));
  }
  std::uint64_t changes() const { return changes_.load(std::memory_order_acquire); }

  // What is remembered is as old as this, asked before the stack was.
  std::uint64_t now() const {
    if (coherence_.kind != Coherence::Kind::kAskAgain) return losses();
    if (coherence_.ask_again_after.count() == 0) return 0;
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }

  // 0 until the storage loses something.
  std::uint64_t losses() const {
    if constexpr (CountsLosses<Stack>) return stack_.losses() - losses_before_;
    return 0;
  }

  // Whether events need the place of `object`, which is in `directory`.
  static bool is_placed(const Object& directory, const Object& object) {
    return Events<Object>::is_watched(directory) || Events<Object>::watched(object) != 0;
  }
  // `inode`, a directory or what is_placed() says, is `name` in `parent`.
  void place(const Pointer& inode, const Pointer& parent, std::string_view name);
  // Whether `directory` is `ancestor` or below it. REQUIRES: rename_mutex_.
  bool is_within(const Pointer& directory, const Pointer& ancestor);
  // What is no directory has lost this name.
  void displace(Object& inode, const Object& parent, std::string_view name);
  // Null for a directory that was removed; the root's is the root.
  Pointer parent_of(const Pointer& directory);
  // "/a/b" from the root. ERRORS: ENOENT for a directory that was removed.
  Result<std::string> path_of(const Pointer& directory);

  const Pointer& root() const { return root_; }

  // The object `name` in `directory`. ERRORS: ENOENT, and the stack's.
  Result<Found> find(const Context& context, const Pointer& directory, std::string_view name) {
    if (auto known = cached(directory, name)) {
      if (known->ok() && is_placed(*directory, *(*known)->inode)) {
        place((*known)->inode, directory, name);
      }
      return *std::move(known);
    }
    std::shared_lock lock(directory->entries);
    return ask(context, directory, name);
  }

  // As find(), with the attributes. REQUIRES: directory->entries held.
  Result<Here> step_locked(const Context& context, const Pointer& directory,
                           std::string_view name) {
    auto known = cached(directory, name);
    LIBSERVICES_TRY(auto found, known ? *std::move(known) : ask(context, directory, name));
    return complete(context, std::move(found));
  }

  // `base` is the inode of location.base, null for the root.
  Result<Walked> walk(const Context& context, const Location& location, const Pointer& base,
                      Walk kind);

 private:
  std::uint64_t oldest_valid() const {
    switch (coherence_.kind) {
      case Coherence::Kind::kNeverChanges:
      case Coherence::Kind::kChangesOnlyThroughMe:
        return losses();
      case Coherence::Kind::kAskAgain:
        break;
    }
    if (coherence_.ask_again_after.count() == 0) return UINT64_MAX;
    const auto age = static_cast<std::uint64_t>(coherence_.ask_again_after.count());
    const std::uint64_t time = now();
    return time > age ? time - age : 0;
  }
  bool caches() const { return oldest_valid() != UINT64_MAX; }

  // nullopt: the stack must be asked.
  std::optional<Result<Found>> cached(const Pointer& directory, std::string_view name) {
    const std::uint64_t oldest = oldest_valid();
    if (oldest == UINT64_MAX) return std::nullopt;
    auto hit = names_.find(directory->id, name);
    if (!hit || hit->filled < oldest) return std::nullopt;
    if (!hit->object) return Result<Found>(Errno{ENOENT});
    return Found{std::move(hit->object), std::nullopt};
  }

  // REQUIRES: directory->entries held.
  Result<Found> ask(const Context& context, const Pointer& directory, std::string_view name) {
    if (auto known = cached(directory, name)) return *std::move(known);  // somebody else has asked
    const std::uint64_t epoch = changes();
    auto found = stack_.lookup(context, directory->node, name);
    if (!found.ok()) {
      if (found.error() == Errno{ENOENT} && caches()) {
        names_.put(directory->id, name, nullptr, now());
      }
      return found.error();
    }
    Here here = admit(directory, name, *found, epoch);
    return Found{std::move(here.inode), here.attributes};
  }

  Result<Here> complete(const Context& context, Found found) {
    if (found.seen) return Here{std::move(found.inode), *found.seen};
    return here(context, std::move(found.inode));
  }

  // `seen` are the directory's attributes if the stack was just asked for them.
  Result<void> may_search(const Context& context, Object& directory,
                          const std::optional<Attributes>& seen);
  static Errno leave(const Location& location, std::string_view up, std::string_view rest);
  Result<std::string> link_target(const Context& context, const Object& link);

  Stack stack_;
  AccessLists<Stack> lists_;
  Coherence coherence_;
  std::uint64_t losses_before_ = 0;  // the start
  ChangeListener* listener_ = nullptr;
  InodeTable<Node> inodes_;  // outlives every pointer to its objects: root_ and names_ below
  Pointer root_;
  NameCache<Object> names_;
  std::shared_mutex places_mutex_;  // guards parent, name and removed of every Inode
  Events<Object> events_{places_mutex_};
  std::mutex rename_mutex_;         // held while a directory moves to another parent
  std::atomic<std::uint64_t> changes_{0};
};

}  // namespace libservices::internal

#include "libservices/internal/tree_places.h"  // IWYU pragma: export
#include "libservices/internal/tree_watch.h"   // IWYU pragma: export
#include "libservices/internal/walk.h"         // IWYU pragma: export

#endif  // LIBSERVICES_INTERNAL_TREE_H_
