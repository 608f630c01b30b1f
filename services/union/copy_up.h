// SPDX-License-Identifier: Apache-2.0
//
// Copy-up: an object of a lower branch comes into the upper one, whole and at once.
//
// It is made in the upper's staging directory with its owner, mode, times, extended attributes and
// content (holes stay holes), written through to storage, and renamed into place. A crash at any
// step leaves the old object or the new one; what is left in staging is removed at the next start.
// Parent directories come first, each in the same way.
#ifndef LIBSERVICES_SERVICES_UNION_COPY_UP_H_
#define LIBSERVICES_SERVICES_UNION_COPY_UP_H_

#include <algorithm>
#include <atomic>
#include <climits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/union/branches.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class CopyUp {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  CopyUp(B& branches, bool durable) : branches_(branches), durable_(durable) {}

  enum class Content : std::uint8_t { kAll, kNone };  // kNone: it is about to be truncated

  // The object in the upper. ERRORS: ENOSPC and the branches'; the lower stays as it is.
  Result<UpperNode> ensure(const Context& context, const Pointer& record,
                           Content content = Content::kAll) {
    if (auto node = record->upper()) return *std::move(node);
    std::lock_guard copying(record->copy_up);
    if (auto node = record->upper()) return *std::move(node);
    Pointer parent;
    std::string name;
    {
      std::lock_guard lock(record->mutex);
      parent = record->parent;
      name = record->name;
    }
    if (!parent && record->is_directory()) return Errno{ENOENT};  // it was removed
    std::optional<UpperNode> parent_node;
    if (parent) {
      LIBSERVICES_TRY(parent_node, ensure(context, parent));
    }
    LIBSERVICES_TRY(const auto staging, branches_.upper().staging(context));
    const std::string temporary = next_name();
    auto made = make(context, *record, staging.node, temporary, content);
    std::optional<AddingName> adding;
    if (parent) adding.emplace(parent->upper_names, name);
    Result<void> published = made.ok()
                                 ? publish(context, staging.node, temporary, parent_node, name)
                                 : Result<void>(made.error());
    if (!published.ok()) {
      discard(context, staging.node, temporary, record->is_directory());
      return published.error();
    }
    const BranchKey key{0, made->attributes.device, made->attributes.inode};
    branches_.table().copied_up(key, record);
    std::lock_guard lock(record->mutex);
    record->upper_node = made->node;
    record->in_upper.store(true, std::memory_order_release);
    return made->node;
  }

  // A name in the staging directory that nobody uses.
  std::string next_name() { return "#" + std::to_string(names_.fetch_add(1)); }

  void discard(const Context& context, const UpperNode& staging, const std::string& name,
               bool directory) {
    if (directory) {
      (void)branches_.upper().rmdir(context, staging, name);
    } else {
      (void)branches_.upper().unlink(context, staging, name);
    }
  }

 private:
  using File = typename Upper::File;

  Result<Entry<UpperNode>> make(const Context& context, const R& record, const UpperNode& staging,
                                const std::string& name, Content content) {
    Upper& upper = branches_.upper();
    const auto& source = record.lowers.front();
    Lower& lower = branches_.lower(source.branch);
    LIBSERVICES_TRY(const Attributes old, lower.getattr(context, source.node));
    const NewNode fresh{old.mode & 07777U, old.uid, old.gid, old.special_device};
    Result<Entry<UpperNode>> made = Errno{EIO};
    std::optional<File> file;
    if (old.is_directory()) {
      made = upper.mkdir(context, staging, name, fresh);
    } else if (old.is_symlink()) {
      made = make_link(context, record, staging, name, fresh);
    } else if (old.is_regular()) {
      auto created = upper.create(context, staging, name, fresh, OpenFlags{O_WRONLY});
      if (!created.ok()) return created.error();
      if (content == Content::kAll) {
        auto filled = copy_content(context, lower, source.node, old, created->file);
        if (!filled.ok()) return filled.error();
      }
      file = std::move(created->file);
      made = Entry<UpperNode>{created->node, created->attributes};
    } else {
      NewNode special = fresh;
      special.mode = old.mode;
      made = upper.mknod(context, staging, name, special);
    }
    if (!made.ok()) return made;
    LIBSERVICES_CHECK_OK(copy_xattrs(context, lower, source.node, made->node));
    made = dress(context, *made, old, content);
    if (!made.ok() || !file) return made;
    if (durable_) LIBSERVICES_CHECK_OK(upper.fsync(context, *file, SyncScope::kAll));
    LIBSERVICES_CHECK_OK(upper.close(context, *file));
    return made;
  }

  Result<Entry<UpperNode>> make_link(const Context& context, const R& record,
                                     const UpperNode& staging, const std::string& name,
                                     const NewNode& fresh) {
    if constexpr (OffersSymlink<Upper> && OffersReadlink<Lower>) {
      const auto& source = record.lowers.front();
      std::string target(PATH_MAX, '\0');
      LIBSERVICES_TRY(const std::size_t length,
                      branches_.lower(source.branch).readlink(context, source.node, target));
      target.resize(length);
      return branches_.upper().symlink(context, staging, name, target, fresh);
    }
    return Errno{EOPNOTSUPP};
  }

  // Owner and mode are set at making; a later chown or write may have taken set-id bits.
  Result<Entry<UpperNode>> dress(const Context& context, Entry<UpperNode> made,
                                 const Attributes& old, Content content) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kAtime | AttributeChanges::kMtime;
    changes.atime = old.atime;
    changes.mtime = old.mtime;
    if (old.is_regular() && content == Content::kAll && made.attributes.size != old.size) {
      changes.which |= AttributeChanges::kSize;  // a hole at the end
      changes.size = old.size;
    }
    if (!old.is_symlink()) {
      changes.which |= AttributeChanges::kMode;
      changes.mode = old.permissions();
    }
    LIBSERVICES_TRY(made.attributes, branches_.upper().setattr(context, made.node, changes));
    return made;
  }

  Result<void> copy_content(const Context& context, Lower& lower, const typename Lower::Node& node,
                            const Attributes& old, File& target) {
    LIBSERVICES_TRY(auto source, lower.open(context, node, OpenFlags{O_RDONLY}));
    std::vector<std::byte> buffer(
        std::min<std::uint64_t>(std::max<std::uint64_t>(old.size, 1), 1U << 20U));
    std::uint64_t offset = 0;
    while (offset < old.size) {
      std::uint64_t end = old.size;
      if constexpr (OffersSeek<Lower>) {
        auto data = lower.seek(context, source.file, offset, SeekTarget::kData);
        if (!data.ok() && data.error() == Errno{ENXIO}) break;  // a hole up to the end
        if (data.ok()) {
          offset = *data;
          auto hole = lower.seek(context, source.file, offset, SeekTarget::kHole);
          if (hole.ok()) end = std::min(end, *hole);
        }
      }
      while (offset < end) {
        const auto part = std::min<std::uint64_t>(buffer.size(), end - offset);
        auto count = lower.read(context, source.file, offset, std::span(buffer).first(part));
        if (!count.ok()) return count.error();
        if (*count == 0) return Errno{EIO};  // it has become shorter under us
        auto written =
            branches_.upper().write(context, target, offset, std::span(buffer).first(*count));
        if (!written.ok()) return written.error();
        if (*written < *count) return Errno{ENOSPC};
        offset += *count;
      }
    }
    return lower.close(context, source.file);
  }

  Result<void> copy_xattrs(const Context& context, Lower& lower, const typename Lower::Node& from,
                           const UpperNode& to) {
    if constexpr (OffersXattrs<Lower>) {
      auto size = lower.listxattr(context, from, {});
      if (!size.ok() && size.error() == Errno{EOPNOTSUPP}) return {};
      if (!size.ok()) return size.error();
      std::string names(*size, '\0');
      if (*size != 0) {
        LIBSERVICES_TRY(const std::size_t length, lower.listxattr(context, from, names));
        names.resize(length);
      }
      for (std::size_t at = 0; at < names.size();) {
        const std::string_view name(names.c_str() + at);
        at += name.size() + 1;
        if (is_overlay_name(name)) continue;
        LIBSERVICES_TRY(const std::size_t value_size, lower.getxattr(context, from, name, {}));
        std::vector<std::byte> value(value_size);
        if (value_size != 0) {
          LIBSERVICES_TRY(const std::size_t got, lower.getxattr(context, from, name, value));
          value.resize(got);
        }
        auto set =
            branches_.upper().setxattr(context, to, name, value, XattrMode::kCreateOrReplace);
        // As overlayfs: what the upper cannot hold or the service may not set is left behind.
        if (!set.ok() && set.error() != Errno{EOPNOTSUPP} && set.error() != Errno{EPERM}) {
          return set.error();
        }
      }
    }
    return {};
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
  const bool durable_;
  std::atomic<std::uint64_t> names_{0};
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_COPY_UP_H_
