// SPDX-License-Identifier: Apache-2.0
//
// The copy of a lower object, made among the upper's drafts: with its owner, mode, times, extended
// attributes and origin (marks.h), written through to storage.
//
// A small file comes with its content, and so does a large one whose storage the upper can share.
// Of any other file the content stays below until it is written (ranges.h).
#ifndef LIBSERVICES_SERVICES_UNION_OBJECT_COPY_H_
#define LIBSERVICES_SERVICES_UNION_OBJECT_COPY_H_

#include <fcntl.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/capabilities.h"
#include "services/union/branches.h"
#include "services/union/content_copy.h"
#include "services/union/partial_marks.h"
#include "services/union/places.h"

namespace libservices::union_internal {

struct CopyOptions {
  bool durable = true;
  std::uint64_t range_bytes = 0;  // 0: files come up whole
  bool metacopy = false;          // content of small files stays below, too, if it may
};

// What becomes of a file's content at its copy-up.
enum class CopiedContent : std::uint8_t {
  kNone,       // it is about to be truncated
  kChanging,   // a writer comes
  kUnchanged,  // other things than the content change
};

template <class Upper, class Lower>
class ObjectCopy {
 public:
  using B = Branches<Upper, Lower>;
  using R = typename B::R;
  using Pointer = typename B::Pointer;
  using UpperNode = typename Upper::Node;

  struct Made {
    std::optional<Entry<UpperNode>> entry;
    std::shared_ptr<typename R::Partial> partial;  // null: it has its content
    std::optional<Origin> origin;
  };

  ObjectCopy(B& branches, UpperMarks<Upper>& marks, CopyOptions options)
      : branches_(branches),
        marks_(marks),
        partial_marks_(branches.upper(), marks),
        content_copy_(branches),
        options_(options) {}

  // `name` in `staging`. When it fails, something may be there.
  Result<void> make(const Context& context, const Pointer& record, const UpperNode& staging,
                    const std::string& name, CopiedContent content, Made& made) {
    Upper& upper = branches_.upper();
    const auto& source = record->lowers.front();
    Lower& lower = branches_.lower(source.branch);
    LIBSERVICES_TRY(const Attributes old, lower.getattr(context, source.node));
    if (old.unmapped != 0) return Errno{EOVERFLOW};  // the upper would get another owner
    if (old.is_protected()) return Errno{EPERM};      // the upper's copy would not be
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
      if (content != CopiedContent::kNone && old.size != 0) {
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
    auto dressed = dress(context, *raw, old, content != CopiedContent::kNone);
    if (!dressed.ok()) return dressed.error();
    made.entry = *std::move(dressed);
    if (file) {
      if (options_.durable) LIBSERVICES_CHECK_OK(upper.fsync(context, *file, SyncScope::kAll));
      LIBSERVICES_CHECK_OK(upper.close(context, *file));
    }
    return {};
  }

 private:
  using File = typename Upper::File;

  bool stays_below(const Attributes& old, CopiedContent content) const {
    if (options_.range_bytes == 0) return false;
    if (old.size > options_.range_bytes) return true;
    return options_.metacopy && content == CopiedContent::kUnchanged && old.size != 0;
  }

  Result<void> bring_content(const Context& context, const Pointer& record, const Attributes& old,
                             CopiedContent content, File& file, Entry<UpperNode>& to, Made& made) {
    if (old.size >= ContentCopy<Upper, Lower>::kSmallestShared &&
        content_copy_.share(context, *record, file)) {
      to.attributes.size = old.size;
      return {};
    }
    if (stays_below(old, content)) {
      const std::string below = lower_path_of(branches_.root(), record);
      // Without a name a start could not find it again.
      if (!below.empty()) return leave_below(context, *record, old, to.node, below, made);
    }
    return content_copy_.copy(context, *record, old, file, to.attributes.size);
  }

  Result<void> leave_below(const Context& context, const R& record, const Attributes& old,
                           const UpperNode& node, const std::string& below, Made& made) {
    unsigned shift = RangeMap::kSmallestShift;
    while ((std::uint64_t{1} << shift) < options_.range_bytes) ++shift;
    const RangeMap map(shift, old);
    LIBSERVICES_CHECK_OK(partial_marks_.mark_new(context, node, map, below));
    made.partial = std::make_shared<typename R::Partial>(map, record.lowers, old.blocks);
    return {};
  }

  Result<void> set_origin(const Context& context, std::uint32_t branch, const Attributes& old,
                          const UpperNode& node, Made& made) {
    made.origin = branches_.origin_of(branch, old);
    if (!made.origin) return {};
    auto set = marks_.set(context, node, kOrigin, made.origin->encode());
    // A link or a device takes no attributes in the user's name space.
    if (!set.ok() && !old.is_regular()) {
      made.origin.reset();
      return {};
    }
    return set;
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
    const bool may_differ =
        (old.mode & (S_ISUID | S_ISGID)) != 0 || made.attributes.permissions() != old.permissions();
    if (!old.is_symlink() && may_differ) {
      changes.which |= AttributeChanges::kMode;
      changes.mode = old.permissions();
    }
    LIBSERVICES_TRY(made.attributes, branches_.upper().setattr(context, made.node, changes));
    return made;
  }

  Result<void> copy_xattrs(const Context& context, Lower& lower, const typename Lower::Node& from,
                           const UpperNode& to) {
    if constexpr (OffersXattrs<Lower>) {
      LIBSERVICES_TRY(const std::string names, attribute_names(context, lower, from));
      Result<void> failed;
      for_each_name(names, [&](std::string_view name) {
        if (!failed.ok() || is_overlay_name(name)) return;
        failed = copy_xattr(context, lower, from, to, name);
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

  B& branches_;
  UpperMarks<Upper>& marks_;
  PartialMarks<Upper, Lower> partial_marks_;
  ContentCopy<Upper, Lower> content_copy_;
  const CopyOptions options_;
};

}  // namespace libservices::union_internal

#endif  // LIBSERVICES_SERVICES_UNION_OBJECT_COPY_H_
