// SPDX-License-Identifier: Apache-2.0
//
// The changes of a union's tree. Each is one atomic step in the upper branch as callers see it,
// so that no moment and no crash brings a deleted lower file back: what must be made in several
// steps is made in the staging directory and then put into place by one rename.
//
// With marks that are files, a mark and an object of its name may stand beside each other: the
// object counts, and the mark hides what is below. So the mark always comes first.
//
// Every function is called with the directories' `entries` held exclusively.
#ifndef LIBSERVICES_SERVICES_UNION_CHANGES_H_
#define LIBSERVICES_SERVICES_UNION_CHANGES_H_

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/union/copy_up.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class Changes {
 public:
  using B = Branches<Upper, Lower>;
  using C = CopyUp<Upper, Lower>;
  using Found = typename B::Found;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  // `marks_are_files`: whiteouts and opaque directories are written as AUFS and OCI layers do.
  Changes(B& branches, C& copy_up, PartialFiles<Upper, Lower>& partials, bool marks_are_files)
      : branches_(branches),
        copy_up_(copy_up),
        partials_(partials),
        marks_are_files_(marks_are_files) {}

  // A new entry of `record`, whose upper part is `directory`. `make(node, name)` makes it in a
  // directory of the upper.
  template <class Make>
  Result<Entry<UpperNode>> add(const Context& context, R& record, const UpperNode& directory,
                               std::string_view name, const Found& now, bool is_directory,
                               Make&& make) {
    const AddingName adding(record.upper_names, name);
    if (!now.whiteout_in_upper) return make(directory, name);
    LIBSERVICES_TRY(const auto staging, drafts(context));
    const std::string temporary = copy_up_.next_name();
    LIBSERVICES_TRY(Entry<UpperNode> made, make(staging, temporary));
    Result<void> placed;
    if (is_directory) {
      placed = set_opaque(context, made.node);  // the lower directory of that name stays hidden
      if (placed.ok()) {
        placed = branches_.upper().rename(context, staging, temporary, directory, name,
                                          RenameMode::kExchange);
      }
      if (placed.ok()) is_directory = false;  // a whiteout is in its place now
    } else {
      placed = branches_.upper().rename(context, staging, temporary, directory, name,
                                        RenameMode::kReplace);
      if (placed.ok()) return made;
    }
    copy_up_.discard(context, staging, temporary, is_directory);
    if (!placed.ok()) return placed.error();
    return made;
  }

  // Makes the union's entry vanish. `directory` is the record, which may not be in the upper yet.
  Result<void> remove(const Context& context, const Pointer& directory, std::string_view name,
                      const Found& now) {
    LIBSERVICES_TRY(const bool in_lowers, branches_.in_lowers(context, *directory, name));
    const bool is_directory = now.record->is_directory();
    if (!in_lowers || marks_are_files_) {
      if (in_lowers) LIBSERVICES_CHECK_OK(leave_mark(context, directory, name));
      if (!now.in_upper) return {};
      return take_away(context, *directory, name, is_directory);
    }
    LIBSERVICES_TRY(const UpperNode node, copy_up_.ensure(context, directory));
    const AddingName adding(directory->upper_names, name);
    if (!now.in_upper) return make_whiteout(context, node, name);
    return put_whiteout_over(context, node, name, is_directory);
  }

  struct Side {
    const Pointer& directory;
    std::string_view name;
    const Found& now;
  };
  // What stands at `to` may be replaced.
  // REQUIRES: everything that moves, and both directories, are in the upper, and `from` by its name.
  Result<void> move(const Context& context, const Side& from, const Side& to) {
    const AddingName adding(to.directory->upper_names, to.name);
    LIBSERVICES_TRY(const bool leaves_lower,
                    branches_.in_lowers(context, *from.directory, from.name));
    LIBSERVICES_CHECK_OK(prepare(context, from, to));
    if (leaves_lower && marks_are_files_) {
      LIBSERVICES_CHECK_OK(leave_mark(context, from.directory, from.name));
    }
    const bool whiteout = leaves_lower && !marks_are_files_;
    auto moved = from.now.record->is_directory() ? move_directory(context, from, to, whiteout)
                                                 : move_file(context, from, to, whiteout);
    if (moved.ok() && !leaves_lower) from.directory->upper_names.erase(from.name);
    return moved;
  }

  // REQUIRES: as move(), for both.
  Result<void> exchange(const Context& context, const Side& from, const Side& to) {
    LIBSERVICES_CHECK_OK(prepare(context, from, to));
    LIBSERVICES_CHECK_OK(prepare(context, to, from));
    return branches_.upper().rename(context, *from.directory->upper(), from.name,
                                    *to.directory->upper(), to.name, RenameMode::kExchange);
  }

  Result<void> set_opaque(const Context& context, const UpperNode& node) {
    if (marks_are_files_) return make_mark(context, node, std::string(kOpaqueFiles[0]));
    constexpr std::array<std::byte, 1> kYes{std::byte{'y'}};
    return partials_.set(context, node, kOpaque, kYes);
  }

 private:
  Result<UpperNode> drafts(const Context& context) {
    return branches_.upper().staging(context, Staging::kDrafts);
  }

  Result<void> make_whiteout(const Context& context, const UpperNode& directory,
                             std::string_view name) {
    const NewNode device{.mode = S_IFCHR, .uid = 0, .gid = 0, .special_device = 0};
    auto made = branches_.upper().mknod(context, directory, name, device);
    if (!made.ok()) return made.error();
    return {};
  }
  // The empty file that is a mark. It may be there already.
  Result<void> make_mark(const Context& context, const UpperNode& directory,
                         const std::string& mark) {
    const NewNode file{.mode = S_IFREG | 0600, .uid = 0, .gid = 0, .special_device = 0};
    auto made = branches_.upper().mknod(context, directory, mark, file);
    if (!made.ok() && made.error() != Errno{EEXIST}) return made.error();
    return {};
  }
  Result<void> leave_mark(const Context& context, const Pointer& directory,
                          std::string_view name) {
    LIBSERVICES_TRY(const UpperNode node, copy_up_.ensure(context, directory));
    return make_mark(context, node, std::string(kWhiteoutFile).append(name));
  }

  // Of a name that no lower has.
  Result<void> take_away(const Context& context, R& directory, std::string_view name,
                         bool is_directory) {
    Upper& upper = branches_.upper();
    const UpperNode node = *directory.upper();
    auto removed =
        is_directory ? upper.rmdir(context, node, name) : upper.unlink(context, node, name);
    if (is_directory && !removed.ok() && removed.error() == Errno{ENOTEMPTY}) {
      // It holds marks, and nothing else: out of sight at once, then cleared.
      LIBSERVICES_TRY(const auto staging, drafts(context));
      const std::string aside = copy_up_.next_name();
      removed = upper.rename(context, node, name, staging, aside, RenameMode::kNoReplace);
      if (removed.ok()) clear(context, staging, aside);
    }
    if (removed.ok()) directory.upper_names.erase(name);
    return removed;
  }

  Result<void> put_whiteout_over(const Context& context, const UpperNode& node,
                                 std::string_view name, bool is_directory) {
    LIBSERVICES_TRY(const auto staging, drafts(context));
    const std::string temporary = copy_up_.next_name();
    LIBSERVICES_CHECK_OK(make_whiteout(context, staging, temporary));
    auto placed = branches_.upper().rename(
        context, staging, temporary, node, name,
        is_directory ? RenameMode::kExchange : RenameMode::kReplace);
    if (!placed.ok()) {
      copy_up_.discard(context, staging, temporary, false);
    } else if (is_directory) {
      clear(context, staging, temporary);
    }
    return placed;
  }

  // What must be true of an object before it comes to the other side.
  Result<void> prepare(const Context& context, const Side& from, const Side& to) {
    R& record = *from.now.record;
    if (!record.is_directory()) {
      return record.marked.load() ? copy_up_.set_impure(context, *to.directory) : Result<void>();
    }
    if (!record.lowers.empty()) {
      LIBSERVICES_CHECK_OK(copy_up_.set_impure(context, *to.directory));
      return set_redirect(context, from.now.record);
    }
    LIBSERVICES_TRY(const bool covers, branches_.in_lowers(context, *to.directory, to.name));
    return covers ? set_opaque(context, *record.upper()) : Result<void>();
  }

  // Its lower parts stay where they are.
  Result<void> set_redirect(const Context& context, const Pointer& record) {
    const std::string path = branches_.lower_path_of(record);
    if (path.empty()) return Errno{ENOENT};
    if (path.size() > kLongestRedirect) return Errno{EXDEV};
    LIBSERVICES_CHECK_OK(partials_.set(context, *record->upper(), kRedirect,
                                       std::as_bytes(std::span(path))));
    std::lock_guard lock(record->mutex);
    record->redirect = path;
    return {};
  }

  Result<void> move_file(const Context& context, const Side& from, const Side& to, bool whiteout) {
    Upper& upper = branches_.upper();
    const UpperNode from_node = *from.directory->upper();
    const UpperNode to_node = *to.directory->upper();
    if (!whiteout) {
      return upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kReplace);
    }
    auto moved = upper.rename(context, from_node, from.name, to_node, to.name,
                              RenameMode::kLeaveWhiteout);
    if (moved.ok() || moved.error() != Errno{EINVAL}) return moved;
    if constexpr (OffersLink<Upper>) {
      // First the new name, then a whiteout over the old one: at no moment is the file gone.
      LIBSERVICES_TRY(const auto staging, drafts(context));
      const std::string second = copy_up_.next_name();
      auto linked = upper.link(context, *from.now.record->upper(), staging, second);
      if (!linked.ok()) return linked.error();
      moved = upper.rename(context, staging, second, to_node, to.name, RenameMode::kReplace);
      if (!moved.ok()) {
        copy_up_.discard(context, staging, second, false);
        return moved;
      }
      return put_whiteout_over(context, from_node, from.name, false);
    }
    return Errno{EXDEV};
  }

  Result<void> move_directory(const Context& context, const Side& from, const Side& to,
                              bool whiteout) {
    Upper& upper = branches_.upper();
    const UpperNode from_node = *from.directory->upper();
    const UpperNode to_node = *to.directory->upper();
    auto at_target = upper.lookup(context, to_node, to.name);
    if (!at_target.ok() && at_target.error() != Errno{ENOENT}) return at_target.error();
    if (!at_target.ok()) {
      if (!whiteout) {
        return upper.rename(context, from_node, from.name, to_node, to.name,
                            RenameMode::kNoReplace);
      }
      auto moved = upper.rename(context, from_node, from.name, to_node, to.name,
                                RenameMode::kLeaveWhiteout);
      if (moved.ok() || moved.error() != Errno{EINVAL}) return moved;
      LIBSERVICES_CHECK_OK(make_whiteout(context, to_node, to.name));
      return upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kExchange);
    }
    const bool directory_there = at_target->attributes.is_directory();
    // At the old name, it shall not merge with what is below.
    if (directory_there && whiteout) LIBSERVICES_CHECK_OK(set_opaque(context, at_target->node));
    LIBSERVICES_CHECK_OK(
        upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kExchange));
    if (!directory_there) {
      if (!whiteout) (void)upper.unlink(context, from_node, from.name);  // it hides nothing
      return {};
    }
    if (whiteout) return put_whiteout_over(context, from_node, from.name, true);
    LIBSERVICES_TRY(const auto staging, drafts(context));
    const std::string aside = copy_up_.next_name();
    LIBSERVICES_CHECK_OK(
        upper.rename(context, from_node, from.name, staging, aside, RenameMode::kNoReplace));
    clear(context, staging, aside);
    return {};
  }

  // Removes what lies aside: a whiteout, or a directory that holds nothing but marks. What cannot
  // be removed is out of sight, and goes at the next start.
  void clear(const Context& context, const UpperNode& staging, std::string_view name) {
    Upper& upper = branches_.upper();
    auto entry = upper.lookup(context, staging, name);
    if (!entry.ok()) return;
    if (!entry->attributes.is_directory()) {
      (void)upper.unlink(context, staging, name);
      return;
    }
    auto opened = upper.open(context, entry->node, OpenFlags{O_RDONLY | O_DIRECTORY});
    if (!opened.ok()) return;
    std::vector<std::string> names;
    (void)upper.readdir(context, opened->file, 0, Listing::kNames, [&](const DirEntry& inside) {
      if (inside.name != "." && inside.name != "..") names.emplace_back(inside.name);
      return true;
    });
    (void)upper.close(context, opened->file);
    for (const std::string& inside : names) {
      auto mark = upper.lookup(context, entry->node, inside);
      if (mark.ok() && (is_mark_file(inside) || is_whiteout(mark->attributes) ||
                        mark->attributes.size == 0)) {
        (void)upper.unlink(context, entry->node, inside);
      }
    }
    (void)upper.rmdir(context, staging, name);
  }

  static constexpr std::size_t kLongestRedirect = 3000;  // ext4 has no room for much longer ones

  B& branches_;
  C& copy_up_;
  PartialFiles<Upper, Lower>& partials_;
  const bool marks_are_files_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_CHANGES_H_
