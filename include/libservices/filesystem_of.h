// SPDX-License-Identifier: Apache-2.0
//
// `FilesystemOf<Stack>`: a `Filesystem<Stack>` behind the type-erased interface.
//
// For who must hold filesystems of several stacks in one table (the service host, the C
// interface). Each call costs one virtual call more than `Filesystem<Stack>` itself.
#ifndef LIBSERVICES_FILESYSTEM_OF_H_
#define LIBSERVICES_FILESYSTEM_OF_H_

#include <memory>
#include <utility>

#include "libservices/any_filesystem.h"
#include "libservices/filesystem.h"

namespace libservices {

template <ReadableService Stack>
class FilesystemOf final : public AnyFilesystem {
  using C = const Context&;
  using L = const Location&;

 public:
  explicit FilesystemOf(typename Stack::Config config, FilesystemOptions options = {})
      : fs_(std::move(config), options), deadline_(options.deadline) {}

  Filesystem<Stack>& filesystem() { return fs_; }

  std::chrono::nanoseconds deadline() const override { return deadline_; }
  absl::Status start() override { return fs_.start(); }
  absl::Status stop() override { return fs_.stop(); }
  Result<OpenFilePtr> open(C c, L at, OpenFlags flags, mode_t mode) override {
    return fs_.open(c, at, flags, mode);
  }
  Result<void> close(C c, OpenFilePtr file) override { return fs_.close(c, std::move(file)); }
  Result<std::size_t> read(C c, OpenFile& file, std::span<std::byte> into) override {
    return fs_.read(c, file, into);
  }
  Result<std::size_t> pread(C c, OpenFile& file, std::uint64_t offset,
                            std::span<std::byte> into) override {
    return fs_.pread(c, file, offset, into);
  }
  Result<std::size_t> write(C c, OpenFile& file, std::span<const std::byte> from,
                            Placing placing) override {
    return fs_.write(c, file, from, placing);
  }
  Result<std::size_t> pwrite(C c, OpenFile& file, std::uint64_t offset,
                             std::span<const std::byte> from, Placing placing) override {
    return fs_.pwrite(c, file, offset, from, placing);
  }
  Result<std::uint64_t> lseek(C c, OpenFile& file, std::int64_t offset, int whence) override {
    return fs_.lseek(c, file, offset, whence);
  }
  Result<void> readdir(C c, OpenFile& file, Listing wanted, EntrySink sink) override {
    return fs_.readdir(c, file, wanted, sink);
  }
  Result<void> fsync(C c, OpenFile& file, SyncScope scope) override {
    return fs_.fsync(c, file, scope);
  }
  Result<void> fallocate(C c, OpenFile& file, int mode, std::uint64_t offset,
                         std::uint64_t length) override {
    return fs_.fallocate(c, file, mode, offset, length);
  }
  Result<std::uint64_t> copy_range(C c, OpenFile& from, std::uint64_t from_offset, OpenFile& to,
                                   std::uint64_t to_offset, std::uint64_t length) override {
    return fs_.copy_range(c, from, from_offset, to, to_offset, length);
  }
  Result<Attributes> stat(C c, L at) override { return fs_.stat(c, at); }
  Result<void> setattr(C c, L at, const AttributeChanges& changes) override {
    return fs_.setattr(c, at, changes);
  }
  Result<void> access(C c, L at, int mode) override { return fs_.access(c, at, mode); }
  Result<VolumeInfo> statfs(C c, L at) override { return fs_.statfs(c, at); }
  Result<void> mkdir(C c, L at, mode_t mode) override { return fs_.mkdir(c, at, mode); }
  Result<void> mknod(C c, L at, mode_t mode, std::uint64_t special_device) override {
    return fs_.mknod(c, at, mode, special_device);
  }
  Result<void> symlink(C c, std::string_view target, L at) override {
    return fs_.symlink(c, target, at);
  }
  Result<std::size_t> readlink(C c, L at, std::span<char> into) override {
    return fs_.readlink(c, at, into);
  }
  Result<void> link(C c, L from, L to) override { return fs_.link(c, from, to); }
  Result<void> unlink(C c, L at) override { return fs_.unlink(c, at); }
  Result<void> rmdir(C c, L at) override { return fs_.rmdir(c, at); }
  Result<void> rename(C c, L from, L to, RenameMode mode) override {
    return fs_.rename(c, from, to, mode);
  }
  Result<std::size_t> getxattr(C c, L at, std::string_view name,
                               std::span<std::byte> into) override {
    return fs_.getxattr(c, at, name, into);
  }
  Result<void> setxattr(C c, L at, std::string_view name, std::span<const std::byte> value,
                        XattrMode mode) override {
    return fs_.setxattr(c, at, name, value, mode);
  }
  Result<std::size_t> listxattr(C c, L at, std::span<char> into) override {
    return fs_.listxattr(c, at, into);
  }
  Result<void> removexattr(C c, L at, std::string_view name) override {
    return fs_.removexattr(c, at, name);
  }
  Result<InodeFlags> getflags(C c, L at, InodeFlags::Form form) override {
    return fs_.getflags(c, at, form);
  }
  Result<void> setflags(C c, L at, const InodeFlags& flags) override {
    return fs_.setflags(c, at, flags);
  }
  Result<void> lock(C c, OpenFile& file, const LockRequest& request) override {
    return fs_.lock(c, file, request);
  }
  Result<LockRequest> test_lock(C c, OpenFile& file, const LockRequest& request) override {
    return fs_.test_lock(c, file, request);
  }
  void forget_process(std::uint64_t process) override { fs_.forget_process(process); }
  Result<Reference> refer(C c, L at) override { return fs_.refer(c, at); }
  Result<Backing> backing(C c, OpenFile& file) override { return fs_.backing(c, file); }
  Result<Backing> map(C c, OpenFile& file, Mapping mapping) override {
    return fs_.map(c, file, mapping);
  }
  void remember_mapped(std::optional<std::uint64_t> inode) override { fs_.remember_mapped(inode); }
  bool may_lose_writes() const override { return CountsLosses<Stack>; }
  std::uint64_t losses() const override { return fs_.losses(); }
  bool is_mapped(OpenFile& file) const override { return fs_.is_mapped(file); }
  void set_listener(ChangeListener* listener) override { fs_.set_listener(listener); }
  void set_event_listener(EventListener* listener) override { fs_.set_event_listener(listener); }
  Result<void> watch(C c, OpenFile& file, EntrySink entries) override {
    return fs_.watch(c, file, entries);
  }
  void unwatch(OpenFile& file) override { fs_.unwatch(file); }
  Coherence coherence() const override { return fs_.coherence(); }
  Result<std::string> path_of(C c, OpenFile& file) override { return fs_.path_of(c, file); }
  FilesystemCounters counters() const override { return fs_.counters(); }
  bool keeps_partial_files() const override { return KeepsPartialFiles<Stack>; }
  Result<std::uint64_t> partial_files(C c, std::stop_token stop) override {
    if constexpr (KeepsPartialFiles<Stack>) {
      return fs_.stack().partial_files(c, std::move(stop));
    } else {
      return Errno{EOPNOTSUPP};
    }
  }
  Result<void> complete(C c, std::uint64_t& completed) override {
    if constexpr (KeepsPartialFiles<Stack>) {
      return fs_.stack().complete(c, completed);
    } else {
      return Errno{EOPNOTSUPP};
    }
  }

 private:
  Filesystem<Stack> fs_;
  const std::chrono::nanoseconds deadline_;
};

}  // namespace libservices

#endif  // LIBSERVICES_FILESYSTEM_OF_H_
