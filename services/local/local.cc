// SPDX-License-Identifier: Apache-2.0
#include "services/local/local.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace libservices {
namespace {

using local_internal::attributes_of;
using local_internal::Descriptor;
using local_internal::DescriptorRef;
using local_internal::Nodes;
using local_internal::ObjectIdentity;
using local_internal::ProcPath;
using local_internal::terminated;
using local_internal::uninterrupted;
using local_internal::WorkDirectory;

constexpr int kFind = O_PATH | O_NOFOLLOW | O_CLOEXEC;
constexpr int kOpenBits = O_ACCMODE | O_DIRECTORY | O_DIRECT | O_SYNC | O_DSYNC;
constexpr std::size_t kListingBytes = 32768;
constexpr int kLooks = 8;  // at a name while others change the directory

absl::Status failure(std::string_view path, std::string_view mend) {
  const int reason = errno;
  return absl::Status(absl::ErrnoToStatusCode(reason),
                      fmt::format("local: {}: {} ({})", path, std::strerror(reason), mend));
}

// A file's bytes lie at 0 to 2^63-1.
bool fits(std::uint64_t offset) { return offset <= static_cast<std::uint64_t>(INT64_MAX); }

// Another one after each boot of the host.
std::uint64_t boot_number() {
  Descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t size = file.fd() < 0 ? -1 : ::read(file.fd(), text, sizeof text);
  std::uint64_t number = 0xcbf29ce484222325;  // FNV-1a
  for (ssize_t i = 0; i < size; ++i) {
    number = (number ^ static_cast<unsigned char>(text[i])) * 0x100000001b3;
  }
  // Where it cannot be read, nothing is taken to have survived.
  return size > 0 ? number : static_cast<std::uint64_t>(Timestamp::now().nanoseconds) | 1U;
}

// fchmod for descriptors that are O_PATH.
int change_mode(int fd, mode_t mode) {
  constexpr long kFchmodat2 = 452;  // since Linux 6.6
  static std::atomic<bool> missing{false};
  if (!missing.load(std::memory_order_relaxed)) {
    if (::syscall(kFchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0) return 0;
    if (errno != ENOSYS) return -1;
    missing.store(true, std::memory_order_relaxed);
  }
  return ::chmod(ProcPath(fd).c_str(), mode);
}

// A descriptor of its own on the object of an open one.
Result<DescriptorRef> path_descriptor(int fd) {
  auto made = std::make_shared<Descriptor>(::open(ProcPath(fd).c_str(), O_PATH | O_CLOEXEC));
  if (made->fd() < 0) return last_errno();
  return DescriptorRef(std::move(made));
}

}  // namespace

absl::Status Local::start() {
  auto opened = std::make_shared<Descriptor>(
      ::open(config_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened->fd() < 0) {
    return failure(config_.directory, errno == ENOENT    ? "make it, or correct the path"
                                      : errno == ENOTDIR ? "name a directory"
                                                         : "the service must be able to read it");
  }
  if (::access(ProcPath(opened->fd()).c_str(), F_OK) != 0) {
    return failure("/proc/self/fd", "mount /proc where the service runs");
  }
  char* const real = ::realpath(config_.directory.c_str(), nullptr);
  place_ = real != nullptr ? real : config_.directory;
  std::free(real);
  auto seen = attributes_of(opened->fd(), "", &mount_);
  if (!seen.ok()) {
    errno = seen.error().value;
    return failure(config_.directory, "its attributes cannot be read");
  }
  std::size_t most = config_.most_descriptors;
  if (most == 0) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    most = std::clamp<std::size_t>(limit.rlim_cur / 4 / instances_.load(), 1, 4096);
  }
  privileged_ = ::geteuid() == 0;
  epoch_ = boot_number();
  device_ = seen->device;
  nodes_ = std::make_shared<Nodes>(most);
  nodes_->use_handles(opened->fd(), device_);
  root_ = nodes_->intern_nameless(*seen, std::move(opened));

  // What an earlier run left unfinished goes. A default place that cannot be used is no matter
  // until somebody needs it.
  std::lock_guard lock(work_mutex_);
  if (::access(work_path().c_str(), F_OK) != 0) return absl::OkStatus();
  Errno why;
  const absl::Status cleaned = open_work(why);
  if (cleaned.ok() || (config_.work.empty() && why != Errno{EBUSY})) return absl::OkStatus();
  nodes_->forget_handles();
  root_.reset();
  nodes_.reset();
  return cleaned;
}

absl::Status Local::stop() {
  std::lock_guard lock(work_mutex_);
  staging_.reset();
  kept_.reset();
  work_.reset();
  if (nodes_ != nullptr) nodes_->forget_handles();
  root_.reset();
  nodes_.reset();
  return absl::OkStatus();
}

std::string Local::work_path() const {
  return config_.work.empty() ? place_ + ".work" : config_.work;
}

// REQUIRES: work_mutex_.
absl::Status Local::open_work(Errno& why) {
  if (absl::Status opened = WorkDirectory::open(work_path(), place_, device_, work_, why);
      !opened.ok()) {
    return opened;
  }
  auto seen = attributes_of(work_->staging()->fd(), "");
  if (!seen.ok()) {
    work_.reset();
    errno = (why = seen.error()).value;
    return failure(work_path(), "its attributes cannot be read");
  }
  staging_ = nodes_->intern_nameless(*seen, work_->staging());
  return absl::OkStatus();
}

Result<Local::Node> Local::staging(C, Staging which) {
  std::lock_guard lock(work_mutex_);
  if (staging_ == nullptr) {
    Errno why;
    if (const absl::Status made = open_work(why); !made.ok()) {
      if (!std::exchange(told_, true)) {
        std::fprintf(stderr, "%s\n", std::string(made.message()).c_str());
      }
      return why;
    }
  }
  if (which == Staging::kKept && kept_ == nullptr) {
    LIBSERVICES_TRY(DescriptorRef kept, work_->kept());
    LIBSERVICES_TRY(const Attributes seen, attributes_of(kept->fd(), ""));
    kept_ = nodes_->intern_nameless(seen, std::move(kept));
  }
  return which == Staging::kKept ? kept_ : staging_;
}

Result<Local::Place> Local::place_of(const Node& directory, std::string_view name) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  Place at{nullptr, Name(name), 0};
  if (at.name.error() != 0) return Errno{at.name.error()};
  LIBSERVICES_TRY(at.parent, nodes_->descriptor(directory));
  at.epoch = nodes_->epoch_of(directory);
  return at;
}

Result<Entry<Local::Node>> Local::root(C) {
  LIBSERVICES_TRY(const Attributes seen, nodes_->attributes(root_));
  return Entry<Node>{root_, seen};
}

Result<Entry<Local::Node>> Local::look(const Place& at, const Node& directory) {
  bool settled = false;
  auto once = [&](std::uint64_t epoch) -> Result<Entry<Node>> {
    std::uint64_t mount = 0;
    LIBSERVICES_TRY(const Attributes seen, attributes_of(at.fd(), at.c_str(), &mount));
    if (mount != mount_) return Errno{EXDEV};
    return Entry<Node>{nodes_->intern(seen, directory, at.name.view(), epoch, settled), seen};
  };
  std::uint64_t epoch = at.epoch;
  for (int looks = 0; looks < kLooks; ++looks) {
    auto found = once(epoch);
    if (settled || !found.ok()) return found;
    epoch = nodes_->epoch_of(directory);
  }
  // Names of the directory change all the time; this one does not as long as it is ours.
  Nodes::Change ours(*nodes_, directory, at.name.view(), nullptr, {});
  return once(nodes_->epoch_of(directory));
}

Result<Entry<Local::Node>> Local::lookup(C, const Node& directory, std::string_view name) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  return look(at, directory);
}

Result<Attributes> Local::getattr(C, const Node& node) { return nodes_->attributes(node); }

Result<Opened<Local::File>> Local::open(C, const Node& node, OpenFlags flags) {
  if (node->is(S_IFDIR)) {
    if (flags.writes() || flags.truncates()) return Errno{EISDIR};
  } else if (!node->is(S_IFREG)) {
    return Errno{node->is(S_IFLNK) ? ELOOP : ENXIO};
  } else if (flags.directory()) {
    return Errno{ENOTDIR};
  }
  const int bits = (flags.bits & kOpenBits) | O_CLOEXEC | O_NOCTTY;
  // By its last name, where nothing else has the name now; no descriptor is needed beside. What is
  // opened to be read alone only open() itself can truncate, and change its times at any size.
  const bool by_name = flags.writes() || !flags.truncates();
  Node parent;
  std::string name;
  DescriptorRef known = nodes_->cached(node);
  if (by_name && known == nullptr && nodes_->last_seen(node, parent, name)) {
    if (auto above = nodes_->descriptor(parent); above.ok()) {
      // O_NONBLOCK: should the host have put a fifo there, this does not wait for its other end.
      // To a regular file it means nothing.
      auto file = std::make_unique<OpenFile>(uninterrupted(
          [&] { return ::openat((*above)->fd(), name.c_str(), bits | O_NOFOLLOW | O_NONBLOCK); }));
      auto seen = file->fd() < 0 ? Result<Attributes>(last_errno()) : attributes_of(file->fd(), "");
      if (seen.ok() && ObjectIdentity::of(*seen) == node->identity()) {
        if (!flags.truncates()) return opened(node, std::move(file), *seen);
        if (uninterrupted([&] { return ::ftruncate(file->fd(), 0); }) != 0) return last_errno();
        LIBSERVICES_TRY(const Attributes after, attributes_of(file->fd(), ""));
        return opened(node, std::move(file), after);
      }
    }
  }
  if (known == nullptr) {
    LIBSERVICES_TRY(known, nodes_->descriptor(node));
  }
  const auto open_it = [&](int how) {
    return std::make_unique<OpenFile>(uninterrupted([&] {
      return node->is(S_IFDIR) ? ::openat(known->fd(), ".", how)
                               : ::open(ProcPath(known->fd()).c_str(), how);
    }));
  };
  auto file = open_it(bits | (flags.bits & O_TRUNC));
  if (file->fd() < 0 && errno == EPERM && flags.has(O_APPEND)) {  // that may be all it allows
    file = open_it(bits | (flags.bits & (O_TRUNC | O_APPEND)));
    file->only_appends = true;
  }
  if (file->fd() < 0) return last_errno();
  LIBSERVICES_TRY(const Attributes seen, attributes_of(file->fd(), ""));
  return opened(node, std::move(file), seen);
}

// From here on calls on the node use the file's descriptor.
Result<Opened<Local::File>> Local::opened(const Node& node, File file, const Attributes& seen) {
  file->node = node;
  nodes_->in_use(node, file->descriptor);
  return Opened<File>{std::move(file), seen};
}

Result<std::size_t> Local::read(C, File& file, std::uint64_t offset, std::span<std::byte> into) {
  if (!fits(offset)) return Errno{EINVAL};
  if (config_.map_reads && into.size() >= local_internal::MappedFile::kLargeRead) {
    if (const auto count = file->mapped.read(file->fd(), offset, into)) return *count;
  }
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t count = uninterrupted([&] {
      return ::pread(file->fd(), into.data() + done, into.size() - done,
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
  if (!fits(offset)) return Errno{EFBIG};
  if (file->only_appends) return Errno{EPERM};
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t count = uninterrupted([&] {
      return ::pwrite(file->fd(), from.data() + done, from.size() - done,
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
  std::lock_guard lock(file->offset);
  const iovec part{const_cast<std::byte*>(from.data()), from.size()};
  const ssize_t count =
      uninterrupted([&] { return ::pwritev2(file->fd(), &part, 1, -1, RWF_APPEND); });
  if (count < 0) return last_errno();
  written = static_cast<std::size_t>(count);
  const off_t end = ::lseek(file->fd(), 0, SEEK_CUR);
  if (end < 0) return last_errno();
  return static_cast<std::uint64_t>(end);
}

Result<void> Local::close(C, File& file) {
  const std::shared_ptr<Descriptor> own = std::move(file->descriptor);
  if (file->node != nullptr) nodes_->no_longer_in_use(file->node, own);
  file.reset();
  if (own.use_count() > 1) return {};  // a call on the node is using it, and closes it
  // use_count() orders nothing; giving up one more reference does.
  std::shared_ptr<Descriptor>(own).reset();
  const int fd = own->release();
  // On Linux the descriptor is gone also when a signal came.
  if (::close(fd) != 0 && errno != EINTR) return last_errno();
  return {};
}

Result<void> Local::readdir(C, File& directory, std::uint64_t after, Listing wanted,
                            EntrySink sink) {
  const int fd = directory->fd();
  std::lock_guard lock(directory->offset);
  if (!fits(after)) return Errno{EINVAL};
  // From the start again: the host forgets what it has read ahead.
  if ((after != directory->listed || (after == 0 && directory->buffer != nullptr)) &&
      ::lseek(fd, static_cast<off_t>(after), SEEK_SET) < 0) {
    return last_errno();
  }
  directory->listed = UINT64_MAX;
  if (directory->buffer == nullptr) directory->buffer.reset(new char[kListingBytes]);
  char* const buffer = directory->buffer.get();
  std::uint64_t last = after;
  for (;;) {
    const ssize_t size = uninterrupted([&] { return ::getdents64(fd, buffer, kListingBytes); });
    if (size < 0 && errno == ENOENT) return {};  // it was removed: nothing is in it
    if (size < 0) return last_errno();
    if (size == 0) {
      directory->listed = last;
      return {};
    }
    for (ssize_t at = 0; at < size;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      last = static_cast<std::uint64_t>(entry->d_off);
      DirEntry given{
          .name = entry->d_name, .inode = entry->d_ino, .type = entry->d_type, .cookie = last};
      if (given.name == "." || given.name == "..") continue;
      Attributes seen;
      if (wanted == Listing::kAttributes) {
        std::uint64_t mount = 0;
        auto asked = attributes_of(fd, entry->d_name, &mount);
        if (!asked.ok() && asked.error() == Errno{ENOENT}) continue;
        if (asked.ok() && mount == mount_) {
          seen = *asked;
          given.attributes = &seen;
        }
      }
      if (!sink(given)) return {};
    }
  }
}

Result<std::size_t> Local::readlink(C, const Node& node, std::span<char> into) {
  if (!node->is(S_IFLNK) || into.empty()) return Errno{EINVAL};
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  const ssize_t length = ::readlinkat(object->fd(), "", into.data(), into.size());
  if (length < 0) return last_errno();
  return static_cast<std::size_t>(length);
}

Result<VolumeInfo> Local::statfs(C, const Node& node) {
  // All of the tree is on one mount.
  LIBSERVICES_TRY(const DescriptorRef object,
                  nodes_->descriptor(node->identity().device == device_ ? root_ : node));
  struct statfs seen {};
  if (uninterrupted([&] { return ::fstatfs(object->fd(), &seen); }) != 0) return last_errno();
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
  const int fd = file->fd();
  if (uninterrupted([&] { return scope == SyncScope::kData ? ::fdatasync(fd) : ::fsync(fd); }) !=
      0) {
    return last_errno();
  }
  return {};
}

Result<void> Local::fallocate(C, File& file, int mode, std::uint64_t offset, std::uint64_t length) {
  if (!fits(offset) || !fits(length)) return Errno{EFBIG};
  if (uninterrupted([&] {
        return ::fallocate(file->fd(), mode, static_cast<off_t>(offset),
                           static_cast<off_t>(length));
      }) != 0) {
    return last_errno();
  }
  return {};
}

Result<std::uint64_t> Local::seek(C, File& file, std::uint64_t offset, SeekTarget target) {
  if (!fits(offset)) return Errno{ENXIO};
  std::lock_guard lock(file->offset);  // it moves
  const off_t found = ::lseek(file->fd(), static_cast<off_t>(offset),
                              target == SeekTarget::kData ? SEEK_DATA : SEEK_HOLE);
  if (found < 0) return last_errno();
  return static_cast<std::uint64_t>(found);
}

Result<std::uint64_t> Local::copy_range(C, File& from, std::uint64_t from_offset, File& to,
                                        std::uint64_t to_offset, std::uint64_t length) {
  if (!fits(from_offset)) return Errno{EINVAL};
  if (!fits(to_offset)) return Errno{EFBIG};
  auto source = static_cast<off_t>(from_offset);
  auto target = static_cast<off_t>(to_offset);
  const ssize_t copied = uninterrupted([&] {
    return ::copy_file_range(from->fd(), &source, to->fd(), &target,
                             std::min<std::uint64_t>(length, 0x7ffff000U), 0);
  });
  if (copied < 0) return last_errno();
  return static_cast<std::uint64_t>(copied);
}

Result<void> Local::clone(C, File& file, Backing from) {
  constexpr unsigned long kClone = 0x40049409;  // FICLONE
  if (::ioctl(file->fd(), kClone, from.descriptor) != 0) return last_errno();
  return {};
}

mode_t Local::first_mode(const NewNode& fresh) const {
  // Nobody runs a file as us because its owner was not set yet.
  const bool owned = !privileged_ || (fresh.uid == 0 && fresh.gid == 0);
  return fresh.mode & (owned ? 07777U : 01777U);
}

Result<Attributes> Local::dress(int fd, const NewNode& fresh) const {
  LIBSERVICES_TRY(Attributes seen, attributes_of(fd, ""));
  const bool chown = privileged_ && (seen.uid != fresh.uid || seen.gid != fresh.gid);
  // The umask, a set-group-id directory or the chown may take bits away.
  const std::uint32_t mode = fresh.mode & 07777U;
  const bool chmod =
      !seen.is_symlink() && (seen.permissions() != mode || (chown && (mode & 06000U) != 0));
  if (chown && ::fchownat(fd, "", fresh.uid, fresh.gid, AT_EMPTY_PATH) != 0) return last_errno();
  if (chmod && change_mode(fd, mode) != 0) return last_errno();
  return chown || chmod ? attributes_of(fd, "") : Result<Attributes>(seen);
}

Result<Entry<Local::Node>> Local::finish(const Place& at, const Node& directory,
                                         const NewNode& fresh, int removal) {
  auto made = look(at, directory);
  if (!made.ok()) return made;
  const Attributes& seen = made->attributes;
  const bool owned = !privileged_ || (seen.uid == fresh.uid && seen.gid == fresh.gid);
  if (owned && (seen.is_symlink() || seen.permissions() == (fresh.mode & 07777U))) return made;
  auto dressed = [&]() -> Result<Attributes> {
    const Descriptor object(::openat(at.fd(), at.c_str(), kFind));
    if (object.fd() < 0) return last_errno();
    LIBSERVICES_TRY(const Attributes now, attributes_of(object.fd(), ""));
    if (ObjectIdentity::of(now) != made->node->identity()) return Errno{ESTALE};
    return dress(object.fd(), fresh);
  }();
  if (!dressed.ok()) {
    ::unlinkat(at.fd(), at.c_str(), removal);
    return dressed.error();
  }
  made->attributes = *dressed;
  return made;
}

Result<Created<Local::Node, Local::File>> Local::create(C, const Node& directory,
                                                        std::string_view name, const NewNode& fresh,
                                                        OpenFlags flags) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  const int bits = flags.bits & kOpenBits & ~O_DIRECTORY;
  auto file = std::make_unique<OpenFile>(uninterrupted([&] {
    return ::openat(at.fd(), at.c_str(), bits | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    first_mode(fresh));
  }));
  if (file->fd() < 0) return last_errno();
  auto seen = dress(file->fd(), fresh);
  if (!seen.ok()) {
    ::unlinkat(at.fd(), at.c_str(), 0);
    return seen.error();
  }
  bool settled = false;
  Node node = nodes_->intern(*seen, directory, at.name.view(), at.epoch, settled);
  if (!settled) {
    Nodes::Change ours(*nodes_, directory, at.name.view(), nullptr, {});
    auto now = attributes_of(at.fd(), at.c_str());
    if (!now.ok() || ObjectIdentity::of(*now) != node->identity()) {  // it has lost its name
      LIBSERVICES_TRY(DescriptorRef own, path_descriptor(file->fd()));
      nodes_->hold(node, std::move(own));
    }
  }
  file->node = node;
  nodes_->in_use(node, file->descriptor);
  return Created<Node, File>{std::move(node), std::move(file), *seen};
}

Result<Created<Local::Node, Local::File>> Local::tmpfile(C, const Node& directory,
                                                         const NewNode& fresh, OpenFlags flags) {
  if (!directory->is(S_IFDIR)) return Errno{ENOTDIR};
  LIBSERVICES_TRY(const DescriptorRef parent, nodes_->descriptor(directory));
  const int access = flags.writes() ? flags.bits & O_ACCMODE : O_RDWR;
  auto file = std::make_unique<OpenFile>(uninterrupted([&] {
    return ::openat(parent->fd(), ".",
                    access | (flags.bits & (O_DIRECT | O_SYNC | O_DSYNC)) | O_TMPFILE | O_CLOEXEC,
                    first_mode(fresh));
  }));
  if (file->fd() < 0) return errno == EISDIR ? Errno{EOPNOTSUPP} : last_errno();
  LIBSERVICES_TRY(const Attributes seen, dress(file->fd(), fresh));
  LIBSERVICES_TRY(DescriptorRef own, path_descriptor(file->fd()));
  Node node = nodes_->intern_nameless(seen, std::move(own));
  return Created<Node, File>{std::move(node), std::move(file), seen};
}

Result<Attributes> Local::setattr(C, const Node& node, const AttributeChanges& changes) {
  using A = AttributeChanges;
  if (changes.has(A::kMode) && node->is(S_IFLNK)) return Errno{EOPNOTSUPP};
  if (changes.has(A::kSize)) {
    if (!node->is(S_IFREG)) return Errno{node->is(S_IFDIR) ? EISDIR : EINVAL};
    if (!fits(changes.size)) return Errno{EFBIG};
  }
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  const ProcPath path(object->fd());
  if (changes.has(A::kSize) && uninterrupted([&] {
                                 return ::truncate(path.c_str(), static_cast<off_t>(changes.size));
                               }) != 0) {
    return last_errno();
  }
  if (changes.has(A::kUid) || changes.has(A::kGid)) {
    const uid_t uid = changes.has(A::kUid) ? changes.uid : static_cast<uid_t>(-1);
    const gid_t gid = changes.has(A::kGid) ? changes.gid : static_cast<gid_t>(-1);
    if (::fchownat(object->fd(), "", uid, gid, AT_EMPTY_PATH) != 0) return last_errno();
  }
  if (changes.has(A::kMode) && change_mode(object->fd(), changes.mode & 07777U) != 0) {
    return last_errno();
  }
  std::array<timespec, 2> times{{{0, UTIME_OMIT}, {0, UTIME_OMIT}}};
  if (changes.has(A::kAtime)) times[0] = {changes.atime.seconds, changes.atime.nanoseconds};
  if (changes.has(A::kMtime)) times[1] = {changes.mtime.seconds, changes.mtime.nanoseconds};
  if (changes.has(A::kAtimeNow)) times[0].tv_nsec = UTIME_NOW;
  if (changes.has(A::kMtimeNow)) times[1].tv_nsec = UTIME_NOW;
  const bool has_times = times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT;
  if (has_times && ::syscall(SYS_utimensat, object->fd(), "", times.data(), AT_EMPTY_PATH) != 0) {
    return last_errno();
  }
  return attributes_of(object->fd(), "");
}

Result<Entry<Local::Node>> Local::mkdir(C, const Node& directory, std::string_view name,
                                        const NewNode& fresh) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  if (::mkdirat(at.fd(), at.c_str(), first_mode(fresh)) != 0) return last_errno();
  return finish(at, directory, fresh, AT_REMOVEDIR);
}

Result<Entry<Local::Node>> Local::mknod(C, const Node& directory, std::string_view name,
                                        const NewNode& fresh) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  if (::mknodat(at.fd(), at.c_str(), (fresh.mode & S_IFMT) | first_mode(fresh),
                fresh.special_device) != 0) {
    return last_errno();
  }
  return finish(at, directory, fresh, 0);
}

Result<Entry<Local::Node>> Local::symlink(C, const Node& directory, std::string_view name,
                                          std::string_view target, const NewNode& fresh) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  if (::symlinkat(terminated(target).c_str(), at.fd(), at.c_str()) != 0) return last_errno();
  return finish(at, directory, fresh, 0);
}

Result<Entry<Local::Node>> Local::link(C, const Node& node, const Node& directory,
                                       std::string_view name) {
  if (node->is(S_IFDIR)) return Errno{EPERM};
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  {
    Nodes::Change change(*nodes_, directory, at.name.view(), nullptr, {});
    if (::linkat(AT_FDCWD, ProcPath(object->fd()).c_str(), at.fd(), at.c_str(),
                 AT_SYMLINK_FOLLOW) != 0) {
      return last_errno();
    }
    nodes_->named(node, directory, at.name.view());
  }
  LIBSERVICES_TRY(const Attributes seen, attributes_of(object->fd(), ""));
  return Entry<Node>{node, seen};
}

Result<void> Local::remove(const Node& directory, std::string_view name, int flags) {
  LIBSERVICES_TRY(const Place at, place_of(directory, name));
  Nodes::Change change(*nodes_, directory, at.name.view(), nullptr, {});
  LIBSERVICES_CHECK_OK(change.losing(at.fd(), at.name));
  if (::unlinkat(at.fd(), at.c_str(), flags) != 0) return last_errno();
  change.done();
  return {};
}

Result<void> Local::unlink(C, const Node& directory, std::string_view name) {
  return remove(directory, name, 0);
}

Result<void> Local::rmdir(C, const Node& directory, std::string_view name) {
  return remove(directory, name, AT_REMOVEDIR);
}

Result<void> Local::rename(C, const Node& directory, std::string_view name,
                           const Node& new_directory, std::string_view new_name, RenameMode mode) {
  LIBSERVICES_TRY(const Place from, place_of(directory, name));
  LIBSERVICES_TRY(const Place to, place_of(new_directory, new_name));
  Nodes::Change change(*nodes_, directory, from.name.view(), &new_directory, to.name.view());
  if (mode == RenameMode::kReplace || mode == RenameMode::kLeaveWhiteout) {
    LIBSERVICES_CHECK_OK(change.losing(to.fd(), to.name));
  }
  const unsigned flags = mode == RenameMode::kReplace     ? 0
                         : mode == RenameMode::kNoReplace ? 1U /* RENAME_NOREPLACE */
                         : mode == RenameMode::kExchange  ? 2U /* RENAME_EXCHANGE */
                                                          : 4U /* RENAME_WHITEOUT */;
  if (::renameat2(from.fd(), from.c_str(), to.fd(), to.c_str(), flags) != 0) return last_errno();
  change.done();
  change.moved(to.fd(), new_directory, to.name);
  if (mode == RenameMode::kExchange) change.moved(from.fd(), directory, from.name);
  return {};
}

}  // namespace libservices
