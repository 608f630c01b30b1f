// SPDX-License-Identifier: Apache-2.0
//
// Requests about names and attributes.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "src/fuse/request.h"

namespace libservices::fuse {
namespace {

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

}  // namespace

fuse_entry_out Session::Run::entry_of(const Reference& reference) {
  const Validity valid = validity();
  fuse_entry_out entry{};
  entry.nodeid = session_.nodes_.add(reference);
  reply_.told.push_back(entry.nodeid);
  const Validity attributes = filesystem_.is_mapped(*reference.file) ? Validity{0, 0} : valid;
  entry.entry_valid = valid.seconds;
  entry.entry_valid_nsec = valid.nanoseconds;
  entry.attr_valid = attributes.seconds;
  entry.attr_valid_nsec = attributes.nanoseconds;
  entry.attr = attributes_for_kernel(reference.attributes);
  return entry;
}

Result<void> Session::Run::answer_entry(OpenFile& parent, std::string_view name) {
  LIBSERVICES_TRY(const Reference made,
                  filesystem_.refer(context_, Location(&parent, name, Follow::kNo)));
  reply_.set(entry_of(made));
  return {};
}

Result<void> Session::Run::answer_attributes(OpenFile& object, const Attributes& attributes) {
  const Validity valid = validity_of_attributes(object);
  fuse_attr_out out{};
  out.attr_valid = valid.seconds;
  out.attr_valid_nsec = valid.nanoseconds;
  out.attr = attributes_for_kernel(attributes);
  reply_.set(out);
  return {};
}

Result<void> Session::Run::lookup() {
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  if (message_.header.nodeid == FUSE_ROOT_ID) {
    if (OpenFilePtr file = session_.handed_over_.look_up(message_.names[0]); file != nullptr) {
      LIBSERVICES_TRY(const Reference object,
                      filesystem_.refer(context_, Location::object_of(*file)));
      fuse_entry_out once = entry_of(object);
      once.entry_valid = once.entry_valid_nsec = 0;
      session_.handed_over_.expect(std::move(file), once.nodeid, message_.header.pid);
      reply_.set(once);
      return {};
    }
  }
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

Result<void> Session::Run::getattr() {
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  LIBSERVICES_TRY(const Attributes now, filesystem_.stat(context_, Location::object_of(*file)));
  return answer_attributes(*file, now);
}

Result<void> Session::Run::statx() {
  LIBSERVICES_TRY(const OpenFilePtr file, node());
  LIBSERVICES_TRY(const Attributes now, filesystem_.stat(context_, Location::object_of(*file)));
  const Validity valid = validity_of_attributes(*file);
  const auto time = [](const Timestamp& t) { return abi::StatxTime{t.seconds, t.nanoseconds, 0}; };
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
  // With every chown the kernel asks for it, whatever the bits and whoever the caller is: what goes
  // then is decided here, where it can be.
  const bool is_chown = (in.valid & (FATTR_UID | FATTR_GID)) != 0;
  context_.caller.drops_set_id =
      (in.valid & FATTR_KILL_SUIDGID) != 0 && !(is_chown && !session_.options_.kernel_decides);
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
  return answer_attributes(*file, now);
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
      LIBSERVICES_CHECK_OK(filesystem_.mknod(context_, at, in.mode, abi::decode_device(in.rdev)));
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

Result<void> Session::Run::remove() {
  LIBSERVICES_TRY(const OpenFilePtr parent, node());
  const Location at(parent.get(), message_.names[0], Follow::kNo);
  return message_.header.opcode == FUSE_UNLINK ? filesystem_.unlink(context_, at)
                                               : filesystem_.rmdir(context_, at);
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
    LIBSERVICES_CHECK_OK(
        filesystem_.lseek(context_, *open->file, static_cast<std::int64_t>(in.offset), SEEK_SET));
    const auto listed =
        filesystem_.readdir(context_, *open->file, Listing::kNames, [&](const DirEntry& entry) {
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
    auto found = filesystem_.refer(context_, Location(directory.get(), entry.name, Follow::kNo));
    if (!found.ok()) continue;  // the kernel takes the name alone
    const fuse_entry_out words = entry_of(*found);
    std::memcpy(room.data() + entry.at, &words, sizeof words);
  }
  reply_.payload = room.first(used);
  return {};
}

}  // namespace libservices::fuse
