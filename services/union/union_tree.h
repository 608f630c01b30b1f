// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Union` that change the tree: what they check and lock; changes.h does it. Included
// by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
#define LIBSERVICES_SERVICES_UNION_UNION_TREE_H_

#include <unordered_set>

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
  Node record = known_upper(made);
  union_internal::place(record, directory, name);
  const Attributes seen = branches_.shown(*record, made.attributes);
  return Entry<Node>{std::move(record), seen};
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

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rename(C context, const Node& directory, std::string_view name,
                                         const Node& new_directory, std::string_view new_name,
                                         RenameMode mode) {
  constexpr int kMostTimes = 100;  // what moves can be replaced by others between two looks
  for (int times = 1;; ++times) {
    auto renamed = rename_once(context, directory, name, new_directory, new_name, mode);
    if (renamed.ok() || renamed.error() != Errno{EAGAIN} || times == kMostTimes) return renamed;
  }
}

// What is to be renamed comes up first, without the directories' locks.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::raise(C context, const Node& record) {
  if (record->is_directory() && !record->lowers.empty() && !redirect_) return Errno{EXDEV};
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, record));
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::rename_once(C context, const Node& directory,
                                              std::string_view name, const Node& new_directory,
                                              std::string_view new_name, RenameMode mode) {
  if (!directory->is_directory() || !new_directory->is_directory()) return Errno{ENOTDIR};
  if (mode == RenameMode::kLeaveWhiteout) return Errno{EINVAL};
  if (union_internal::is_mark_file(new_name)) return Errno{EINVAL};
  LIBSERVICES_TRY(const auto source, lookup(context, directory, name));
  std::vector<Node> rising{source.node};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_TRY(const auto other, lookup(context, new_directory, new_name));
    rising.push_back(other.node);
  }
  for (const Node& record : rising) LIBSERVICES_CHECK_OK(raise(context, record));
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, directory));
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, new_directory));
  // Parents before children, as rmdir does; only one rename at a time holds two directories.
  std::unique_lock<std::mutex> renaming(rename_mutex_, std::defer_lock);
  std::unique_lock first(directory->entries, std::defer_lock);
  std::unique_lock second(new_directory->entries, std::defer_lock);
  if (directory == new_directory) {
    first.lock();
  } else {
    renaming.lock();
    if (union_internal::is_within(directory, new_directory)) first.swap(second);
    first.lock();
    second.lock();
  }
  LIBSERVICES_TRY(auto from, lookup_.find(context, directory, name));
  LIBSERVICES_TRY(auto to, lookup_.find(context, new_directory, new_name));
  if (!from.record) return Errno{ENOENT};
  if (from.record != source.node) return Errno{EAGAIN};
  if (mode == RenameMode::kNoReplace && to.record) return Errno{EEXIST};
  if (mode == RenameMode::kExchange && !to.record) return Errno{ENOENT};
  if (mode == RenameMode::kExchange && to.record != rising.back()) return Errno{EAGAIN};
  if (from.record == to.record) return {};
  if (union_internal::is_within(new_directory, from.record)) return Errno{EINVAL};
  std::unique_lock<std::shared_mutex> replaced;  // nothing is made in it meanwhile
  if (to.record && mode == RenameMode::kExchange) {
    if (union_internal::is_within(directory, to.record)) return Errno{EINVAL};
  } else if (to.record) {
    if (from.record->is_directory() != to.record->is_directory()) {
      return Errno{from.record->is_directory() ? ENOTDIR : EISDIR};
    }
    if (to.record->is_directory()) {
      if (union_internal::is_within(directory, to.record)) return Errno{ENOTEMPTY};
      replaced = std::unique_lock(to.record->entries);
      LIBSERVICES_TRY(const bool empty, union_internal::is_empty(context, lookup_, to.record));
      if (!empty) return Errno{ENOTEMPTY};
    } else if (index_.will_have(*to.record, to.attributes)) {
      copy_up_.ensure_indexed(context, to.record);
    }
  }
  LIBSERVICES_CHECK_OK(give_name(context, directory, name, from));
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_CHECK_OK(give_name(context, new_directory, new_name, to));
  }
  const typename Changes::Side old_side{directory, name, from};
  const typename Changes::Side new_side{new_directory, new_name, to};
  if (mode == RenameMode::kExchange) {
    LIBSERVICES_CHECK_OK(changes_.exchange(context, old_side, new_side));
    union_internal::place(to.record, directory, name);
  } else {
    LIBSERVICES_CHECK_OK(changes_.move(context, old_side, new_side));
    if (to.record) gone(context, new_directory, new_name, to);
  }
  union_internal::place(from.record, new_directory, new_name);
  return {};
}

// What is renamed is in the upper by its name: one of several that a lower file has may not be.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::give_name(C context, const Node& directory,
                                            std::string_view name,
                                            Found& found) {
  if (found.in_upper) return {};
  LIBSERVICES_CHECK_OK(copy_up_.give_name(context, directory, name, found.record));
  LIBSERVICES_TRY(found, lookup_.find(context, directory, name));
  return found.in_upper ? Result<void>() : Errno{EIO};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::for_each_partial(
    C context, const std::stop_token& stop, const std::function<Result<void>(const Node&)>& take) {
  if (!branches_.has_upper()) return {};
  std::vector<Node> directories{branches_.root()};
  while (!directories.empty()) {
    const Node directory = std::move(directories.back());
    directories.pop_back();
    std::vector<std::string> names;
    LIBSERVICES_TRY(auto opened, upper().open(context, *directory->upper(),
                                              OpenFlags{O_RDONLY | O_DIRECTORY}));
    auto listed = upper().readdir(
        context, opened.file, 0, Listing::kNames, [&](const DirEntry& entry) {
          const bool content = entry.type == DT_REG || entry.type == DT_DIR ||
                               entry.type == DT_UNKNOWN;
          if (content && entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
          return true;
        });
    (void)upper().close(context, opened.file);
    LIBSERVICES_CHECK_OK(listed);
    for (const std::string& name : names) {
      if (stop.stop_requested()) return Errno{EINTR};
      std::shared_lock lock(directory->entries);
      LIBSERVICES_TRY(const auto found, lookup_.find(context, directory, name));
      lock.unlock();
      if (!found.record || !found.in_upper) continue;
      if (found.record->is_directory()) {
        directories.push_back(found.record);
      } else if (found.record->partial()) {
        LIBSERVICES_CHECK_OK(take(found.record));
      }
    }
  }
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::uint64_t> Union<Upper, Lower>::partial_files(C context, std::stop_token stop) {
  std::unordered_set<std::uint64_t> found;  // each once, whatever names it has
  LIBSERVICES_CHECK_OK(for_each_partial(context, stop, [&](const Node& node) {
    found.insert(node->inode);
    return Result<void>();
  }));
  return std::uint64_t{found.size()};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::complete(C context, std::uint64_t& completed) {
  return for_each_partial(context, {}, [&](const Node& node) -> Result<void> {
    const auto partial = node->partial();
    if (!partial) return {};
    LIBSERVICES_CHECK_OK(partials_.settle(context, *node->upper(), *partial));
    LIBSERVICES_CHECK_OK(partials_.complete(context, *node->upper(), *partial));
    ++completed;
    return {};
  });
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_TREE_H_
