// SPDX-License-Identifier: Apache-2.0
//
// The changes of a union's tree. Each is one atomic step in the upper branch as callers see it,
// so that no moment and no crash brings a deleted lower file back: what must be made in several
// steps is made in the staging directory and then put into place by one rename.
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

  Changes(B& branches, C& copy_up) : branches_(branches), copy_up_(copy_up) {}

  // Which name space the upper's marks are in; after start.
  void use_marks(std::string_view prefix) { opaque_name_ = std::string(prefix) + "opaque"; }

  // A new entry of `record`, whose upper part is `directory`. `make(node, name)` makes it in a
  // directory of the upper.
  template <class Make>
  Result<Entry<UpperNode>> add(const Context& context, R& record, const UpperNode& directory,
                               std::string_view name, const Found& now, bool is_directory,
                               Make&& make) {
    const AddingName adding(record.upper_names, name);
    if (!now.whiteout_in_upper) return make(directory, name);
    LIBSERVICES_TRY(const auto staging, branches_.upper().staging(context));
    const std::string temporary = copy_up_.next_name();
    LIBSERVICES_TRY(Entry<UpperNode> made, make(staging.node, temporary));
    Result<void> placed;
    if (is_directory) {
      placed = set_opaque(context, made.node);  // the lower directory of that name stays hidden
      if (placed.ok()) {
        placed = branches_.upper().rename(context, staging.node, temporary, directory, name,
                                          RenameMode::kExchange);
      }
      if (placed.ok()) is_directory = false;  // a whiteout is in its place now
    } else {
      placed = branches_.upper().rename(context, staging.node, temporary, directory, name,
                                        RenameMode::kReplace);
      if (placed.ok()) return made;
    }
    copy_up_.discard(context, staging.node, temporary, is_directory);
    if (!placed.ok()) return placed.error();
    return made;
  }

  // Makes the union's entry vanish. `directory` is the record, which may not be in the upper yet.
  Result<void> remove(const Context& context, const Pointer& directory, std::string_view name,
                      const Found& now) {
    LIBSERVICES_TRY(const bool in_lowers, branches_.in_lowers(context, *directory, name));
    Upper& upper = branches_.upper();
    if (!in_lowers) {
      auto node = directory->upper();
      if (!node) return Errno{EIO};
      auto removed = now.record->is_directory() ? upper.rmdir(context, *node, name)
                                                : upper.unlink(context, *node, name);
      if (removed.ok()) directory->upper_names.erase(name);
      if (!now.record->is_directory() || removed.ok() || removed.error() != Errno{ENOTEMPTY}) {
        return removed;
      }
      // It holds whiteouts, and nothing else: out of sight at once, then cleared.
      LIBSERVICES_TRY(const auto staging, upper.staging(context));
      const std::string aside = copy_up_.next_name();
      LIBSERVICES_CHECK_OK(
          upper.rename(context, *node, name, staging.node, aside, RenameMode::kNoReplace));
      return clear(context, staging.node, aside);
    }
    LIBSERVICES_TRY(const UpperNode node, copy_up_.ensure(context, directory));
    const AddingName adding(directory->upper_names, name);
    const bool in_upper = in_upper_now(context, node, name);
    if (!in_upper) return make_whiteout(context, node, name);
    LIBSERVICES_TRY(const auto staging, upper.staging(context));
    const std::string temporary = copy_up_.next_name();
    LIBSERVICES_CHECK_OK(make_whiteout(context, staging.node, temporary));
    if (!now.record->is_directory()) {
      auto placed =
          upper.rename(context, staging.node, temporary, node, name, RenameMode::kReplace);
      if (!placed.ok()) copy_up_.discard(context, staging.node, temporary, false);
      return placed;
    }
    auto placed = upper.rename(context, staging.node, temporary, node, name, RenameMode::kExchange);
    if (!placed.ok()) {
      copy_up_.discard(context, staging.node, temporary, false);
      return placed;
    }
    return clear(context, staging.node, temporary);
  }

  struct Side {
    const Pointer& directory;
    std::string_view name;
    const Found& now;
  };
  // Files, and directories of the upper alone; what stands at `to` may be replaced.
  // REQUIRES: everything that moves, and both directories, are in the upper.
  Result<void> move(const Context& context, const Side& from, const Side& to) {
    Upper& upper = branches_.upper();
    const UpperNode from_node = *from.directory->upper();
    const UpperNode to_node = *to.directory->upper();
    const AddingName adding(to.directory->upper_names, to.name);
    LIBSERVICES_TRY(const bool leaves_lower,
                    branches_.in_lowers(context, *from.directory, from.name));
    LIBSERVICES_TRY(const bool covers_lower, branches_.in_lowers(context, *to.directory, to.name));
    const bool is_directory = from.now.record->is_directory();
    if (is_directory) {
      if (covers_lower) LIBSERVICES_CHECK_OK(set_opaque(context, *from.now.record->upper()));
      return move_directory(context, from_node, from.name, to_node, to, leaves_lower);
    }
    if (!leaves_lower) {
      auto renamed =
          upper.rename(context, from_node, from.name, to_node, to.name, RenameMode::kReplace);
      if (renamed.ok()) from.directory->upper_names.erase(from.name);
      return renamed;
    }
    if constexpr (OffersLink<Upper>) {
      // First the new name, then a whiteout over the old one: at no moment is the file gone.
      LIBSERVICES_TRY(const auto staging, upper.staging(context));
      const std::string second = copy_up_.next_name();
      LIBSERVICES_CHECK_OK(upper.link(context, *from.now.record->upper(), staging.node, second));
      auto placed =
          upper.rename(context, staging.node, second, to_node, to.name, RenameMode::kReplace);
      if (!placed.ok()) {
        copy_up_.discard(context, staging.node, second, false);
        return placed;
      }
      const std::string whiteout = copy_up_.next_name();
      LIBSERVICES_CHECK_OK(make_whiteout(context, staging.node, whiteout));
      return upper.rename(context, staging.node, whiteout, from_node, from.name,
                          RenameMode::kReplace);
    }
    return Errno{EXDEV};
  }

  // REQUIRES: as move().
  Result<void> exchange(const Context& context, const Side& from, const Side& to) {
    for (const auto& [one, other] : {std::pair(&from, &to), std::pair(&to, &from)}) {
      if (!one->now.record->is_directory()) continue;
      LIBSERVICES_TRY(const bool covers,
                      branches_.in_lowers(context, *other->directory, other->name));
      if (covers) LIBSERVICES_CHECK_OK(set_opaque(context, *one->now.record->upper()));
    }
    return branches_.upper().rename(context, *from.directory->upper(), from.name,
                                    *to.directory->upper(), to.name, RenameMode::kExchange);
  }

  Result<void> set_opaque(const Context& context, const UpperNode& node) {
    constexpr std::array<std::byte, 1> kYes{std::byte{'y'}};
    return branches_.upper().setxattr(context, node, opaque_name_, kYes,
                                      XattrMode::kCreateOrReplace);
  }

 private:
  Result<void> make_whiteout(const Context& context, const UpperNode& directory,
                             std::string_view name) {
    const NewNode device{.mode = S_IFCHR, .uid = 0, .gid = 0, .special_device = 0};
    auto made = branches_.upper().mknod(context, directory, name, device);
    if (!made.ok()) return made.error();
    return {};
  }

  bool in_upper_now(const Context& context, const UpperNode& directory, std::string_view name) {
    return branches_.upper().lookup(context, directory, name).ok();
  }

  Result<void> move_directory(const Context& context, const UpperNode& from_node,
                              std::string_view from_name, const UpperNode& to_node, const Side& to,
                              bool leaves_lower) {
    Upper& upper = branches_.upper();
    const bool target_in_upper = in_upper_now(context, to_node, to.name);
    if (!target_in_upper && !leaves_lower) {
      return upper.rename(context, from_node, from_name, to_node, to.name, RenameMode::kNoReplace);
    }
    if (!target_in_upper) LIBSERVICES_CHECK_OK(make_whiteout(context, to_node, to.name));
    LIBSERVICES_CHECK_OK(
        upper.rename(context, from_node, from_name, to_node, to.name, RenameMode::kExchange));
    // At the old name is now a whiteout, or the empty directory that was replaced.
    const bool directory_there = to.now.record != nullptr && to.now.record->has_upper();
    if (leaves_lower && !directory_there) return {};
    LIBSERVICES_TRY(const auto staging, upper.staging(context));
    const std::string aside = copy_up_.next_name();
    if (leaves_lower) {
      LIBSERVICES_CHECK_OK(make_whiteout(context, staging.node, aside));
      LIBSERVICES_CHECK_OK(
          upper.rename(context, staging.node, aside, from_node, from_name, RenameMode::kExchange));
    } else {
      LIBSERVICES_CHECK_OK(
          upper.rename(context, from_node, from_name, staging.node, aside, RenameMode::kNoReplace));
    }
    return clear(context, staging.node, aside);
  }

  // Removes what lies aside: a whiteout, or a directory that holds nothing but whiteouts.
  Result<void> clear(const Context& context, const UpperNode& staging, std::string_view name) {
    Upper& upper = branches_.upper();
    LIBSERVICES_TRY(const auto entry, upper.lookup(context, staging, name));
    if (!entry.attributes.is_directory()) return upper.unlink(context, staging, name);
    LIBSERVICES_TRY(auto opened,
                    upper.open(context, entry.node, OpenFlags{O_RDONLY | O_DIRECTORY}));
    std::vector<std::string> names;
    auto listed =
        upper.readdir(context, opened.file, 0, Listing::kNames, [&](const DirEntry& inside) {
          names.emplace_back(inside.name);
          return true;
        });
    (void)upper.close(context, opened.file);
    if (!listed.ok()) return listed;
    for (const std::string& inside : names) {
      LIBSERVICES_CHECK_OK(upper.unlink(context, entry.node, inside));
    }
    return upper.rmdir(context, staging, name);
  }

  B& branches_;
  C& copy_up_;
  std::string opaque_name_ = "trusted.overlay.opaque";
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_CHANGES_H_
