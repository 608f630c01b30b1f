// SPDX-License-Identifier: Apache-2.0
#include "src/host/dispatcher.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include "absl/cleanup/cleanup.h"
#include "src/fuse/session.h"
#include "src/host/dispatcher_run.h"
#include "src/host/watches.h"

namespace libservices::host {
namespace {

constexpr int kOpenBits = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                          O_NONBLOCK | O_SYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |
                          O_CLOEXEC | O_PATH | O_TMPFILE;
// What F_GETFL reports of them. 0100000 is the kernel's O_LARGEFILE, which it always adds.
constexpr int kReportedBits = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DIRECT | O_DIRECTORY |
                              O_NOFOLLOW | O_NOATIME | O_PATH | O_TMPFILE;
constexpr int kLargeFile = 0100000;

}  // namespace

Result<void> Dispatcher::Run::locate(const protocol::Target& target, Object& object) {
  using Target = protocol::Target;
  constexpr std::uint32_t kBounds = Target::kBeneath | Target::kInRoot;
  constexpr std::uint32_t kFlags = Target::kFollow | Target::kItself | kBounds | Target::kNoLinks;
  if ((target.flags & ~kFlags) != 0 || (target.flags & kBounds) == kBounds) return kMalformed;
  LIBSERVICES_TRY(const auto bytes, take_input(target.path_bytes));
  if (target.base != protocol::kRoot) {
    LIBSERVICES_TRY(object.base, file(target.base));
    object.filesystem = &object.base->filesystem();
    object.location.base = &object.base->file();
  } else if (call_.instance < filesystems_.size()) {
    object.filesystem = filesystems_[call_.instance].filesystem.get();
  } else {
    return kMalformed;
  }
  LIBSERVICES_TRY(object.location.path, object.text.copy(bytes));
  object.location.follow = (target.flags & Target::kFollow) != 0 ? Follow::kYes : Follow::kNo;
  object.location.outside = &object.outside;
  object.location.itself = (target.flags & Target::kItself) != 0;
  object.location.bounds = (target.flags & Target::kBeneath) != 0  ? Bounds::kBeneath
                           : (target.flags & Target::kInRoot) != 0 ? Bounds::kInRoot
                                                                   : Bounds::kNone;
  object.location.no_links = (target.flags & Target::kNoLinks) != 0;
  if (!object.location.itself) return {};
  if (!bytes.empty()) return kMalformed;
  if (object.base == nullptr) {  // the root of the instance has no open file: it is "."
    object.location.itself = false;
    object.location.path = ".";
  }
  return {};
}

Result<void> Dispatcher::Run::locate_two(const protocol::TwoTargetsRequest& request) {
  LIBSERVICES_CHECK_OK(locate(request.from, from_));
  LIBSERVICES_CHECK_OK(locate(request.to, to_));
  if (from_.filesystem != to_.filesystem) return Errno{EXDEV};
  return {};
}

bool Dispatcher::Run::left_instance() {
  std::uint64_t which = 0;
  const std::string* outside = &from_.outside;
  if (outside->empty()) {
    which = 1;
    outside = &to_.outside;
  }
  if (outside->empty()) return false;
  if (outside->size() > call_.output.size()) {
    answer_.error = ENAMETOOLONG;
    return true;
  }
  std::memcpy(call_.output.data(), outside->data(), outside->size());
  answer_.output_bytes = static_cast<std::uint32_t>(outside->size());
  (void)answer_word(which);
  answer_.error = protocol::kOutside;
  return true;
}

// Of a request's object, from the root of its instance and as the request spells it; in `room`
// unless it stands in the request.
Result<std::string_view> Dispatcher::Run::path_of(const Object& object, std::string& room) const {
  const Location& location = object.location;
  if (location.itself) return Errno{EINVAL};
  if (location.base == nullptr || location.path.starts_with('/')) return location.path;
  LIBSERVICES_TRY(room, object.filesystem->path_of(context_, *location.base));
  room += '/';
  room += location.path;
  return std::string_view(room);
}

// For a service that may have to open it again.
void Dispatcher::Run::keep(ServiceOpenFile& file, const Attributes& attributes,
                           std::uint64_t placeholder) {
  if (!attributes.is_regular() && !attributes.is_directory()) return;
  std::string room;
  const Result<std::string_view> path = path_of(from_, room);
  if (!path.ok()) return;
  file.keep(kept_files_.keep(placeholder, filesystems_[file.instance()].path, *path, file.file(),
                             attributes));
}

Result<void> Dispatcher::Run::rename() {
  const auto request = words<protocol::TwoTargetsRequest>();
  LIBSERVICES_CHECK_OK(locate_two(request));
  if (request.mode > static_cast<std::uint32_t>(RenameMode::kExchange)) return kMalformed;
  const auto mode = static_cast<RenameMode>(request.mode);
  KernelObjects::Removal replaced(objects_, *to_.filesystem, mount_of(to_), context_, to_.location);
  LIBSERVICES_CHECK_OK(from_.filesystem->rename(context_, from_.location, to_.location, mode));
  replaced.done();
  std::string from_room;
  std::string to_room;
  const Result<std::string_view> from = path_of(from_, from_room);
  const Result<std::string_view> to = path_of(to_, to_room);
  if (from.ok() && to.ok() && mode != RenameMode::kExchange) {
    kept_files_.renamed(mount_of(from_), *from, *to);
    watches_.renamed(mount_of(from_), *from, *to);
  }
  return {};
}

Result<void> Dispatcher::Run::open() {
  const auto request = words<protocol::OpenRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  const OpenFlags flags{static_cast<int>(request.flags) & kOpenBits};
  if (!flags.has(O_PATH) && (flags.bits & O_ACCMODE) == O_ACCMODE) return Errno{EINVAL};
  const auto kind =
      request.for_chdir != 0 ? Placeholders::Kind::kDirectory : Placeholders::Kind::kFile;
  if (request.placeholder != protocol::kNone) {
    LIBSERVICES_CHECK_OK(placeholders_.can_bind(request.placeholder, session_.id, kind));
  }
  AnyFilesystem& filesystem = *from_.filesystem;
  context_.umask = request.umask & 0777U;
  LIBSERVICES_TRY(OpenFilePtr opened,
                  filesystem.open(context_, from_.location, flags, request.mode & 07777U));
  const auto fail = [&](Errno error) {
    (void)filesystem.close(context_, std::move(opened));
    return error;
  };
  const Result<Attributes> attributes = filesystem.stat(context_, Location(*opened));
  if (!attributes.ok()) return fail(attributes.error());
  if (request.for_chdir != 0) {
    if (!attributes->is_directory()) return fail(Errno{ENOTDIR});
    const Result<void> search = filesystem.access(context_, Location(*opened), X_OK);
    if (!search.ok()) return fail(search.error());
  }
  const std::uint32_t flags_now = reported_flags(opened->flags());
  const auto file = std::make_shared<ServiceOpenFile>(
      filesystem, instance_of(from_), std::move(opened), attributes->mode, session_.caller);
  LIBSERVICES_TRY(const protocol::Handle handle, session_.handles->add(file));
  if (request.placeholder != protocol::kNone) {
    const Result<std::uint64_t> bound =
        placeholders_.bind(request.placeholder, session_.id, kind, file);
    if (!bound.ok()) {
      (void)session_.handles->remove(handle);
      return bound.error();
    }
    if (!flags.has(O_TMPFILE)) keep(*file, *attributes, *bound);
  }
  return answer(protocol::OpenAnswer{handle, flags_now, attributes->mode});
}

Result<void> Dispatcher::Run::close() {
  const auto request = words<protocol::CloseRequest>();
  ServiceOpenFilePtr file = session_.handles->remove(request.handle);
  if (file == nullptr) return Errno{EBADF};
  // Who has a handle has shown a descriptor: the claim to be the only one counts only without.
  const bool held = request.exclusive != 0 && session_.handles->others_hold(*file);
  if (request.exclusive != 0 && !held) {
    const auto placeholder = file->placeholder.load(std::memory_order_relaxed);
    if (placeholder != protocol::kNone) {
      file->keep_no_more();
      placeholders_.unbind(placeholder, *file);
    }
  }
  LIBSERVICES_CHECK_OK(end_use(context_, std::move(file)));
  return answer(protocol::CloseAnswer{held ? 1U : 0U});
}

Result<void> Dispatcher::Run::setattr() {
  auto request = words<protocol::SetattrRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  using Changes = AttributeChanges;
  constexpr std::uint32_t kFields = Changes::kMode | Changes::kUid | Changes::kGid |
                                    Changes::kSize | Changes::kAtime | Changes::kMtime |
                                    Changes::kAtimeNow | Changes::kMtimeNow;
  if ((request.changes.which & ~kFields) != 0) return kMalformed;
  if (request.changes.size > static_cast<std::uint64_t>(INT64_MAX)) return Errno{EINVAL};
  if (request.changes.atime.nanoseconds > 999'999'999 ||
      request.changes.mtime.nanoseconds > 999'999'999) {
    return Errno{EINVAL};
  }
  request.changes.mode &= 07777U;
  std::optional<ServiceOpenFile::Change> change;
  if (from_.base != nullptr && from_.location.itself) change.emplace(*from_.base);
  return from_.filesystem->setattr(context_, from_.location, request.changes);
}

Result<void> Dispatcher::Run::make_node() {
  const auto request = words<protocol::MknodRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  AnyFilesystem& filesystem = *from_.filesystem;
  context_.umask = request.umask & 0777U;
  if (call_.operation == Operation::kMkdir) {
    return filesystem.mkdir(context_, from_.location, request.mode & 07777U);
  }
  const bool is_socket = call_.operation == Operation::kMakeSocket;
  const mode_t type = is_socket ? S_IFSOCK : request.mode & S_IFMT;
  LIBSERVICES_CHECK_OK(filesystem.mknod(context_, from_.location, type | (request.mode & 07777U),
                                        is_socket ? 0 : request.special_device));
  if (!is_socket) return {};
  from_.location.follow = Follow::kNo;
  LIBSERVICES_TRY(OpenFilePtr opened,
                  filesystem.open(context_, from_.location, OpenFlags{O_PATH}, 0));
  const auto file = std::make_shared<ServiceOpenFile>(filesystem, instance_of(from_),
                                                      std::move(opened), S_IFSOCK, session_.caller);
  file->is_new_socket = true;
  LIBSERVICES_TRY(const protocol::Handle handle, session_.handles->add(file));
  return answer(protocol::OpenAnswer{handle, O_PATH, S_IFSOCK});
}

Result<void> Dispatcher::Run::unlink() {
  LIBSERVICES_CHECK_OK(locate(words<protocol::UnlinkRequest>().target, from_));
  if (call_.operation == Operation::kRmdir) {
    return from_.filesystem->rmdir(context_, from_.location);
  }
  KernelObjects::Removal removal(objects_, *from_.filesystem, mount_of(from_), context_,
                                 from_.location);
  LIBSERVICES_CHECK_OK(from_.filesystem->unlink(context_, from_.location));
  removal.done();
  return {};
}

Result<void> Dispatcher::Run::symlink() {
  const auto request = words<protocol::SymlinkRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  LIBSERVICES_TRY(const auto bytes, take_input(request.link_bytes));
  LIBSERVICES_TRY(const std::string_view link, to_.text.copy(bytes));
  if (link.empty()) return Errno{ENOENT};
  return from_.filesystem->symlink(context_, link, from_.location);
}

Result<void> Dispatcher::Run::xattr() {
  const auto request = words<protocol::XattrRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  LIBSERVICES_TRY(const auto name_bytes, take_input(request.name_bytes));
  LIBSERVICES_TRY(const std::string_view name, to_.text.copy(name_bytes));
  AnyFilesystem& filesystem = *from_.filesystem;
  if (call_.operation == Operation::kRemovexattr) {
    return filesystem.removexattr(context_, from_.location, name);
  }
  if (call_.operation == Operation::kSetxattr) {
    if (request.mode > static_cast<std::uint32_t>(XattrMode::kReplace)) return kMalformed;
    LIBSERVICES_TRY(const auto bytes, take_input(request.count));
    // A value is looked at more than once on its way (access lists): it has to stand still.
    const std::vector<std::byte> value(bytes.begin(), bytes.end());
    return filesystem.setxattr(context_, from_.location, name, value,
                               static_cast<XattrMode>(request.mode));
  }
  const auto into = output(request.count);
  LIBSERVICES_TRY(const std::size_t size,
                  call_.operation == Operation::kGetxattr
                      ? filesystem.getxattr(context_, from_.location, name, into)
                      : filesystem.listxattr(context_, from_.location, characters(into)));
  if (!into.empty()) answer_.output_bytes = static_cast<std::uint32_t>(size);
  return answer_word(size);
}

Result<void> Dispatcher::Run::inode_flags() {
  const auto request = words<protocol::InodeFlagsRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  if (request.flags.form > InodeFlags::Form::kExtended) return kMalformed;
  if (call_.operation == Operation::kSetInodeFlags) {
    return from_.filesystem->setflags(context_, from_.location, request.flags);
  }
  LIBSERVICES_TRY(const InodeFlags flags,
                  from_.filesystem->getflags(context_, from_.location, request.flags.form));
  return answer(flags);
}

Result<void> Dispatcher::Run::path_of() {
  const auto request = words<protocol::PathOfRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  LIBSERVICES_TRY(const std::string path, file->filesystem().path_of(context_, file->file()));
  return answer_text(path);
}

Result<void> Dispatcher::Run::run() {
  switch (call_.operation) {
    case Operation::kNothing:
      return {};
    case Operation::kOpen:
      return open();
    case Operation::kClose:
      return close();
    case Operation::kRead:
      return read();
    case Operation::kWrite:
      return write();
    case Operation::kSeek:
      return seek();
    case Operation::kReaddir:
      return readdir();
    case Operation::kFsync: {
      const auto request = words<protocol::FsyncRequest>();
      LIBSERVICES_TRY(const auto file, this->file(request.handle));
      return file->fsync(context_, request.data_only != 0 ? SyncScope::kData : SyncScope::kAll);
    }
    case Operation::kFallocate: {
      const auto request = words<protocol::FallocateRequest>();
      LIBSERVICES_TRY(const auto file, this->file(request.handle));
      const ServiceOpenFile::Change change(*file);
      return file->filesystem().fallocate(context_, file->file(), request.mode, request.offset,
                                          request.length);
    }
    case Operation::kCopyRange:
      return copy_range();
    case Operation::kStat: {
      LIBSERVICES_CHECK_OK(locate(words<protocol::StatRequest>().target, from_));
      LIBSERVICES_TRY(const Attributes attributes,
                      from_.filesystem->stat(context_, from_.location));
      return answer(attributes);
    }
    case Operation::kSetattr:
      return setattr();
    case Operation::kAccess: {
      const auto request = words<protocol::AccessRequest>();
      LIBSERVICES_CHECK_OK(locate(request.target, from_));
      if ((request.mode & ~std::uint32_t{R_OK | W_OK | X_OK}) != 0) return Errno{EINVAL};
      return from_.filesystem->access(context_, from_.location, static_cast<int>(request.mode));
    }
    case Operation::kStatfs: {
      LIBSERVICES_CHECK_OK(locate(words<protocol::StatfsRequest>().target, from_));
      LIBSERVICES_TRY(const VolumeInfo volume, from_.filesystem->statfs(context_, from_.location));
      return answer(volume);
    }
    case Operation::kMkdir:
    case Operation::kMknod:
    case Operation::kMakeSocket:
      return make_node();
    case Operation::kSymlink:
      return symlink();
    case Operation::kReadlink: {
      const auto request = words<protocol::ReadlinkRequest>();
      LIBSERVICES_CHECK_OK(locate(request.target, from_));
      LIBSERVICES_TRY(
          const std::size_t size,
          from_.filesystem->readlink(context_, from_.location, characters(output(request.count))));
      answer_.output_bytes = static_cast<std::uint32_t>(size);
      return {};
    }
    case Operation::kLink: {
      LIBSERVICES_CHECK_OK(locate_two(words<protocol::TwoTargetsRequest>()));
      return from_.filesystem->link(context_, from_.location, to_.location);
    }
    case Operation::kUnlink:
    case Operation::kRmdir:
      return unlink();
    case Operation::kRename:
      return rename();
    case Operation::kGetxattr:
    case Operation::kSetxattr:
    case Operation::kListxattr:
    case Operation::kRemovexattr:
      return xattr();
    case Operation::kLock:
    case Operation::kTestLock:
      return lock();
    case Operation::kSetFlags:
    case Operation::kGetFlags:
      return flags();
    case Operation::kPathOf:
      return path_of();
    case Operation::kGetInodeFlags:
    case Operation::kSetInodeFlags:
      return inode_flags();
    case Operation::kMap:
      return map();
    case Operation::kHandOver:
      return hand_over();
  }
  return kMalformed;
}

std::uint32_t reported_flags(OpenFlags flags) {
  const int bits = flags.bits & kReportedBits;
  return static_cast<std::uint32_t>((bits & O_PATH) != 0 ? bits : bits | kLargeFile);
}

void Dispatcher::run(ClientSession& session, const Call& call, Answer& answer) noexcept {
  Shard& counted = shard();
  // What mounts at the kernel believe is put right before the caller has its answer.
  const absl::Cleanup deliver = [] { fuse::Session::deliver_notices(); };
  if (const auto number = static_cast<std::size_t>(call.operation); number < kOperations) {
    counted.requests[number].fetch_add(1, std::memory_order_relaxed);
  }
  try {
    Run run(filesystems_, placeholders_, kept_files_, objects_, watches_, session, call, answer);
    const Result<void> result = run.run();
    if (result.ok()) return;
    if (result.error() == Errno{EXDEV} && run.left_instance()) return;
    answer.malformed = result.error() == kMalformed;
    answer.error = answer.malformed ? EINVAL : result.error().value;
  } catch (const std::bad_alloc&) {
    answer.error = ENOMEM;
  } catch (...) {
    answer.error = EIO;
  }
  answer.output_bytes = 0;
  (answer.malformed ? counted.malformed : counted.errors).fetch_add(1, std::memory_order_relaxed);
}

void Dispatcher::undo(ClientSession& session, const Call& call, const Answer& answer) noexcept {
  if (answer.error != 0) return;
  const auto words = [](const auto& from, auto to) {
    std::memcpy(static_cast<void*>(&to), from.data(), sizeof to);
    return to;
  };
  switch (call.operation) {
    case Operation::kOpen:
    case Operation::kMakeSocket: {
      // The last reference closes it, and no record lock of the process ends with that.
      const auto file =
          session.handles->remove(words(answer.words, protocol::OpenAnswer{}).handle);
      if (file == nullptr || call.operation != Operation::kOpen) return;
      file->keep_no_more();
      placeholders_.unbind(words(call.words, protocol::OpenRequest{}).placeholder, *file);
      return;
    }
    case Operation::kMap:
      (void)session.lent.take(static_cast<std::uint32_t>(answer.words[0]));
      return;
    case Operation::kLock: {
      const auto request = words(call.words, protocol::LockWords{});
      const auto file = session.handles->find(request.handle);
      if (file == nullptr) return;
      const LockRequest lock{.owner = static_cast<LockRequest::Owner>(request.owner),
                             .type = LockRequest::Type::kUnlock,
                             .start = request.start,
                             .end = request.end};
      (void)file->filesystem().lock(session.caller->context(), file->file(), lock);
      return;
    }
    default:
      return;
  }
}

}  // namespace libservices::host
