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
  if (absl::Status usable = check_config(); !usable.ok()) return usable;
  if (branches_.has_upper()) {
    if (absl::Status started = start_service(upper()); !started.ok()) return started;
  }
  std::size_t running = 0;
  absl::Status failed;
  for (auto& branch : branches_.lowers()) {
    failed = start_service(*branch);
    if (!failed.ok()) break;
    ++running;
  }
  using union_internal::KnowsPlace;
  if constexpr (KnowsPlace<Upper> && KnowsPlace<Lower>) {
    const std::string above = upper().place() + "/";
    for (std::size_t i = 0; failed.ok() && branches_.has_upper() && i < running; ++i) {
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
  if (failed.ok() && branches_.has_upper()) failed = choose_marks();
  if (failed.ok()) return failed;
  branches_.close_roots();
  for (std::size_t i = 0; i < running; ++i) (void)stop_service(*branches_.lowers()[i]);
  if (branches_.has_upper()) (void)stop_service(upper());
  return failed;
}

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::check_config() {
  const bool power = (range_bytes_ & (range_bytes_ - 1)) == 0;
  if (range_bytes_ == 0 || (power && range_bytes_ >= 4096 && range_bytes_ <= (1U << 30U))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("union: files cannot be copied up in ranges of {} bytes (use a power of two from "
                  "4096 to 1073741824, or 0 for whole files)",
                  range_bytes_));
}

// Which name space takes our marks?
template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::choose_marks() {
  const Context context;
  auto staging = drafts_.directory(context);
  if (!staging.ok()) {
    return absl::ErrnoToStatus(staging.error().value,
                               "union: the upper has no room for its work directory (name one on "
                               "the same volume with work=PATH)");
  }
  const auto marked = marks_.choose(context, *staging);
  if (marked.ok()) return absl::OkStatus();
  return absl::ErrnoToStatus(marked.error().value,
                             "union: the upper takes no extended attributes (use a volume that has "
                             "trusted.* or user.* attributes)");
}

template <CanBeUpper Upper, ReadableService Lower>
absl::Status Union<Upper, Lower>::stop() {
  branches_.close_roots();
  absl::Status stopped;
  for (auto& branch : branches_.lowers()) stopped.Update(stop_service(*branch));
  if (branches_.has_upper()) stopped.Update(stop_service(upper()));
  return stopped;
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::known_upper(const Entry<typename Upper::Node>& entry) -> Node {
  using R = typename Internal::R;
  const Attributes& seen = entry.attributes;
  const union_internal::BranchKey key{0, seen.device, seen.inode};
  return branches_.table().intern(key, std::nullopt, branches_.table().number_of(key),
                                  seen.mode & S_IFMT, [&](std::uint64_t number) {
                                    auto record = std::make_shared<R>(number, seen);
                                    record->upper_node = entry.node;
                                    record->in_upper = true;
                                    return record;
                                  });
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::upper_file(Node record, OpenFlags flags, typename Upper::File file)
    -> File {
  File made;
  made.state->record = std::move(record);
  made.state->flags = flags;
  made.state->upper = std::move(file);
  return made;
}

// The upper's file of an object that is there.
template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::open_upper(C context, const Node& node, OpenFlags flags,
                                     Attributes& seen) -> Result<typename Upper::File> {
  const auto upper_node = *node->upper();
  if (const auto partial = node->partial()) {
    LIBSERVICES_CHECK_OK(partials_.settle(context, upper_node, *partial));
    flags.bits &= ~O_DIRECT;  // what is brought up beside the caller's bytes is not aligned
    if (flags.truncates()) {
      flags.bits &= ~O_TRUNC;
      AttributeChanges empty;
      empty.which = AttributeChanges::kSize;
      LIBSERVICES_CHECK_OK(partials_.resize(context, upper_node, *partial, 0, [&] {
        return upper().setattr(context, upper_node, empty);
      }));
    }
  }
  LIBSERVICES_TRY(auto opened, upper().open(context, upper_node, flags));
  seen = opened.attributes;
  return std::move(opened.file);
}

template <CanBeUpper Upper, ReadableService Lower>
auto Union<Upper, Lower>::open(C context, const Node& node, OpenFlags flags)
    -> Result<Opened<File>> {
  if (flags.writes() || flags.truncates()) {
    if (node->is_directory()) return Errno{EISDIR};
    const auto content = flags.truncates() ? Content::kNone : Content::kChanging;
    LIBSERVICES_CHECK_OK(copy_up_.ensure(context, node, content));
  }
  Attributes seen;
  if (node->has_upper()) {
    LIBSERVICES_TRY(auto file, open_upper(context, node, flags, seen));
    File made = upper_file(node, flags, std::move(file));
    made.state->partial = node->partial();
    return Opened<File>{std::move(made), branches_.shown(*node, seen)};
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
  made.state->size = opened.attributes.size;
  made.state->lower_files.set_first(std::move(opened.file));
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
  Attributes seen;
  LIBSERVICES_TRY(state.upper, open_upper(context, state.record, state.flags, seen));
  state.partial = state.record->partial();
  return {};
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::read(C context, File& file, std::uint64_t offset,
                                              std::span<std::byte> into) {
  auto& state = *file.state;
  if (state.record->is_directory()) return Errno{EISDIR};
  LIBSERVICES_CHECK_OK(follow_copy_up(context, file));
  std::shared_lock lock(state.mutex);
  const auto& lowers = state.record->lowers;
  if (!state.upper) {
    return lower_content_.read(context, lowers, state.lower_files, state.size, offset, into);
  }
  if (in_part(state)) {
    return partials_.read(context, *state.partial, state.lower_files, *state.upper, offset, into);
  }
  return upper().read(context, *state.upper, offset, into);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::close(C context, File& file) {
  auto& state = *file.state;
  std::unique_lock lock(state.mutex);
  Result<void> closed;
  if (state.upper) closed = upper().close(context, *state.upper);
  state.upper.reset();
  const auto& parts = state.partial != nullptr ? state.partial->sources : state.record->lowers;
  auto below = lower_content_.close(context, parts, state.lower_files);
  if (closed.ok()) closed = below;
  std::lock_guard listing(state.listing_mutex);
  if (state.listing) {
    auto listed = state.listing->close(context);
    if (closed.ok()) closed = listed;
    state.listing.reset();
  }
  return closed;
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::readdir(C context, File& directory, std::uint64_t after,
                                          Listing wanted, EntrySink sink) {
  auto& state = *directory.state;
  if (!state.record->is_directory()) return Errno{ENOTDIR};
  std::lock_guard listing(state.listing_mutex);
  if (!state.listing) state.listing.emplace(lookup_, state.record);
  return state.listing->list(context, after, wanted, sink);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<Attributes> Union<Upper, Lower>::setattr(C context, const Node& node,
                                                const AttributeChanges& changes) {
  const bool resizes = changes.has(AttributeChanges::kSize);
  const auto content = !resizes ? Content::kUnchanged
                       : changes.size == 0 ? Content::kNone
                                           : Content::kChanging;
  LIBSERVICES_TRY(const auto upper_node, copy_up_.ensure(context, node, content));
  const auto change = [&] { return upper().setattr(context, upper_node, changes); };
  const auto partial = resizes ? node->partial() : nullptr;
  if (partial) LIBSERVICES_CHECK_OK(partials_.settle(context, upper_node, *partial));
  LIBSERVICES_TRY(const Attributes seen,
                  partial ? partials_.resize(context, upper_node, *partial, changes.size, change)
                          : change());
  return branches_.shown(*node, seen);
}

// A further name in `directory` must be looked at like the first.
template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::prepare_link(C context, const Node& node,
                                               const Node& directory) {
  if (!node->marked.load()) return {};
  LIBSERVICES_CHECK_OK(copy_up_.ensure(context, directory));
  return marks_.set_impure(context, *directory);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::size_t> Union<Upper, Lower>::listxattr(C context, const Node& node,
                                                   std::span<char> into)
  requires OffersXattrs<Lower>
{
  const auto names_of = [&]() -> Result<std::string> {
    if (auto upper_node = node->upper()) {
      return union_internal::attribute_names(context, upper(), *upper_node);
    }
    const auto& part = node->lowers.front();
    return union_internal::attribute_names(context, branches_.lower(part.branch), part.node);
  };
  LIBSERVICES_TRY(const std::string all, names_of());
  std::string shown;
  union_internal::for_each_name(all, [&](std::string_view name) {
    if (!union_internal::is_overlay_name(name)) shown.append(name).push_back('\0');
  });
  if (into.empty()) return shown.size();
  if (into.size() < shown.size()) return Errno{ERANGE};
  shown.copy(into.data(), shown.size());
  return shown.size();
}

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_CALLS_H_
