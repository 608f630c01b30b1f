// SPDX-License-Identifier: Apache-2.0
//
// `Filesystem<Stack>`: paths, permissions and open files over any stack of libservices.
//
// This is what one embeds: a stack's type and its configuration make a filesystem in this process,
// without a service, a mount or a descriptor table. The operations and their meaning are those of
// `AnyFilesystem` (any_filesystem.h), called directly.
//
//   Filesystem<Memory> fs({.capacity_bytes = 1 << 20});
//   if (absl::Status started = fs.start(); !started.ok()) …
//   auto file = fs.open(context, "/notes", {O_CREAT | O_WRONLY}, 0644);
//
// THREADS: all operations may run at once, between one start() and one stop().
// OWNS: the stack. An OpenFilePtr must be gone before the Filesystem is.
#ifndef LIBSERVICES_FILESYSTEM_H_
#define LIBSERVICES_FILESYSTEM_H_

#include <chrono>
#include <string>
#include <utility>

#include "libservices/any_filesystem.h"
#include "libservices/internal/content.h"
#include "libservices/internal/tree.h"
#include "libservices/internal/tree_changes.h"

namespace libservices {

namespace internal {
enum class XattrUse : std::uint8_t { kRead, kWrite };

// What O_PATH opened is no file to the f-forms.
inline Result<void> check_has_file(const Location& location) {
  if (location.itself && !location.as_path && location.base->flags().has(O_PATH)) {
    return Errno{EBADF};
  }
  return {};
}
}  // namespace internal

struct FilesystemOptions {
  // Names and attributes that are kept, where the stack's coherence allows it. About 80 bytes
  // each, taken at the start.
  std::size_t cached_names = 65536;
  // For who serves the filesystem: how long a caller is kept waiting before it gets ETIMEDOUT.
  // 0: for ever.
  std::chrono::nanoseconds deadline{0};
};

template <ReadableService Stack>
class Filesystem {
 public:
  using Config = typename Stack::Config;

  explicit Filesystem(Config config, FilesystemOptions options = {})
      : tree_(std::move(config), options.cached_names), changes_(tree_), content_(tree_) {}
  Filesystem(const Filesystem&) = delete;
  Filesystem& operator=(const Filesystem&) = delete;

  absl::Status start() { return tree_.start(); }
  absl::Status stop() { return tree_.stop(); }

  // The stack itself, for what no operation here names (statistics of a layer, say).
  Stack& stack() { return tree_.stack(); }

  Result<OpenFilePtr> open(const Context&, const Location&, OpenFlags, mode_t mode = 0);

  Result<void> close(const Context& context, OpenFilePtr file) {
    return content_.close(context, std::move(file));
  }
  Result<std::size_t> read(const Context& context, OpenFile& file, std::span<std::byte> into) {
    return content_.read(context, file, into);
  }
  Result<std::size_t> pread(const Context& context, OpenFile& file, std::uint64_t offset,
                            std::span<std::byte> into) {
    return content_.pread(context, file, offset, into);
  }
  Result<std::size_t> write(const Context& context, OpenFile& file,
                            std::span<const std::byte> from,
                            Placing placing = Placing::kByFlags) {
    return content_.write(context, file, from, placing);
  }
  Result<std::size_t> pwrite(const Context& context, OpenFile& file, std::uint64_t offset,
                             std::span<const std::byte> from,
                             Placing placing = Placing::kByFlags) {
    return content_.pwrite(context, file, offset, from, placing);
  }
  Result<std::uint64_t> lseek(const Context& context, OpenFile& file, std::int64_t offset,
                              int whence) {
    return content_.lseek(context, file, offset, whence);
  }
  Result<void> readdir(const Context& context, OpenFile& file, Listing wanted, EntrySink sink) {
    return content_.readdir(context, file, wanted, sink);
  }
  Result<void> fsync(const Context& context, OpenFile& file, SyncScope scope) {
    return content_.fsync(context, file, scope);
  }
  Result<void> fallocate(const Context& context, OpenFile& file, int mode, std::uint64_t offset,
                         std::uint64_t length) {
    return content_.fallocate(context, file, mode, offset, length);
  }
  Result<std::uint64_t> copy_range(const Context& context, OpenFile& from,
                                   std::uint64_t from_offset, OpenFile& to,
                                   std::uint64_t to_offset, std::uint64_t length) {
    return content_.copy_range(context, from, from_offset, to, to_offset, length);
  }
  Result<void> lock(const Context& context, OpenFile& file, const LockRequest& request) {
    return content_.lock(context, file, request);
  }
  Result<LockRequest> test_lock(const Context& context, OpenFile& file,
                                const LockRequest& request) {
    return content_.test_lock(context, file, request);
  }
  void forget_process(std::uint64_t process) { content_.forget_process(process); }

  Result<Attributes> stat(const Context& context, const Location& location) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    return tree_.attributes(context, *at.target.inode);
  }
  Result<void> setattr(const Context&, const Location&, const AttributeChanges&);
  Result<void> access(const Context& context, const Location& location, int mode) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    if constexpr (!WritableService<Stack>) {
      if ((mode & W_OK) != 0 && !is_special(at.target.attributes)) return Errno{EROFS};
    }
    return tree_.check(context, at.target, mode);
  }
  Result<VolumeInfo> statfs(const Context& context, const Location& location) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    if constexpr (OffersStatfs<Stack>) return stack().statfs(context, at.target.inode->node);
    return VolumeInfo{};
  }

  Result<void> mkdir(const Context& context, const Location& location, mode_t mode) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kEntry));
    return changes_.mkdir(context, at, mode);
  }
  Result<void> mknod(const Context& context, const Location& location, mode_t mode,
                     std::uint64_t special_device = 0) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kEntry));
    return changes_.mknod(context, at, mode, special_device);
  }
  Result<void> symlink(const Context& context, std::string_view target,
                       const Location& location) {
    if (target.empty()) return Errno{ENOENT};
    if (target.size() >= PATH_MAX) return Errno{ENAMETOOLONG};
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kEntry));
    return changes_.symlink(context, target, at);
  }
  Result<std::size_t> readlink(const Context& context, Location location,
                               std::span<char> into) {
    location.follow = Follow::kNo;
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    if (!at.target.attributes.is_symlink()) return Errno{EINVAL};
    if constexpr (OffersReadlink<Stack>) {
      return stack().readlink(context, at.target.inode->node, into);
    }
    return Errno{EINVAL};
  }
  Result<void> link(const Context& context, const Location& from, const Location& to) {
    LIBSERVICES_TRY(auto object, walk(context, from, T::Walk::kObject));
    LIBSERVICES_TRY(auto at, walk(context, to, T::Walk::kEntry));
    return changes_.link(context, object.target, at);
  }
  Result<void> unlink(const Context& context, const Location& location) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kEntry));
    return changes_.unlink(context, at);
  }
  Result<void> rmdir(const Context& context, const Location& location) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kEntry));
    return changes_.rmdir(context, at);
  }
  Result<void> rename(const Context& context, const Location& from, const Location& to,
                      RenameMode mode = RenameMode::kReplace) {
    LIBSERVICES_TRY(auto source, walk(context, from, T::Walk::kEntry));
    LIBSERVICES_TRY(auto target, walk(context, to, T::Walk::kEntry));
    return changes_.rename(context, source, target, mode);
  }

  Result<std::size_t> getxattr(const Context&, const Location&, std::string_view name,
                               std::span<std::byte> into);
  Result<void> setxattr(const Context&, const Location&, std::string_view name,
                        std::span<const std::byte> value, XattrMode);
  Result<std::size_t> listxattr(const Context&, const Location&, std::span<char> into);
  Result<void> removexattr(const Context&, const Location&, std::string_view name);

  Result<InodeFlags> getflags(const Context&, const Location&, InodeFlags::Form);
  Result<void> setflags(const Context&, const Location&, const InodeFlags&);

  Result<Reference> refer(const Context& context, const Location& location) {
    LIBSERVICES_TRY(auto at, walk(context, location, T::Walk::kObject));
    LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *at.target.inode));
    const std::uint64_t object = at.target.inode->id;
    return Reference{content_.refer(std::move(at.target.inode)), object, now};
  }
  Result<Backing> backing(const Context& context, OpenFile& file) {
    return content_.backing(context, file);
  }
  Result<Backing> map(const Context& context, OpenFile& file, Mapping mapping) {
    return content_.map(context, file, mapping);
  }
  void remember_mapped(std::optional<std::uint64_t> inode) { tree_.remember_mapped(inode); }
  bool is_mapped(OpenFile& file) const { return content_.is_mapped(file); }
  void set_listener(ChangeListener* listener) { tree_.set_listener(listener); }
  void set_event_listener(EventListener* listener) { tree_.events().set_listener(listener); }
  Result<void> watch(const Context& context, OpenFile& file, EntrySink entries) {
    return tree_.watch(context, state(file).inode, entries);
  }
  void unwatch(OpenFile& file) { tree_.unwatch(*state(file).inode); }
  Coherence coherence() const { return tree_.coherence(); }
  std::uint64_t losses() const { return tree_.losses(); }

  Result<std::string> path_of(const Context&, OpenFile& file) {
    return tree_.path_of(state(file).inode);
  }

  FilesystemCounters counters() const {
    return {.open_files = content_.open_files(),
            .known_objects = tree_.known_objects(),
            .cached_names = tree_.cached_names(),
            .locks = content_.locks()};
  }

 private:
  using T = internal::Tree<Stack>;
  using State = internal::OpenState<Stack>;

  static State& state(OpenFile& file) { return static_cast<State&>(file); }
  static bool is_special(const Attributes& object) {
    return !object.is_directory() && !object.is_regular() && !object.is_symlink();
  }

  Result<typename T::Walked> walk(const Context& context, const Location& location,
                                  typename T::Walk kind) {
    static const typename T::Pointer kNone;
    return tree_.walk(context, location,
                      location.base != nullptr ? state(*location.base).inode : kNone, kind);
  }

  void tell_changes(const typename T::Object& inode, const AttributeChanges& changes);
  Result<void> may_use_xattr(const Context&, const typename T::Here&, std::string_view name,
                             internal::XattrUse);
  Result<std::size_t> get_list(const Context&, const typename T::Here&, std::string_view name,
                               std::span<std::byte> into);
  Result<void> set_list(const Context&, const typename T::Here&, std::string_view name,
                        std::span<const std::byte> value);

  T tree_;
  internal::TreeChanges<Stack> changes_;
  internal::Content<Stack> content_;
};

}  // namespace libservices

#include "libservices/internal/filesystem_calls.h"   // IWYU pragma: export
#include "libservices/internal/filesystem_flags.h"   // IWYU pragma: export
#include "libservices/internal/filesystem_xattrs.h"  // IWYU pragma: export

#endif  // LIBSERVICES_FILESYSTEM_H_
