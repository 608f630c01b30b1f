// SPDX-License-Identifier: Apache-2.0
//
// Copy-up: an object of a lower branch comes into the upper one at once.
//
// It is made in the upper's staging directory with its owner, mode, times and extended attributes,
// written through to storage, and renamed into place. A crash at any step leaves the old object or
// the new one; what is left in staging is removed at the next start. Parent directories come
// first, each in the same way.
//
// A small file comes with its content (holes stay holes), and so does a large one whose storage
// the upper can share. Of any other file the content stays below until it is written (ranges.h).
// A file with several names goes into the index, too, so that all of them lead to what was copied.
#ifndef LIBSERVICES_SERVICES_UNION_COPY_UP_H_
#define LIBSERVICES_SERVICES_UNION_COPY_UP_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "services/union/branches.h"
#include "services/union/partial.h"

namespace libservices::union_internal {

template <class Upper, class Lower>
class CopyUp {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  struct Options {
    bool durable = true;
    std::uint64_t range_bytes = 0;  // 0: files come up whole
    bool metacopy = false;          // content of small files stays below, too, if it may
  };
  CopyUp(B& branches, PartialFiles<Upper, Lower>& partials, Options options)
      : branches_(branches), partials_(partials), options_(options) {}

  enum class Content : std::uint8_t {
    kNone,       // it is about to be truncated
    kChanging,   // a writer comes
    kUnchanged,  // other things than the content change
  };

  // The object in the upper. ERRORS: ENOSPC and the branches'; the lower stays as it is.
  Result<UpperNode> ensure(const Context& context, const Pointer& record,
                           Content content = Content::kUnchanged) {
    return ensure(context, record, content, true);
  }
  // As ensure, of a file with several names, in the index alone: so it is known later which of them
  // are gone. If that cannot be, this instance knows.
  void ensure_indexed(const Context& context, const Pointer& record) {
    (void)ensure(context, record, Content::kUnchanged, false);
  }
  // Whether ensure() will have it indexed.
  bool will_be_indexed(const R& record, const Attributes& seen) const {
    return branches_.keeps_index() && OffersLink<Upper> && !record.has_upper() &&
           !record.is_directory() && seen.links + record.names_hidden.load() > 1 &&
           branches_.has_upper();
  }

  // A name that the lowers have of an indexed object is to be in the upper, too.
  Result<void> give_name(const Context& context, const Pointer& directory, std::string_view name,
                         const Pointer& record) {
    if constexpr (OffersLink<Upper>) {
      Upper& upper = branches_.upper();
      LIBSERVICES_TRY(const UpperNode parent, ensure(context, directory));
      LIBSERVICES_TRY(const auto staging, upper.staging(context, Staging::kDrafts));
      const std::string temporary = next_name();
      const AddingName adding(directory->upper_names, name);
      LIBSERVICES_CHECK_OK(set_impure(context, *directory));
      auto linked = upper.link(context, *record->upper(), staging, temporary);
      if (!linked.ok()) return linked.error();
      auto placed =
          upper.rename(context, staging, temporary, parent, name, RenameMode::kNoReplace);
      if (!placed.ok()) {
        discard(context, staging, temporary, false);
        return placed;
      }
      return hide_name(context, *record);
    }
    return Errno{EXDEV};
  }
  // One of the names that the lowers have of an indexed object is not taken from there any more.
  Result<void> hide_name(const Context& context, R& record) {
    record.names_hidden.fetch_add(1);
    const auto node = record.upper();
    if (!record.indexed.load() || !node) return {};
    LIBSERVICES_TRY(const Marks marks, marks_of(context, branches_.upper(), *node));
    if (!marks.origin) return {};
    Origin origin = *marks.origin;
    ++origin.hidden;
    LIBSERVICES_CHECK_OK(partials_.set(context, *node, kOrigin, origin.encode()));
    return drop_if_last(context, record, *node, origin);
  }
  // An indexed object has lost a name in the upper.
  Result<void> lost_name(const Context& context, R& record) {
    const auto node = record.upper();
    if (!record.indexed.load() || !node) return {};
    LIBSERVICES_TRY(const Marks marks, marks_of(context, branches_.upper(), *node));
    return marks.origin ? drop_if_last(context, record, *node, *marks.origin) : Result<void>();
  }

  // `directory` is about to get an entry with marks.
  Result<void> set_impure(const Context& context, R& directory) {
    if (directory.impure.load()) return {};
    const auto node = directory.upper();
    if (!node) return {};
    constexpr std::array<std::byte, 1> kYes{std::byte{'y'}};
    LIBSERVICES_CHECK_OK(partials_.set(context, *node, kImpure, kYes));
    directory.impure.store(true);
    return {};
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

  Result<UpperNode> ensure(const Context& context, const Pointer& record, Content content,
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
    LIBSERVICES_TRY(const auto staging, branches_.upper().staging(context, Staging::kDrafts));
    const std::string temporary = next_name();
    Made made;
    Result<void> published = make(context, record, staging, temporary, content, made);
    // Else its names would lead to another object than this record.
    if (published.ok() && !with_name && !made.is_indexed) published = Errno{EOPNOTSUPP};
    std::optional<AddingName> adding;
    if (published.ok() && parent) {
      adding.emplace(parent->upper_names, name);
      if (!record->is_directory()) published = set_impure(context, *parent);
    }
    if (published.ok()) {
      published = publish(context, staging, temporary, parent_node, name);
    }
    if (!published.ok()) {
      if (made.is_indexed) (void)unindex(context, *made.origin);
      discard(context, staging, temporary, record->is_directory());
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
      if (made.is_indexed) {
        record->lower_links = made.origin->links;
        record->names_hidden = 0;
        record->indexed.store(true, std::memory_order_release);
      }
      record->in_upper.store(true, std::memory_order_release);
    }
    if (made.is_indexed && parent) (void)hide_name(context, *record);
    return made.entry->node;
  }

  // The index alone keeps it: then it goes.
  Result<void> drop_if_last(const Context& context, R& record, const UpperNode& node,
                            const Origin& origin) {
    LIBSERVICES_TRY(const Attributes seen, branches_.upper().getattr(context, node));
    if (seen.links > 1 || origin.hidden < origin.links) return {};
    LIBSERVICES_CHECK_OK(unindex(context, origin));
    record.indexed.store(false);
    branches_.table().forget({0, seen.device, seen.inode});
    return {};
  }

  struct Made {
    std::optional<Entry<UpperNode>> entry;
    std::shared_ptr<typename R::Partial> partial;
    std::optional<Origin> origin;
    bool is_indexed = false;
  };

  Result<void> make(const Context& context, const Pointer& record, const UpperNode& staging,
                    const std::string& name, Content content, Made& made) {
    Upper& upper = branches_.upper();
    const auto& source = record->lowers.front();
    Lower& lower = branches_.lower(source.branch);
    LIBSERVICES_TRY(const Attributes old, lower.getattr(context, source.node));
    if (old.unmapped != 0) return Errno{EOVERFLOW};  // the upper would get another owner
    const NewNode fresh{old.mode & 07777U, old.uid, old.gid, old.special_device};
    Result<Entry<UpperNode>> raw = Errno{EIO};
    std::optional<File> file;
    if (old.is_directory()) {
      raw = upper.mkdir(context, staging, name, fresh);
    } else if (old.is_symlink()) {
      raw = make_link(context, *record, staging, name, fresh);
    } else if (old.is_regular()) {
      auto created = upper.create(context, staging, name, fresh, OpenFlags{O_WRONLY});
      if (!created.ok()) return created.error();
      file = std::move(created->file);
      raw = Entry<UpperNode>{created->node, created->attributes};
      if (content != Content::kNone && old.size != 0) {
        LIBSERVICES_CHECK_OK(bring_content(context, record, old, content, *file, *raw, made));
      }
    } else {
      NewNode special = fresh;
      special.mode = old.mode;
      raw = upper.mknod(context, staging, name, special);
    }
    if (!raw.ok()) return raw.error();
    LIBSERVICES_CHECK_OK(copy_xattrs(context, lower, source.node, raw->node));
    if (!old.is_directory()) {
      LIBSERVICES_CHECK_OK(set_origin(context, source.branch, old, raw->node, made));
    }
    auto dressed = dress(context, *raw, old, content != Content::kNone);
    if (!dressed.ok()) return dressed.error();
    made.entry = *std::move(dressed);
    if (file) {
      if (options_.durable) LIBSERVICES_CHECK_OK(upper.fsync(context, *file, SyncScope::kAll));
      LIBSERVICES_CHECK_OK(upper.close(context, *file));
    }
    return index(context, raw->node, made);
  }

  bool stays_below(const Attributes& old, Content content) const {
    if (options_.range_bytes == 0) return false;
    if (old.size > options_.range_bytes) return true;
    return options_.metacopy && content == Content::kUnchanged && old.size != 0;
  }
  Result<void> bring_content(const Context& context, const Pointer& record, const Attributes& old,
                             Content content, File& file, Entry<UpperNode>& to, Made& made) {
    if (old.size >= kSmallestShared && share(context, *record, file)) {
      to.attributes.size = old.size;
      return {};
    }
    if (stays_below(old, content)) {
      const std::string below = branches_.lower_path_of(record);
      // Without a name a start could not find it again.
      if (!below.empty()) return leave_below(context, *record, old, to.node, below, made);
    }
    return copy_content(context, *record, old, file, to.attributes.size);
  }

  // The content without copying it, where both branches can.
  bool share(const Context& context, const R& record, File& file) {
    if constexpr (OffersBacking<Lower> && OffersClone<Upper>) {
      if (record.lowers.size() != 1 || record.lowers.front().ranges) return false;
      const auto& source = record.lowers.front();
      Lower& lower = branches_.lower(source.branch);
      auto opened = lower.open(context, source.node, OpenFlags{O_RDONLY});
      if (!opened.ok()) return false;
      auto backing = lower.backing(context, opened->file);
      const bool shared =
          backing.ok() && branches_.upper().clone(context, file, *backing).ok();
      (void)lower.close(context, opened->file);
      return shared;
    }
    return false;
  }

  Result<void> leave_below(const Context& context, const R& record, const Attributes& old,
                           const UpperNode& node, const std::string& below, Made& made) {
    unsigned shift = RangeMap::kSmallestShift;
    while ((std::uint64_t{1} << shift) < options_.range_bytes) ++shift;
    const RangeMap map(shift, old);
    LIBSERVICES_CHECK_OK(partials_.mark_new(context, node, map, below));
    made.partial = std::make_shared<typename R::Partial>(map, record.lowers, old.blocks);
    return {};
  }

  Result<void> set_origin(const Context& context, std::uint32_t branch, const Attributes& old,
                          const UpperNode& node, Made& made) {
    made.origin = branches_.origin_of(branch, old);
    if (!made.origin) return {};
    auto set = partials_.set(context, node, kOrigin, made.origin->encode());
    // A link or a device takes no attributes in the user's name space.
    if (!set.ok() && !old.is_regular()) {
      made.origin.reset();
      return {};
    }
    return set;
  }

  Result<void> index(const Context& context, const UpperNode& node, Made& made) {
    if constexpr (OffersLink<Upper>) {
      if (!branches_.keeps_index() || !made.origin || made.origin->links <= 1) return {};
      LIBSERVICES_TRY(const auto kept, branches_.upper().staging(context, Staging::kKept));
      const std::string name = B::index_name(*made.origin);
      (void)branches_.upper().unlink(context, kept, name);  // of another file
      auto linked = branches_.upper().link(context, node, kept, name);
      if (!linked.ok()) return linked.error();
      made.is_indexed = true;
    }
    return {};
  }
  Result<void> unindex(const Context& context, const Origin& origin) {
    LIBSERVICES_TRY(const auto kept, branches_.upper().staging(context, Staging::kKept));
    return branches_.upper().unlink(context, kept, B::index_name(origin));
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
                                 const Attributes& old, bool with_content) {
    AttributeChanges changes;
    changes.which = AttributeChanges::kAtime;
    changes.atime = old.atime;
    // What is about to be truncated is that already, if the service dies before it is.
    if (with_content) changes.which |= AttributeChanges::kMtime;
    changes.mtime = old.mtime;
    if (old.is_regular() && with_content && made.attributes.size != old.size) {
      changes.which |= AttributeChanges::kSize;  // a hole at the end, or all of it below
      changes.size = old.size;
    }
    const bool may_differ = (old.mode & (S_ISUID | S_ISGID)) != 0 ||
                            made.attributes.permissions() != old.permissions();
    if (!old.is_symlink() && may_differ) {
      changes.which |= AttributeChanges::kMode;
      changes.mode = old.permissions();
    }
    LIBSERVICES_TRY(made.attributes, branches_.upper().setattr(context, made.node, changes));
    return made;
  }

  // `end`: of the file as it is then.
  Result<void> copy_content(const Context& context, const R& record, const Attributes& old,
                            File& target, std::uint64_t& end) {
    Sources<Lower> open;
    auto copied = copy_from(context, record, open, old, target, end);
    auto closed = open.close(context, branches_.lowers(), record.lowers);
    return copied.ok() ? closed : copied;
  }

  Result<void> copy_from(const Context& context, const R& record, Sources<Lower>& open,
                         const Attributes& old, File& target, std::uint64_t& reached) {
    std::vector<std::byte> buffer(
        std::min<std::uint64_t>(std::max<std::uint64_t>(old.size, 1), 1U << 20U));
    // That a small file has no holes its blocks say, at less cost.
    const bool seeks = old.size > kSmallestShared || old.blocks * 512 < old.size;
    std::uint64_t offset = 0;
    while (offset < old.size) {
      std::uint64_t end = old.size;
      if (seeks) {
        auto data = partials_.seek_lower(context, record.lowers, open, old.size, offset,
                                         SeekTarget::kData);
        if (!data.ok() && data.error() == Errno{ENXIO}) break;  // a hole up to the end
        if (!data.ok()) return data.error();
        offset = *data;
        LIBSERVICES_TRY(end, partials_.seek_lower(context, record.lowers, open, old.size, offset,
                                                  SeekTarget::kHole));
      }
      while (offset < end) {
        const auto part = std::min<std::uint64_t>(buffer.size(), end - offset);
        const auto bytes = std::span(buffer).first(part);
        LIBSERVICES_TRY(
            const std::size_t count,
            partials_.read_lower(context, record.lowers, open, old.size, offset, bytes));
        LIBSERVICES_TRY(const std::size_t written, branches_.upper().write(
                                                       context, target, offset, bytes.first(count)));
        if (written < count) return Errno{ENOSPC};
        reached = offset += count;
      }
    }
    return {};
  }

  Result<void> copy_xattrs(const Context& context, Lower& lower, const typename Lower::Node& from,
                           const UpperNode& to) {
    if constexpr (OffersXattrs<Lower>) {
      LIBSERVICES_TRY(const std::string names, attribute_names(context, lower, from));
      Result<void> failed;
      for_each_name(names, [&](std::string_view name) {
        if (failed.ok() && !is_overlay_name(name)) failed = copy_xattr(context, lower, from, to, name);
      });
      return failed;
    }
    return {};
  }
  Result<void> copy_xattr(const Context& context, Lower& lower, const typename Lower::Node& from,
                          const UpperNode& to, std::string_view name) {
    LIBSERVICES_TRY(const auto value, attribute(context, lower, from, name));
    if (!value) return {};  // it went meanwhile, or is not for this service
    auto set = branches_.upper().setxattr(context, to, name, *value, XattrMode::kCreateOrReplace);
    // As overlayfs: what the upper cannot hold or the service may not set is left behind.
    if (!set.ok() && set.error() != Errno{EOPNOTSUPP} && set.error() != Errno{EPERM}) {
      return set.error();
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

  static constexpr std::uint64_t kSmallestShared = 65536;

  B& branches_;
  PartialFiles<Upper, Lower>& partials_;
  const Options options_;
  std::atomic<std::uint64_t> names_{0};
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_COPY_UP_H_
