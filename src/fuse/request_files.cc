// SPDX-License-Identifier: Apache-2.0
//
// Requests about open files.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "src/fuse/request.h"

namespace libservices::fuse {
namespace {

// O_* of an open that are the file's; the kernel has dealt with names, and creates by itself.
constexpr int kFileFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_TRUNC;
// The kernel opens it to execute it, or to have it executed by what its first line names.
constexpr std::uint32_t kForExecution = 0x20;  // __FMODE_EXEC
// Below it a copy costs less than the calls that save it.
constexpr std::uint32_t kSmallestFromFile = 32768;

}  // namespace

std::uint32_t Session::Run::open_flags_for_kernel(OpenFlags flags, OpenFile& file) const {
  // An append goes where the file ends now, which only we know: past the page cache. So does
  // everything of a file that may change through a mapping of the host's file.
  std::uint32_t answer = 0;
  const bool is_mapped = filesystem_.is_mapped(file);
  if (flags.has(O_DIRECT) || (flags.has(O_APPEND) && flags.writes()) || is_mapped) {
    answer |= FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
  }
  if (is_mapped) return answer;
  if (keeps_for_ever()) answer |= FOPEN_KEEP_CACHE;
  return answer;
}

OpenFlags Session::Run::flags_of(std::uint32_t bits) const {
  OpenFlags flags{static_cast<int>(bits) & kFileFlags};
  if (session_.options_.writeback) {  // the kernel fills its pages, and knows the end
    flags.bits &= ~O_APPEND;
    if ((flags.bits & O_ACCMODE) == O_WRONLY) flags.bits = (flags.bits & ~O_ACCMODE) | O_RDWR;
  }
  return flags;
}

Result<void> Session::Run::answer_opened(OpenFilePtr file, OpenFlags flags,
                                         const Reference* created) {
  std::uint64_t node = message_.header.nodeid;
  fuse_entry_out entry{};
  if (created != nullptr) {
    entry = entry_of(*created);
    node = entry.nodeid;
  }
  abi::OpenOut out{};
  out.open_flags = open_flags_for_kernel(flags, *file);
  const bool direct = (out.open_flags & FOPEN_DIRECT_IO) != 0;
  auto offer = std::optional<Passthrough::Offer>();
  // What goes past all caches is asked for, not offered: not every storage has that.
  if (!flags.has(O_DIRECT) && session_.passthrough_.may_pass(node)) {
    offer = session_.offer(context_, *file);
  }
  const Passthrough::Decision decision = session_.passthrough_.open(
      node, direct ? Passthrough::Way::kNone : Passthrough::Way::kPages, offer,
      [&](int descriptor) { return session_.announce(descriptor); },
      [&] { (void)filesystem_.backing(context_, *file); });  // it may be the one that writes
  if (decision.way == Passthrough::Way::kNewInode) {
    (void)filesystem_.close(context_, std::move(file));
    session_.leave_inode(node);
    return Errno{ESTALE};
  }
  if (decision.way == Passthrough::Way::kPassthrough) {
    out.open_flags = abi::kOpenPassthrough;
    out.backing_id = decision.number;
  }
  out.fh =
      session_.handles_.add(std::move(file), node, decision.way, flags.reads() && !flags.writes());
  reply_.handle = out.fh;
  if (created == nullptr) {
    reply_.set(out);
    return {};
  }
  struct {
    fuse_entry_out entry;
    abi::OpenOut open;
  } both{entry, out};
  reply_.set(both);
  return {};
}

// A file or a directory.
Result<void> Session::Run::open() {
  const auto in = message_.as<fuse_open_in>();
  LIBSERVICES_TRY(const OpenFilePtr object, node());
  const bool directory = message_.header.opcode == FUSE_OPENDIR;
  if (OpenFilePtr file = session_.handed_over_.open(message_.header.nodeid, message_.header.pid);
      file != nullptr && !directory) {
    // Past the page cache, so that each read and write comes here, with the offset that it has.
    abi::OpenOut out{};
    out.open_flags = FOPEN_DIRECT_IO;
    out.fh = session_.handles_.add_shared(std::move(file), message_.header.nodeid);
    reply_.handle = out.fh;
    reply_.set(out);
    return {};
  }
  context_.caller.drops_set_id = (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  OpenFlags flags = flags_of(in.flags);
  if (directory) flags.bits = O_RDONLY | O_DIRECTORY;
  // The kernel looks the name up again then, and comes with another inode.
  const std::uint64_t node_id = message_.header.nodeid;
  if (flags.writes() && session_.passthrough_.passes_until_changed(node_id)) {
    session_.leave_inode(node_id);
  }
  if (!session_.nodes_.is_current(node_id)) return Errno{ESTALE};
  if ((in.flags & kForExecution) != 0 && !directory) {  // that needs no right to read
    LIBSERVICES_CHECK_OK(filesystem_.access(context_, Location::object_of(*object), X_OK));
    context_.caller = {};
  }
  LIBSERVICES_TRY(OpenFilePtr file,
                  filesystem_.open(context_, Location::object_of(*object), flags, 0));
  if (!directory) return answer_opened(std::move(file), flags, nullptr);
  abi::OpenOut out{};
  if (keeps_for_ever()) out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
  out.fh =
      session_.handles_.add(std::move(file), message_.header.nodeid, Passthrough::Way::kNone, true);
  reply_.handle = out.fh;
  reply_.set(out);
  return {};
}

// Also of a file without a name, in which case the name is not looked at.
Result<void> Session::Run::create() {
  const auto in = message_.as<fuse_create_in>();
  context_.umask = in.umask & 0777U;
  context_.caller.drops_set_id = (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  const bool nameless = message_.header.opcode == FUSE_TMPFILE;
  const OpenFlags flags = flags_of(in.flags);
  OpenFlags making{flags.bits | (static_cast<int>(in.flags) & O_EXCL)};
  making.bits |= nameless ? O_TMPFILE : O_CREAT | O_NOFOLLOW;
  const Location at = nameless ? Location::object_of(*parent)
                               : Location(parent.get(), message_.names[0], Follow::kNo);
  LIBSERVICES_TRY(OpenFilePtr file, filesystem_.open(context_, at, making, in.mode & 07777U));
  auto created = filesystem_.refer(context_, Location::object_of(*file));
  if (!created.ok()) {
    (void)filesystem_.close(context_, std::move(file));
    return created.error();
  }
  return answer_opened(std::move(file), flags, &*created);
}

// The kernel keeps an offset for its descriptors; who else has the open file goes on behind it.
void Session::Run::move_offset(Handle& open, std::uint64_t offset) {
  if (!open.moves_offset) return;
  if (open.file->flags().has(O_APPEND)) {
    (void)filesystem_.lseek(context_, *open.file, 0, SEEK_END);
  } else {
    (void)filesystem_.lseek(context_, *open.file, static_cast<std::int64_t>(offset), SEEK_SET);
  }
}

Result<void> Session::Run::read() {
  const auto in = message_.as<fuse_read_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  if (in.size >= kSmallestFromFile && in.size <= reply_.most_from_file && open->only_reads) {
    const auto backing = filesystem_.backing(context_, *open->file);
    if (backing.ok()) {
      reply_.from_file = {backing->descriptor, in.offset, in.size};
      reply_.open = open;
      return {};
    }
  }
  const auto into = room_.first(std::min<std::size_t>(in.size, room_.size()));
  LIBSERVICES_TRY(const std::size_t count,
                  filesystem_.pread(context_, *open->file, in.offset, into));
  move_offset(*open, in.offset + count);
  reply_.payload = into.first(count);
  return {};
}

Result<void> Session::Run::write() {
  const auto in = message_.as<fuse_write_in>();
  if (in.size > message_.payload.size()) return Errno{EIO};
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  // What the page cache writes out may come after the writer has closed, by whoever caused it, and
  // the kernel has checked the writer. It takes set-id bits away only if it says so.
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) context_.caller = {};
  context_.caller.drops_set_id = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  LIBSERVICES_TRY(const std::size_t count, filesystem_.pwrite(context_, *open->file, in.offset,
                                                              message_.payload.first(in.size)));
  move_offset(*open, in.offset + count);
  reply_.set(fuse_write_out{static_cast<std::uint32_t>(count), 0});
  return {};
}

// A descriptor is closed: the record locks of its process on the file go.
Result<void> Session::Run::flush() {
  const auto in = message_.as<fuse_flush_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  context_.process = kOfKernel | in.lock_owner;
  return filesystem_.close(context_, open->file);
}

Result<void> Session::Run::release() {
  const auto in = message_.as<fuse_release_in>();
  const HandlePtr open = session_.handles_.remove(in.fh);
  if (open == nullptr) return Errno{EBADF};
  if ((in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK) != 0) {
    LockRequest unlock;
    unlock.owner = LockRequest::Owner::kFlock;
    unlock.type = LockRequest::Type::kUnlock;
    (void)filesystem_.lock(context_, *open->file, unlock);
  }
  context_.process = kOfKernel | in.lock_owner;
  return session_.close(context_, open);
}

Result<void> Session::Run::fsync() {
  const auto in = message_.as<fuse_fsync_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  const bool data = (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
  return filesystem_.fsync(context_, *open->file, data ? SyncScope::kData : SyncScope::kAll);
}

Result<void> Session::Run::fallocate() {
  const auto in = message_.as<fuse_fallocate_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  return filesystem_.fallocate(context_, *open->file, static_cast<int>(in.mode), in.offset,
                               in.length);
}

Result<void> Session::Run::lseek() {
  const auto in = message_.as<fuse_lseek_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return Errno{EINVAL};
  LIBSERVICES_TRY(const std::uint64_t found,
                  filesystem_.lseek(context_, *open->file, static_cast<std::int64_t>(in.offset),
                                    static_cast<int>(in.whence)));
  reply_.set(fuse_lseek_out{found});
  return {};
}

Result<void> Session::Run::copy_range() {
  const auto in = message_.as<fuse_copy_file_range_in>();
  LIBSERVICES_TRY(const HandlePtr from, handle(in.fh_in));
  LIBSERVICES_TRY(const HandlePtr to, handle(in.fh_out));
  // The answer has 32 bits for the count.
  const std::uint64_t length = std::min<std::uint64_t>(in.len, 1U << 30U);
  LIBSERVICES_TRY(
      const std::uint64_t count,
      filesystem_.copy_range(context_, *from->file, in.off_in, *to->file, in.off_out, length));
  reply_.set(fuse_write_out{static_cast<std::uint32_t>(count), 0});
  return {};
}

Result<void> Session::Run::lock() {
  const auto in = message_.as<fuse_lk_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  const bool flock = (in.lk_flags & FUSE_LK_FLOCK) != 0;
  LockRequest request;
  request.owner = flock ? LockRequest::Owner::kFlock : LockRequest::Owner::kRecord;
  request.type = in.lk.type == F_WRLCK   ? LockRequest::Type::kExclusive
                 : in.lk.type == F_RDLCK ? LockRequest::Type::kShared
                                         : LockRequest::Type::kUnlock;
  request.start = in.lk.start;
  request.end = in.lk.end >= static_cast<std::uint64_t>(INT64_MAX) ? UINT64_MAX : in.lk.end;
  context_.process = kOfKernel | in.owner;
  if (message_.header.opcode == FUSE_GETLK) {
    LIBSERVICES_TRY(const LockRequest held, filesystem_.test_lock(context_, *open->file, request));
    fuse_lk_out out{in.lk};
    out.lk.type = F_UNLCK;
    if (held.type != LockRequest::Type::kUnlock) {
      out.lk.type = held.type == LockRequest::Type::kExclusive ? F_WRLCK : F_RDLCK;
      out.lk.start = held.start;
      out.lk.end = std::min(held.end, static_cast<std::uint64_t>(INT64_MAX));
      out.lk.pid = session_.locks_.holder_of(held.process);
    }
    reply_.set(out);
    return {};
  }
  const auto locked = filesystem_.lock(context_, *open->file, request);
  if (locked.ok() && !flock && request.type != LockRequest::Type::kUnlock) {
    session_.locks_.remember_holder(context_.process, static_cast<pid_t>(message_.header.pid));
  }
  if (locked.ok() || locked.error() != Errno{EAGAIN} || message_.header.opcode != FUSE_SETLKW) {
    return locked;
  }
  // The decision hangs on no group any more.
  context_.caller.more_groups = nullptr;
  reply_.none = true;
  session_.locks_.wait_for(
      {message_.header.unique, open, request, context_, static_cast<pid_t>(message_.header.pid)});
  return {};
}

}  // namespace libservices::fuse
