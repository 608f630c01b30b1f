// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/request.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "libservices/access_list.h"

namespace libservices::fuse {

// Without lists the kernel need not ask for any.
bool Session::Run::takes_lists() {
  const auto list = filesystem_.getxattr(Context{}, Location("/"),
                                         AccessList::name_of(AccessList::Kind::kAccess), {});
  return list.ok() || list.error() != Errno{EOPNOTSUPP};
}

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
  if (session_.carrier_ != nullptr) wanted |= session_.carrier_->init_flags();
  if (takes_lists()) wanted |= FUSE_POSIX_ACL | FUSE_SETXATTR_EXT;
  const std::uint64_t flags = wanted & offered;
  session_.setxattr_ext_.store((flags & FUSE_SETXATTR_EXT) != 0, std::memory_order_relaxed);
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
  session_.set_negotiated(out.minor);
  reply_.set(out);
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

Result<void> Session::Run::readlink() {
  LIBSERVICES_TRY(const OpenFilePtr link, node());
  LIBSERVICES_TRY(const std::size_t length,
                  filesystem_.readlink(context_, Location::object_of(*link),
                                       {reinterpret_cast<char*>(room_.data()), PATH_MAX}));
  reply_.payload = room_.first(length);
  return {};
}

Result<void> Session::Run::access() {
  LIBSERVICES_TRY(const OpenFilePtr object, node());
  const int wanted =
      static_cast<int>(message_.as<fuse_access_in>().mask) & (R_OK | W_OK | X_OK);
  return filesystem_.access(context_, Location::object_of(*object), wanted);
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
      context_.caller.drops_set_id = (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
      return filesystem_.setxattr(context_, object, message_.names[0],
                                  message_.payload.first(in.size), mode);
    }
    default:
      return filesystem_.removexattr(context_, object, message_.names[0]);
  }
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
    case FUSE_READLINK:
      return readlink();
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
      return make();
    case FUSE_UNLINK:
    case FUSE_RMDIR:
      return remove();
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
    case FUSE_FSYNCDIR:
      return fsync();
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
    case FUSE_ACCESS:
      return access();
    case FUSE_INTERRUPT:
      reply_.none = true;
      session_.locks_.interrupt(message_.as<fuse_interrupt_in>().unique);
      return {};
    case FUSE_DESTROY:
      return {};
    case FUSE_FALLOCATE:
      return fallocate();
    case FUSE_LSEEK:
      return lseek();
    case FUSE_COPY_FILE_RANGE:
      return copy_range();
    case FUSE_IOCTL:
      return ioctl();
    default:  // the kernel does without: poll says ready, bmap that there is no block device
      return Errno{ENOSYS};
  }
}

}  // namespace libservices::fuse
