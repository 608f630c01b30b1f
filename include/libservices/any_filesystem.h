// SPDX-License-Identifier: Apache-2.0
//
// The one type-erased boundary: a filesystem instance of any stack behind virtual calls.
//
// The service's filesystem table and the C interface use it. Who knows the stack's type uses
// `Filesystem<Stack>` itself, which has the same operations, and pays nothing.
//
// Every operation means what POSIX's call of that name means for the caller in `context`, with
// permissions, umask, sticky bits and symbolic links dealt with. What the stack has not is
// answered with EROFS (changes) or EOPNOTSUPP (abilities). THREADS: all calls may run at once.
#ifndef LIBSERVICES_ANY_FILESYSTEM_H_
#define LIBSERVICES_ANY_FILESYSTEM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "libservices/attributes.h"
#include "libservices/capabilities.h"
#include "libservices/change_listener.h"
#include "libservices/context.h"
#include "libservices/dir_entry.h"
#include "libservices/event_listener.h"
#include "libservices/lock_request.h"
#include "libservices/open_file.h"
#include "libservices/result.h"

namespace libservices {

// What somebody maps a file for. One that is mapped to be written may be read, too.
enum class Mapping : std::uint8_t { kReads, kWrites };

// An object that is held on to without being open, for who names objects by numbers (FUSE).
struct Reference {
  OpenFilePtr file;          // for use as a base, and with Location::object_of
  std::uint64_t object = 0;  // of ChangeListener
  Attributes attributes;
};

struct FilesystemCounters {
  std::uint64_t open_files = 0;
  std::uint64_t known_objects = 0;  // inodes in memory
  std::uint64_t cached_names = 0;
  std::uint64_t locks = 0;
};

class AnyFilesystem {
 public:
  virtual ~AnyFilesystem() = default;

  // How long whoever serves it keeps a caller waiting; 0: for ever.
  virtual std::chrono::nanoseconds deadline() const { return {}; }

  virtual absl::Status start() = 0;
  virtual absl::Status stop() = 0;

  // `mode` counts when O_CREAT or O_TMPFILE make a file. O_PATH opens anything, for use as a base.
  virtual Result<OpenFilePtr> open(const Context&, const Location&, OpenFlags, mode_t mode) = 0;
  // Ends one use of `file`, which drops the process's record locks on it; the last one closes.
  virtual Result<void> close(const Context&, OpenFilePtr file) = 0;

  virtual Result<std::size_t> read(const Context&, OpenFile&, std::span<std::byte> into) = 0;
  virtual Result<std::size_t> pread(const Context&, OpenFile&, std::uint64_t offset,
                                    std::span<std::byte> into) = 0;
  virtual Result<std::size_t> write(const Context&, OpenFile&, std::span<const std::byte>,
                                    Placing = Placing::kByFlags) = 0;
  virtual Result<std::size_t> pwrite(const Context&, OpenFile&, std::uint64_t offset,
                                     std::span<const std::byte> from,
                                     Placing = Placing::kByFlags) = 0;
  // `whence` is SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE.
  virtual Result<std::uint64_t> lseek(const Context&, OpenFile&, std::int64_t offset,
                                      int whence) = 0;
  // Goes on at the open directory's position and moves it; "." and ".." are among the entries.
  virtual Result<void> readdir(const Context&, OpenFile&, Listing, EntrySink) = 0;
  virtual Result<void> fsync(const Context&, OpenFile&, SyncScope) = 0;
  virtual Result<void> fallocate(const Context&, OpenFile&, int mode, std::uint64_t offset,
                                 std::uint64_t length) = 0;
  virtual Result<std::uint64_t> copy_range(const Context&, OpenFile& from,
                                           std::uint64_t from_offset, OpenFile& to,
                                           std::uint64_t to_offset, std::uint64_t length) = 0;

  virtual Result<Attributes> stat(const Context&, const Location&) = 0;
  // chmod, chown, utimensat and truncate; with the location of an open file their f-forms.
  virtual Result<void> setattr(const Context&, const Location&, const AttributeChanges&) = 0;
  virtual Result<void> access(const Context&, const Location&, int mode) = 0;
  virtual Result<VolumeInfo> statfs(const Context&, const Location&) = 0;

  virtual Result<void> mkdir(const Context&, const Location&, mode_t mode) = 0;
  virtual Result<void> mknod(const Context&, const Location&, mode_t mode,
                             std::uint64_t special_device) = 0;
  virtual Result<void> symlink(const Context&, std::string_view target, const Location&) = 0;
  virtual Result<std::size_t> readlink(const Context&, const Location&, std::span<char> into) = 0;
  virtual Result<void> link(const Context&, const Location& from, const Location& to) = 0;
  virtual Result<void> unlink(const Context&, const Location&) = 0;
  virtual Result<void> rmdir(const Context&, const Location&) = 0;
  virtual Result<void> rename(const Context&, const Location& from, const Location& to,
                              RenameMode) = 0;

  virtual Result<std::size_t> getxattr(const Context&, const Location&, std::string_view name,
                                       std::span<std::byte> into) = 0;
  virtual Result<void> setxattr(const Context&, const Location&, std::string_view name,
                                std::span<const std::byte> value, XattrMode) = 0;
  virtual Result<std::size_t> listxattr(const Context&, const Location&, std::span<char> into) = 0;
  virtual Result<void> removexattr(const Context&, const Location&, std::string_view name) = 0;

  // Of a file or directory. ERRORS: ENOTTY where it has none. To change whether it is immutable or
  // appended to alone takes the superuser; other flags, its owner.
  virtual Result<InodeFlags> getflags(const Context&, const Location&, InodeFlags::Form) {
    return Errno{ENOTTY};
  }
  virtual Result<void> setflags(const Context&, const Location&, const InodeFlags&) {
    return Errno{ENOTTY};
  }

  // Never waits: ERRORS: EAGAIN when another holds a conflicting lock.
  virtual Result<void> lock(const Context&, OpenFile&, const LockRequest&) = 0;
  // The first conflicting lock, or `type == kUnlock` when the lock could be had.
  virtual Result<LockRequest> test_lock(const Context&, OpenFile&, const LockRequest&) = 0;
  // Drops what a process that is gone has left: its record locks on every file.
  virtual void forget_process(std::uint64_t process) = 0;

  // What a mount at the kernel needs; a filesystem that is never mounted does without.
  virtual Result<Reference> refer(const Context&, const Location&) { return Errno{EOPNOTSUPP}; }
  // What has the bytes of an open file, while it is open. Who asks may read there, and write if the
  // file is open for that, without a call here. ERRORS: EOPNOTSUPP when there is no such
  // descriptor.
  virtual Result<Backing> backing(const Context&, OpenFile&) { return Errno{EOPNOTSUPP}; }
  // The same for as long as the object exists, whether the file is open or not.
  // ERRORS: EACCES when the file is not open for that, ENODEV of what is no regular file.
  virtual Result<Backing> map(const Context&, OpenFile&, Mapping) { return Errno{EOPNOTSUPP}; }
  // Files of this number are mapped so from before; nullopt: any may be. Before any call.
  virtual void remember_mapped(std::optional<std::uint64_t>) {}
  // Whether what was written, and not synchronised, is in the memory of this process alone.
  virtual bool may_lose_writes() const { return false; }
  // How often what was said before may have become untrue, though nobody has changed anything: what
  // is below has lost it.
  virtual std::uint64_t losses() const { return 0; }
  // Whether somebody may change its content through a mapping, without a call here.
  virtual bool is_mapped(OpenFile&) const { return false; }
  // One, for as long as the filesystem runs. Before any call; null: none.
  virtual void set_listener(ChangeListener*) {}
  // The same for events, of what is watched alone.
  virtual void set_event_listener(EventListener*) {}
  // From now on, until `unwatch`, the listener hears what happens to the file's object and, of a
  // directory, to its entries. Those that it has now are given to `entries`: no event of one comes
  // before, and none is missed behind. The file must be kept meanwhile; O_PATH will do.
  // ERRORS: EOPNOTSUPP without a listener, and those of a listing.
  virtual Result<void> watch(const Context&, OpenFile&, EntrySink) { return Errno{EOPNOTSUPP}; }
  virtual void unwatch(OpenFile&) {}
  // How long answers about names and attributes stay true.
  virtual Coherence coherence() const { return {}; }

  // The path of an open directory from the root of the instance ("/" for the root itself).
  // ERRORS: ENOENT when it was removed.
  virtual Result<std::string> path_of(const Context&, OpenFile&) = 0;
  virtual FilesystemCounters counters() const = 0;

  // KeepsPartialFiles of the stack. ERRORS: EOPNOTSUPP without it.
  virtual bool keeps_partial_files() const { return false; }
  virtual Result<std::uint64_t> partial_files(const Context&, std::stop_token) {
    return Errno{EOPNOTSUPP};
  }
  virtual Result<void> complete(const Context&, std::uint64_t&) { return Errno{EOPNOTSUPP}; }
};

}  // namespace libservices

#endif  // LIBSERVICES_ANY_FILESYSTEM_H_
