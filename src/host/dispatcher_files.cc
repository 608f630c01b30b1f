// SPDX-License-Identifier: Apache-2.0
//
// Calls about the content, the locks and the flags of open files.
#include <dirent.h>
#include <fcntl.h>

#include "src/fuse/session.h"
#include "src/host/dispatcher_run.h"

namespace libservices::host {

Result<void> Dispatcher::Run::read() {
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

Result<void> Dispatcher::Run::write() {
  const auto request = words<protocol::WriteRequest>();
  if (request.placing > Placing::kAtOffset) return kMalformed;
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (call_.repeats != 0) {
    const ServiceOpenFile::LastMove& last = file->last_move;
    if (request.offset == protocol::kCurrentOffset && last.number == call_.repeats) {
      return answer_word(last.after - last.before);  // it was written
    }
    // An append may have been written without a word of it: twice would be worse than an error.
    if (request.placing == Placing::kAtEnd ||
        (request.placing == Placing::kByFlags && file->file().flags().has(O_APPEND))) {
      return Errno{EIO};
    }
  }
  const ServiceOpenFile::Change change(*file);
  LIBSERVICES_TRY(const std::size_t count,
                  request.offset == protocol::kCurrentOffset
                      ? file->filesystem().write(context_, file->file(), input_, request.placing)
                      : file->filesystem().pwrite(context_, file->file(), request.offset, input_,
                                                  request.placing));
  return answer_word(count);
}

Result<void> Dispatcher::Run::seek() {
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

Result<void> Dispatcher::Run::readdir() {
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

Result<void> Dispatcher::Run::copy_range() {
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
  const ServiceOpenFile::Change change(*to);
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

Result<void> Dispatcher::Run::lock() {
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

Result<void> Dispatcher::Run::map() {
  const auto request = words<protocol::MapRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (request.writes > 1) return kMalformed;
  const Mapping mapping = request.writes != 0 ? Mapping::kWrites : Mapping::kReads;
  LIBSERVICES_TRY(Descriptor lent,
                  lend(file->filesystem(), context_, file->file(), mapping, kept_files_));
  LIBSERVICES_TRY(const std::uint32_t number, session_.lent.put(std::move(lent)));
  return answer_word(number);
}

Result<void> Dispatcher::Run::hand_over() {
  const auto request = words<protocol::HandOverRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  fuse::Session* const mount = filesystems_[file->instance()].mount;
  if (mount == nullptr) return Errno{EOPNOTSUPP};
  return answer_text(mount->hand_over(file->shared_file()));
}

Result<void> Dispatcher::Run::flags() {
  const auto request = words<protocol::FlagsRequest>();
  LIBSERVICES_TRY(const auto file, this->file(request.handle));
  if (call_.operation == Operation::kSetFlags) {
    file->file().set_flags(static_cast<int>(request.flags));
    file->keep_flags();
  }
  return answer_word(reported_flags(file->file().flags()));
}

}  // namespace libservices::host
