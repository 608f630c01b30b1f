// SPDX-License-Identifier: Apache-2.0
//
// The changes of a union's tree. Each is one atomic step in the upper branch as callers see it,
// so that no moment and no crash brings a deleted lower file back: what must be made in several
// steps is made among the drafts (drafts.h) and then put into place by one rename. Where whiteouts
// are files, the mark always comes first: it hides what is below, and the object beside it counts.
//
// REQUIRES, of every function: the directories' `entries` are held exclusively.
#ifndef LIBSERVICES_SERVICES_UNION_CHANGES_H_
#define LIBSERVICES_SERVICES_UNION_CHANGES_H_

#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "services/union/copy_up.h"
#include "services/union/lookup.h"
#include "services/union/places.h"
#include "services/union/whiteouts.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class Changes {
 public:
  using B = Branches<Upper, Lower>;
  using Found = FoundName<typename B::R>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  Changes(Lookup<Upper, Lower>& lookup, UpperMarks<Upper>& marks, Drafts<Upper>& drafts,
          CopyUp<Upper, Lower>& copy_up, WhiteoutForm form)
      : branches_(lookup.branches()),
        lookup_(lookup),
        marks_(marks),
        drafts_(drafts),
        copy_up_(copy_up),
        whiteouts_(lookup.branches().upper(), marks, drafts, form) {}

  // A new entry of `record`, whose upper part is `directory`. `make(node, name)` makes it in a
  // directory of the upper.
  template <class Make>
  Result<Entry<UpperNode>> add(const Context& context, R& record, const UpperNode& directory,
                               std::string_view name, const Found& now, bool is_directory,
                               Make&& make) {
    const AddingName adding(record.upper_names, name);
    if (!now.whiteout_in_upper) return make(directory, name);
    LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
    const std::string temporary = drafts_.next_name();
    LIBSERVICES_TRY(Entry<UpperNode> made, make(staging, temporary));
    Result<void> placed;
    if (is_directory) {
      // The lower directory of that name stays hidden.
      placed = whiteouts_.set_opaque(context, made.node);
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
    drafts_.discard(context, staging, temporary, is_directory);
    if (!placed.ok()) return placed.error();
    return made;
  }

  // Makes the union's entry vanish. `directory` is the record, which may not be in the upper yet.
  Result<void> remove(const Context& context, const Pointer& directory, std::string_view name,
                      const Found& now) {
    LIBSERVICES_TRY(const bool in_lowers, lookup_.in_lowers(context, *directory, name));
    const bool is_directory = now.record->is_directory();
    if (!in_lowers || whiteouts_.are_files()) {
      if (in_lowers) LIBSERVICES_CHECK_OK(leave_mark(context, directory, name));
      if (!now.in_upper) return {};
      LIBSERVICES_CHECK_OK(take_away(context, *directory, name, is_directory));
      if (!in_lowers) directory->upper_names.erase(name);  // else its mark is there
      return {};
    }
    LIBSERVICES_TRY(const UpperNode node, copy_up_.ensure(context, directory));
    const AddingName adding(directory->upper_names, name);
    if (!now.in_upper) return whiteouts_.make(context, node, name);
    return whiteouts_.put_over(context, node, name, is_directory);
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
                    lookup_.in_lowers(context, *from.directory, from.name));
    LIBSERVICES_CHECK_OK(prepare(context, from, to));
    if (leaves_lower && whiteouts_.are_files()) {
      LIBSERVICES_CHECK_OK(leave_mark(context, from.directory, from.name));
    }
    const bool whiteout = leaves_lower && !whiteouts_.are_files();
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

 private:
  Result<void> leave_mark(const Context& context, const Pointer& directory,
                          std::string_view name) {
    LIBSERVICES_TRY(const UpperNode node, copy_up_.ensure(context, directory));
    const AddingName adding(directory->upper_names, name);
    return whiteouts_.make_file_for(context, node, name);
  }

  // Of a name that no lower has, or that is marked.
  Result<void> take_away(const Context& context, R& directory, std::string_view name,
                         bool is_directory) {
    Upper& upper = branches_.upper();
    const UpperNode node = *directory.upper();
    auto removed =
        is_directory ? upper.rmdir(context, node, name) : upper.unlink(context, node, name);
    if (is_directory && !removed.ok() && removed.error() == Errno{ENOTEMPTY}) {
      // It holds marks, and nothing else: out of sight at once, then cleared.
      LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
      const std::string aside = drafts_.next_name();
      removed = upper.rename(context, node, name, staging, aside, RenameMode::kNoReplace);
      if (removed.ok()) drafts_.clear(context, staging, aside);
    }
    return removed;
  }

  // What must be true of an object before it comes to the other side.
  Result<void> prepare(const Context& context, const Side& from, const Side& to) {
    R& record = *from.now.record;
    if (!record.is_directory()) {
      return record.marked.load() ? marks_.set_impure(context, *to.directory) : Result<void>();
    }
    if (!record.lowers.empty()) {
      LIBSERVICES_CHECK_OK(marks_.set_impure(context, *to.directory));
      return set_redirect(context, from.now.record);
    }
    LIBSERVICES_TRY(const bool covers, lookup_.in_lowers(context, *to.directory, to.name));
    return covers ? whiteouts_.set_opaque(context, *record.upper()) : Result<void>();
  }

  // Its lower parts stay where they are.
  Result<void> set_redirect(const Context& context, const Pointer& record) {
    const std::string path = lower_path_of(branches_.root(), record);
    if (path.empty()) return Errno{ENOENT};
    if (path.size() > kLongestRedirect) return Errno{EXDEV};
    LIBSERVICES_CHECK_OK(
        marks_.set(context, *record->upper(), kRedirect, std::as_bytes(std::span(path))));
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
      LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
      const std::string second = drafts_.next_name();
      auto linked = upper.link(context, *from.now.record->upper(), staging, second);
      if (!linked.ok()) return linked.error();
      moved = upper.rename(context, staging, second, to_node, to.name, RenameMode::kReplace);
      if (!moved.ok()) {
        drafts_.discard(context, staging, second, false);
        return moved;
      }
      return whiteouts_.put_over(context, from_node, from.name, false);
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
      LIBSERVICES_CHECK_OK(whiteouts_.make(context, to_node, to.name));
      return upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kExchange);
    }
    const bool directory_there = at_target->attributes.is_directory();
    // At the old name, it shall not merge with what is below.
    if (directory_there && whiteout) {
      LIBSERVICES_CHECK_OK(whiteouts_.set_opaque(context, at_target->node));
    }
    auto exchanged =
        upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kExchange);
    if constexpr (!exchanges_names<Upper>()) {
      // What is empty is replaced all the same; of what holds marks only the exchange is one step.
      if (!directory_there) return Errno{EXDEV};
      exchanged =
          upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kReplace);
      if (!exchanged.ok() && exchanged.error() == Errno{ENOTEMPTY}) return Errno{EXDEV};
      return exchanged;
    }
    LIBSERVICES_CHECK_OK(exchanged);
    if (!directory_there) {
      if (!whiteout) (void)upper.unlink(context, from_node, from.name);  // it hides nothing
      return {};
    }
    if (whiteout) return whiteouts_.put_over(context, from_node, from.name, true);
    LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
    const std::string aside = drafts_.next_name();
    LIBSERVICES_CHECK_OK(
        upper.rename(context, from_node, from.name, staging, aside, RenameMode::kNoReplace));
    drafts_.clear(context, staging, aside);
    return {};
  }

  static constexpr std::size_t kLongestRedirect = 3000;  // ext4 has no room for much longer ones

  B& branches_;
  Lookup<Upper, Lower>& lookup_;
  UpperMarks<Upper>& marks_;
  Drafts<Upper>& drafts_;
  CopyUp<Upper, Lower>& copy_up_;
  Whiteouts<Upper> whiteouts_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_CHANGES_H_
