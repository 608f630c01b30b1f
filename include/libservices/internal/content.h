// SPDX-License-Identifier: Apache-2.0
//
// Open files: reading, writing, appending, seeking, listing and locking over any stack.
//
// Lock order: an open file's offset mutex → Inode::content. The stack is called with both held at
// most, so two calls on one open file that use its offset never overlap, and an append never lands
// inside a write.
#ifndef LIBSERVICES_INTERNAL_CONTENT_H_
#define LIBSERVICES_INTERNAL_CONTENT_H_

#include <dirent.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "libservices/internal/open_state.h"
#include "libservices/internal/tree.h"

namespace libservices::internal {

template <ReadableService Stack>
class Content {
 public:
  using T = Tree<Stack>;
  using State = OpenState<Stack>;
  using File = typename Stack::File;
  using Pointer = typename T::Pointer;

  explicit Content(T& tree) : tree_(tree) {}

  // Not counted among the open files.
  OpenFilePtr refer(Pointer inode) {
    std::optional<File> none;
    return std::make_shared<State>(OpenFlags{O_PATH}, std::move(inode), std::move(none),
                                   references_, tree_.events());
  }
  OpenFilePtr keep(OpenFlags flags, Pointer inode, std::optional<File> file) {
    flags.bits &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
    auto opened = std::make_shared<State>(flags, std::move(inode), std::move(file), open_files_,
                                          tree_.events());
    if (opened->file) tree_.events().tell_opened(*opened, *opened->inode);
    return opened;
  }

  Result<void> close(const Context& context, OpenFilePtr file) {
    auto& open = state(*file);
    if (open.inode->has_locks.load(std::memory_order_relaxed)) {
      drop_locks(*open.inode, {context.process, nullptr});
    }
    // With other users, or calls under way, it ends with the last of them.
    if (file.use_count() > 1 || !open.file) return {};
    if (open.inode->has_locks.load(std::memory_order_relaxed)) open.inode->locks.end(&*file);
    return tree_.stack().close(context, *open.file);
  }

  Result<std::size_t> read(const Context& context, OpenFile& file, std::span<std::byte> into) {
    auto& open = state(file);
    std::lock_guard lock(open.offset_mutex());
    LIBSERVICES_TRY(const std::size_t count, pread(context, file, open.offset(), into));
    open.move(open.offset() + count, context);
    return count;
  }

  Result<std::size_t> pread(const Context& context, OpenFile& file, std::uint64_t offset,
                            std::span<std::byte> into) {
    auto& open = state(file);
    if (!open.file || !open.flags().reads()) return Errno{EBADF};
    if (open.inode->is_directory()) return Errno{EISDIR};
    if (offset > kMostBytes) return Errno{EINVAL};
    LIBSERVICES_TRY(const std::size_t count, read_parts(context, open, offset, into));
    if (count != 0) tree_.events().tell(FileEvent::kAccess, *open.inode);
    if (count != 0 && open.inode->unread.load(std::memory_order_relaxed) &&
        open.inode->unread.exchange(false)) {
      open.inode->attributes.content_changed();
    }
    return count;
  }

  Result<std::size_t> read_parts(const Context& context, State& open, std::uint64_t offset,
                                 std::span<std::byte> into);

  Result<std::size_t> write(const Context& context, OpenFile& file, std::span<const std::byte> from,
                            Placing placing);
  Result<std::size_t> pwrite(const Context& context, OpenFile& file, std::uint64_t offset,
                             std::span<const std::byte> from, Placing placing) {
    auto& open = state(file);
    if (!appends(open, placing) || from.empty()) {
      return write_at(context, open, offset, from, placing);
    }
    LIBSERVICES_TRY(const Appended appended, append(context, open, from));  // as on Linux
    return appended.count;
  }

  Result<std::uint64_t> lseek(const Context& context, OpenFile& file, std::int64_t offset,
                              int whence);
  Result<void> readdir(const Context& context, OpenFile& file, Listing wanted, EntrySink sink);

  Result<void> fsync(const Context& context, OpenFile& file, SyncScope scope) {
    auto& open = state(file);
    if (!open.file) return Errno{EBADF};
    if constexpr (WritableService<Stack>) return tree_.stack().fsync(context, *open.file, scope);
    return {};
  }

  Result<void> fallocate(const Context& context, OpenFile& file, int mode, std::uint64_t offset,
                         std::uint64_t length) {
    auto& open = state(file);
    if (!open.file) return Errno{EBADF};
    if (length == 0 || offset > kMostBytes || length > kMostBytes) return Errno{EINVAL};
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE;
    if ((mode & kPunch) != 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0) return Errno{EOPNOTSUPP};
    if (!open.flags().writes()) return Errno{EBADF};
    if (offset + length > kMostBytes) return Errno{EFBIG};
    if constexpr (WritableService<Stack> && OffersFallocate<Stack>) {
      LIBSERVICES_CHECK_OK(drop_set_id(context, *open.inode));
      std::unique_lock lock(open.inode->content);
      auto done = tree_.stack().fallocate(context, *open.file, mode, offset, length);
      content_changed(*open.inode, offset, kToTheEnd);
      if (done.ok()) tree_.events().tell(FileEvent::kModify, *open.inode);
      return done;
    }
    return Errno{EOPNOTSUPP};
  }

  Result<std::uint64_t> copy_range(const Context& context, OpenFile& from,
                                   std::uint64_t from_offset, OpenFile& to, std::uint64_t to_offset,
                                   std::uint64_t length);

  Result<Backing> backing(const Context& context, OpenFile& file);
  Result<Backing> map(const Context& context, OpenFile& file, Mapping mapping);
  static bool is_mapped(OpenFile& file) { return state(file).inode->mapped.load(); }

  Result<void> lock(const Context& context, OpenFile& file, const LockRequest& request);
  Result<LockRequest> test_lock(const Context& context, OpenFile& file,
                                const LockRequest& request);
  void forget_process(std::uint64_t process) {
    for (const Pointer& inode : locked()) drop_locks(*inode, {process, nullptr});
  }

  // After a change of the content by `context.caller`, or a truncation at open.
  Result<void> drop_set_id(const Context& context, typename T::Object& inode) {
    if (context.caller.keeps_set_id() || !inode.attributes.may_have_set_id()) return {};
    if constexpr (WritableService<Stack>) {
      const auto lock = tree_.lists().lock(inode);
      LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, inode, false));
      const std::uint32_t left = without_set_id(context.caller, now);
      if (left == now.permissions()) return {};
      AttributeChanges changes;
      changes.which = AttributeChanges::kMode;
      changes.mode = left;
      auto changed = tree_.stack().setattr(context, inode.node, changes);
      inode.attributes.all_changed();
      tree_.tell_attributes(inode);
      if (!changed.ok()) return changed.error();
      tree_.events().tell(FileEvent::kAttributes, inode);
    }
    return {};
  }

  std::uint64_t open_files() const { return open_files_.load(std::memory_order_relaxed); }
  std::uint64_t locks() const {
    std::uint64_t count = 0;
    for (const Pointer& inode : locked()) count += inode->locks.size();
    return count;
  }

 private:
  static constexpr std::uint64_t kMostBytes = INT64_MAX;
  static constexpr std::uint64_t kToTheEnd = UINT64_MAX;
  // A directory's offsets: "." and "..", and the stack's cookies after these two. kLast, with which
  // filesystems mark their last entry, is the largest that lseek takes and stays as it is.
  static constexpr std::uint64_t kDot = 1;
  static constexpr std::uint64_t kDotDot = 2;
  static constexpr std::uint64_t kLast = INT64_MAX;
  static constexpr std::uint64_t offset_of(std::uint64_t cookie) {
    return cookie == kLast ? kLast : cookie + kDotDot;
  }
  static constexpr std::uint64_t cookie_of(std::uint64_t offset) {
    return offset == kLast ? kLast : offset - kDotDot;
  }

  struct Appended {
    std::size_t count;
    std::uint64_t end;
  };

  static State& state(OpenFile& file) { return static_cast<State&>(file); }

  void content_changed(typename T::Object& inode, std::uint64_t offset, std::uint64_t length) {
    inode.unread.store(true, std::memory_order_relaxed);
    inode.attributes.content_changed();
    tree_.count_change();
    tree_.tell_object(inode, offset, length);
  }

  static Result<void> check_write(const State& open, std::uint64_t offset, std::size_t size) {
    if (!open.file || !open.flags().writes()) return Errno{EBADF};
    if (offset > kMostBytes) return Errno{EINVAL};
    if (size > kMostBytes - offset) return Errno{EFBIG};
    return {};
  }

  static bool appends(const State& open, Placing placing) {
    return placing == Placing::kAtEnd ||
           (placing == Placing::kByFlags && open.flags().has(O_APPEND));
  }

  Result<std::size_t> write_at(const Context& context, State& open, std::uint64_t offset,
                               std::span<const std::byte> from,
                               Placing placing = Placing::kByFlags) {
    LIBSERVICES_CHECK_OK(check_write(open, offset, from.size()));
    if (from.empty()) return std::size_t{0};  // changes nothing, set-id bits neither
    if constexpr (WritableService<Stack>) {
      if (placing == Placing::kAtOffset && open.flags().has(O_APPEND)) {
        LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *open.inode));
        if (now.has(Attributes::kAppendOnly)) return Errno{EPERM};
      }
      LIBSERVICES_CHECK_OK(drop_set_id(context, *open.inode));
      std::shared_lock lock(open.inode->content);
      auto written = tree_.stack().write(context, *open.file, offset, from);
      content_changed(*open.inode, offset, from.size());
      if (written.ok()) tree_.events().tell(FileEvent::kModify, *open.inode);
      return written;
    }
    return Errno{EROFS};
  }

  Result<Appended> append(const Context& context, State& open, std::span<const std::byte> from) {
    LIBSERVICES_CHECK_OK(check_write(open, 0, from.size()));
    if constexpr (WritableService<Stack>) {
      LIBSERVICES_CHECK_OK(drop_set_id(context, *open.inode));
      std::unique_lock lock(open.inode->content);
      if constexpr (OffersAppend<Stack>) {
        std::size_t count = 0;
        auto end = tree_.stack().append(context, *open.file, from, count);
        content_changed(*open.inode, end.ok() ? *end - count : 0, kToTheEnd);
        if (!end.ok()) return end.error();
        tree_.events().tell(FileEvent::kModify, *open.inode);
        return Appended{count, *end};
      } else {
        LIBSERVICES_TRY(const Attributes now, tree_.attributes(context, *open.inode));
        LIBSERVICES_CHECK_OK(check_write(open, now.size, from.size()));
        auto written = tree_.stack().write(context, *open.file, now.size, from);
        content_changed(*open.inode, now.size, kToTheEnd);
        if (!written.ok()) return written.error();
        tree_.events().tell(FileEvent::kModify, *open.inode);
        return Appended{*written, now.size + *written};
      }
    }
    return Errno{EROFS};
  }

  template <class Call>
  auto with_lock_storage(const Context& context, Call use);
  void drop_locks(typename T::Object& inode, const LockTable::Owner& owner) {
    with_lock_storage(Context{}, [&](LockTable::Storage storage) {
      inode.locks.drop(owner, storage);
    });
  }

  // The objects that may have locks, for those who must find all of a process.
  void remember_locked(const Pointer& inode) {
    std::lock_guard lock(locked_mutex_);
    std::erase_if(locked_, [](const auto& weak) { return weak.expired(); });
    locked_.push_back(inode);
  }
  std::vector<Pointer> locked() const {
    std::lock_guard lock(locked_mutex_);
    std::vector<Pointer> held;
    for (const auto& weak : locked_) {
      if (Pointer inode = weak.lock()) held.push_back(std::move(inode));
    }
    return held;
  }

  T& tree_;
  std::atomic<std::uint64_t> open_files_{0};
  std::atomic<std::uint64_t> references_{0};
  mutable std::mutex locked_mutex_;
  std::vector<std::weak_ptr<typename T::Object>> locked_;  // guarded by locked_mutex_
};

}  // namespace libservices::internal

#include "libservices/internal/content_calls.h"  // IWYU pragma: export

#endif  // LIBSERVICES_INTERNAL_CONTENT_H_
