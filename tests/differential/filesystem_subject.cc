// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/filesystem_subject.h"

#include <type_traits>
#include <utility>

namespace libservices::testing {
namespace {

template <class T>
Outcome answer(const Result<T>& result) {
  if (!result.ok()) return {.error = result.error().value};
  if constexpr (std::is_convertible_v<T, std::uint64_t>) return {.value = *result};
  return {};
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}
std::span<std::byte> writable_bytes_of(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}

Context context_of(const Operation& op) {
  const Caller& caller = kCallers[op.caller];
  Context context;
  context.caller = {caller.uid, caller.gid, caller.groups};
  context.umask = op.umask;
  context.process = 1;
  return context;
}

}  // namespace

FilesystemSubject::~FilesystemSubject() {
  for (OpenFilePtr& slot : slots_) {
    if (slot) (void)fs_.close(Context{}, std::move(slot));
  }
}

Location FilesystemSubject::location(const Operation& op, std::string_view path) const {
  return {op.base < 0 ? nullptr : slots_[op.base].get(), path,
          op.follow ? Follow::kYes : Follow::kNo};
}

Outcome FilesystemSubject::apply(const Operation& op) {
  const Context context = context_of(op);
  if (op.call >= Call::kClose) return on_file(context, op);
  if (!op.itself && op.base >= 0 && !slots_[op.base]) return {.error = EBADF};
  if (op.itself && !slots_[op.slot]) return {.error = EBADF};
  return op.call >= Call::kStat ? on_attributes(context, op) : on_name(context, op);
}

Outcome FilesystemSubject::on_name(const Context& context, const Operation& op) {
  const Location at = location(op, op.path);
  const Location other = location(op, op.other_path);
  switch (op.call) {
    case Call::kOpen: {
      auto opened = fs_.open(context, at, {op.flags}, op.mode & 07777);
      if (slots_[op.slot]) (void)fs_.close(context, std::move(slots_[op.slot]));
      slots_[op.slot] = nullptr;
      if (opened.ok()) slots_[op.slot] = *opened;
      return answer(opened);
    }
    case Call::kAccess:
      return answer(fs_.access(context, at, op.flags));
    case Call::kMkdir:
      return answer(fs_.mkdir(context, at, op.mode));
    case Call::kMknod:
      return answer(fs_.mknod(context, at, op.mode, 0));
    case Call::kSymlink:
      return answer(fs_.symlink(context, op.other_path, at));
    case Call::kReadlink: {
      std::string target(4096, '\0');
      Outcome outcome = answer(fs_.readlink(context, at, target));
      if (outcome.error == 0) outcome.text = target.substr(0, outcome.value);
      return outcome;
    }
    case Call::kLink: {
      Location to = other;
      to.follow = Follow::kNo;
      return answer(fs_.link(context, at, to));
    }
    case Call::kUnlink:
      return answer(fs_.unlink(context, at));
    case Call::kRmdir:
      return answer(fs_.rmdir(context, at));
    case Call::kRename:
      return answer(fs_.rename(context, at, other,
                               op.flags == 0   ? RenameMode::kReplace
                               : op.flags == 1 ? RenameMode::kNoReplace
                                               : RenameMode::kExchange));
    default: {
      Location followed = at;
      followed.follow = Follow::kYes;
      return list(context, followed);
    }
  }
}

Outcome FilesystemSubject::list(const Context& context, const Location& at) {
  auto opened = fs_.open(context, at, {O_RDONLY | O_DIRECTORY}, 0);
  if (!opened.ok()) return answer(opened);
  std::vector<std::pair<std::string, int>> names;
  std::map<std::string, std::uint64_t> numbers;
  Outcome outcome =
      answer(fs_.readdir(context, **opened, Listing::kNames, [&](const DirEntry& entry) {
        names.emplace_back(entry.name, entry.type);
        numbers.emplace(entry.name, entry.inode);
        return true;
      }));
  outcome.listed = std::move(numbers);
  (void)fs_.close(context, *std::move(opened));
  if (outcome.error == 0) outcome.text = describe_names(std::move(names));
  return outcome;
}

Outcome FilesystemSubject::on_attributes(const Context& context, const Operation& op) {
  const Location at = op.itself ? Location(*slots_[op.slot]) : location(op, op.path);
  using C = AttributeChanges;
  AttributeChanges changes;
  switch (op.call) {
    case Call::kStat: {
      auto found = fs_.stat(context, at);
      Outcome outcome = answer(found);
      if (outcome.error != 0) return outcome;
      outcome.text =
          describe_attributes(found->mode, found->links, found->uid, found->gid, found->size,
                              {found->mtime.seconds, found->mtime.nanoseconds});
      outcome.device = found->device;
      outcome.inode = found->inode;
      return outcome;
    }
    case Call::kChmod:
      changes.which = C::kMode;
      changes.mode = op.mode;
      return answer(fs_.setattr(context, at, changes));
    case Call::kChown:
      changes.which = (op.uid >= 0 ? C::kUid : 0U) | (op.gid >= 0 ? C::kGid : 0U);
      changes.uid = static_cast<std::uint32_t>(op.uid);
      changes.gid = static_cast<std::uint32_t>(op.gid);
      return answer(fs_.setattr(context, at, changes));
    case Call::kTruncate:
      changes.which = C::kSize;
      changes.size = static_cast<std::uint64_t>(op.offset);
      return answer(fs_.setattr(context, at, changes));
    case Call::kSetTimes: {
      changes.which = op.flags == 1 ? C::kAtimeNow | C::kMtimeNow : C::kAtime | C::kMtime;
      changes.atime = {op.offset, kSetAtime.tv_nsec, 0};
      changes.mtime = {op.other_offset, kSetMtime.tv_nsec, 0};
      Outcome outcome = answer(fs_.setattr(context, at, changes));
      if (outcome.error != 0 || op.flags == 1) return outcome;
      auto found = fs_.stat(context, at);
      if (!found.ok()) return {};
      outcome.text = describe_times({found->atime.seconds, found->atime.nanoseconds},
                                    {found->mtime.seconds, found->mtime.nanoseconds}, op.itself);
      return outcome;
    }
    default:
      return on_xattrs(context, op, at);
  }
}

Outcome FilesystemSubject::on_xattrs(const Context& context, const Operation& op,
                                     const Location& at) {
  const std::string_view name = op.other_path;
  std::string buffer(65536, '\0');
  switch (op.call) {
    case Call::kGetxattr: {
      Outcome outcome = answer(fs_.getxattr(context, at, name, writable_bytes_of(buffer)));
      if (outcome.error == 0) outcome.text = buffer.substr(0, outcome.value);
      return outcome;
    }
    case Call::kSetxattr:
      return answer(fs_.setxattr(context, at, name, bytes_of(attribute_value(op)),
                                 static_cast<XattrMode>(op.flags)));
    case Call::kListxattr: {
      Outcome outcome = answer(fs_.listxattr(context, at, buffer));
      if (outcome.error != 0) return outcome;
      std::vector<std::pair<std::string, int>> names;
      for (std::size_t start = 0; start < outcome.value; start += names.back().first.size() + 1) {
        names.emplace_back(buffer.c_str() + start, 0);
      }
      outcome.text = describe_names(std::move(names));
      return outcome;
    }
    default:
      return answer(fs_.removexattr(context, at, name));
  }
}

Outcome FilesystemSubject::on_file(const Context& context, const Operation& op) {
  OpenFilePtr& slot = slots_[op.slot];
  if (!slot) return {.error = EBADF};
  const auto offset = static_cast<std::uint64_t>(op.offset);
  switch (op.call) {
    case Call::kClose:
      return answer(fs_.close(context, std::exchange(slot, nullptr)));
    case Call::kRead:
    case Call::kPread: {
      std::string bytes(op.length, '\0');
      Outcome outcome = answer(op.call == Call::kRead
                                   ? fs_.read(context, *slot, writable_bytes_of(bytes))
                                   : fs_.pread(context, *slot, offset, writable_bytes_of(bytes)));
      if (outcome.error == 0) outcome.text = bytes.substr(0, outcome.value);
      return outcome;
    }
    case Call::kWrite:
      return answer(fs_.write(context, *slot, bytes_of(pattern(op.data, op.length))));
    case Call::kPwrite:
      return answer(fs_.pwrite(context, *slot, offset, bytes_of(pattern(op.data, op.length))));
    case Call::kSeek: {
      auto found = fs_.stat(context, Location(*slot));
      if (found.ok() && found->is_directory()) return {.error = ENOSYS};
      return answer(fs_.lseek(context, *slot, op.offset, op.flags));
    }
    case Call::kFallocate:
      return answer(fs_.fallocate(context, *slot, op.flags, offset, op.length));
    case Call::kCopyRange:
      if (!slots_[op.other_slot]) return {.error = EBADF};
      return answer(fs_.copy_range(context, *slot, offset, *slots_[op.other_slot],
                                   static_cast<std::uint64_t>(op.other_offset), op.length));
    default:
      return answer(fs_.fsync(context, *slot, SyncScope::kAll));
  }
}

}  // namespace libservices::testing
