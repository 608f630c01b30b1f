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

using ceph_internal::clean;
using ceph_internal::Client;
using ceph_internal::is_in;
using ceph_internal::kWanted;
using ceph_internal::Object;
using ceph_internal::OpenFile;
using ceph_internal::own_permissions;
using ceph_internal::permissions_of;
using ceph_internal::Use;
using ceph_internal::WorkDirectory;
using ceph_internal::WritesPtr;

namespace {

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

// The cluster has 32 bits for seconds, as the kernel's client knows too.
struct timespec time_of(const Timestamp& time) {
  constexpr std::int64_t kLast = UINT32_MAX;
  if (time.seconds < 0) return {0, 0};
  if (time.seconds > kLast) return {kLast, 0};
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
                              .service = config_.service,
                              .cache_bytes = config_.cache_bytes,
                              .dirty_bytes = config_.dirty_bytes,
                              .flush_after = config_.flush_after,
                              .mount_timeout = config_.mount_timeout,
                              .data_timeout = config_.data_timeout});
  if (!joined.ok()) return joined.status();
  client_ = *std::move(joined);
  place_ = fmt::format("ceph:{}{}", client_->name(), directory == "/" ? "" : directory);

  const std::string path = below(directory, root);
  const Result<Node> found = client_->asking([&](const Use& use) -> Result<Node> {
    Inode* inode = nullptr;
    Statx seen{};
    LIBSERVICES_CHECK_OK(client_->checked(
        use, ceph_ll_walk(use.info(), path.c_str(), &inode, &seen, kWanted, 0, own_permissions())));
    return admit(use, inode, seen).node;
  });
  if (!found.ok() || !(*found)->is(S_IFDIR)) {
    const int reason = found.ok() ? ENOTDIR : found.error().value;
    (void)client_->leave();
    client_.reset();
    return absl::Status(absl::ErrnoToStatusCode(reason),
                        fmt::format("ceph: {}: {} (make it, or correct the path)", directory,
                                    std::strerror(reason)));
  }
  root_ = *found;
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
                      : WorkDirectory::open(client_, below(path, root), displaced_);
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

Entry<Ceph::Node> Ceph::admit(const Use& use, Inode* inode, const Statx& seen) const {
  return {std::make_shared<const Object>(client_, use, inode, seen), client_->attributes_of(seen)};
}

Result<Attributes> Ceph::attributes(C context, const Use& use, const Node& node) const {
  LIBSERVICES_TRY(Inode* const inode, node->in(use));
  Statx seen{};
  const int answer = ceph_ll_getattr(use.info(), inode, &seen, kWanted, 0, permissions_of(context));
  if (answer < 0) return client_->failed(use, answer);
  return client_->attributes_of(seen);
}

Result<Entry<Ceph::Node>> Ceph::root(C context) {
  LIBSERVICES_TRY(const Attributes seen, getattr(context, root_));
  return Entry<Node>{root_, seen};
}

Result<Attributes> Ceph::getattr(C context, const Node& node) {
  return client_->asking([&](const Use& use) { return attributes(context, use, node); });
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
  if ((changes.has(A::kUid) || changes.has(A::kGid)) && !changes.has(A::kMode) &&
      node->is(S_IFREG)) {
    // The cluster takes set-id bits away of its own accord, also those that stay.
    LIBSERVICES_TRY(const Attributes before, getattr(context, node));
    if ((before.mode & 06000U) != 0) {
      wanted.stx_mode = static_cast<std::uint16_t>(before.permissions());
      mask |= CEPH_SETATTR_MODE;
    }
  }
  if (change(A::kSize, CEPH_SETATTR_SIZE)) wanted.stx_size = changes.size;
  const Timestamp now = Timestamp::now();
  if (change(A::kAtime, CEPH_SETATTR_ATIME)) wanted.stx_atime = time_of(changes.atime);
  wanted.stx_mtime = time_of(now);  // a larger size alone sets it, too
  if (change(A::kMtime, CEPH_SETATTR_MTIME)) wanted.stx_mtime = time_of(changes.mtime);
  if (change(A::kAtimeNow, CEPH_SETATTR_ATIME)) wanted.stx_atime = time_of(now);
  if (change(A::kMtimeNow, CEPH_SETATTR_MTIME)) wanted.stx_mtime = time_of(now);
  if (mask == 0) return getattr(context, node);
  return changing(node, [&](const Use& use) -> Result<Attributes> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    // libcephfs may keep it until somebody synchronises the file.
    WritesPtr writes = node->is(S_IFREG) ? client_->unsynced().of(node->number()) : nullptr;
    if (writes != nullptr) writes->count();
    LIBSERVICES_CHECK_OK(client_->checked(
        use, ceph_ll_setattr(use.info(), inode, &wanted, mask, permissions_of(context))));
    if (writes != nullptr) {
      writes->count();
      if (use.is_dead()) return Errno{EIO};
      if (client_->unsynced().release(node->number(), std::move(writes))) client_->synchronise();
    }
    // Times of a directory that the MDS has not heard of would hide those that it sets itself when
    // entries come and go.
    constexpr int kTimes = CEPH_SETATTR_ATIME | CEPH_SETATTR_MTIME;
    if ((mask & kTimes) != 0 && node->is(S_IFDIR)) {
      LIBSERVICES_CHECK_OK(client_->checked(use, ceph_ll_sync_inode(use.info(), inode, 0)));
    }
    return attributes(context, use, node);
  });
}

Result<std::size_t> Ceph::readlink(C context, const Node& node, std::span<char> into) {
  if (!node->is(S_IFLNK) || into.empty()) return Errno{EINVAL};
  return client_->asking([&](const Use& use) -> Result<std::size_t> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    return client_->checked(use, ceph_ll_readlink(use.info(), inode, into.data(), into.size(),
                                                  permissions_of(context)));
  });
}

Result<VolumeInfo> Ceph::statfs(C, const Node& node) {
  return client_->asking([&](const Use& use) -> Result<VolumeInfo> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    struct statvfs seen {};
    LIBSERVICES_CHECK_OK(client_->checked(use, ceph_ll_statfs(use.info(), inode, &seen)));
    return VolumeInfo{.block_size = seen.f_bsize,
                      .blocks = seen.f_blocks,
                      .blocks_free = seen.f_bfree,
                      .blocks_available = seen.f_bavail,
                      .files = seen.f_files,
                      .files_free = seen.f_ffree,
                      .name_max = seen.f_namemax,
                      .type = kStatfsType};
  });
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
  const auto opened = [&](const Use& use) -> Result<Opened<File>> {
    auto file = std::make_unique<OpenFile>(use, node, flags, permissions_of(context));
    if (node->is(S_IFREG)) {
      LIBSERVICES_TRY(Inode* const inode, node->in(use));
      Fh* handle = OpenFile::opens_for_reading(*node, flags)
                       ? client_->take_idle(use, node->number(), file->permissions)
                       : nullptr;
      if (handle == nullptr) {
        const int bits = flags.bits & (OpenFile::kBits | O_TRUNC);
        LIBSERVICES_CHECK_OK(client_->checked(
            use, ceph_ll_open(use.info(), inode, bits, &handle, file->permissions)));
      }
      file->adopt(use, handle);
      if (flags.truncates() && file->writes() != nullptr) file->writes()->count();
      if (use.is_dead()) return Errno{EIO};
    }
    LIBSERVICES_TRY(const Attributes seen, attributes(context, use, node));
    return Opened<File>{std::move(file), seen};
  };
  return flags.truncates() ? changing(node, opened) : client_->asking(opened);
}

Result<std::size_t> Ceph::read(C, File& file, std::uint64_t offset, std::span<std::byte> into) {
  if (!file->is_file()) return Errno{EISDIR};
  if (!file->flags.reads()) return Errno{EBADF};
  if (!fits(offset)) return Errno{EINVAL};
  const bool hot = hot_.takes(into.size()) && !file->node->in_snapshot();
  if (hot && hot_.read(file->node->number(), offset, into)) return into.size();
  const auto read = client_->asking([&](const Use& use) -> Result<std::size_t> {
    LIBSERVICES_TRY(Fh* const handle, file->in(use));
    std::size_t done = 0;
    while (done < into.size() && fits(offset + done)) {
      const std::uint64_t size = std::min<std::uint64_t>(into.size() - done, kMostAtOnce);
      const int count = ceph_ll_read(use.info(), handle, static_cast<std::int64_t>(offset + done),
                                     size, reinterpret_cast<char*>(into.data() + done));
      if (count < 0) {
        if (done != 0) break;
        return client_->failed(use, count);
      }
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    return done;
  });
  if (hot && read.ok()) hot_.keep(file->node->number(), offset, into.first(*read));
  return read;
}

Result<std::size_t> Ceph::write(C, File& file, std::uint64_t offset,
                                std::span<const std::byte> from) {
  if (!file->is_file() || !file->flags.writes()) return Errno{EBADF};
  if (!fits(offset) || !fits(offset + from.size())) return Errno{EFBIG};
  return changing(file->node, [&](const Use& use) -> Result<std::size_t> {
    LIBSERVICES_TRY(Fh* const handle, file->in(use));
    file->writes()->count();
    std::size_t done = 0;
    while (done < from.size()) {
      const std::uint64_t size = std::min<std::uint64_t>(from.size() - done, kMostAtOnce);
      const int count = ceph_ll_write(use.info(), handle, static_cast<std::int64_t>(offset + done),
                                      size, reinterpret_cast<const char*>(from.data() + done));
      if (count < 0) {
        if (done != 0) break;
        return client_->failed(use, count);
      }
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    file->writes()->count();
    if ((file->flags.bits & O_DSYNC) != 0) {
      LIBSERVICES_CHECK_OK(client_->is_alive(use, file->node->in(use)));
    }
    // What a dead mount took is lost, and may not be known to be.
    if (use.is_dead()) return Errno{EIO};
    return done;
  });
}

// All of it, for kData too: without its size in the MDS a file cannot be read back for certain.
Result<void> Ceph::fsync(C, File& file, SyncScope) {
  const Node& node = file->node;
  const WritesPtr writes = file->writes() != nullptr ? file->writes()
                           : file->is_file()         ? client_->unsynced().find(node->number())
                                                     : WritesPtr();
  const auto synchronise = [&](const Use& use) -> Result<void> {
    // Also what others have written; but who opened it later is told once, if nobody was.
    if (writes != nullptr && (writes->tell() || file->is_lost(*writes))) return Errno{EIO};
    const std::uint64_t counted = writes != nullptr ? writes->counted() : 0;
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    if (file->is_file()) {
      LIBSERVICES_TRY(Fh* const handle, file->in(use));
      LIBSERVICES_CHECK_OK(client_->checked(use, ceph_ll_fsync(use.info(), handle, 0)));
    } else {
      LIBSERVICES_CHECK_OK(client_->checked(use, ceph_ll_sync_inode(use.info(), inode, 0)));
    }
    LIBSERVICES_CHECK_OK(client_->is_alive(use, inode));
    if (use.is_dead()) return Errno{EIO};
    if (writes != nullptr) writes->synchronised(counted);
    return {};
  };
  return changing(node, [&](const Use& use) {
    const Result<void> synchronised = synchronise(use);
    // What is lost with this mount is not known yet, but the caller has its error.
    if (!synchronised.ok() && use.is_dead() && writes != nullptr) {
      (void)writes->tell(use.mount()->generation());
    }
    return synchronised;
  });
}

Result<void> Ceph::fallocate(C, File& file, int mode, std::uint64_t offset, std::uint64_t length) {
  if (!file->is_file() || !file->flags.writes()) return Errno{EBADF};
  if (!fits(offset) || !fits(length) || !fits(offset + length)) return Errno{EFBIG};
  return changing(file->node, [&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Fh* const handle, file->in(use));
    file->writes()->count();
    LIBSERVICES_CHECK_OK(client_->checked(
        use, ceph_ll_fallocate(use.info(), handle, mode, static_cast<std::int64_t>(offset),
                               static_cast<std::int64_t>(length))));
    file->writes()->count();
    if (use.is_dead()) return Errno{EIO};
    return {};
  });
}

Result<void> Ceph::close(C, File& file) {
  const File closed = std::move(file);
  return closed->close();
}

Result<void> Ceph::readdir(C context, File& file, std::uint64_t after, Listing wanted,
                           EntrySink sink) {
  OpenFile& open = *file;
  if (!open.node->is(S_IFDIR)) return Errno{ENOTDIR};
  if (!fits(after)) return Errno{EINVAL};
  return client_->asking([&](const Use& use) -> Result<void> {
    return list(context, use, open, after, wanted, sink);
  });
}

Result<void> Ceph::list(C context, const Use& use, OpenFile& open, std::uint64_t after,
                        Listing wanted, EntrySink sink) {
  LIBSERVICES_TRY(Inode* const inode, open.node->in(use));
  std::lock_guard lock(open.listing);
  ceph_dir_result* directory = open.directory.in(use);
  const auto seek = [&] {
    ceph_seekdir(use.info(), directory, static_cast<std::int64_t>(after));
    open.has_refused = false;
  };
  if (directory == nullptr) {
    LIBSERVICES_CHECK_OK(client_->checked(
        use, ceph_ll_opendir(use.info(), inode, &directory, permissions_of(context))));
    open.directory.set(use, directory);
    open.has_refused = false;
    if (after != 0) seek();
  } else if (after == 0) {
    ceph_rewinddir(use.info(), directory);
    open.has_refused = false;
  } else if (after != open.listed) {
    seek();
  }
  open.listed = after;
  const bool with_attributes = wanted == Listing::kAttributes;
  if (open.has_refused && with_attributes && open.refused_for != wanted) seek();
  dirent& entry = open.refused;
  Statx& seen = open.refused_statx;
  for (;;) {
    if (!std::exchange(open.has_refused, false)) {
      const int count =
          ceph_readdirplus_r(use.info(), directory, &entry, &seen, with_attributes ? kWanted : 0U,
                             with_attributes ? 0U : AT_STATX_DONT_SYNC, nullptr);
      if (count == 0 || count == -ENOENT) return {};  // of a directory that was removed
      if (count < 0) return client_->failed(use, count);
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
  const std::string text = terminated(name);
  return client_->asking([&](const Use& use) -> Result<std::size_t> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    return client_->checked(use, ceph_ll_getxattr(use.info(), inode, text.c_str(), into.data(),
                                                  into.size(), permissions_of(context)));
  });
}

Result<void> Ceph::setxattr(C context, const Node& node, std::string_view name,
                            std::span<const std::byte> value, XattrMode mode) {
  const std::string text = terminated(name);
  const int flags = mode == XattrMode::kCreate    ? XATTR_CREATE
                    : mode == XattrMode::kReplace ? XATTR_REPLACE
                                                  : 0;
  // Without a value libcephfs takes the attribute away.
  static constexpr char kEmpty = '\0';
  const void* const bytes =
      value.data() != nullptr ? static_cast<const void*>(value.data()) : &kEmpty;
  return changing(node, [&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    LIBSERVICES_CHECK_OK(
        client_->checked(use, ceph_ll_setxattr(use.info(), inode, text.c_str(), bytes, value.size(),
                                               flags, permissions_of(context))));
    return {};
  });
}

Result<std::size_t> Ceph::listxattr(C context, const Node& node, std::span<char> into) {
  return client_->asking([&](const Use& use) -> Result<std::size_t> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    std::size_t size = 0;
    LIBSERVICES_CHECK_OK(
        client_->checked(use, ceph_ll_listxattr(use.info(), inode, into.data(), into.size(), &size,
                                                permissions_of(context))));
    return size;
  });
}

Result<void> Ceph::removexattr(C context, const Node& node, std::string_view name) {
  const std::string text = terminated(name);
  return changing(node, [&](const Use& use) -> Result<void> {
    LIBSERVICES_TRY(Inode* const inode, node->in(use));
    LIBSERVICES_CHECK_OK(client_->checked(
        use, ceph_ll_removexattr(use.info(), inode, text.c_str(), permissions_of(context))));
    return {};
  });
}

}  // namespace libservices
