// SPDX-License-Identifier: Apache-2.0
#include "src/host/dispatcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include "absl/cleanup/cleanup.h"
#include "src/fuse/session.h"

namespace libservices::host {

namespace {

using protocol::Operation;

// What no filesystem library sends: counted, and reason enough to end the session. No errno of
// any filesystem; the peer is told EINVAL.
constexpr Errno kMalformed{4095};

constexpr int kOpenBits = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                          O_NONBLOCK | O_SYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |
                          O_CLOEXEC | O_PATH | O_TMPFILE;
// What F_GETFL reports of them. 0100000 is the kernel's O_LARGEFILE, which it always adds.
constexpr int kReportedBits = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DIRECT | O_DIRECTORY |
                              O_NOFOLLOW | O_NOATIME | O_PATH | O_TMPFILE;
constexpr int kLargeFile = 0100000;

// A path or name as the request's bytes were at one moment.
class PrivateText {
 public:
  static constexpr std::size_t kMost = PATH_MAX - 1;

  Result<std::string_view> copy(std::span<const std::byte> bytes) {
    if (bytes.size() > kMost) return Errno{ENAMETOOLONG};
    if (!bytes.empty()) std::memcpy(text_, bytes.data(), bytes.size());
    const std::string_view text(text_, bytes.size());
    if (text.find('\0') != std::string_view::npos) return kMalformed;
    return text;
  }

 private:
  char text_[kMost + 1];
};

// The run of one call: what its decoding and answering share.
class Run {
 public:
  Run(const FilesystemTable& filesystems, Placeholders& placeholders, KeptFiles& kept_files,
      KernelObjects& objects, ClientSession& session, const Call& call, Answer& answer)
      : filesystems_(filesystems),
        placeholders_(placeholders),
        kept_files_(kept_files),
        objects_(objects),
        session_(session),
        call_(call),
        answer_(answer),
        context_(session.caller->context()),
        input_(call.input) {
    context_.number = call.number;
    context_.request = session.requests.fetch_add(1, std::memory_order_relaxed);
  }

  Result<void> run();
  // The path that left its instance, if that is how the run failed.
  bool left_instance();

 private:
  // An object of the request: its filesystem, its location, and what keeps both alive.
  struct Object {
    AnyFilesystem* filesystem = nullptr;
    ServiceOpenFilePtr base;
    std::string outside;
    PrivateText text;
    Location location{std::string_view{}};
  };

  template <protocol::FitsRequest T>
  T words() const {
    T words;
    std::memcpy(static_cast<void*>(&words), call_.words.data(), sizeof words);
    return words;
  }
  template <protocol::FitsAnswer T>
  Result<void> answer(const T& words) {
    std::memcpy(answer_.words.data(), &words, sizeof words);
    answer_.word_bytes = sizeof words;
    return {};
  }
  Result<void> answer_word(std::uint64_t word) { return answer(word); }

  Result<std::span<const std::byte>> take_input(std::uint64_t bytes) {
    if (bytes > input_.size()) return kMalformed;
    const auto taken = input_.first(bytes);
    input_ = input_.subspan(bytes);
    return taken;
  }
  Result<void> answer_text(std::string_view text) {
    if (text.size() > call_.output.size()) return Errno{ENAMETOOLONG};
    std::memcpy(call_.output.data(), text.data(), text.size());
    answer_.output_bytes = static_cast<std::uint32_t>(text.size());
    return {};
  }
  std::span<std::byte> output(std::uint64_t count) const {
    return call_.output.first(std::min<std::uint64_t>(count, call_.output.size()));
  }
  static std::span<char> characters(std::span<std::byte> bytes) {
    return {reinterpret_cast<char*>(bytes.data()), bytes.size()};
  }

  Result<ServiceOpenFilePtr> file(protocol::Handle handle) const {
    ServiceOpenFilePtr file = session_.handles->find(handle);
    if (file == nullptr) return Errno{EBADF};
    return file;
  }
  Result<void> locate(const protocol::Target& target, Object& object);
  Result<void> locate_two(const protocol::TwoTargetsRequest& request);
  std::uint32_t instance_of(const Object& object) const {
    return object.base != nullptr ? object.base->instance() : call_.instance;
  }
  std::string_view mount_of(const Object& object) const {
    return filesystems_[instance_of(object)].path;
  }
  Result<std::string_view> path_of(const Object& object, std::string& room) const;
  void keep(ServiceOpenFile& file, const Attributes& attributes, std::uint64_t placeholder);

  Result<void> open();
  Result<void> close();
  Result<void> rename();
  Result<void> read();
  Result<void> write();
  Result<void> seek();
  Result<void> readdir();
  Result<void> copy_range();
  Result<void> setattr();
  Result<void> make_node();
  Result<void> unlink();
  Result<void> symlink();
  Result<void> xattr();
  Result<void> lock();
  Result<void> flags();
  Result<void> inode_flags();
  Result<void> path_of();
  Result<void> map();
  Result<void> hand_over();

  const FilesystemTable& filesystems_;
  Placeholders& placeholders_;
  KeptFiles& kept_files_;
  KernelObjects& objects_;
  ClientSession& session_;
  const Call& call_;
  Answer& answer_;
  Context context_;
  std::span<const std::byte> input_;
  Object from_;
  Object to_;
};

Result<void> Run::locate(const protocol::Target& target, Object& object) {
  constexpr std::uint32_t kFlags = protocol::Target::kFollow | protocol::Target::kItself;
  if ((target.flags & ~kFlags) != 0) return kMalformed;
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
  object.location.follow =
      (target.flags & protocol::Target::kFollow) != 0 ? Follow::kYes : Follow::kNo;
  object.location.outside = &object.outside;
  object.location.itself = (target.flags & protocol::Target::kItself) != 0;
  if (!object.location.itself) return {};
  if (!bytes.empty()) return kMalformed;
  if (object.base == nullptr) {  // the root of the instance has no open file: it is "."
    object.location.itself = false;
    object.location.path = ".";
  }
  return {};
}

Result<void> Run::locate_two(const protocol::TwoTargetsRequest& request) {
  LIBSERVICES_CHECK_OK(locate(request.from, from_));
  LIBSERVICES_CHECK_OK(locate(request.to, to_));
  if (from_.filesystem != to_.filesystem) return Errno{EXDEV};
  return {};
}

bool Run::left_instance() {
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
Result<std::string_view> Run::path_of(const Object& object, std::string& room) const {
  const Location& location = object.location;
  if (location.itself) return Errno{EINVAL};
  if (location.base == nullptr || location.path.starts_with('/')) return location.path;
  LIBSERVICES_TRY(room, object.filesystem->path_of(context_, *location.base));
  room += '/';
  room += location.path;
  return std::string_view(room);
}

// For a service that may have to open it again.
void Run::keep(ServiceOpenFile& file, const Attributes& attributes, std::uint64_t placeholder) {
  if (!attributes.is_regular() && !attributes.is_directory()) return;
  std::string room;
  const Result<std::string_view> path = path_of(from_, room);
  if (!path.ok()) return;
  file.keep(kept_files_.keep(placeholder, filesystems_[file.instance()].path, *path, file.file(),
                             attributes));
}

Result<void> Run::rename() {
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
  }
  return {};
}

Result<void> Run::open() {
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

Result<void> Run::close() {
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

Result<void> Run::read() {
  const auto request = words<protocol::ReadRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  const auto into = output(request.count);
  if (into.size() > protocol::kReadPart && call_.copies != nullptr) {
    context_.read_part = call_.copies->classes[ipc::class_of(into.size())].chunk_bytes;
    if (context_.read_part != 0) context_.read_progress = call_.read_progress;
  }
  if (call_.repeats != 0 && request.offset == protocol::kCurrentOffset &&
      file->last_move.number == call_.repeats) {
    // It was read, and the answer was lost: the same bytes again.
    LIBSERVICES_CHECK_OK(file->filesystem().lseek(
        context_, file->file(), static_cast<std::int64_t>(file->last_move.before), SEEK_SET));
  }
  LIBSERVICES_TRY(const std::size_t count,
                  request.offset == protocol::kCurrentOffset
                      ? file->filesystem().read(context_, file->file(), into)
                      : file->filesystem().pread(context_, file->file(), request.offset, into));
  answer_.output_bytes = static_cast<std::uint32_t>(count);
  return {};
}

Result<void> Run::write() {
  const auto request = words<protocol::WriteRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (call_.repeats != 0) {
    const ServiceOpenFile::LastMove& last = file->last_move;
    if (request.offset == protocol::kCurrentOffset && last.number == call_.repeats) {
      return answer_word(last.after - last.before);  // it was written
    }
    // An append may have been written without a word of it: twice would be worse than an error.
    if (file->file().flags().has(O_APPEND)) return Errno{EIO};
  }
  LIBSERVICES_TRY(const std::size_t count,
                  request.offset == protocol::kCurrentOffset
                      ? file->filesystem().write(context_, file->file(), input_)
                      : file->filesystem().pwrite(context_, file->file(), request.offset, input_));
  return answer_word(count);
}

Result<void> Run::seek() {
  const auto request = words<protocol::SeekRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (request.whence < SEEK_SET || request.whence > SEEK_HOLE) return Errno{EINVAL};
  if (call_.repeats != 0 && file->last_move.number == call_.repeats) {
    return answer_word(file->last_move.after);
  }
  LIBSERVICES_TRY(const std::uint64_t offset,
                  file->filesystem().lseek(context_, file->file(), request.offset, request.whence));
  if (request.whence == SEEK_SET) file->lost_its_place.store(false, std::memory_order_relaxed);
  return answer_word(offset);
}

Result<void> Run::readdir() {
  const auto request = words<protocol::ReaddirRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  // Entries twice, or none of some: an error instead, until the listing is begun again.
  if (file->lost_its_place.load(std::memory_order_relaxed)) return Errno{EIO};
  const auto into = output(request.count);
  std::size_t used = 0;
  bool refused = false;
  const auto sink = [&](const DirEntry& entry) {
    constexpr std::size_t kName = offsetof(dirent64, d_name);
    const std::size_t bytes = (kName + entry.name.size() + 1 + 7) & ~std::size_t{7};
    alignas(8) char record[kName + NAME_MAX + 1 + 8] = {};
    if (bytes > sizeof record || bytes > into.size() - used) {
      refused = true;
      return false;
    }
    const auto length = static_cast<std::uint16_t>(bytes);
    std::memcpy(record + offsetof(dirent64, d_ino), &entry.inode, 8);
    std::memcpy(record + offsetof(dirent64, d_off), &entry.cookie, 8);
    std::memcpy(record + offsetof(dirent64, d_reclen), &length, 2);
    std::memcpy(record + offsetof(dirent64, d_type), &entry.type, 1);
    std::memcpy(record + kName, entry.name.data(), entry.name.size());
    std::memcpy(into.data() + used, record, bytes);
    used += bytes;
    return true;
  };
  LIBSERVICES_CHECK_OK(file->filesystem().readdir(context_, file->file(), Listing::kNames, sink));
  if (used == 0 && refused) return Errno{EINVAL};
  answer_.output_bytes = static_cast<std::uint32_t>(used);
  return answer_word(refused ? 0 : 1);
}

Result<void> Run::copy_range() {
  const auto request = words<protocol::CopyRangeRequest>();
  LIBSERVICES_TRY(const auto from, file(request.from));
  LIBSERVICES_TRY(const auto to, file(request.to));
  AnyFilesystem& filesystem = from->filesystem();
  if (&filesystem != &to->filesystem()) return Errno{EXDEV};
  const auto offset_of = [&](ServiceOpenFile& file, std::uint64_t asked) -> Result<std::uint64_t> {
    if (asked != protocol::kCurrentOffset) return asked;
    return filesystem.lseek(context_, file.file(), 0, SEEK_CUR);
  };
  LIBSERVICES_TRY(const std::uint64_t from_offset, offset_of(*from, request.from_offset));
  LIBSERVICES_TRY(const std::uint64_t to_offset, offset_of(*to, request.to_offset));
  LIBSERVICES_TRY(const std::uint64_t copied,
                  filesystem.copy_range(context_, from->file(), from_offset, to->file(), to_offset,
                                        request.length));
  if (request.from_offset == protocol::kCurrentOffset) {
    LIBSERVICES_CHECK_OK(filesystem.lseek(
        context_, from->file(), static_cast<std::int64_t>(from_offset + copied), SEEK_SET));
  }
  if (request.to_offset == protocol::kCurrentOffset) {
    LIBSERVICES_CHECK_OK(filesystem.lseek(context_, to->file(),
                                          static_cast<std::int64_t>(to_offset + copied), SEEK_SET));
  }
  return answer_word(copied);
}

Result<void> Run::setattr() {
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
  return from_.filesystem->setattr(context_, from_.location, request.changes);
}

Result<void> Run::make_node() {
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

Result<void> Run::unlink() {
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

Result<void> Run::symlink() {
  const auto request = words<protocol::SymlinkRequest>();
  LIBSERVICES_CHECK_OK(locate(request.target, from_));
  LIBSERVICES_TRY(const auto bytes, take_input(request.link_bytes));
  LIBSERVICES_TRY(const std::string_view link, to_.text.copy(bytes));
  if (link.empty()) return Errno{ENOENT};
  return from_.filesystem->symlink(context_, link, from_.location);
}

Result<void> Run::xattr() {
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

Result<void> Run::lock() {
  const auto request = words<protocol::LockWords>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (request.owner > static_cast<std::uint32_t>(LockRequest::Owner::kFlock) ||
      request.type > static_cast<std::uint32_t>(LockRequest::Type::kUnlock)) {
    return kMalformed;
  }
  if (request.start > request.end) return Errno{EINVAL};
  const LockRequest lock{.owner = static_cast<LockRequest::Owner>(request.owner),
                         .type = static_cast<LockRequest::Type>(request.type),
                         .start = request.start,
                         .end = request.end};
  if (call_.operation == Operation::kLock) {
    LIBSERVICES_CHECK_OK(file->filesystem().lock(context_, file->file(), lock));
    if (lock.type != LockRequest::Type::kUnlock) file->had_locks();
    return {};
  }
  LIBSERVICES_TRY(const LockRequest held,
                  file->filesystem().test_lock(context_, file->file(), lock));
  return answer(protocol::LockWords{
      .handle = request.handle,
      .owner = request.owner,
      .type = static_cast<std::uint32_t>(held.type),
      .start = held.start,
      .end = held.end,
      // fcntl(2): -1 for a lock of an open file description.
      .pid = held.process == 0 ? -1 : static_cast<std::int64_t>(held.process & kPidMask)});
}

Result<void> Run::map() {
  const auto request = words<protocol::MapRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (request.writes > 1) return kMalformed;
  const Mapping mapping = request.writes != 0 ? Mapping::kWrites : Mapping::kReads;
  LIBSERVICES_TRY(Descriptor lent,
                  lend(file->filesystem(), context_, file->file(), mapping, kept_files_));
  LIBSERVICES_TRY(const std::uint32_t number, session_.lent.put(std::move(lent)));
  return answer_word(number);
}

Result<void> Run::hand_over() {
  const auto request = words<protocol::HandOverRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  fuse::Session* const mount = filesystems_[file->instance()].mount;
  if (mount == nullptr) return Errno{EOPNOTSUPP};
  return answer_text(mount->hand_over(file->shared_file()));
}

Result<void> Run::flags() {
  const auto request = words<protocol::FlagsRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (call_.operation == Operation::kSetFlags) {
    file->file().set_flags(static_cast<int>(request.flags));
    file->keep_flags();
  }
  return answer_word(reported_flags(file->file().flags()));
}

Result<void> Run::inode_flags() {
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

Result<void> Run::path_of() {
  const auto request = words<protocol::PathOfRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  LIBSERVICES_TRY(const std::string path, file->filesystem().path_of(context_, file->file()));
  return answer_text(path);
}

Result<void> Run::run() {
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
      return file->filesystem().fsync(context_, file->file(),
                                      request.data_only != 0 ? SyncScope::kData : SyncScope::kAll);
    }
    case Operation::kFallocate: {
      const auto request = words<protocol::FallocateRequest>();
      LIBSERVICES_TRY(const auto file, this->file(request.handle));
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

}  // namespace

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
    Run run(filesystems_, placeholders_, kept_files_, objects_, session, call, answer);
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

}  // namespace libservices::host
