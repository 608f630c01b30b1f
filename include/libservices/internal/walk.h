// SPDX-License-Identifier: Apache-2.0
//
// The walk along a path: the one place of the project that knows what "..", a symbolic link and a
// trailing slash mean. Included by tree.h alone.
#ifndef LIBSERVICES_INTERNAL_WALK_H_
#define LIBSERVICES_INTERNAL_WALK_H_

#include <vector>

#include "libservices/internal/tree.h"

namespace libservices::internal {

template <ReadableService Stack>
Result<void> Tree<Stack>::may_search(const Context& context, Object& directory,
                                     const std::optional<Attributes>& seen) {
  if (seen) return lists_.check(context, directory, *seen, X_OK);
  if (context.caller.is_superuser() && !directory.attributes.was_unmapped()) return {};
  if (directory.attributes.anyone_may_search(oldest_valid()) && lists_.has_none(directory)) {
    return {};
  }
  LIBSERVICES_TRY(const Attributes now, attributes(context, directory, false));
  return lists_.check(context, directory, now, X_OK);
}

template <ReadableService Stack>
Errno Tree<Stack>::leave(const Location& location, std::string_view up, std::string_view rest) {
  location.outside->assign(up);
  if (!rest.empty()) {
    if (rest.front() != '/' && !up.empty()) location.outside->push_back('/');
    location.outside->append(rest);
  }
  return Errno{EXDEV};
}

template <ReadableService Stack>
Result<std::string> Tree<Stack>::link_target(const Context& context, const Object& link) {
  if constexpr (OffersReadlink<Stack>) {
    std::string target(PATH_MAX, '\0');
    LIBSERVICES_TRY(const std::size_t length, stack_.readlink(context, link.node, target));
    if (length == 0) return Errno{ENOENT};
    target.resize(length);
    return target;
  }
  return Errno{EIO};
}

template <ReadableService Stack>
Result<typename Tree<Stack>::Walked> Tree<Stack>::walk(const Context& context,
                                                       const Location& location,
                                                       const Pointer& base, Walk kind) {
  constexpr int kMostLinks = 40;  // SOURCE: Linux, path_resolution(7)
  Walked walked;
  if (location.itself) {
    LIBSERVICES_TRY(walked.target, here(context, base));
    walked.last = Last::kItself;
    return walked;
  }
  std::string_view rest = location.path;
  if (rest.empty()) return Errno{ENOENT};
  if (rest.size() >= PATH_MAX) return Errno{ENAMETOOLONG};
  const bool bounded = location.bounds != Bounds::kNone;
  if (location.bounds == Bounds::kBeneath && rest.front() == '/') return Errno{EXDEV};
  const Pointer& start = base && (bounded || rest.front() != '/') ? base : root_;
  Found at;  // null: still at `start`, which is counted once less than if it were copied
  const auto directory = [&]() -> const Pointer& { return at.inode ? at.inode : start; };
  const auto take = [&] { return at.inode ? std::move(at) : Found{start, std::nullopt}; };
  walked.last = Last::kRoot;
  std::string expansion;
  std::vector<Pointer> passed;  // bounded: the directories above, from `start` (as null) on
  int links = 0;
  for (;;) {
    rest.remove_prefix(std::min(rest.find_first_not_of('/'), rest.size()));
    if (rest.empty()) break;
    const std::string_view name = rest.substr(0, rest.find('/'));
    rest.remove_prefix(name.size());
    const bool last = rest.find_first_not_of('/') == std::string_view::npos;
    if (!directory()->is_directory()) return Errno{ENOTDIR};
    LIBSERVICES_CHECK_OK(may_search(context, *directory(), at.seen));
    if (name == ".") {
      walked.last = Last::kDot;
      continue;
    }
    if (name == "..") {
      walked.last = Last::kDotDot;
      if (bounded) {
        if (!passed.empty()) {
          at = {std::move(passed.back()), std::nullopt};
          passed.pop_back();
        } else if (location.bounds == Bounds::kBeneath) {
          return Errno{EXDEV};
        }
        continue;
      }
      if (directory() == root_) {
        if (location.outside != nullptr) return leave(location, "..", rest);
        continue;
      }
      Pointer parent = parent_of(directory());
      if (!parent) return Errno{ENOENT};
      at = {std::move(parent), std::nullopt};
      continue;
    }
    if (last && !rest.empty() && kind == Walk::kCreate) return Errno{EISDIR};
    // As in Linux, nothing is in a directory that was removed, however long its name.
    if (name.size() > NAME_MAX) return Errno{path_of(directory()).ok() ? ENAMETOOLONG : ENOENT};
    auto found = find(context, directory(), name);
    if (!found.ok()) {
      if (found.error() != Errno{ENOENT} || !last || kind == Walk::kObject) return found.error();
      LIBSERVICES_TRY(walked.parent, complete(context, take()));
      walked.name.assign(name);
      walked.last = Last::kName;
      walked.trailing_slash = !rest.empty();
      return walked;
    }
    const bool is_link = S_ISLNK(found->inode->type);
    const bool follow =
        !last || (kind != Walk::kEntry && (location.follow == Follow::kYes || !rest.empty()));
    if (is_link && follow) {
      if (location.no_links || ++links > kMostLinks) return Errno{ELOOP};
      LIBSERVICES_TRY(std::string target, link_target(context, *found->inode));
      if (target.front() == '/' && bounded) {
        if (location.bounds == Bounds::kBeneath) return Errno{EXDEV};
        passed.clear();
        at = {};
      } else if (target.front() == '/') {
        if (location.outside != nullptr) return leave(location, target, rest);
        at = {root_, std::nullopt};
      }
      target.append(rest);
      expansion.swap(target);
      rest = expansion;
      walked.last = Last::kRoot;
      continue;
    }
    if (last) {
      walked.trailing_slash = !rest.empty();
      if (walked.trailing_slash && kind != Walk::kEntry && !found->inode->is_directory()) {
        return Errno{ENOTDIR};
      }
      if (kind != Walk::kObject) {
        LIBSERVICES_TRY(walked.parent, complete(context, take()));
        walked.name.assign(name);
      }
      LIBSERVICES_TRY(walked.target, complete(context, *std::move(found)));
      walked.last = Last::kName;
      return walked;
    }
    if (bounded) passed.push_back(std::move(at.inode));
    at = *std::move(found);
  }
  LIBSERVICES_TRY(walked.target, complete(context, take()));
  return walked;
}

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_WALK_H_
