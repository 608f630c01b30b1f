// SPDX-License-Identifier: Apache-2.0
//
// The C interface over AnyFilesystem. Each call makes its Context, and no exception leaves it.
#include "libservices/libservices.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "libservices/any_filesystem.h"
#include "libservices/catalog.h"

struct libservices_filesystem {
  std::unique_ptr<libservices::AnyFilesystem> stack;
  std::vector<gid_t> groups;  // of this process, for calls without a caller
};

struct libservices_file {
  libservices_filesystem* fs;
  libservices::OpenFilePtr open;
};

namespace libservices {
namespace {

constexpr mode_t kUmask = 022;

Context context_of(const libservices_filesystem& fs, const libservices_caller* caller) {
  Context context;
  if (caller == nullptr) {
    context.caller = {::geteuid(), ::getegid(), fs.groups};
    context.umask = kUmask;
    context.process = static_cast<std::uint64_t>(::getpid());
    return context;
  }
  context.caller = {caller->uid, caller->gid, {caller->groups, caller->group_count}};
  context.umask = caller->umask;
  context.process = caller->process;
  return context;
}

// What the C interface returns for a result: the number, 0, or the negative errno.
int number(const Result<void>& result) { return result.ok() ? 0 : -result.error().value; }
template <class T>
std::int64_t number(const Result<T>& result) {
  return result.ok() ? static_cast<std::int64_t>(*result) : -result.error().value;
}

// Runs `call`; what it throws becomes an errno.
template <class Call>
auto guarded(Call call) noexcept -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  } catch (...) {
    return -EIO;
  }
}

timespec time_of(const Timestamp& time) {
  return {static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
}

void fill(const Attributes& from, struct stat& to) {
  to = {};
  to.st_dev = from.device;
  to.st_ino = from.inode;
  to.st_mode = from.mode;
  to.st_nlink = from.links;
  to.st_uid = from.uid;
  to.st_gid = from.gid;
  to.st_rdev = from.special_device;
  to.st_size = static_cast<off_t>(from.size);
  to.st_blksize = static_cast<blksize_t>(from.block_size);
  to.st_blocks = static_cast<blkcnt_t>(from.blocks);
  to.st_atim = time_of(from.atime);
  to.st_mtim = time_of(from.mtime);
  to.st_ctim = time_of(from.ctime);
}

int stat_at(libservices_filesystem* fs, const libservices_caller* caller, const Location& location,
            struct stat* status) noexcept {
  return guarded([&] {
    const Result<Attributes> attributes = fs->stack->stat(context_of(*fs, caller), location);
    if (!attributes.ok()) return -attributes.error().value;
    fill(*attributes, *status);
    return 0;
  });
}

int change(libservices_filesystem* fs, const libservices_caller* caller, const Location& location,
           const AttributeChanges& changes) noexcept {
  return guarded(
      [&] { return number(fs->stack->setattr(context_of(*fs, caller), location, changes)); });
}

char* copy_of(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

absl::StatusOr<std::unique_ptr<libservices_filesystem>> create(const char* spec) {
  // The stacks are compiled in; the table of them is made once.
  static const Catalog catalog = standard_catalog();
  absl::StatusOr<std::unique_ptr<AnyFilesystem>> stack = catalog.build(spec);
  if (!stack.ok()) return stack.status();
  if (absl::Status started = (*stack)->start(); !started.ok()) return started;
  auto fs = std::make_unique<libservices_filesystem>();
  fs->stack = *std::move(stack);
  const int count = ::getgroups(0, nullptr);
  fs->groups.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  if (count > 0 && ::getgroups(count, fs->groups.data()) != count) fs->groups.clear();
  return fs;
}

}  // namespace
}  // namespace libservices

using namespace libservices;  // NOLINT: every definition below is one of the header's

libservices_filesystem* libservices_filesystem_create(const char* spec, char** error) {
  std::string message;
  try {
    auto fs = create(spec);
    if (fs.ok()) return fs->release();
    message = std::string(fs.status().message());
  } catch (...) {
    message = "out of memory";
  }
  if (error != nullptr) *error = copy_of(message);
  return nullptr;
}

int libservices_filesystem_destroy(libservices_filesystem* fs) {
  return guarded([&] {
    const std::unique_ptr<libservices_filesystem> owned(fs);
    return owned->stack->stop().ok() ? 0 : -EIO;
  });
}

int libservices_filesystem_open(libservices_filesystem* fs, const libservices_caller* caller,
                                const char* path, int flags, mode_t mode,
                                libservices_file** file) {
  return guarded([&] {
    auto opened = std::make_unique<libservices_file>(libservices_file{fs, nullptr});
    Result<OpenFilePtr> open = fs->stack->open(context_of(*fs, caller), path, {flags}, mode);
    if (!open.ok()) return -open.error().value;
    opened->open = *std::move(open);
    *file = opened.release();
    return 0;
  });
}

int libservices_filesystem_stat(libservices_filesystem* fs, const libservices_caller* caller,
                                const char* path, struct stat* status) {
  return stat_at(fs, caller, Location(path), status);
}

int libservices_filesystem_lstat(libservices_filesystem* fs, const libservices_caller* caller,
                                 const char* path, struct stat* status) {
  return stat_at(fs, caller, Location(std::string_view(path), Follow::kNo), status);
}

int libservices_filesystem_access(libservices_filesystem* fs, const libservices_caller* caller,
                                  const char* path, int mode) {
  return guarded([&] { return number(fs->stack->access(context_of(*fs, caller), path, mode)); });
}

int libservices_filesystem_statvfs(libservices_filesystem* fs, const libservices_caller* caller,
                                   const char* path, struct statvfs* volume) {
  return guarded([&] {
    const Result<VolumeInfo> info = fs->stack->statfs(context_of(*fs, caller), path);
    if (!info.ok()) return -info.error().value;
    *volume = {};
    volume->f_bsize = info->block_size;
    volume->f_frsize = info->block_size;
    volume->f_blocks = info->blocks;
    volume->f_bfree = info->blocks_free;
    volume->f_bavail = info->blocks_available;
    volume->f_files = info->files;
    volume->f_ffree = info->files_free;
    volume->f_favail = info->files_free;
    volume->f_namemax = info->name_max;
    return 0;
  });
}

int libservices_filesystem_mkdir(libservices_filesystem* fs, const libservices_caller* caller,
                                 const char* path, mode_t mode) {
  return guarded([&] { return number(fs->stack->mkdir(context_of(*fs, caller), path, mode)); });
}

int libservices_filesystem_rmdir(libservices_filesystem* fs, const libservices_caller* caller,
                                 const char* path) {
  return guarded([&] { return number(fs->stack->rmdir(context_of(*fs, caller), path)); });
}

int libservices_filesystem_unlink(libservices_filesystem* fs, const libservices_caller* caller,
                                  const char* path) {
  return guarded([&] { return number(fs->stack->unlink(context_of(*fs, caller), path)); });
}

int libservices_filesystem_rename(libservices_filesystem* fs, const libservices_caller* caller,
                                  const char* from, const char* to) {
  return guarded([&] {
    return number(fs->stack->rename(context_of(*fs, caller), from, to, RenameMode::kReplace));
  });
}

int libservices_filesystem_link(libservices_filesystem* fs, const libservices_caller* caller,
                                const char* from, const char* to) {
  return guarded([&] {
    return number(fs->stack->link(context_of(*fs, caller),
                                  Location(std::string_view(from), Follow::kNo), to));
  });
}

int libservices_filesystem_symlink(libservices_filesystem* fs, const libservices_caller* caller,
                                   const char* target, const char* path) {
  return guarded([&] { return number(fs->stack->symlink(context_of(*fs, caller), target, path)); });
}

ssize_t libservices_filesystem_readlink(libservices_filesystem* fs,
                                        const libservices_caller* caller, const char* path,
                                        char* into, size_t size) {
  return guarded([&]() -> std::int64_t {
    return number(fs->stack->readlink(context_of(*fs, caller), path, {into, size}));
  });
}

int libservices_filesystem_chmod(libservices_filesystem* fs, const libservices_caller* caller,
                                 const char* path, mode_t mode) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = mode & 07777U;
  return change(fs, caller, Location(path), changes);
}

int libservices_filesystem_chown(libservices_filesystem* fs, const libservices_caller* caller,
                                 const char* path, uid_t uid, gid_t gid) {
  AttributeChanges changes;
  if (uid != static_cast<uid_t>(-1)) changes.which |= AttributeChanges::kUid;
  if (gid != static_cast<gid_t>(-1)) changes.which |= AttributeChanges::kGid;
  changes.uid = uid;
  changes.gid = gid;
  return change(fs, caller, Location(path), changes);
}

int libservices_filesystem_truncate(libservices_filesystem* fs, const libservices_caller* caller,
                                    const char* path, uint64_t size) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize;
  changes.size = size;
  return change(fs, caller, Location(path), changes);
}

int libservices_filesystem_utimens(libservices_filesystem* fs, const libservices_caller* caller,
                                   const char* path, const struct timespec times[2]) {
  AttributeChanges changes;
  const auto set = [&](const timespec& time, AttributeChanges::Field given,
                       AttributeChanges::Field now, Timestamp& into) {
    if (time.tv_nsec == UTIME_OMIT) return true;
    if (time.tv_nsec == UTIME_NOW) {
      changes.which |= now;
      return true;
    }
    if (time.tv_nsec < 0 || time.tv_nsec > 999'999'999) return false;
    changes.which |= given;
    into = {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec), 0};
    return true;
  };
  using Changes = AttributeChanges;
  if (!set(times[0], Changes::kAtime, Changes::kAtimeNow, changes.atime) ||
      !set(times[1], Changes::kMtime, Changes::kMtimeNow, changes.mtime)) {
    return -EINVAL;
  }
  return change(fs, caller, Location(path), changes);
}

int libservices_file_close(libservices_file* file, const libservices_caller* caller) {
  return guarded([&] {
    const std::unique_ptr<libservices_file> owned(file);
    return number(
        owned->fs->stack->close(context_of(*owned->fs, caller), std::move(owned->open)));
  });
}

ssize_t libservices_file_read(libservices_file* file, const libservices_caller* caller, void* into,
                              size_t size) {
  return guarded([&] {
    return number(file->fs->stack->read(context_of(*file->fs, caller), *file->open,
                                        {static_cast<std::byte*>(into), size}));
  });
}

ssize_t libservices_file_pread(libservices_file* file, const libservices_caller* caller,
                               void* into, size_t size, uint64_t offset) {
  return guarded([&] {
    return number(file->fs->stack->pread(context_of(*file->fs, caller), *file->open, offset,
                                         {static_cast<std::byte*>(into), size}));
  });
}

ssize_t libservices_file_write(libservices_file* file, const libservices_caller* caller,
                               const void* from, size_t size) {
  return guarded([&] {
    return number(file->fs->stack->write(context_of(*file->fs, caller), *file->open,
                                         {static_cast<const std::byte*>(from), size}));
  });
}

ssize_t libservices_file_pwrite(libservices_file* file, const libservices_caller* caller,
                                const void* from, size_t size, uint64_t offset) {
  return guarded([&] {
    return number(file->fs->stack->pwrite(context_of(*file->fs, caller), *file->open, offset,
                                          {static_cast<const std::byte*>(from), size}));
  });
}

int64_t libservices_file_seek(libservices_file* file, const libservices_caller* caller,
                              int64_t offset, int whence) {
  return guarded([&] {
    return number(
        file->fs->stack->lseek(context_of(*file->fs, caller), *file->open, offset, whence));
  });
}

int libservices_file_stat(libservices_file* file, const libservices_caller* caller,
                          struct stat* status) {
  return stat_at(file->fs, caller, Location(*file->open), status);
}

int libservices_file_truncate(libservices_file* file, const libservices_caller* caller,
                              uint64_t size) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kSize;
  changes.size = size;
  return change(file->fs, caller, Location(*file->open), changes);
}

int libservices_file_sync(libservices_file* file, const libservices_caller* caller) {
  return guarded([&] {
    return number(
        file->fs->stack->fsync(context_of(*file->fs, caller), *file->open, SyncScope::kAll));
  });
}

int libservices_file_readdir(libservices_file* file, const libservices_caller* caller,
                             libservices_entry* entry) {
  return guarded([&] {
    int found = 0;
    const auto take_one = [&](const DirEntry& next) {
      if (found != 0 || next.name.size() >= sizeof entry->name) return false;
      found = 1;
      entry->inode = next.inode;
      entry->type = next.type;
      std::memcpy(entry->name, next.name.data(), next.name.size());
      entry->name[next.name.size()] = '\0';
      return true;
    };
    const Result<void> listed = file->fs->stack->readdir(
        context_of(*file->fs, caller), *file->open, Listing::kNames, take_one);
    return listed.ok() ? found : -listed.error().value;
  });
}
