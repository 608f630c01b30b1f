// SPDX-License-Identifier: Apache-2.0
//
// `Ceph`'s start, and its objects: attributes, content, listings, extended attributes.
#include "services/ceph/ceph.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>
#include <cstring>

#include "services/ceph/names.h"

namespace libservices {

using ceph_internal::checked;
using ceph_internal::clean;
using ceph_internal::Client;
using ceph_internal::error_of;
using ceph_internal::is_in;
using ceph_internal::kWanted;
using ceph_internal::Object;
using ceph_internal::OpenFile;
using ceph_internal::permissions_of;
using ceph_internal::WorkDirectory;

namespace {

constexpr int kOpenBits = O_ACCMODE | O_DIRECT | O_SYNC | O_DSYNC;
constexpr std::uint64_t kMostAtOnce = 1U << 30U;   // libcephfs answers with an int
constexpr std::uint64_t kStatfsType = 0x00c36400;  // of CephFS, <linux/magic.h>

// A file's bytes lie at 0 to 2^63-1.
bool fits(std::uint64_t offset) { return offset <= static_cast<std::uint64_t>(INT64_MAX); }

// As the client, which has `root` mounted, calls it.
std::string below(const std::string& path, const std::string& root) {
  if (root == "/") return path;
  return path == root ? "/" : path.substr(root.size());
}

absl::Status refused(std::string_view path, std::string_view why, std::string_view mend) {
  return absl::InvalidArgumentError(fmt::format("ceph: {}: {} ({})", path, why, mend));
}

std::string work_of(const Ceph::Config& config) {
  return config.work.empty() ? clean(config.directory) + ".work" : clean(config.work);
}

struct timespec time_of(const Timestamp& time) {
  return {time.seconds, static_cast<long>(time.nanoseconds)};
}

std::string terminated(std::string_view text) {
  return text.find('\0') == std::string_view::npos ? std::string(text) : std::string();
}

}  // namespace

absl::Status Ceph::start() {
  const std::string root = clean(config_.root);
  const std::string directory = clean(config_.directory);
  const std::string work = work_of(config_);
  for (const std::string& path : {root, directory, work}) {
    if (!path.starts_with('/')) {
      return refused(path, "it is no path from the root of the CephFS", "begin it with '/'");
    }
  }
  for (const std::string& path : {directory, config_.work.empty() ? root : work}) {
    if (!is_in(path, root)) {
      return refused(path, fmt::format("it is not below {}, which is mounted", root),
                     "correct root=");
    }
  }
  if (config_.cache_bytes < (1U << 20U)) {
    return refused(directory, "its cache is too small", "give it a megabyte at least");
  }
  auto joined = Client::join({.conf_file = config_.conf_file,
                              .cluster = config_.cluster,
                              .client = config_.client,
                              .key_file = config_.key_file,
                              .filesystem = config_.filesystem,
                              .root = root,
                              .session = config_.session,
                              .cache_bytes = config_.cache_bytes,
                              .dirty_bytes = config_.dirty_bytes,
                              .mount_timeout = config_.mount_timeout,
                              .data_timeout = config_.data_timeout});
  if (!joined.ok()) return joined.status();
  client_ = *std::move(joined);
  place_ = fmt::format("ceph:{}{}", client_->name(), directory == "/" ? "" : directory);

  Inode* inode = nullptr;
  Statx seen{};
  const int answer = ceph_ll_walk(mount(), below(directory, root).c_str(), &inode, &seen, kWanted,
                                  0, permissions_of(0, 0, {}));
  if (answer == 0) root_ = admit(inode, seen).node;
  if (answer != 0 || !root_->is(S_IFDIR)) {
    const int reason = answer != 0 ? error_of(answer).value : ENOTDIR;
    root_.reset();
    (void)client_->leave();
    client_.reset();
    return absl::Status(absl::ErrnoToStatusCode(reason),
                        fmt::format("ceph: {}: {} (make it, or correct the path)", directory,
                                    std::strerror(reason)));
  }
  // What an earlier run left unfinished goes, unless somebody else uses it.
  if (is_in(work, root) && WorkDirectory::exists(*client_, below(work, root))) {
    (void)staging(Context{}, Staging::kDrafts);
  }
  return absl::OkStatus();
}

absl::Status Ceph::stop() {
  {
    std::lock_guard lock(work_mutex_);
    work_.reset();
  }
  root_.reset();
  const std::shared_ptr<Client> client = std::exchange(client_, nullptr);
  return client == nullptr ? absl::OkStatus() : client->leave();
}

Result<Ceph::Node> Ceph::staging(C, Staging which) {
  std::lock_guard lock(work_mutex_);
  if (work_ == nullptr) {
    const std::string directory = clean(config_.directory);
    const std::string path = work_of(config_);
    const std::string root = clean(config_.root);
    auto opened = is_in(path, directory) || is_in(directory, path) || !is_in(path, root)
                      ? Result<std::unique_ptr<WorkDirectory>>(Errno{EINVAL})
                      : WorkDirectory::open(client_, below(path, root));
    if (!opened.ok()) {
      if (!std::exchange(told_, true)) {
        const int why = opened.error().value;
        std::fputs(fmt::format("ceph: the work directory {}: {} ({})\n", path, std::strerror(why),
                               why == EBUSY    ? "another service has it: stop that, or name "
                                                 "another one with work=PATH; of a service that "
                                                 "died it is free after a minute"
                               : why == EINVAL ? "it lies in the directory itself, or around it, "
                                                 "or not below root=: name one with work=PATH"
                                               : "name one in the same CephFS with work=PATH")
                       .c_str(),
                   stderr);
      }
      return opened.error();
    }
    work_ = *std::move(opened);
  }
  return work_->get(which);
}

Entry<Ceph::Node> Ceph::admit(Inode* inode, const Statx& seen) const {
  return {std::make_shared<const Object>(client_, inode, seen), client_->attributes_of(seen)};
}

Result<Ceph::Statx> Ceph::statx(C context, const Node& node) const {
  Statx seen{};
  const int answer =
      ceph_ll_getattr(mount(), node->inode(), &seen, kWanted, 0, permissions_of(context));
  if (answer < 0) return error_of(answer);
  return seen;
}

Result<Entry<Ceph::Node>> Ceph::root(C context) {
  LIBSERVICES_TRY(const Attributes seen, getattr(context, root_));
  return Entry<Node>{root_, seen};
}

Result<Attributes> Ceph::getattr(C context, const Node& node) {
  LIBSERVICES_TRY(const Statx seen, statx(context, node));
  return client_->attributes_of(seen);
}

Result<Attributes> Ceph::setattr(C context, const Node& node, const AttributeChanges& changes) {
  using A = AttributeChanges;
  if (changes.has(A::kMode) && node->is(S_IFLNK)) return Errno{EOPNOTSUPP};
  if (changes.has(A::kSize)) {
    if (!node->is(S_IFREG)) return Errno{node->is(S_IFDIR) ? EISDIR : EINVAL};
    if (!fits(changes.size)) return Errno{EFBIG};
  }
  Statx wanted{};
  int mask = 0;
  const auto change = [&](A::Field field, int bit) {
    if (changes.has(field)) mask |= bit;
    return changes.has(field);
  };
  if (change(A::kMode, CEPH_SETATTR_MODE)) {
    wanted.stx_mode = static_cast<std::uint16_t>(changes.mode & 07777U);
  }
  if (change(A::kUid, CEPH_SETATTR_UID)) wanted.stx_uid = changes.uid;
  if (change(A::kGid, CEPH_SETATTR_GID)) wanted.stx_gid = changes.gid;
  if (change(A::kSize, CEPH_SETATTR_SIZE)) wanted.stx_size = changes.size;
  const Timestamp now = Timestamp::now();
  if (change(A::kAtime, CEPH_SETATTR_ATIME)) wanted.stx_atime = time_of(changes.atime);
  if (change(A::kMtime, CEPH_SETATTR_MTIME)) wanted.stx_mtime = time_of(changes.mtime);
  if (change(A::kAtimeNow, CEPH_SETATTR_ATIME)) wanted.stx_atime = time_of(now);
  if (change(A::kMtimeNow, CEPH_SETATTR_MTIME)) wanted.stx_mtime = time_of(now);
  if (mask != 0) {
    LIBSERVICES_TRY(
        [[maybe_unused]] const auto set,
        checked(ceph_ll_setattr(mount(), node->inode(), &wanted, mask, permissions_of(context))));
    // Times of a directory that the MDS has not heard of would hide those that it sets itself when
    // entries come and go.
    constexpr int kTimes = CEPH_SETATTR_ATIME | CEPH_SETATTR_MTIME;
    if ((mask & kTimes) != 0 && node->is(S_IFDIR)) {
      LIBSERVICES_TRY([[maybe_unused]] const auto told,
                      checked(ceph_ll_sync_inode(mount(), node->inode(), 0)));
    }
  }
  return getattr(context, node);
}

Result<std::size_t> Ceph::readlink(C context, const Node& node, std::span<char> into) {
  if (!node->is(S_IFLNK) || into.empty()) return Errno{EINVAL};
  return checked(
      ceph_ll_readlink(mount(), node->inode(), into.data(), into.size(), permissions_of(context)));
}

Result<VolumeInfo> Ceph::statfs(C, const Node& node) {
  struct statvfs seen {};
  LIBSERVICES_TRY([[maybe_unused]] const auto told,
                  checked(ceph_ll_statfs(mount(), node->inode(), &seen)));
  return VolumeInfo{.block_size = seen.f_bsize,
                    .blocks = seen.f_blocks,
                    .blocks_free = seen.f_bfree,
                    .blocks_available = seen.f_bavail,
                    .files = seen.f_files,
                    .files_free = seen.f_ffree,
                    .name_max = seen.f_namemax,
                    .type = kStatfsType};
}

Result<Opened<Ceph::File>> Ceph::open(C context, const Node& node, OpenFlags flags) {
  // libcephfs opens a file with O_DIRECTORY, and fifos.
  if (node->is(S_IFDIR)) {
    if (flags.writes() || flags.truncates()) return Errno{EISDIR};
  } else if (!node->is(S_IFREG)) {
    return Errno{node->is(S_IFLNK) ? ELOOP : ENXIO};
  } else if (flags.directory()) {
    return Errno{ENOTDIR};
  }
  auto file = std::make_unique<OpenFile>(node, flags);
  if (node->is(S_IFREG)) {
    const int bits = flags.bits & (kOpenBits | O_TRUNC);
    LIBSERVICES_TRY([[maybe_unused]] const auto opened,
                    checked(ceph_ll_open(mount(), node->inode(), bits, &file->handle,
                                         permissions_of(context))));
  }
  LIBSERVICES_TRY(const Attributes seen, getattr(context, node));
  return Opened<File>{std::move(file), seen};
}

Result<std::size_t> Ceph::read(C, File& file, std::uint64_t offset, std::span<std::byte> into) {
  if (file->handle == nullptr) return Errno{EISDIR};
  if (!file->flags.reads()) return Errno{EBADF};
  if (!fits(offset)) return Errno{EINVAL};
  std::size_t done = 0;
  while (done < into.size() && fits(offset + done)) {
    const std::uint64_t size = std::min<std::uint64_t>(into.size() - done, kMostAtOnce);
    const int count = ceph_ll_read(mount(), file->handle, static_cast<std::int64_t>(offset + done),
                                   size, reinterpret_cast<char*>(into.data() + done));
    if (count < 0) {
      if (done != 0) break;
      return error_of(count);
    }
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

Result<std::size_t> Ceph::write(C, File& file, std::uint64_t offset,
                                std::span<const std::byte> from) {
  if (file->handle == nullptr || !file->flags.writes()) return Errno{EBADF};
  if (!fits(offset) || !fits(offset + from.size())) return Errno{EFBIG};
  std::size_t done = 0;
  while (done < from.size()) {
    const std::uint64_t size = std::min<std::uint64_t>(from.size() - done, kMostAtOnce);
    const int count = ceph_ll_write(mount(), file->handle, static_cast<std::int64_t>(offset + done),
                                    size, reinterpret_cast<const char*>(from.data() + done));
    if (count < 0) {
      if (done != 0) break;
      return error_of(count);
    }
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

// All of it, for kData too: without its size in the MDS a file cannot be read back for certain.
Result<void> Ceph::fsync(C, File& file, SyncScope) {
  const int answer = file->handle != nullptr ? ceph_ll_fsync(mount(), file->handle, 0)
                                             : ceph_ll_sync_inode(mount(), file->node->inode(), 0);
  if (answer < 0) return error_of(answer);
  return {};
}

Result<void> Ceph::fallocate(C, File& file, int mode, std::uint64_t offset, std::uint64_t length) {
  if (file->handle == nullptr || !file->flags.writes()) return Errno{EBADF};
  if (!fits(offset) || !fits(length) || !fits(offset + length)) return Errno{EFBIG};
  const int answer =
      ceph_ll_fallocate(mount(), file->handle, mode, static_cast<std::int64_t>(offset),
                        static_cast<std::int64_t>(length));
  if (answer < 0) return error_of(answer);
  return {};
}

Result<void> Ceph::close(C, File& file) {
  const File closed = std::move(file);
  if (closed->handle == nullptr) return {};
  const int answer = ceph_ll_close(mount(), std::exchange(closed->handle, nullptr));
  if (answer < 0) return error_of(answer);
  return {};
}

Result<void> Ceph::readdir(C context, File& file, std::uint64_t after, Listing wanted,
                           EntrySink sink) {
  OpenFile& open = *file;
  if (!open.node->is(S_IFDIR)) return Errno{ENOTDIR};
  if (!fits(after)) return Errno{EINVAL};
  std::lock_guard lock(open.listing);
  if (open.directory == nullptr) {
    LIBSERVICES_TRY([[maybe_unused]] const auto opened,
                    checked(ceph_ll_opendir(mount(), open.node->inode(), &open.directory,
                                            permissions_of(context))));
    if (after != 0) ceph_seekdir(mount(), open.directory, static_cast<std::int64_t>(after));
  } else if (after == 0) {
    ceph_rewinddir(mount(), open.directory);
    open.has_refused = false;
  } else if (after != open.listed) {
    ceph_seekdir(mount(), open.directory, static_cast<std::int64_t>(after));
    open.has_refused = false;
  }
  open.listed = after;
  const bool with_attributes = wanted == Listing::kAttributes;
  if (open.has_refused && with_attributes && open.refused_for != wanted) {
    ceph_seekdir(mount(), open.directory, static_cast<std::int64_t>(after));
    open.has_refused = false;
  }
  dirent& entry = open.refused;
  Statx& seen = open.refused_statx;
  for (;;) {
    if (!std::exchange(open.has_refused, false)) {
      const int count =
          ceph_readdirplus_r(mount(), open.directory, &entry, &seen, with_attributes ? kWanted : 0U,
                             with_attributes ? 0U : AT_STATX_DONT_SYNC, nullptr);
      if (count == 0 || count == -ENOENT) return {};  // of a directory that was removed
      if (count < 0) return error_of(count);
    }
    const std::string_view name = entry.d_name;
    const auto cookie = static_cast<std::uint64_t>(entry.d_off);
    if (name == "." || name == "..") {
      open.listed = cookie;
      continue;
    }
    DirEntry given{.name = name, .inode = entry.d_ino, .type = entry.d_type, .cookie = cookie};
    Attributes attributes;
    if (with_attributes && (seen.stx_mask & CEPH_STATX_BASIC_STATS) == CEPH_STATX_BASIC_STATS) {
      attributes = client_->attributes_of(seen);
      given.attributes = &attributes;
    }
    if (!sink(given)) {
      open.has_refused = true;
      open.refused_for = wanted;
      return {};
    }
    open.listed = cookie;
  }
}

Result<std::size_t> Ceph::getxattr(C context, const Node& node, std::string_view name,
                                   std::span<std::byte> into) {
  return checked(ceph_ll_getxattr(mount(), node->inode(), terminated(name).c_str(), into.data(),
                                  into.size(), permissions_of(context)));
}

Result<void> Ceph::setxattr(C context, const Node& node, std::string_view name,
                            std::span<const std::byte> value, XattrMode mode) {
  const int flags = mode == XattrMode::kCreate    ? XATTR_CREATE
                    : mode == XattrMode::kReplace ? XATTR_REPLACE
                                                  : 0;
  // Without a value libcephfs takes the attribute away.
  static constexpr char kEmpty = '\0';
  const void* const bytes =
      value.data() != nullptr ? static_cast<const void*>(value.data()) : &kEmpty;
  const int answer = ceph_ll_setxattr(mount(), node->inode(), terminated(name).c_str(), bytes,
                                      value.size(), flags, permissions_of(context));
  if (answer < 0) return error_of(answer);
  return {};
}

Result<std::size_t> Ceph::listxattr(C context, const Node& node, std::span<char> into) {
  std::size_t size = 0;
  const int answer = ceph_ll_listxattr(mount(), node->inode(), into.data(), into.size(), &size,
                                       permissions_of(context));
  if (answer < 0) return error_of(answer);
  return size;
}

Result<void> Ceph::removexattr(C context, const Node& node, std::string_view name) {
  const int answer = ceph_ll_removexattr(mount(), node->inode(), terminated(name).c_str(),
                                         permissions_of(context));
  if (answer < 0) return error_of(answer);
  return {};
}

}  // namespace libservices
