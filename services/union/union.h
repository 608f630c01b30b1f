// SPDX-License-Identifier: Apache-2.0
//
// `Union<Upper, Lower>`: several branches as one tree. What is changed goes to the upper; the
// lowers, any number of them, are only read.
//
// The first branch that has a name decides; directories merge. On disk the upper has overlayfs's
// own form (marks.h), so the kernel's overlayfs can mount the same branches, before and after; of
// large files that were changed in part the upper has only that part (ranges.h), and overlayfs
// refuses those. docs/union_semantics.md says what differs, and which branch's error wins.
//
// Use it for writable trees over images that others share. For a read-only union leave out the
// upper and put `ReadOnly` above it.
//
// WARNING: the branches belong to the union while it runs (it declares kChangesOnlyThroughMe):
// a change to them from outside may or may not be seen, as overlayfs says of itself.
// THREADS: all operations at once. Lock order: rename_mutex_ → entries of directories, a parent's
// before its child's → Record::copy_up, from a child to its parents → LinkIndex::counting_ →
// Record::mutex, the record table. Those of open files: partial_files.h.
#ifndef LIBSERVICES_SERVICES_UNION_UNION_H_
#define LIBSERVICES_SERVICES_UNION_UNION_H_

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "services/union/branches.h"
#include "services/union/changes.h"
#include "services/union/copy_up.h"
#include "services/union/drafts.h"
#include "services/union/link_index.h"
#include "services/union/lookup.h"
#include "services/union/lower_content.h"
#include "services/union/partial_files.h"
#include "services/union/union_file.h"
#include "services/union/upper_marks.h"
#include "services/union/whiteouts.h"

namespace libservices {

// What an upper must offer for whiteouts, opaque directories and atomic copy-up.
template <class S>
concept CanBeUpper =
    WritableService<S> && OffersMknod<S> && OffersXattrs<S> && OffersStaging<S>;

template <CanBeUpper Upper, ReadableService Lower>
class Union {
  using Internal = union_internal::Branches<Upper, Lower>;
  using C = const Context&;

 public:
  using MarkForm = union_internal::WhiteoutForm;
  static constexpr bool kExchangesNames = exchanges_names<Upper>();
  struct Config {
    typename Upper::Config upper;
    std::vector<typename Lower::Config> lowers;  // from the top
    // What is copied up is on storage before it is seen, and fsync reaches storage. Without it a
    // power cut may lose what was written; a crash of the service alone never does.
    bool durable = true;
    // A larger file comes up without its content, and then in chunks of so many bytes, a power of
    // two from 4,096 on. 0: files come up whole.
    std::uint64_t range_bytes = 65536;
    // Smaller files come up without their content, too, when only their attributes change.
    bool metacopy = false;
    bool redirect = true;  // lower directories can be renamed; without it EXDEV
    bool index = true;     // hard links of lower files stay together
    // Devices take a place by an exchange of names.
    MarkForm marks = kExchangesNames ? MarkForm::kOverlay : MarkForm::kFiles;
    bool without_upper = false;  // nothing can be changed: `upper` is not used
  };
  using Node = typename Internal::Pointer;
  using File = union_internal::UnionFile<Upper, Lower>;

  explicit Union(Config config)
      : branches_(std::move(config.upper), std::move(config.lowers), config.without_upper,
                  config.index && OffersLink<Upper>),
        marks_(branches_.upper()),
        drafts_(branches_.upper()),
        index_(branches_, marks_),
        lookup_(branches_, index_),
        lower_content_(branches_.lowers()),
        partials_(branches_.upper(), lower_content_, marks_, config.durable),
        copy_up_(branches_, marks_, drafts_, index_,
                 {config.durable, config.range_bytes, config.metacopy && config.range_bytes != 0}),
        changes_(lookup_, marks_, drafts_, copy_up_, config.marks),
        durable_(config.durable),
        marks_are_files_(config.marks == MarkForm::kFiles),
        redirect_(config.redirect),
        range_bytes_(config.range_bytes) {}

  absl::Status start();
  absl::Status stop();
  Coherence coherence() const { return {Coherence::Kind::kChangesOnlyThroughMe, {}}; }

  std::uint64_t losses() const
    requires CountsLosses<Upper>
  {
    return branches_.has_upper() ? branches_.upper().losses() : 0;
  }

  Upper& upper() { return branches_.upper(); }
  Lower& lower(std::size_t index) { return *branches_.lowers()[index]; }

  Result<Entry<Node>> root(C context) {
    LIBSERVICES_TRY(const Attributes seen, branches_.getattr(context, *branches_.root()));
    return Entry<Node>{branches_.root(), seen};
  }
  Result<Entry<Node>> lookup(C context, const Node& directory, std::string_view name) {
    if (!directory->is_directory()) return Errno{ENOTDIR};
    std::shared_lock lock(directory->entries);
    LIBSERVICES_TRY(auto found, lookup_.find(context, directory, name));
    if (!found.record) return Errno{ENOENT};
    return Entry<Node>{std::move(found.record), found.attributes};
  }
  Result<Attributes> getattr(C context, const Node& node) {
    return branches_.getattr(context, *node);
  }
  Result<std::size_t> readlink(C context, const Node& node, std::span<char> into)
    requires OffersReadlink<Upper> && OffersReadlink<Lower>
  {
    if (auto upper_node = node->upper()) return upper().readlink(context, *upper_node, into);
    const auto& part = node->lowers.front();
    return branches_.lower(part.branch).readlink(context, part.node, into);
  }

  Result<Opened<File>> open(C context, const Node& node, OpenFlags flags);
  Result<Backing> backing(C context, File& file, BackingUse use)
    requires(OffersBacking<Upper> && OffersBacking<Lower>);
  Result<std::size_t> read(C context, File& file, std::uint64_t offset, std::span<std::byte> into);
  Result<void> close(C context, File& file);
  Result<void> readdir(C context, File& directory, std::uint64_t after, Listing wanted,
                       EntrySink sink);
  Result<std::size_t> write(C context, File& file, std::uint64_t offset,
                            std::span<const std::byte> from);
  Result<void> fsync(C context, File& file, SyncScope scope);
  Result<std::uint64_t> append(C context, File& file, std::span<const std::byte> from,
                               std::size_t& written)
    requires OffersAppend<Upper>;
  Result<void> fallocate(C context, File& file, int mode, std::uint64_t offset,
                         std::uint64_t length)
    requires OffersFallocate<Upper>;
  Result<std::uint64_t> seek(C context, File& file, std::uint64_t offset, SeekTarget target)
    requires OffersSeek<Upper> && OffersSeek<Lower>;

  Result<Created<Node, File>> create(C context, const Node& directory, std::string_view name,
                                     const NewNode& fresh, OpenFlags flags);
  Result<Created<Node, File>> tmpfile(C context, const Node& directory, const NewNode& fresh,
                                      OpenFlags flags)
    requires OffersTmpfile<Upper>;
  Result<Entry<Node>> mkdir(C context, const Node& directory, std::string_view name,
                            const NewNode& fresh);
  Result<Entry<Node>> symlink(C context, const Node& directory, std::string_view name,
                              std::string_view target, const NewNode& fresh)
    requires OffersSymlink<Upper> && OffersReadlink<Lower>;
  Result<Entry<Node>> mknod(C context, const Node& directory, std::string_view name,
                            const NewNode& fresh);
  Result<Entry<Node>> link(C context, const Node& node, const Node& directory,
                           std::string_view name)
    requires OffersLink<Upper>;
  Result<Attributes> setattr(C context, const Node& node, const AttributeChanges& changes);

  Result<void> unlink(C context, const Node& directory, std::string_view name);
  Result<void> rmdir(C context, const Node& directory, std::string_view name);
  Result<void> rename(C context, const Node& directory, std::string_view name,
                      const Node& new_directory, std::string_view new_name, RenameMode mode);

  Result<VolumeInfo> statfs(C context, const Node&)
    requires OffersStatfs<Upper> && OffersStatfs<Lower>
  {
    if (!branches_.has_upper()) {
      const auto& first = branches_.root()->lowers.front();
      return branches_.lower(first.branch).statfs(context, first.node);
    }
    return upper().statfs(context, *branches_.root()->upper());
  }

  // Flags of a lower object that is copied up stay with the lower, but for those that protect it:
  // then nothing about it can be changed (EPERM).
  Result<InodeFlags> getflags(C context, const Node& node, InodeFlags::Form form)
    requires OffersFlags<Upper> && OffersFlags<Lower>;
  Result<void> setflags(C context, const Node& node, const InodeFlags& flags)
    requires OffersFlagChanges<Upper> && OffersFlags<Lower>;

  // How many files of the upper have content in the lowers still. Looks at every file of the upper.
  Result<std::uint64_t> partial_files(C context, std::stop_token stop = {});
  // Their content comes to the upper, so that the kernel's overlayfs can have it: the first error
  // ends it. `completed` counts.
  Result<void> complete(C context, std::uint64_t& completed);

  // The marks of overlayfs itself are not the callers' to see or to set.
  Result<std::size_t> getxattr(C context, const Node& node, std::string_view name,
                               std::span<std::byte> into)
    requires OffersXattrs<Lower>;
  Result<void> setxattr(C context, const Node& node, std::string_view name,
                        std::span<const std::byte> value, XattrMode mode)
    requires OffersXattrs<Lower>;
  Result<std::size_t> listxattr(C context, const Node& node, std::span<char> into)
    requires OffersXattrs<Lower>;
  Result<void> removexattr(C context, const Node& node, std::string_view name)
    requires OffersXattrs<Lower>;

 private:
  using CopyUp = union_internal::CopyUp<Upper, Lower>;
  using Changes = union_internal::Changes<Upper, Lower>;
  using Content = union_internal::CopiedContent;
  using Found = typename union_internal::Lookup<Upper, Lower>::Found;

  using State = typename File::State;

  // union_start.h
  absl::Status check_config();
  absl::Status choose_marks();

  // union_content.h
  static bool in_part(const State& state) {
    return state.partial != nullptr && !state.partial->whole.load(std::memory_order_acquire);
  }
  File upper_file(Node record, OpenFlags flags, typename Upper::File file);
  Result<typename Upper::File> open_upper(C context, const Node& node, OpenFlags flags,
                                          Attributes& seen);
  Result<Opened<File>> open_lower(C context, const Node& node, OpenFlags flags);
  Result<void> follow_copy_up(C context, File& file);

  // union_tree.h
  template <class Make>
  Result<Entry<Node>> add(C context, const Node& directory, std::string_view name,
                          bool is_directory, Make&& make);
  // `is_new`: was made just now, by the holder of its directory's `entries`.
  Node known_upper(const Entry<typename Upper::Node>& entry, bool is_new = false);
  Result<void> prepare_link(C context, const Node& node, const Node& directory);
  Result<void> remove(C context, const Node& directory, std::string_view name, bool is_directory);
  void gone(C context, const Node& directory, std::string_view name, const Found& was);

  // union_rename.h
  // As rename, or EAGAIN when what moves was replaced meanwhile.
  Result<void> rename_once(C context, const Node& directory, std::string_view name,
                           const Node& new_directory, std::string_view new_name, RenameMode mode);
  Result<void> raise(C context, const Node& record);
  Result<void> give_name(C context, const Node& directory, std::string_view name, Found& found);

  // union_completion.h
  Result<void> for_each_partial(C context, const std::stop_token& stop,
                                const std::function<Result<void>(const Node&)>& take);

  Internal branches_;
  union_internal::UpperMarks<Upper> marks_;
  union_internal::Drafts<Upper> drafts_;
  union_internal::LinkIndex<Upper, Lower> index_;
  union_internal::Lookup<Upper, Lower> lookup_;
  union_internal::LowerContent<Lower> lower_content_;
  union_internal::PartialFiles<Upper, Lower> partials_;
  CopyUp copy_up_;
  Changes changes_;
  const bool durable_;
  const bool marks_are_files_;
  const bool redirect_;
  const std::uint64_t range_bytes_;
  std::mutex rename_mutex_;  // held while an object moves to another directory
};

}  // namespace libservices

#include "services/union/union_attributes.h"  // IWYU pragma: export
#include "services/union/union_completion.h"  // IWYU pragma: export
#include "services/union/union_content.h"     // IWYU pragma: export
#include "services/union/union_rename.h"      // IWYU pragma: export
#include "services/union/union_start.h"       // IWYU pragma: export
#include "services/union/union_tree.h"        // IWYU pragma: export

#endif  // LIBSERVICES_SERVICES_UNION_UNION_H_
