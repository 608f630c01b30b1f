// SPDX-License-Identifier: Apache-2.0
#include "services/local/local.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace libservices {
namespace {

using local_internal::attributes_of;
using local_internal::Descriptor;
using local_internal::DescriptorPtr;

constexpr int kFind = O_PATH | O_NOFOLLOW | O_CLOEXEC;
// In the work directory; what is in it is ours to remove.
constexpr const char* kStagingName = ".libservices-staging";

// The call again while signals interrupt it.
template <class Call>
auto uninterrupted(Call&& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// A path of an open descriptor for calls that have no form for O_PATH descriptors.
struct ProcPath {
  explicit ProcPath(int descriptor) {
    *fmt::format_to(text.data(), "/proc/self/fd/{}", descriptor) = '\0';
  }
  const char* get() const { return text.data(); }
  std::array<char, 32> text;
};

absl::Status failure(std::string_view path, std::string_view mend) {
  return absl::ErrnoToStatus(errno,
                             fmt::format("local: {}: {} ({})", path, std::strerror(errno), mend));
}

// Empties a directory that is ours, links never followed.
void remove_all(int directory, const char* name) {
  if (::unlinkat(directory, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) return;
  const int inside =
      ::openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (inside < 0) return;
  if (DIR* const listing = ::fdopendir(inside)) {
    while (const dirent* entry = ::readdir(listing)) {
      const std::string_view entry_name = entry->d_name;
      if (entry_name != "." && entry_name != "..") remove_all(inside, entry->d_name);
    }
    ::closedir(listing);
  }
  ::unlinkat(directory, name, AT_REMOVEDIR);
}

}  // namespace

absl::Status Local::start() {
  const int descriptor =
      ::open(config_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    return failure(config_.directory, errno == ENOENT    ? "make it, or correct the path"
                                      : errno == ENOTDIR ? "name a directory"
                                                         : "the service must be able to read it");
  }
  auto opened = std::make_shared<Descriptor>(descriptor);
  char* const real = ::realpath(config_.directory.c_str(), nullptr);
  place_ = real != nullptr ? real : config_.directory;
  std::free(real);
  auto seen = attributes_of(descriptor, "");
  if (!seen.ok()) {
    errno = seen.error().value;
    return failure(config_.directory, "its attributes cannot be read");
  }
  std::size_t most = config_.most_descriptors;
  if (most == 0) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    most = std::clamp<std::size_t>(limit.rlim_cur / 4, 16, 4096);
  }
  device_ = seen->device;
  descriptors_ = std::make_unique<local_internal::Descriptors>(most, descriptor);
  root_ = descriptors_->intern(*seen, std::move(opened), nullptr, {});
  std::lock_guard lock(work_mutex_);
  // What an earlier run left unfinished.
  if (config_.work.empty() && ::access((place_ + ".work").c_str(), F_OK) != 0) {
    return absl::OkStatus();
  }
  return open_work();
}

absl::Status Local::stop() {
  std::lock_guard lock(work_mutex_);
  if (staging_ != nullptr) {
    const std::string work = config_.work.empty() ? place_ + ".work" : config_.work;
    remove_all(AT_FDCWD, (work + "/" + kStagingName).c_str());
    // Only a directory that we made and that holds nothing goes.
    ::unlink((work + "/.libservices-lock").c_str());
    if (config_.work.empty()) ::rmdir(work.c_str());
  }
  staging_.reset();
  root_.reset();
  descriptors_.reset();
  if (work_lock_ >= 0) ::close(work_lock_);
  work_lock_ = -1;
  return absl::OkStatus();
}

// REQUIRES: work_mutex_. Makes, locks and empties the staging directory.
absl::Status Local::open_work() {
  const std::string work = config_.work.empty() ? place_ + ".work" : config_.work;
  if (::mkdir(work.c_str(), 0700) != 0 && errno != EEXIST) {
    return failure(work, "it is needed for changes in one step: name a directory on the same "
                         "volume with work=PATH");
  }
  const std::string lock_path = work + "/.libservices-lock";
  work_lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (work_lock_ < 0) return failure(lock_path, "the service must be able to write there");
  if (::flock(work_lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(std::exchange(work_lock_, -1));
    return absl::AlreadyExistsError(
        fmt::format("local: {}: another service uses this directory for changes (stop it, or give "
                    "each its own upper)",
                    place_));
  }
  const std::string staging = work + "/" + kStagingName;
  remove_all(AT_FDCWD, staging.c_str());
  if (::mkdir(staging.c_str(), 0700) != 0) return failure(staging, "make room, or check rights");
  auto opened =
      std::make_shared<Descriptor>(::open(staging.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  auto seen = attributes_of(opened->get(), "");
  if (!seen.ok()) return failure(staging, "it cannot be read");
  if (seen->device != device_) {
    return absl::InvalidArgumentError(
        fmt::format("local: the work directory {} is not on the volume of {} (name one that is, "
                    "with work=PATH)",
                    work, place_));
  }
  staging_ = descriptors_->intern(*seen, std::move(opened), nullptr, {});
  return absl::OkStatus();
}

Result<Entry<Local::Node>> Local::staging(C) {
  std::lock_guard lock(work_mutex_);
  if (staging_ == nullptr) {
    if (const absl::Status made = open_work(); !made.ok()) {
      return Errno{absl::IsAlreadyExists(made) ? EBUSY : EXDEV};
    }
  }
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(staging_));
  LIBSERVICES_TRY(const Attributes seen, attributes_of(descriptor->get(), ""));
  return Entry<Node>{staging_, seen};
}

// The directory's descriptor, and the name as a string when it may be one.
Result<DescriptorPtr> Local::directory_of(const Node& directory, std::string_view name,
                                          std::string& checked) {
  if (!S_ISDIR(directory->type)) return Errno{ENOTDIR};
  if (name.empty() || name == "." || name == ".." ||
      name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return Errno{EINVAL};
  }
  if (name.size() > NAME_MAX) return Errno{ENAMETOOLONG};
  checked.assign(name);
  return descriptors_->open(directory);
}

Result<Entry<Local::Node>> Local::root(C) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(root_));
  LIBSERVICES_TRY(const Attributes seen, attributes_of(descriptor->get(), ""));
  return Entry<Node>{root_, seen};
}

Result<Entry<Local::Node>> Local::lookup(C, const Node& directory, std::string_view name) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  LIBSERVICES_TRY(const Attributes seen, attributes_of(parent->get(), checked.c_str()));
  if (seen.device != device_) return Errno{EXDEV};
  return Entry<Node>{descriptors_->intern(seen, nullptr, directory, checked), seen};
}

Result<Attributes> Local::getattr(C, const Node& node) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  return attributes_of(descriptor->get(), "");
}

Result<Opened<Local::File>> Local::open(C, const Node& node, OpenFlags flags) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  if (!S_ISREG(node->type) && !S_ISDIR(node->type)) return Errno{ENXIO};
  const int bits = flags.bits & (O_ACCMODE | O_TRUNC | O_DIRECTORY | O_DIRECT | O_SYNC | O_DSYNC);
  auto file = std::make_unique<OpenFile>(
      ::open(ProcPath(descriptor->get()).get(), bits | O_CLOEXEC | O_NOCTTY));
  if (file->descriptor.get() < 0) return last_errno();
  LIBSERVICES_TRY(const Attributes seen, attributes_of(file->descriptor.get(), ""));
  return Opened<File>{std::move(file), seen};
}

Result<std::size_t> Local::read(C, File& file, std::uint64_t offset, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t count = uninterrupted([&] {
      return ::pread(file->descriptor.get(), into.data() + done, into.size() - done,
                     static_cast<off_t>(offset + done));
    });
    if (count < 0) {
      if (done != 0) break;
      return last_errno();
    }
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

Result<std::size_t> Local::write(C, File& file, std::uint64_t offset,
                                 std::span<const std::byte> from) {
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t count = uninterrupted([&] {
      return ::pwrite(file->descriptor.get(), from.data() + done, from.size() - done,
                      static_cast<off_t>(offset + done));
    });
    if (count < 0) {
      if (done != 0) break;
      return last_errno();
    }
    done += static_cast<std::size_t>(count);
  }
  return done;
}

Result<std::uint64_t> Local::append(C, File& file, std::span<const std::byte> from,
                                    std::size_t& written) {
  // With RWF_APPEND and no offset the kernel moves the descriptor's own offset to the new end.
  std::lock_guard lock(file->listing);
  const iovec part{const_cast<std::byte*>(from.data()), from.size()};
  const ssize_t count = uninterrupted(
      [&] { return ::pwritev2(file->descriptor.get(), &part, 1, -1, RWF_APPEND); });
  if (count < 0) return last_errno();
  written = static_cast<std::size_t>(count);
  const off_t end = ::lseek(file->descriptor.get(), 0, SEEK_CUR);
  if (end < 0) return last_errno();
  return static_cast<std::uint64_t>(end);
}

Result<void> Local::close(C, File& file) {
  file.reset();  // written data is in the host's cache: close(2) of a local file has no news
  return {};
}

Result<void> Local::readdir(C, File& directory, std::uint64_t after, Listing wanted,
                            EntrySink sink) {
  const int descriptor = directory->descriptor.get();
  std::lock_guard lock(directory->listing);
  if (::lseek(descriptor, static_cast<off_t>(after), SEEK_SET) < 0) return last_errno();
  alignas(8) std::array<char, 32768> buffer;
  for (;;) {
    const long size =
        uninterrupted([&] { return ::getdents64(descriptor, buffer.data(), buffer.size()); });
    if (size < 0) return last_errno();
    if (size == 0) return {};
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      DirEntry given{.name = entry->d_name,
                     .inode = entry->d_ino,
                     .type = entry->d_type,
                     .cookie = static_cast<std::uint64_t>(entry->d_off)};
      if (given.name == "." || given.name == "..") continue;
      Attributes seen;
      if (wanted == Listing::kAttributes) {
        auto asked = attributes_of(descriptor, entry->d_name);
        if (!asked.ok() && asked.error() == Errno{ENOENT}) continue;
        if (asked.ok()) {
          seen = *asked;
          given.attributes = &seen;
        }
      }
      if (!sink(given)) return {};
    }
  }
}

Result<std::size_t> Local::readlink(C, const Node& node, std::span<char> into) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  const ssize_t length = ::readlinkat(descriptor->get(), "", into.data(), into.size());
  if (length < 0) return errno == ENOENT ? Errno{EINVAL} : last_errno();
  return static_cast<std::size_t>(length);
}

Result<VolumeInfo> Local::statfs(C, const Node& node) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  struct statfs seen {};
  if (::fstatfs(descriptor->get(), &seen) != 0) return last_errno();
  return VolumeInfo{.block_size = static_cast<std::uint64_t>(seen.f_bsize),
                    .blocks = seen.f_blocks,
                    .blocks_free = seen.f_bfree,
                    .blocks_available = seen.f_bavail,
                    .files = seen.f_files,
                    .files_free = seen.f_ffree,
                    .name_max = static_cast<std::uint64_t>(seen.f_namelen),
                    .type = static_cast<std::uint64_t>(seen.f_type)};
}

Result<void> Local::fsync(C, File& file, SyncScope scope) {
  const int descriptor = file->descriptor.get();
  if ((scope == SyncScope::kData ? ::fdatasync(descriptor) : ::fsync(descriptor)) != 0) {
    return last_errno();
  }
  return {};
}

Result<void> Local::fallocate(C, File& file, int mode, std::uint64_t offset,
                              std::uint64_t length) {
  if (uninterrupted([&] {
        return ::fallocate(file->descriptor.get(), mode, static_cast<off_t>(offset),
                           static_cast<off_t>(length));
      }) != 0) {
    return last_errno();
  }
  return {};
}

Result<std::uint64_t> Local::seek(C, File& file, std::uint64_t offset, SeekTarget target) {
  std::lock_guard lock(file->listing);  // the descriptor's own offset moves
  const off_t found = ::lseek(file->descriptor.get(), static_cast<off_t>(offset),
                              target == SeekTarget::kData ? SEEK_DATA : SEEK_HOLE);
  if (found < 0) return last_errno();
  return static_cast<std::uint64_t>(found);
}

Result<std::uint64_t> Local::copy_range(C, File& from, std::uint64_t from_offset, File& to,
                                        std::uint64_t to_offset, std::uint64_t length) {
  auto source = static_cast<off_t>(from_offset);
  auto target = static_cast<off_t>(to_offset);
  const ssize_t copied = uninterrupted([&] {
    return ::copy_file_range(from->descriptor.get(), &source, to->descriptor.get(), &target,
                             std::min<std::uint64_t>(length, 0x7ffff000U), 0);
  });
  if (copied < 0) return last_errno();
  return static_cast<std::uint64_t>(copied);
}

// Owner and mode of what was just made as `name`, which is removed again if that fails.
Result<Entry<Local::Node>> Local::finish(const DescriptorPtr& parent, const Node& directory,
                                         const std::string& name, const NewNode& fresh,
                                         bool directory_made) {
  auto dress = [&]() -> Result<Attributes> {
    LIBSERVICES_TRY(Attributes seen, attributes_of(parent->get(), name.c_str()));
    const bool owner_differs = seen.uid != fresh.uid || seen.gid != fresh.gid;
    if (owner_differs && ::geteuid() == 0) {
      if (::fchownat(parent->get(), name.c_str(), fresh.uid, fresh.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return last_errno();
      }
    }
    // The umask, a set-group-id directory or the chown may have changed it.
    const bool has_mode = !seen.is_symlink();
    if (has_mode && (owner_differs || seen.permissions() != (fresh.mode & 07777U))) {
      if (::fchmodat(parent->get(), name.c_str(), fresh.mode & 07777U, 0) != 0) {
        return last_errno();
      }
      return attributes_of(parent->get(), name.c_str());
    }
    return owner_differs ? attributes_of(parent->get(), name.c_str()) : Result<Attributes>(seen);
  };
  auto seen = dress();
  if (!seen.ok()) {
    ::unlinkat(parent->get(), name.c_str(), directory_made ? AT_REMOVEDIR : 0);
    return seen.error();
  }
  return Entry<Node>{descriptors_->intern(*seen, nullptr, directory, name), *seen};
}

Result<Created<Local::Node, Local::File>> Local::create(C, const Node& directory,
                                                        std::string_view name,
                                                        const NewNode& fresh, OpenFlags flags) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  const int bits = flags.bits & (O_ACCMODE | O_DIRECT | O_SYNC | O_DSYNC);
  auto file = std::make_unique<OpenFile>(
      ::openat(parent->get(), checked.c_str(),
               bits | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, fresh.mode & 07777U));
  if (file->descriptor.get() < 0) return last_errno();
  LIBSERVICES_TRY(auto made, finish(parent, directory, checked, fresh, false));
  return Created<Node, File>{std::move(made.node), std::move(file), made.attributes};
}

Result<Created<Local::Node, Local::File>> Local::tmpfile(C, const Node& directory,
                                                         const NewNode& fresh, OpenFlags flags) {
  if (!S_ISDIR(directory->type)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const DescriptorPtr parent, descriptors_->open(directory));
  auto file = std::make_unique<OpenFile>(::open(
      ProcPath(parent->get()).get(), (flags.bits & O_ACCMODE) | O_TMPFILE | O_CLOEXEC,
      fresh.mode & 07777U));
  const int descriptor = file->descriptor.get();
  if (descriptor < 0) return errno == EISDIR ? Errno{EOPNOTSUPP} : last_errno();
  if (::geteuid() == 0 && ::fchown(descriptor, fresh.uid, fresh.gid) != 0) return last_errno();
  if (::fchmod(descriptor, fresh.mode & 07777U) != 0) return last_errno();
  LIBSERVICES_TRY(const Attributes seen, attributes_of(descriptor, ""));
  auto own = std::make_shared<Descriptor>(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (own->get() < 0) return last_errno();
  Node node = descriptors_->intern(seen, std::move(own), nullptr, {});
  LIBSERVICES_CHECK_OK(descriptors_->pin(node));
  return Created<Node, File>{std::move(node), std::move(file), seen};
}

Result<Attributes> Local::setattr(C, const Node& node, const AttributeChanges& changes) {
  using A = AttributeChanges;
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  const ProcPath path(descriptor->get());
  if (changes.has(A::kMode) && S_ISLNK(node->type)) return Errno{EOPNOTSUPP};
  if (changes.has(A::kSize) &&
      uninterrupted([&] { return ::truncate(path.get(), static_cast<off_t>(changes.size)); }) !=
          0) {
    return last_errno();
  }
  if (changes.has(A::kUid) || changes.has(A::kGid)) {
    const uid_t uid = changes.has(A::kUid) ? changes.uid : static_cast<uid_t>(-1);
    const gid_t gid = changes.has(A::kGid) ? changes.gid : static_cast<gid_t>(-1);
    if (::fchownat(descriptor->get(), "", uid, gid, AT_EMPTY_PATH) != 0) return last_errno();
  }
  if (changes.has(A::kMode) && ::chmod(path.get(), changes.mode & 07777U) != 0) {
    return last_errno();
  }
  std::array<timespec, 2> times{{{0, UTIME_OMIT}, {0, UTIME_OMIT}}};
  if (changes.has(A::kAtime)) times[0] = {changes.atime.seconds, changes.atime.nanoseconds};
  if (changes.has(A::kMtime)) times[1] = {changes.mtime.seconds, changes.mtime.nanoseconds};
  if (changes.has(A::kAtimeNow)) times[0].tv_nsec = UTIME_NOW;
  if (changes.has(A::kMtimeNow)) times[1].tv_nsec = UTIME_NOW;
  const bool has_times = times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT;
  if (has_times &&
      ::syscall(SYS_utimensat, descriptor->get(), "", times.data(), AT_EMPTY_PATH) != 0) {
    return last_errno();
  }
  return attributes_of(descriptor->get(), "");
}

Result<Entry<Local::Node>> Local::mkdir(C, const Node& directory, std::string_view name,
                                        const NewNode& fresh) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  if (::mkdirat(parent->get(), checked.c_str(), fresh.mode & 07777U) != 0) return last_errno();
  return finish(parent, directory, checked, fresh, true);
}

Result<Entry<Local::Node>> Local::mknod(C, const Node& directory, std::string_view name,
                                        const NewNode& fresh) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  if (::mknodat(parent->get(), checked.c_str(), fresh.mode, fresh.special_device) != 0) {
    return last_errno();
  }
  return finish(parent, directory, checked, fresh, false);
}

Result<Entry<Local::Node>> Local::symlink(C, const Node& directory, std::string_view name,
                                          std::string_view target, const NewNode& fresh) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  if (::symlinkat(std::string(target).c_str(), parent->get(), checked.c_str()) != 0) {
    return last_errno();
  }
  return finish(parent, directory, checked, fresh, false);
}

Result<Entry<Local::Node>> Local::link(C, const Node& node, const Node& directory,
                                       std::string_view name) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  LIBSERVICES_TRY(const DescriptorPtr object, descriptors_->open(node));
  if (S_ISDIR(node->type)) return Errno{EPERM};
  if (::linkat(AT_FDCWD, ProcPath(object->get()).get(), parent->get(), checked.c_str(),
               AT_SYMLINK_FOLLOW) != 0) {
    return last_errno();
  }
  LIBSERVICES_TRY(const Attributes seen, attributes_of(parent->get(), checked.c_str()));
  return Entry<Node>{descriptors_->intern(seen, nullptr, directory, checked), seen};
}

// If the object under `name` is known, a descriptor must lead to it from now on.
Result<void> Local::pin_victim(int directory, const char* name) {
  auto seen = attributes_of(directory, name);
  if (!seen.ok()) return {};  // the change itself will say so
  const Node victim = descriptors_->known({seen->device, seen->inode});
  if (victim == nullptr || (!seen->is_directory() && seen->links > 1)) return {};
  return descriptors_->pin(victim);
}

Result<void> Local::remove(const Node& directory, std::string_view name, int flags) {
  std::string checked;
  LIBSERVICES_TRY(const DescriptorPtr parent, directory_of(directory, name, checked));
  LIBSERVICES_CHECK_OK(pin_victim(parent->get(), checked.c_str()));
  if (::unlinkat(parent->get(), checked.c_str(), flags) != 0) return last_errno();
  return {};
}

Result<void> Local::unlink(C, const Node& directory, std::string_view name) {
  return remove(directory, name, 0);
}

Result<void> Local::rmdir(C, const Node& directory, std::string_view name) {
  return remove(directory, name, AT_REMOVEDIR);
}

Result<void> Local::rename(C, const Node& directory, std::string_view name,
                           const Node& new_directory, std::string_view new_name,
                           RenameMode mode) {
  std::string from;
  std::string to;
  LIBSERVICES_TRY(const DescriptorPtr old_parent, directory_of(directory, name, from));
  LIBSERVICES_TRY(const DescriptorPtr new_parent, directory_of(new_directory, new_name, to));
  auto source = attributes_of(old_parent->get(), from.c_str());
  Result<Attributes> exchanged = Errno{ENOENT};
  if (mode == RenameMode::kReplace) {
    LIBSERVICES_CHECK_OK(pin_victim(new_parent->get(), to.c_str()));
  } else if (mode == RenameMode::kExchange) {
    exchanged = attributes_of(new_parent->get(), to.c_str());
  }
  const unsigned flags = mode == RenameMode::kReplace     ? 0
                         : mode == RenameMode::kNoReplace ? 1U /* RENAME_NOREPLACE */
                                                          : 2U /* RENAME_EXCHANGE */;
  if (::renameat2(old_parent->get(), from.c_str(), new_parent->get(), to.c_str(), flags) != 0) {
    return last_errno();
  }
  // Known objects remember a name by which they are found again.
  auto moved = [&](const Result<Attributes>& seen, const Node& where, const std::string& as) {
    if (!seen.ok() || descriptors_->known({seen->device, seen->inode}) == nullptr) return;
    (void)descriptors_->intern(*seen, nullptr, where, as);
  };
  moved(source, new_directory, to);
  moved(exchanged, directory, from);
  return {};
}

Result<std::size_t> Local::getxattr(C, const Node& node, std::string_view name,
                                    std::span<std::byte> into) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  const ssize_t size = ::getxattr(ProcPath(descriptor->get()).get(), std::string(name).c_str(),
                                  into.data(), into.size());
  if (size < 0) return last_errno();
  return static_cast<std::size_t>(size);
}

Result<void> Local::setxattr(C, const Node& node, std::string_view name,
                             std::span<const std::byte> value, XattrMode mode) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  const int flags = mode == XattrMode::kCreate    ? XATTR_CREATE
                    : mode == XattrMode::kReplace ? XATTR_REPLACE
                                                  : 0;
  if (::setxattr(ProcPath(descriptor->get()).get(), std::string(name).c_str(), value.data(),
                 value.size(), flags) != 0) {
    return last_errno();
  }
  return {};
}

Result<std::size_t> Local::listxattr(C, const Node& node, std::span<char> into) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  const ssize_t size =
      ::listxattr(ProcPath(descriptor->get()).get(), into.data(), into.size());
  if (size < 0) return last_errno();
  return static_cast<std::size_t>(size);
}

Result<void> Local::removexattr(C, const Node& node, std::string_view name) {
  LIBSERVICES_TRY(const DescriptorPtr descriptor, descriptors_->open(node));
  if (::removexattr(ProcPath(descriptor->get()).get(), std::string(name).c_str()) != 0) {
    return last_errno();
  }
  return {};
}

}  // namespace libservices
