// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Union` that add and remove names: what they check and lock; changes.h does it.
// Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
#define LIBSERVICES_SERVICES_UNION_UNION_TREE_H_

#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>

#include "services/union/places.h"
#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
template <class Make>
auto Union<Upper, Lower>::add(C context, const Node& directory, std::string_view name,
                              bool is_directory, Make&& make) -> Result<Entry<Node>> {
  if (!directory->is_directory()) return Errno{ENOTDIR};
  if (union_internal::is_mark_file(name)) return Errno{EINVAL};  // it would hide something
  LIBSERVICES_TRY(const auto node, copy_up_.ensure(context, directory));
  std::unique_lock lock(directory->entries);
  Found now;
  const auto look = [&]() -> Result<void> {
    LIBSERVICES_TRY(now, lookup_.find(context, directory, name));
    return now.record ? Result<void>(Errno{EEXIST}) : Result<void>();
  };
  const auto change = [&] {
    return changes_.add(context, *directory, node, name, now, is_directory, make);
  };
  const bool alone = directory->lowers.empty();  // the upper says whether the name is free
  if (!alone) LIBSERVICES_CHECK_OK(look());
  auto tried = change();
  if (alone && !tried.ok() && tried.error() == Errno{EEXIST}) {
    LIBSERVICES_CHECK_OK(look());  // a whiteout may be there that hides nothing
    if (now.whiteout_in_upper) tried = change();
  }
  LIBSERVICES_TRY(const auto made, std::move(tried));
  Node record = known_upper(made, true);
  union_internal::place(record, directory, name);
  const Attributes seen = branches_.shown(*record, made.attributes);
  return Entry<Node>{std::move(record), seen};
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::known_upper(const Entry<typename Upper::Node>& entry, bool is_new)
    -> Node {
  using R = typename Internal::R;
  const Attributes& seen = entry.attributes;
  const union_internal::BranchKey key{0, seen.device, seen.inode};
  return branches_.table().intern(key, std::nullopt, branches_.table().number_of(key),
                                  seen.mode & S_IFMT, [&](std::uint64_t number) {
                                    auto record = std::make_shared<R>(number, seen);
                                    record->upper_node = entry.node;
                                    record->in_upper = true;
                                    if (is_new && record->is_directory()) {
                                      record->upper_names.know_empty(lookup_.room());
                                    }
                                    return record;
                                  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::create(C context, const Node& directory, std::string_view name,
                                 const NewNode& fresh, OpenFlags flags)
    -> Result<Created<Node, File>> {
  std::optional<typename Upper::File> file;
  auto made = add(context, directory, name, false,
                  [&](const auto& in, std::string_view as) -> Result<Entry<typename Upper::Node>> {
                    LIBSERVICES_TRY(auto created, upper().create(context, in, as, fresh, flags));
                    file = std::move(created.file);
                    return Entry<typename Upper::Node>{created.node, created.attributes};
                  });
  if (!made.ok()) {
    if (file) (void)upper().close(context, *file);
    return made.error();
  }
  return Created<Node, File>{made->node, upper_file(made->node, flags, *std::move(file)),
                             made->attributes};
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::mkdir(C context, const Node& directory, std::string_view name,
                                const NewNode& fresh) -> Result<Entry<Node>> {
  return add(context, directory, name, true, [&](const auto& in, std::string_view as) {
    return upper().mkdir(context, in, as, fresh);
  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::symlink(C context, const Node& directory, std::string_view name,
                                  std::string_view target, const NewNode& fresh)
    -> Result<Entry<Node>>
  requires OffersSymlink<Upper> && OffersReadlink<Lower>
{
  return add(context, directory, name, false, [&](const auto& in, std::string_view as) {
    return upper().symlink(context, in, as, target, fresh);
  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::mknod(C context, const Node& directory, std::string_view name,
                                const NewNode& fresh) -> Result<Entry<Node>> {
  // It would be a whiteout, and hide itself.
  if (S_ISCHR(fresh.mode) && fresh.special_device == 0) return Errno{EPERM};
  return add(context, directory, name, false, [&](const auto& in, std::string_view as) {
    return upper().mknod(context, in, as, fresh);
  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::tmpfile(C context, const Node& directory, const NewNode& fresh,
                                  OpenFlags flags) -> Result<Created<Node, File>>
  requires OffersTmpfile<Upper>
{
  LIBSERVICES_TRY(const auto node, copy_up_.ensure(context, directory));
  LIBSERVICES_TRY(auto made, upper().tmpfile(context, node, fresh, flags));
  Node record = known_upper(Entry<typename Upper::Node>{made.node, made.attributes});
  const Attributes seen = branches_.shown(*record, made.attributes);
  return Created<Node, File>{record, upper_file(record, flags, std::move(made.file)), seen};
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::link(C context, const Node& node, const Node& directory,
                               std::string_view name) -> Result<Entry<Node>>
  requires OffersLink<Upper>
{
  if (node->is_directory()) return Errno{EPERM};
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node));
  LIBSERVICES_CHECK_OK(prepare_link(context, node, directory));
  LIBSERVICES_TRY(auto linked,
                  add(context, directory, name, false, [&](const auto& in, std::string_view as) {
                    return upper().link(context, upper_node, in, as);
                  }));
  return linked;
}

// A further name in `directory` must be looked at like the first.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::prepare_link(C context, const Node& node, const Node& directory) {
  if (!node->marked.load()) return {};
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, directory));
  return marks_.set_impure(context, *directory);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::unlink(C context, const Node& directory, std::string_view name) {
  return remove(context, directory, name, false);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rmdir(C context, const Node& directory, std::string_view name) {
  return remove(context, directory, name, true);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::remove(C context, const Node& directory, std::string_view name,
                                         bool is_directory) {
  if (!directory->is_directory()) return Errno{ENOTDIR};
  if (!branches_.has_upper()) return Errno{EROFS};
  std::unique_lock lock(directory->entries);
  LIBSERVICES_TRY(const auto now, lookup_.find(context, directory, name));
  if (!now.record) return Errno{ENOENT};
  if (is_directory != now.record->is_directory()) return Errno{is_directory ? ENOTDIR : EISDIR};
  if (now.attributes.is_protected()) return Errno{EPERM};
  std::unique_lock<std::shared_mutex> inside;
  if (is_directory) {
    inside = std::unique_lock(now.record->entries);
    LIBSERVICES_TRY(const bool empty, union_internal::is_empty(context, lookup_, now.record));
    if (!empty) return Errno{ENOTEMPTY};
  } else if (index_.will_have(*now.record, now.attributes)) {
    copy_up_.ensure_indexed(context, now.record);
  }
  // No copy-up puts it back meanwhile, or in the way of the whiteout.
  std::lock_guard copying(now.record->copy_up);
  LIBSERVICES_CHECK_OK(changes_.remove(context, directory, name, now));
  gone(context, directory, name, now);
  return {};
}

// The name is not there any more.
template <CanBeUpper Upper, ReadableService Lower>
void Union<Upper, Lower>::gone(C context, const Node& directory, std::string_view name,
                               const Found& was) {
  const bool last = was.record->is_directory() || !was.in_upper || was.in_upper->links <= 1;
  if (was.in_upper && last) {
    branches_.table().forget({0, was.in_upper->device, was.in_upper->inode});
  }
  union_internal::unplace(was.record, directory, name);
  was.record->removed.store(was.record->is_directory());
  // If the count cannot be kept on storage, the object stays in the index: no name leads to it.
  if (was.record->is_directory() || !was.in_upper) {
    (void)index_.hide_name(context, *was.record);
  } else {
    (void)index_.lost_name(context, *was.record);
  }
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
