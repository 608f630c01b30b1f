// SPDX-License-Identifier: Apache-2.0
//
// The longer calls of `Union`: start, open files, listings. Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_CALLS_H_
#define LIBSERVICES_SERVICES_UNION_UNION_CALLS_H_

#include <fmt/format.h>

#include "services/union/union.h"

namespace libservices {

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::start() {
  if (branches_.lowers().empty()) {
    return absl::InvalidArgumentError(
        "union: it has no lower branch (give it one, or use the upper by itself)");
  }
  if (absl::Status started = start_service(upper()); !started.ok()) return started;
  std::size_t running = 0;
  absl::Status failed;
  for (auto& branch : branches_.lowers()) {
    failed = start_service(*branch);
    if (!failed.ok()) break;
    ++running;
  }
  if constexpr (KnowsPlace<Upper> && KnowsPlace<Lower>) {
    const std::string above = upper().place() + "/";
    for (std::size_t i = 0; failed.ok() && i < running; ++i) {
      const std::string below = branches_.lowers()[i]->place() + "/";
      if (above.starts_with(below) || below.starts_with(above)) {
        failed = absl::InvalidArgumentError(fmt::format(
            "union: upper {} and lower {} overlap: a change would appear in both (use "
            "directories of which neither is inside the other)",
            upper().place(), branches_.lowers()[i]->place()));
      }
    }
  }
  const Context context;
  if (failed.ok()) {
    if (auto opened = branches_.open_roots(context); !opened.ok()) {
      failed = absl::ErrnoToStatus(opened.error().value, "union: a branch's root cannot be read");
    }
  }
  if (failed.ok()) {  // which name space takes our marks?
    auto staging = upper().staging(context);
    if (!staging.ok()) {
      failed = absl::ErrnoToStatus(staging.error().value,
                                   "union: the upper has no room for its work directory (name "
                                   "one on the same volume with work=PATH)");
    } else {
      for (const std::string_view prefix : {union_internal::kTrusted, union_internal::kUser}) {
        changes_.use_marks(prefix);
        auto marked = changes_.set_opaque(context, staging->node);
        if (marked.ok()) break;
        if (prefix == union_internal::kUser) {
          failed = absl::ErrnoToStatus(marked.error().value,
                                       "union: the upper takes no extended attributes (use a "
                                       "volume that has trusted.* or user.* attributes)");
        }
      }
    }
  }
  if (failed.ok()) return failed;
  branches_.close_roots();
  for (std::size_t i = 0; i < running; ++i) (void)stop_service(*branches_.lowers()[i]);
  (void)stop_service(upper());
  return failed;
}

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::stop() {
  branches_.close_roots();
  absl::Status stopped;
  for (auto& branch : branches_.lowers()) stopped.Update(stop_service(*branch));
  stopped.Update(stop_service(upper()));
  return stopped;
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::known_upper(const Entry<typename Upper::Node>& entry) -> Node {
  using R = typename Internal::R;
  const Attributes& seen = entry.attributes;
  return branches_.table().intern({0, seen.device, seen.inode}, seen.mode & S_IFMT,
                                  [&](std::uint64_t number) {
                                    auto record = std::make_shared<R>(number, seen);
                                    record->upper_node = entry.node;
                                    record->in_upper = true;
                                    return record;
                                  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::upper_file(Node record, OpenFlags flags, typename Upper::File file,
                                     std::uint64_t device) -> File {
  File made;
  made.state->device = device;
  made.state->record = std::move(record);
  made.state->flags = flags;
  made.state->upper = std::move(file);
  return made;
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::open(C context, const Node& node, OpenFlags flags)
    -> Result<Opened<File>> {
  if (flags.writes() || flags.truncates()) {
    if (node->is_directory()) return Errno{EISDIR};
    LIBSERVICES_CHECK_OK(
        [&]() -> Result<void> {
          auto ensured = copy_up_.ensure(context, node, content(flags.truncates()));
          if (!ensured.ok()) return ensured.error();
          return {};
        }());
  }
  if (auto upper_node = node->upper()) {
    LIBSERVICES_TRY(auto opened, upper().open(context, *upper_node, flags));
    return Opened<File>{upper_file(node, flags, std::move(opened.file),
                                   opened.attributes.device),
                        branches_.shown(*node, opened.attributes)};
  }
  return open_lower(context, node, flags);
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::open_lower(C context, const Node& node, OpenFlags flags)
    -> Result<Opened<File>> {
  const auto& part = node->lowers.front();
  LIBSERVICES_TRY(auto opened, branches_.lower(part.branch).open(context, part.node, flags));
  File made;
  made.state->record = node;
  made.state->flags = flags;
  made.state->lower = std::move(opened.file);
  made.state->lower_branch = part.branch;
  made.state->device = opened.attributes.device;
  return Opened<File>{std::move(made), branches_.shown(*node, opened.attributes)};
}

// The file's object may have come into the upper since it was opened.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::follow_copy_up(C context, File& file) {
  auto& state = *file.state;
  if (!state.record->has_upper()) return {};
  {
    std::shared_lock lock(state.mutex);
    if (state.upper) return {};
  }
  std::unique_lock lock(state.mutex);
  if (state.upper) return {};
  LIBSERVICES_TRY(auto opened, upper().open(context, *state.record->upper(), state.flags));
  state.upper = std::move(opened.file);
  if (state.lower) (void)branches_.lower(state.lower_branch).close(context, *state.lower);
  state.lower.reset();
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::read(C context, File& file, std::uint64_t offset,
                                              std::span<std::byte> into) {
  auto& state = *file.state;
  if (state.record->is_directory()) return Errno{EISDIR};
  LIBSERVICES_CHECK_OK(follow_copy_up(context, file));
  std::shared_lock lock(state.mutex);
  if (state.upper) return upper().read(context, *state.upper, offset, into);
  if (!state.lower) return Errno{EBADF};
  return branches_.lower(state.lower_branch).read(context, *state.lower, offset, into);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::close(C context, File& file) {
  auto& state = *file.state;
  std::unique_lock lock(state.mutex);
  Result<void> closed;
  if (state.upper) closed = upper().close(context, *state.upper);
  if (state.lower) closed = branches_.lower(state.lower_branch).close(context, *state.lower);
  state.upper.reset();
  state.lower.reset();
  return closed;
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::readdir(C context, File& directory, std::uint64_t after,
                                          Listing wanted, EntrySink sink) {
  auto& state = *directory.state;
  if (!state.record->is_directory()) return Errno{ENOTDIR};
  std::lock_guard listing(state.listing_mutex);
  if (!state.listing && !state.record->is_merged()) {
    return list_branch(context, directory, after, wanted, sink);
  }
  if (!state.listing || after == 0) {
    std::shared_lock lock(state.record->entries);
    LIBSERVICES_TRY(state.listing, union_internal::merge(branches_, context, *state.record));
  }
  const auto& items = state.listing->items;
  for (std::uint64_t i = after; i < items.size(); ++i) {
    if (!sink(DirEntry{items[i].name, items[i].inode, items[i].type, i + 1, nullptr})) break;
  }
  return {};
}

// A directory of one branch: that branch's listing, less its whiteouts.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::list_branch(C context, File& directory, std::uint64_t after,
                                              Listing, EntrySink sink) {
  auto& state = *directory.state;
  auto pass = [&](std::uint32_t branch, auto& service, const auto& node,
                  auto& file) -> Result<void> {
    Result<void> failed;
    union_internal::MergedListing::Item item;
    auto listed = service.readdir(
        context, file, after, Listing::kNames, [&](const DirEntry& entry) {
          auto shown = union_internal::shows(branches_, context, branch, service, node,
                                             state.device, entry, item);
          if (!shown.ok()) {
            failed = shown.error();
            return false;
          }
          if (!*shown) return true;
          return sink(DirEntry{entry.name, item.inode, item.type, entry.cookie, nullptr});
        });
    return listed.ok() ? failed : listed;
  };
  std::shared_lock lock(state.mutex);
  if (state.upper) return pass(0, upper(), *state.record->upper(), *state.upper);
  const auto& part = state.record->lowers.front();
  return pass(part.branch, branches_.lower(part.branch), part.node, *state.lower);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::listxattr(C context, const Node& node,
                                                   std::span<char> into)
  requires OffersXattrs<Lower>
{
  auto ask = [&](std::span<char> names) -> Result<std::size_t> {
    if (auto upper_node = node->upper()) return upper().listxattr(context, *upper_node, names);
    const auto& part = node->lowers.front();
    return branches_.lower(part.branch).listxattr(context, part.node, names);
  };
  LIBSERVICES_TRY(const std::size_t size, ask({}));
  std::string all(size, '\0');
  if (size != 0) {
    LIBSERVICES_TRY(const std::size_t length, ask(all));
    all.resize(length);
  }
  std::string shown;
  for (std::size_t at = 0; at < all.size();) {
    const std::string_view name(all.c_str() + at);
    if (!union_internal::is_overlay_name(name)) shown.append(name).push_back('\0');
    at += name.size() + 1;
  }
  if (into.empty()) return shown.size();
  if (into.size() < shown.size()) return Errno{ERANGE};
  shown.copy(into.data(), shown.size());
  return shown.size();
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_CALLS_H_
