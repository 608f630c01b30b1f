// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdio>
#include <new>
#include <optional>
#include <utility>

#include "src/fuse/supplementary_groups.h"

namespace libservices::fuse {
namespace {

constexpr std::uint64_t kForEver = std::uint64_t{1} << 32U;  // seconds

// Context::process of a lock's owner in the kernel. The processes of shared memory sessions have
// smaller numbers.
constexpr std::uint64_t kOfKernel = std::uint64_t{1} << 63U;

fuse_attr attributes_for_kernel(const Attributes& a) {
  fuse_attr out{};
  out.ino = a.inode;
  out.size = a.size;
  out.blocks = a.blocks;
  out.atime = static_cast<std::uint64_t>(a.atime.seconds);
  out.mtime = static_cast<std::uint64_t>(a.mtime.seconds);
  out.ctime = static_cast<std::uint64_t>(a.ctime.seconds);
  out.atimensec = a.atime.nanoseconds;
  out.mtimensec = a.mtime.nanoseconds;
  out.ctimensec = a.ctime.nanoseconds;
  out.mode = a.mode;
  out.nlink = a.links;
  out.uid = a.uid;
  out.gid = a.gid;
  out.rdev = abi::encode_device(a.special_device);
  out.blksize = a.block_size;
  return out;
}

Timestamp timestamp(std::uint64_t seconds, std::uint32_t nanoseconds) {
  return {static_cast<std::int64_t>(seconds), nanoseconds, 0};
}

// 8 bytes are what each entry of a listing is aligned to.
constexpr std::size_t aligned(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

// O_* of an open that are the file's; the kernel has dealt with names, and creates by itself.
constexpr int kFileFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_TRUNC;
// The kernel opens it to execute it, or to have it executed by what its first line names.
constexpr std::uint32_t kForExecution = 0x20;  // __FMODE_EXEC

}  // namespace

thread_local Session* Session::serving_ = nullptr;

// One request.
class Session::Run {
 public:
  Run(Session& session, const Message& message, std::span<std::byte> room, Reply& reply)
      : session_(session),
        filesystem_(session.filesystem_),
        message_(message),
        room_(room),
        reply_(reply),
        groups_(message) {
    context_.caller = {message.header.uid, message.header.gid, {}, &groups_,
                       session.options_.kernel_decides};
    context_.process = kOfKernel | message.header.pid;
  }

  Result<void> run();

 private:
  struct Validity {
    std::uint64_t seconds;
    std::uint32_t nanoseconds;
  };
  // How long the kernel may believe what it is told.
  Validity validity() const {
    const Coherence& coherence = session_.coherence_;
    if (coherence.kind == Coherence::Kind::kNeverChanges ||
        coherence.kind == Coherence::Kind::kChangesOnlyThroughMe) {
      return {kForEver, 0};
    }
    if (coherence.kind != Coherence::Kind::kAskAgain) return {0, 0};
    const auto time = static_cast<std::uint64_t>(coherence.ask_again_after.count());
    return {time / 1000000000, static_cast<std::uint32_t>(time % 1000000000)};
  }
  bool keeps_for_ever() const { return validity().seconds == kForEver; }

  Result<OpenFilePtr> node(std::uint64_t id) const {
    OpenFilePtr file = session_.nodes_.find(id);
    if (file == nullptr) return Errno{ESTALE};
    return file;
  }
  Result<OpenFilePtr> node() const { return node(message_.header.nodeid); }
  Result<HandlePtr> handle(std::uint64_t number) const {
    HandlePtr found = session_.handles_.find(number);
    if (found == nullptr) return Errno{EBADF};
    return found;
  }

  fuse_entry_out entry_of(const Reference& reference) {
    session_.nodes_.add(reference);
    reply_.told.push_back(reference.object);
    const Validity valid = validity();
    fuse_entry_out entry{};
    entry.nodeid = reference.object;
    entry.entry_valid = entry.attr_valid = valid.seconds;
    entry.entry_valid_nsec = entry.attr_valid_nsec = valid.nanoseconds;
    entry.attr = attributes_for_kernel(reference.attributes);
    return entry;
  }
  // The entry that was just made.
  Result<void> answer_entry(OpenFile& parent, std::string_view name) {
    LIBSERVICES_TRY(const Reference made,
                    filesystem_.refer(context_, Location(&parent, name, Follow::kNo)));
    reply_.set(entry_of(made));
    return {};
  }
  Result<void> answer_attributes(const Attributes& attributes) {
    const Validity valid = validity();
    fuse_attr_out out{};
    out.attr_valid = valid.seconds;
    out.attr_valid_nsec = valid.nanoseconds;
    out.attr = attributes_for_kernel(attributes);
    reply_.set(out);
    return {};
  }
  std::uint32_t open_flags_for_kernel(OpenFlags flags) const;
  OpenFlags flags_of(std::uint32_t bits) const;
  Result<void> answer_opened(OpenFilePtr file, OpenFlags flags, const Reference* created);

  Result<void> init();
  Result<void> lookup();
  Result<void> forget();
  Result<void> getattr();
  Result<void> statx();
  Result<void> setattr();
  Result<void> make();
  Result<void> rename();
  Result<void> link();
  Result<void> open();
  Result<void> create();
  Result<void> read();
  Result<void> write();
  Result<void> statfs();
  Result<void> flush();
  Result<void> release();
  Result<void> xattr();
  Result<void> readdir();
  Result<void> lock();
  Result<void> lseek();
  Result<void> copy_range();

  Session& session_;
  AnyFilesystem& filesystem_;
  const Message& message_;
  const std::span<std::byte> room_;
  Reply& reply_;
  SupplementaryGroups groups_;
  Context context_;
};

Result<void> Session::Run::init() {
  const auto in = message_.as<fuse_init_in>();
  abi::InitOut out{};
  out.major = FUSE_KERNEL_VERSION;
  if (in.major > FUSE_KERNEL_VERSION) {  // it asks again with ours
    reply_.set(out);
    return {};
  }
  if (in.major < FUSE_KERNEL_VERSION || in.minor < abi::kOldestMinor) return Errno{EPROTO};
  const std::uint64_t offered =
      in.flags | ((in.flags & FUSE_INIT_EXT) != 0 ? std::uint64_t{in.flags2} << 32U : 0);
  std::uint64_t wanted = FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC |
                         FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_FLOCK_LOCKS |
                         FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
                         FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
                         FUSE_INIT_EXT | abi::kCreateSuppGroup | abi::kDirectIoAllowMmap;
  if (keeps_for_ever()) {
    wanted |= FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA;
  } else {
    wanted |= FUSE_AUTO_INVAL_DATA;
  }
  if (session_.options_.writeback) {
    wanted |= FUSE_WRITEBACK_CACHE;
  } else if (session_.options_.passthrough) {
    wanted |= abi::kPassthrough;
  }
  const std::uint64_t flags = wanted & offered;
  out.minor = std::min(in.minor, abi::kNewestMinor);
  out.max_readahead = in.max_readahead;
  out.flags = static_cast<std::uint32_t>(flags);
  out.flags2 = static_cast<std::uint32_t>(flags >> 32U);
  out.max_background = 64;
  out.congestion_threshold = 48;
  out.max_write = kMostWrite;
  out.time_gran = 1;
  out.max_pages = kMostWrite / 4096;
  if ((flags & abi::kPassthrough) != 0) {
    out.max_stack_depth = 1;  // what it passes through to is no stacked filesystem itself
    session_.may_pass_.store(true, std::memory_order_relaxed);
  }
  {
    std::lock_guard lock(session_.locks_mutex_);
    session_.minor_.store(out.minor, std::memory_order_relaxed);
    session_.negotiated_.notify_all();
  }
  reply_.set(out);
  return {};
}

Result<void> Session::Run::lookup() {
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  auto found = filesystem_.refer(context_, Location(parent.get(), message_.names[0], Follow::kNo));
  if (found.ok()) {
    reply_.set(entry_of(*found));
    return {};
  }
  if (found.error() != Errno{ENOENT} || !keeps_for_ever()) return found.error();
  fuse_entry_out none{};  // node id 0: the kernel may remember that there is none
  none.entry_valid = kForEver;
  reply_.set(none);
  return {};
}

Result<void> Session::Run::forget() {
  reply_.none = true;
  if (message_.header.opcode == FUSE_FORGET) {
    session_.nodes_.forget(message_.header.nodeid, message_.as<fuse_forget_in>().nlookup);
    return {};
  }
  const auto count = message_.as<fuse_batch_forget_in>().count;
  auto rest = message_.payload;
  for (std::uint32_t i = 0; i < count && rest.size() >= sizeof(fuse_forget_one); ++i) {
    fuse_forget_one one;
    std::memcpy(&one, rest.data(), sizeof one);
    rest = rest.subspan(sizeof one);
    session_.nodes_.forget(one.nodeid, one.nlookup);
  }
  return {};
}

Result<void> Session::Run::getattr() {
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  LIBSERVICES_TRY(const Attributes now, filesystem_.stat(context_, Location::object_of(*file)));
  return answer_attributes(now);
}

Result<void> Session::Run::statx() {
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  LIBSERVICES_TRY(const Attributes now, filesystem_.stat(context_, Location::object_of(*file)));
  const Validity valid = validity();
  const auto time = [](const Timestamp& t) {
    return abi::StatxTime{t.seconds, t.nanoseconds, 0};
  };
  abi::StatxOut out{};
  out.attr_valid = valid.seconds;
  out.attr_valid_nsec = valid.nanoseconds;
  out.mask = STATX_BASIC_STATS | (now.btime == Timestamp{} ? 0U : STATX_BTIME);
  out.blksize = now.block_size;
  out.nlink = now.links;
  out.uid = now.uid;
  out.gid = now.gid;
  out.mode = static_cast<std::uint16_t>(now.mode);
  out.ino = now.inode;
  out.size = now.size;
  out.blocks = now.blocks;
  out.atime = time(now.atime);
  out.btime = time(now.btime);
  out.ctime = time(now.ctime);
  out.mtime = time(now.mtime);
  out.rdev_major = gnu_dev_major(now.special_device);
  out.rdev_minor = gnu_dev_minor(now.special_device);
  reply_.set(out);
  return {};
}

Result<void> Session::Run::setattr() {
  const auto in = message_.as<fuse_setattr_in>();
  using A = AttributeChanges;
  AttributeChanges changes;
  const auto take = [&](std::uint32_t bit, A::Field field) {
    if ((in.valid & bit) != 0) changes.which |= field;
    return (in.valid & bit) != 0;
  };
  if (take(FATTR_MODE, A::kMode)) changes.mode = in.mode & 07777U;
  if (take(FATTR_UID, A::kUid)) changes.uid = in.uid;
  if (take(FATTR_GID, A::kGid)) changes.gid = in.gid;
  if (take(FATTR_SIZE, A::kSize)) changes.size = in.size;
  context_.caller.drops_set_id = (in.valid & FATTR_KILL_SUIDGID) != 0;
  if ((in.valid & FATTR_ATIME_NOW) != 0) {
    changes.which |= A::kAtimeNow;
  } else if (take(FATTR_ATIME, A::kAtime)) {
    changes.atime = timestamp(in.atime, in.atimensec);
  }
  if ((in.valid & FATTR_MTIME_NOW) != 0) {
    changes.which |= A::kMtimeNow;
  } else if (take(FATTR_MTIME, A::kMtime)) {
    changes.mtime = timestamp(in.mtime, in.mtimensec);
  }
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  const Location object = Location::object_of(*file);
  if ((in.valid & FATTR_FH) != 0 && changes.has(A::kSize)) {  // what was opened for writing
    LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
    LIBSERVICES_CHECK_OK(filesystem_.setattr(context_, Location(*open->file), changes));
  } else if (changes.which != 0) {
    LIBSERVICES_CHECK_OK(filesystem_.setattr(context_, object, changes));
  }
  LIBSERVICES_TRY(const Attributes now, filesystem_.stat(context_, object));
  return answer_attributes(now);
}

// mknod, mkdir, symlink.
Result<void> Session::Run::make() {
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  const std::string_view name = message_.names[0];
  const Location at(parent.get(), name, Follow::kNo);
  switch (message_.header.opcode) {
    case FUSE_MKNOD: {
      const auto in = message_.as<fuse_mknod_in>();
      context_.umask = in.umask & 0777U;
      LIBSERVICES_CHECK_OK(
          filesystem_.mknod(context_, at, in.mode, abi::decode_device(in.rdev)));
      break;
    }
    case FUSE_MKDIR: {
      const auto in = message_.as<fuse_mkdir_in>();
      context_.umask = in.umask & 0777U;
      LIBSERVICES_CHECK_OK(filesystem_.mkdir(context_, at, in.mode));
      break;
    }
    default:
      LIBSERVICES_CHECK_OK(filesystem_.symlink(context_, message_.names[1], at));
  }
  return answer_entry(*parent, name);
}

Result<void> Session::Run::rename() {
  const bool plain = message_.header.opcode == FUSE_RENAME;
  const std::uint64_t to_id =
      plain ? message_.as<fuse_rename_in>().newdir : message_.as<fuse_rename2_in>().newdir;
  const std::uint32_t flags = plain ? 0 : message_.as<fuse_rename2_in>().flags;
  RenameMode mode = RenameMode::kReplace;
  if (flags == RENAME_NOREPLACE) {
    mode = RenameMode::kNoReplace;
  } else if (flags == RENAME_EXCHANGE) {
    mode = RenameMode::kExchange;
  } else if (flags != 0) {
    return Errno{EINVAL};
  }
  LIBSERVICES_TRY(const OpenFilePtr from, node());
  LIBSERVICES_TRY(const OpenFilePtr to, node(to_id));
  return filesystem_.rename(context_, Location(from.get(), message_.names[0], Follow::kNo),
                            Location(to.get(), message_.names[1], Follow::kNo), mode);
}

Result<void> Session::Run::link() {
  LIBSERVICES_TRY(const OpenFilePtr object, node(message_.as<fuse_link_in>().oldnodeid));
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  const std::string_view name = message_.names[0];
  LIBSERVICES_CHECK_OK(filesystem_.link(context_, Location::object_of(*object),
                                        Location(parent.get(), name, Follow::kNo)));
  return answer_entry(*parent, name);
}

std::uint32_t Session::Run::open_flags_for_kernel(OpenFlags flags) const {
  // An append goes where the file ends now, which only we know: past the page cache.
  std::uint32_t answer = 0;
  if (flags.has(O_DIRECT) || (flags.has(O_APPEND) && flags.writes())) {
    answer |= FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
  }
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
  const std::uint64_t object =
      created != nullptr ? created->object : message_.header.nodeid;
  abi::OpenOut out{};
  out.open_flags = open_flags_for_kernel(flags);
  Passthrough::Decision decision{Passthrough::Way::kNone, 0};
  const bool direct = (out.open_flags & FOPEN_DIRECT_IO) != 0;
  if (session_.may_pass_.load(std::memory_order_relaxed) && !flags.has(O_DIRECT)) {
    decision =
        session_.passthrough_.open(object, [&] { return session_.announce(context_, *file); });
    // By requests alone it is at odds with nothing.
    if (direct && decision.way == Passthrough::Way::kPages) {
      session_.withdraw(object, decision.way);
      decision.way = Passthrough::Way::kNone;
    }
  }
  if (decision.way == Passthrough::Way::kPassthrough) {
    (void)filesystem_.backing(context_, *file);  // of each: it may be the one that writes
    out.open_flags = abi::kOpenPassthrough;
    out.backing_id = decision.number;
  }
  out.fh = session_.handles_.add(std::move(file), object, decision.way);
  reply_.handle = out.fh;
  if (created == nullptr) {
    reply_.set(out);
    return {};
  }
  struct {
    fuse_entry_out entry;
    abi::OpenOut open;
  } both{entry_of(*created), out};
  reply_.set(both);
  return {};
}

// A file or a directory.
Result<void> Session::Run::open() {
  const auto in = message_.as<fuse_open_in>();
  LIBSERVICES_TRY(const OpenFilePtr object, node());
  const bool directory = message_.header.opcode == FUSE_OPENDIR;
  context_.caller.drops_set_id = (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  OpenFlags flags = flags_of(in.flags);
  if (directory) flags.bits = O_RDONLY | O_DIRECTORY;
  if ((in.flags & kForExecution) != 0 && !directory) {  // that needs no right to read
    LIBSERVICES_CHECK_OK(filesystem_.access(context_, Location::object_of(*object), X_OK));
    context_.caller = {};
  }
  LIBSERVICES_TRY(OpenFilePtr file,
                  filesystem_.open(context_, Location::object_of(*object), flags, 0));
  if (!directory) return answer_opened(std::move(file), flags, nullptr);
  abi::OpenOut out{};
  if (keeps_for_ever()) out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
  out.fh = session_.handles_.add(std::move(file), message_.header.nodeid,
                                 Passthrough::Way::kNone);
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
  LIBSERVICES_TRY(OpenFilePtr file,
                  filesystem_.open(context_, at, making, in.mode & 07777U));
  auto created = filesystem_.refer(context_, Location::object_of(*file));
  if (!created.ok()) {
    (void)filesystem_.close(context_, std::move(file));
    return created.error();
  }
  return answer_opened(std::move(file), flags, &*created);
}

Result<void> Session::Run::read() {
  const auto in = message_.as<fuse_read_in>();
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  const auto into = room_.first(std::min<std::size_t>(in.size, room_.size()));
  LIBSERVICES_TRY(const std::size_t count,
                  filesystem_.pread(context_, *open->file, in.offset, into));
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
  LIBSERVICES_TRY(const std::size_t count,
                  filesystem_.pwrite(context_, *open->file, in.offset,
                                     message_.payload.first(in.size)));
  reply_.set(fuse_write_out{static_cast<std::uint32_t>(count), 0});
  return {};
}

Result<void> Session::Run::statfs() {
  LIBSERVICES_TRY(const OpenFilePtr object, node());
  LIBSERVICES_TRY(const VolumeInfo volume,
                  filesystem_.statfs(context_, Location::object_of(*object)));
  fuse_statfs_out out{};
  out.st.blocks = volume.blocks;
  out.st.bfree = volume.blocks_free;
  out.st.bavail = volume.blocks_available;
  out.st.files = volume.files;
  out.st.ffree = volume.files_free;
  out.st.bsize = out.st.frsize = static_cast<std::uint32_t>(volume.block_size);
  out.st.namelen = static_cast<std::uint32_t>(volume.name_max);
  reply_.set(out);
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
  return session_.close(context_, *open);
}

Result<void> Session::Run::xattr() {
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  const Location object = Location::object_of(*file);
  const auto into = [&](std::uint32_t size) {
    return room_.first(std::min<std::size_t>(size, room_.size()));
  };
  const auto answer = [&](std::uint32_t asked, std::size_t size) -> Result<void> {
    if (asked == 0) {
      reply_.set(fuse_getxattr_out{static_cast<std::uint32_t>(size), 0});
    } else {
      reply_.payload = room_.first(size);
    }
    return {};
  };
  switch (message_.header.opcode) {
    case FUSE_GETXATTR: {
      const auto in = message_.as<fuse_getxattr_in>();
      LIBSERVICES_TRY(const std::size_t size, filesystem_.getxattr(context_, object,
                                                                   message_.names[0],
                                                                   into(in.size)));
      return answer(in.size, size);
    }
    case FUSE_LISTXATTR: {
      const auto in = message_.as<fuse_getxattr_in>();
      const auto names = into(in.size);
      LIBSERVICES_TRY(
          const std::size_t size,
          filesystem_.listxattr(context_, object,
                                {reinterpret_cast<char*>(names.data()), names.size()}));
      return answer(in.size, size);
    }
    case FUSE_SETXATTR: {
      const auto in = message_.as<fuse_setxattr_in>();
      if (in.size > message_.payload.size()) return Errno{EIO};
      const XattrMode mode = in.flags == 1   ? XattrMode::kCreate
                             : in.flags == 2 ? XattrMode::kReplace
                                             : XattrMode::kCreateOrReplace;
      return filesystem_.setxattr(context_, object, message_.names[0],
                                  message_.payload.first(in.size), mode);
    }
    default:
      return filesystem_.removexattr(context_, object, message_.names[0]);
  }
}

Result<void> Session::Run::readdir() {
  const auto in = message_.as<fuse_read_in>();
  const bool plus = message_.header.opcode == FUSE_READDIRPLUS;
  LIBSERVICES_TRY(const OpenFilePtr directory, node());
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  const auto room = room_.first(std::min<std::size_t>(in.size, room_.size()));
  // Objects are asked for behind the listing, which holds locks that they need.
  struct Seen {
    std::size_t at;
    std::string name;
  };
  std::vector<Seen> seen;
  std::size_t used = 0;
  const std::size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
  {
    std::lock_guard lock(open->listing);
    LIBSERVICES_CHECK_OK(filesystem_.lseek(context_, *open->file,
                                           static_cast<std::int64_t>(in.offset), SEEK_SET));
    const auto listed = filesystem_.readdir(
        context_, *open->file, Listing::kNames, [&](const DirEntry& entry) {
          const std::size_t size = aligned(head + entry.name.size());
          if (size > room.size() - used) return false;
          std::byte* const at = room.data() + used;
          std::memset(at, 0, size);
          const fuse_dirent words{entry.inode, entry.cookie,
                                  static_cast<std::uint32_t>(entry.name.size()), entry.type};
          std::memcpy(at + head - FUSE_NAME_OFFSET, &words, FUSE_NAME_OFFSET);
          std::memcpy(at + head, entry.name.data(), entry.name.size());
          if (plus && entry.name != "." && entry.name != "..") {
            seen.push_back({used, std::string(entry.name)});
          }
          used += size;
          return true;
        });
    if (!listed.ok() && used == 0) return listed;  // else it comes with the next request
  }
  for (const Seen& entry : seen) {
    auto found =
        filesystem_.refer(context_, Location(directory.get(), entry.name, Follow::kNo));
    if (!found.ok()) continue;  // the kernel takes the name alone
    const fuse_entry_out words = entry_of(*found);
    std::memcpy(room.data() + entry.at, &words, sizeof words);
  }
  reply_.payload = room.first(used);
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
    LIBSERVICES_TRY(const LockRequest held,
                    filesystem_.test_lock(context_, *open->file, request));
    fuse_lk_out out{in.lk};
    out.lk.type = F_UNLCK;
    if (held.type != LockRequest::Type::kUnlock) {
      out.lk.type = held.type == LockRequest::Type::kExclusive ? F_WRLCK : F_RDLCK;
      out.lk.start = held.start;
      out.lk.end = std::min(held.end, static_cast<std::uint64_t>(INT64_MAX));
      out.lk.pid = session_.holder_of(held.process);
    }
    reply_.set(out);
    return {};
  }
  const auto locked = filesystem_.lock(context_, *open->file, request);
  if (locked.ok() && !flock && request.type != LockRequest::Type::kUnlock) {
    session_.remember_holder(context_.process, static_cast<pid_t>(message_.header.pid));
  }
  if (locked.ok() || locked.error() != Errno{EAGAIN} ||
      message_.header.opcode != FUSE_SETLKW) {
    return locked;
  }
  // The decision hangs on no group any more.
  context_.caller.more_groups = nullptr;
  reply_.none = true;
  session_.wait_for({message_.header.unique, open, request, context_,
                     static_cast<pid_t>(message_.header.pid)});
  return {};
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
  LIBSERVICES_TRY(const std::uint64_t count,
                  filesystem_.copy_range(context_, *from->file, in.off_in, *to->file, in.off_out,
                                         length));
  reply_.set(fuse_write_out{static_cast<std::uint32_t>(count), 0});
  return {};
}

Result<void> Session::Run::run() {
  switch (message_.header.opcode) {
    case FUSE_INIT:
      return init();
    case FUSE_LOOKUP:
      return lookup();
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      return forget();
    case FUSE_GETATTR:
      return getattr();
    case abi::kStatx:
      return statx();
    case FUSE_SETATTR:
      return setattr();
    case FUSE_READLINK: {
      LIBSERVICES_TRY(const OpenFilePtr link, node());
      LIBSERVICES_TRY(const std::size_t length,
                      filesystem_.readlink(context_, Location::object_of(*link),
                                           {reinterpret_cast<char*>(room_.data()), PATH_MAX}));
      reply_.payload = room_.first(length);
      return {};
    }
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
      return make();
    case FUSE_UNLINK:
    case FUSE_RMDIR: {
      LIBSERVICES_TRY(const OpenFilePtr parent, node());
      const Location at(parent.get(), message_.names[0], Follow::kNo);
      return message_.header.opcode == FUSE_UNLINK ? filesystem_.unlink(context_, at)
                                                   : filesystem_.rmdir(context_, at);
    }
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return rename();
    case FUSE_LINK:
      return link();
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      return open();
    case FUSE_CREATE:
    case FUSE_TMPFILE:
      return create();
    case FUSE_READ:
      return read();
    case FUSE_WRITE:
      return write();
    case FUSE_STATFS:
      return statfs();
    case FUSE_FLUSH:
      return flush();
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return release();
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR: {
      const auto in = message_.as<fuse_fsync_in>();
      LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
      return filesystem_.fsync(context_, *open->file,
                               (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? SyncScope::kData
                                                                            : SyncScope::kAll);
    }
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
      return xattr();
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      return readdir();
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
      return lock();
    case FUSE_ACCESS: {
      LIBSERVICES_TRY(const OpenFilePtr object, node());
      return filesystem_.access(context_, Location::object_of(*object),
                                static_cast<int>(message_.as<fuse_access_in>().mask) &
                                    (R_OK | W_OK | X_OK));
    }
    case FUSE_INTERRUPT:
      reply_.none = true;
      session_.interrupt(message_.as<fuse_interrupt_in>().unique);
      return {};
    case FUSE_DESTROY:
      return {};
    case FUSE_FALLOCATE: {
      const auto in = message_.as<fuse_fallocate_in>();
      LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
      return filesystem_.fallocate(context_, *open->file, static_cast<int>(in.mode), in.offset,
                                   in.length);
    }
    case FUSE_LSEEK:
      return lseek();
    case FUSE_COPY_FILE_RANGE:
      return copy_range();
    case FUSE_IOCTL:
      return Errno{ENOTTY};
    default:  // the kernel does without: poll says ready, bmap that there is no block device
      return Errno{ENOSYS};
  }
}

Session::Session(AnyFilesystem& filesystem, Options options)
    : filesystem_(filesystem), options_(options), coherence_(filesystem.coherence()) {
  auto root = filesystem_.refer(Context{}, Location("/"));
  if (root.ok()) nodes_.add(*root);  // never forgotten: the kernel counts no lookup of it
  filesystem_.set_listener(this);
}

Session::~Session() {
  filesystem_.set_listener(nullptr);
  end();
}

void Session::run(const Message& message, std::span<std::byte> room, Reply& reply) noexcept {
  requests_[message.header.opcode].fetch_add(1, std::memory_order_relaxed);
  Session* const before = std::exchange(serving_, this);
  Result<void> done;
  try {
    done = Run(*this, message, room, reply).run();
  } catch (const std::bad_alloc&) {
    done = Errno{ENOMEM};
  } catch (...) {
    done = Errno{EIO};
  }
  serving_ = before;
  if (!done.ok()) {
    errors_.fetch_add(1, std::memory_order_relaxed);
    undo(reply);
    reply.told.clear();
    reply.handle = 0;
    reply.error = done.error().value;
    reply.fixed_bytes = 0;
    reply.payload = {};
  }
}

bool Session::wait_until_negotiated(std::chrono::milliseconds most) {
  std::unique_lock lock(locks_mutex_);
  return negotiated_.wait_for(lock, most, [this] { return minor_.load() != 0; });
}

void Session::undo(const Reply& reply) {
  for (const std::uint64_t object : reply.told) nodes_.forget(object, 1);
  if (reply.handle == 0) return;
  if (const HandlePtr open = handles_.remove(reply.handle)) (void)close(Context{}, *open);
}

// The number of the file's own descriptor at the kernel; 0: none.
std::int32_t Session::announce(const Context& context, OpenFile& file) {
  if (carrier_ == nullptr) return 0;
  const auto now = filesystem_.stat(context, Location(file));
  // A writer shall take set-id bits away, which it does not if it passes through.
  if (!now.ok() || (now->mode & (S_ISUID | S_ISGID)) != 0) return 0;
  const auto backing = filesystem_.backing(context, file);
  if (!backing.ok()) return 0;
  const std::int32_t number = carrier_->announce(backing->descriptor);
  if (number > 0) return number;
  // Without privilege, never. What lies on a stacked filesystem, not.
  if (number == -EPERM || number == -EINVAL) may_pass_.store(false, std::memory_order_relaxed);
  return 0;
}

void Session::withdraw(std::uint64_t object, Passthrough::Way way) {
  const std::int32_t number = passthrough_.close(object, way);
  if (number > 0 && carrier_ != nullptr) carrier_->withdraw(number);
}

Result<void> Session::close(const Context& context, Handle& open) {
  withdraw(open.object, open.way);
  return filesystem_.close(context, std::move(open.file));
}

void Session::end() {
  {
    std::lock_guard lock(locks_mutex_);
    ending_ = true;
    locks_changed_.notify_all();
  }
  if (lock_thread_.joinable()) lock_thread_.join();
  for (const HandlePtr& open : handles_.remove_all()) {
    if (open != nullptr) (void)close(Context{}, *open);
  }
  nodes_.clear();
}

Session::Counts Session::counts() const {
  Counts counts;
  for (std::size_t i = 0; i < kForms; ++i) {
    counts.requests[i] = requests_[i].load(std::memory_order_relaxed);
  }
  counts.errors = errors_.load(std::memory_order_relaxed);
  counts.notices = notices_.load(std::memory_order_relaxed);
  counts.nodes = nodes_.size();
  counts.handles = handles_.size();
  counts.minor = minor_.load(std::memory_order_relaxed);
  counts.passthrough = may_pass_.load(std::memory_order_relaxed);
  counts.passing = passthrough_.passing();
  return counts;
}

// What this thread has changed since it last delivered.
struct Session::Notes {
  std::vector<Notice> of_thread;

  static Notes& here() {
    static thread_local Notes notes;
    return notes;
  }
};

void Session::object_changed(std::uint64_t object, std::uint64_t offset, std::uint64_t length) {
  note({this, object, offset, length, {}, false});
}
void Session::name_changed(std::uint64_t directory, std::string_view name) {
  note({this, directory, 0, 0, std::string(name), true});
}
void Session::note(Notice notice) {
  // The kernel knows what it has asked for itself.
  if (serving_ == this || !nodes_.knows(notice.object)) return;
  Notes::here().of_thread.push_back(std::move(notice));
}

void Session::deliver_notices() {
  std::vector<Notice>& notes = Notes::here().of_thread;
  if (notes.empty()) return;
  for (const Notice& notice : notes) notice.session->send(notice);
  notes.clear();
}

void Session::send(const Notice& notice) {
  if (carrier_ == nullptr) return;
  notices_.fetch_add(1, std::memory_order_relaxed);
  if (notice.of_name) {
    fuse_notify_inval_entry_out out{};
    out.parent = notice.object;
    out.namelen = static_cast<std::uint32_t>(notice.name.size());
    (void)carrier_->notify(FUSE_NOTIFY_INVAL_ENTRY, std::as_bytes(std::span(&out, 1)),
                           notice.name);
    return;
  }
  fuse_notify_inval_inode_out out{};
  out.ino = notice.object;
  out.off = notice.length == 0 ? -1 : static_cast<std::int64_t>(notice.offset);
  const bool to_the_end = notice.length > static_cast<std::uint64_t>(INT64_MAX);
  out.len = to_the_end ? 0 : static_cast<std::int64_t>(notice.length);
  (void)carrier_->notify(FUSE_NOTIFY_INVAL_INODE, std::as_bytes(std::span(&out, 1)), {});
}

void Session::remember_holder(std::uint64_t process, pid_t pid) {
  constexpr std::size_t kMost = 65536;  // beyond it, holders' numbers are told as 0
  std::lock_guard lock(locks_mutex_);
  if (lock_pids_.size() >= kMost) lock_pids_.clear();
  lock_pids_[process] = pid;
}

std::uint32_t Session::holder_of(std::uint64_t process) {
  if ((process & kOfKernel) == 0) return static_cast<std::uint32_t>(process);  // kPidMask
  std::lock_guard lock(locks_mutex_);
  const auto found = lock_pids_.find(process);
  return found == lock_pids_.end() ? 0 : static_cast<std::uint32_t>(found->second);
}

void Session::wait_for(WaitingLock waiting) {
  std::lock_guard lock(locks_mutex_);
  const auto early = std::find(interrupts_.begin(), interrupts_.end(), waiting.unique);
  waiting.interrupted = early != interrupts_.end();
  waiting_locks_.push_back(std::move(waiting));
  if (!lock_thread_.joinable()) lock_thread_ = std::thread([this] { wait_for_locks(); });
  locks_changed_.notify_all();
}

// Only waiting for a lock is interrupted: anything else ends by itself.
void Session::interrupt(std::uint64_t unique) {
  std::lock_guard lock(locks_mutex_);
  interrupts_[next_interrupt_++ % interrupts_.size()] = unique;  // it may come before its request
  for (WaitingLock& waiting : waiting_locks_) waiting.interrupted |= waiting.unique == unique;
  locks_changed_.notify_all();
}

// True: it has been answered. REQUIRES: locks_mutex_.
bool Session::ask_for_lock(const WaitingLock& waiting) {
  Result<void> locked = Errno{EINTR};
  OpenFile& file = *waiting.handle->file;
  if (!waiting.interrupted) locked = filesystem_.lock(waiting.context, file, waiting.request);
  if (!locked.ok() && locked.error() == Errno{EAGAIN}) return false;
  if (locked.ok()) lock_pids_[waiting.context.process] = waiting.pid;
  const int error = locked.ok() ? 0 : locked.error().value;
  const bool taken = carrier_ != nullptr && carrier_->send(waiting.unique, error, {}, {});
  if (!taken && locked.ok()) {
    LockRequest unlock = waiting.request;
    unlock.type = LockRequest::Type::kUnlock;
    (void)filesystem_.lock(waiting.context, file, unlock);
  }
  return true;
}

// Holders may come through shared memory too, so each lock is asked for again and again.
void Session::wait_for_locks() {
  constexpr std::chrono::milliseconds kSoon(1);
  constexpr std::chrono::milliseconds kLater(20);
  constexpr int kSoonTimes = 20;
  std::unique_lock lock(locks_mutex_);
  for (int times = 0; !ending_;) {
    if (waiting_locks_.empty()) {
      locks_changed_.wait(lock);
      times = 0;
      continue;
    }
    std::erase_if(waiting_locks_, [this](const WaitingLock& one) { return ask_for_lock(one); });
    if (waiting_locks_.empty()) continue;
    locks_changed_.wait_for(lock, times++ < kSoonTimes ? kSoon : kLater);
  }
}

}  // namespace libservices::fuse
