// SPDX-License-Identifier: Apache-2.0
//
// The calls of `Union` on open files: where an open file reads and writes, and how it follows its
// object into the upper. Included by union.h alone.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_CONTENT_H_
#define LIBSERVICES_SERVICES_UNION_UNION_CONTENT_H_

#include <fcntl.h>

#include <mutex>
#include <shared_mutex>
#include <utility>

#include "services/union/union.h"

namespace libservices {

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
auto Union<Upper, Lower>::open_upper(C context, const Node& node, OpenFlags flags, Attributes& seen)
    -> Result<typename Upper::File> {
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

// A whole file of the upper, or of a lower; that one for readers alone, and until it is copied up.
// What is in the upper in part becomes whole for who wants to keep it.
template <CanBeUpper Upper, ReadableService Lower>
Result<Backing> Union<Upper, Lower>::backing(C context, File& file, BackingUse use)
  requires(OffersBacking<Upper> && OffersBacking<Lower>)
{
  auto& state = *file.state;
  if (state.record->is_directory()) return Errno{EISDIR};
  LIBSERVICES_CHECK_OK(follow_copy_up(context, file));
  std::shared_lock lock(state.mutex);
  if (state.upper) {
    if (in_part(state)) {
      if (use != BackingUse::kLasting) return Errno{EOPNOTSUPP};
      LIBSERVICES_CHECK_OK(partials_.complete(context, *state.record->upper(), *state.partial));
    }
    return upper().backing(context, *state.upper, use);
  }
  const auto& lowers = state.record->lowers;
  if (state.flags.writes() || lowers.size() != 1 || lowers.front().ranges) {
    return Errno{EOPNOTSUPP};
  }
  LIBSERVICES_TRY(typename Lower::File* const opened,
                  state.lower_files.file(context, branches_.lowers(), lowers, 0));
  LIBSERVICES_TRY(Backing backing,
                  branches_.lower(lowers.front().branch).backing(context, *opened, use));
  backing.until_changed = backing.until_changed || branches_.has_upper();
  return backing;
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
Result<std::size_t> Union<Upper, Lower>::write(C context, File& file, std::uint64_t offset,
                                               std::span<const std::byte> from) {
  auto& state = *file.state;
  std::shared_lock lock(state.mutex);
  if (!state.upper) return Errno{EBADF};
  if (in_part(state)) {
    return partials_.write(context, *state.record->upper(), *state.partial, state.lower_files,
                           *state.upper, offset, from);
  }
  return upper().write(context, *state.upper, offset, from);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::uint64_t> Union<Upper, Lower>::append(C context, File& file,
                                                  std::span<const std::byte> from,
                                                  std::size_t& written)
  requires OffersAppend<Upper>
{
  auto& state = *file.state;
  std::shared_lock lock(state.mutex);
  if (!state.upper) return Errno{EBADF};
  if (in_part(state)) {
    return partials_.append(context, *state.record->upper(), *state.partial, *state.upper, from,
                            written);
  }
  return upper().append(context, *state.upper, from, written);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::fallocate(C context, File& file, int mode, std::uint64_t offset,
                                            std::uint64_t length)
  requires OffersFallocate<Upper>
{
  auto& state = *file.state;
  std::shared_lock lock(state.mutex);
  if (!state.upper) return Errno{EBADF};
  if (in_part(state)) {
    return partials_.fallocate(context, *state.record->upper(), *state.partial, state.lower_files,
                               *state.upper, mode, offset, length);
  }
  return upper().fallocate(context, *state.upper, mode, offset, length);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<std::uint64_t> Union<Upper, Lower>::seek(C context, File& file, std::uint64_t offset,
                                                SeekTarget target)
  requires OffersSeek<Upper> && OffersSeek<Lower>
{
  LIBSERVICES_CHECK_OK(follow_copy_up(context, file));
  auto& state = *file.state;
  std::shared_lock lock(state.mutex);
  if (!state.upper) {
    return lower_content_.seek(context, state.record->lowers, state.lower_files, state.size, offset,
                               target);
  }
  if (in_part(state)) {
    return partials_.seek(context, *state.partial, state.lower_files, *state.upper, offset, target);
  }
  return upper().seek(context, *state.upper, offset, target);
}

template <CanBeUpper Upper, ReadableService Lower>
Result<void> Union<Upper, Lower>::fsync(C context, File& file, SyncScope scope) {
  auto& state = *file.state;
  std::shared_lock lock(state.mutex);
  if (!state.upper || !durable_) return {};  // a lower's content never changed
  if (in_part(state)) {
    return partials_.sync(context, *state.record->upper(), *state.partial, *state.upper, scope);
  }
  return upper().fsync(context, *state.upper, scope);
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

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_UNION_UNION_CONTENT_H_
