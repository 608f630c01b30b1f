// SPDX-License-Identifier: Apache-2.0
//
// Copy-up: an object of a lower branch comes into the upper one at once.
//
// Its copy is made among the drafts (object_copy.h) and renamed into place. A crash at any step
// leaves the old object or the new one. Parent directories come first, each in the same way. A file
// with several names goes into the index, too, so that all of them lead to what was copied.
//
// THREADS: all functions at once. Record::copy_up is held from the last look whether an object is
// in the upper until it is, from a child to its parents; Record::mutex only to read or set what it
// guards.
#ifndef LIBSERVICES_SERVICES_UNION_COPY_UP_H_
#define LIBSERVICES_SERVICES_UNION_COPY_UP_H_

#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "services/union/branches.h"
#include "services/union/drafts.h"
#include "services/union/link_index.h"
#include "services/union/object_copy.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class CopyUp {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  CopyUp(B& branches, UpperMarks<Upper>& marks, Drafts<Upper>& drafts,
         LinkIndex<Upper, Lower>& index, CopyOptions options)
      : branches_(branches),
        marks_(marks),
        drafts_(drafts),
        index_(index),
        copy_(branches, marks, options) {}

  // The object in the upper. ERRORS: ENOSPC and the branches'; the lower stays as it is.
  Result<UpperNode> ensure(const Context& context, const Pointer& record,
                           CopiedContent content = CopiedContent::kUnchanged) {
    return ensure(context, record, content, true);
  }
  // As ensure, of a file with several names, in the index alone: so it is known later which of them
  // are gone. If that cannot be, this instance knows.
  void ensure_indexed(const Context& context, const Pointer& record) {
    (void)ensure(context, record, CopiedContent::kUnchanged, false);
  }

  // A name that the lowers have of an indexed object is to be in the upper, too.
  Result<void> give_name(const Context& context, const Pointer& directory, std::string_view name,
                         const Pointer& record) {
    if constexpr (OffersLink<Upper>) {
      Upper& upper = branches_.upper();
      LIBSERVICES_TRY(const UpperNode parent, ensure(context, directory));
      LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
      const std::string temporary = drafts_.next_name();
      const AddingName adding(directory->upper_names, name);
      LIBSERVICES_CHECK_OK(marks_.set_impure(context, *directory));
      auto linked = upper.link(context, *record->upper(), staging, temporary);
      if (!linked.ok()) return linked.error();
      auto placed = upper.rename(context, staging, temporary, parent, name, RenameMode::kNoReplace);
      if (!placed.ok()) {
        drafts_.discard(context, staging, temporary, false);
        return placed;
      }
      return index_.hide_name(context, *record);
    }
    return Errno{EXDEV};
  }

 private:
  Result<UpperNode> ensure(const Context& context, const Pointer& record, CopiedContent content,
                           bool with_name) {
    if (record->removed.load() && !record->has_upper()) return Errno{ENOENT};
    if (auto node = record->upper()) return *std::move(node);
    if (!branches_.has_upper()) return Errno{EROFS};
    std::lock_guard copying(record->copy_up);
    if (auto node = record->upper()) return *std::move(node);
    Pointer parent;
    std::string name;
    {
      std::lock_guard lock(record->mutex);
      if (with_name || record->is_directory()) parent = record->parent;
      name = record->name;
    }
    if (!parent && record->is_directory()) return Errno{ENOENT};  // it was removed
    std::optional<UpperNode> parent_node;
    if (parent) {
      LIBSERVICES_TRY(parent_node, ensure(context, parent));
    }
    LIBSERVICES_TRY(const auto staging, drafts_.directory(context));
    const std::string temporary = drafts_.next_name();
    typename ObjectCopy<Upper, Lower>::Made made;
    Result<void> published = copy_.make(context, record, staging, temporary, content, made);
    bool is_indexed = false;
    if (published.ok()) {
      auto indexed = index_.add(context, made.entry->node, made.origin);
      if (indexed.ok()) {
        is_indexed = *indexed;
      } else {
        published = indexed.error();
      }
    }
    // Else its names would lead to another object than this record.
    if (published.ok() && !with_name && !is_indexed) published = Errno{EOPNOTSUPP};
    std::optional<AddingName> adding;
    if (published.ok() && parent) {
      adding.emplace(parent->upper_names, name);
      if (!record->is_directory()) published = marks_.set_impure(context, *parent);
    }
    if (published.ok()) {
      published = publish(context, staging, temporary, parent_node, name);
    }
    if (!published.ok()) {
      if (is_indexed) (void)index_.remove(context, *made.origin);
      drafts_.discard(context, staging, temporary, record->is_directory());
      return published.error();
    }
    const Attributes& seen = made.entry->attributes;
    branches_.table().copied_up({0, seen.device, seen.inode}, record);
    {
      std::lock_guard lock(record->mutex);
      record->upper_node = made.entry->node;
      record->partial_content = made.partial;
      record->has_partial.store(made.partial != nullptr, std::memory_order_release);
      record->marked.store(made.origin || made.partial);
      if (is_indexed) {
        record->lower_links = made.origin->links;
        record->names_hidden = 0;
        record->indexed.store(true, std::memory_order_release);
      }
      record->in_upper.store(true, std::memory_order_release);
    }
    if (is_indexed && parent) (void)index_.hide_name(context, *record);
    return made.entry->node;
  }

  Result<void> publish(const Context& context, const UpperNode& staging,
                       const std::string& temporary, const std::optional<UpperNode>& parent,
                       const std::string& name) {
    Upper& upper = branches_.upper();
    if (!parent) return upper.unlink(context, staging, temporary);  // it has no name any more
    LIBSERVICES_TRY(const Attributes before, upper.getattr(context, *parent));
    LIBSERVICES_CHECK_OK(
        upper.rename(context, staging, temporary, *parent, name, RenameMode::kNoReplace));
    // Nothing has changed in the directory as callers see it.
    AttributeChanges times;
    times.which = AttributeChanges::kAtime | AttributeChanges::kMtime;
    times.atime = before.atime;
    times.mtime = before.mtime;
    (void)upper.setattr(context, *parent, times);
    return {};
  }

  B& branches_;
  UpperMarks<Upper>& marks_;
  Drafts<Upper>& drafts_;
  LinkIndex<Upper, Lower>& index_;
  ObjectCopy<Upper, Lower> copy_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_COPY_UP_H_
