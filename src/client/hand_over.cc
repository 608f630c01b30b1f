// SPDX-License-Identifier: Apache-2.0
#include "src/client/hand_over.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"

namespace libservices::client {
namespace {

constexpr std::uint32_t kLooked = 65536;  // descriptors; see state.cc

// Opens by the mount what `descriptor` is: a descriptor of the kernel's, or -errno.
long open_at_mount(OpenRecord& record, int descriptor) {
  char path[kPathBytes];
  const long mount = mount_path(record.instance, path, protocol::kMostMountPath + 1);
  if (mount < 0) return -EOPNOTSUPP;
  {
    protocol::HandOverRequest words;
    if (const long error = handle_of(record, descriptor, words.handle); error != 0) return error;
    Request request(protocol::Operation::kHandOver, record.instance);
    if (!request.ok()) return request.error();
    request.set(words);
    if (const long error = request.run(); error != 0) return error;
    if (request.output_bytes() == 0) return -EIO;
    path[mount] = '/';
    __builtin_memcpy(path + mount + 1, request.output(), request.output_bytes());
    path[mount + 1 + request.output_bytes()] = '\0';
  }
  constexpr int kKept = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_PATH;
  const long flags = calls::fcntl(descriptor, F_GETFL, 0);
  if (flags < 0) return flags;
  const long opened =
      raw::syscall(SYS_openat, AT_FDCWD, path, (flags & kKept) | O_CLOEXEC | O_NOCTTY, 0);
  if (opened == -ENOENT) return -EOPNOTSUPP;  // something else is mounted there
  if (opened < 0) return opened;
  const long offset = S_ISREG(record.mode) ? calls::lseek(descriptor, 0, SEEK_CUR) : -1;
  if (offset >= 0) raw::syscall(SYS_lseek, opened, offset, SEEK_SET);
  return opened;
}

}  // namespace

bool has_open_files() {
  return state.active && (any_records() || state.working_directory.load() != nullptr);
}

long HandOver::replace(int descriptor) {
  OpenRecord* const record = state.files[descriptor].load(std::memory_order_acquire);
  if (record == nullptr) return 0;
  const long inherited = raw::syscall(SYS_fcntl, descriptor, F_GETFD);
  if (inherited < 0 || (inherited & FD_CLOEXEC) != 0) return 0;
  if (count_ == kMost) return -EMFILE;
  long now = -1;
  for (unsigned i = 0; i < count_; ++i) {  // one that is a duplicate stays one
    if (state.files[kept_[i].descriptor].load() == record) {
      now = raw::syscall(SYS_fcntl, kept_[i].descriptor, F_DUPFD_CLOEXEC, 0);
    }
  }
  if (now < 0) now = open_at_mount(*record, descriptor);
  if (now < 0) return now;
  const int copy = keep_copy(descriptor);
  long error = copy < 0 ? copy : raw::syscall(SYS_dup3, now, descriptor, 0);
  raw::syscall(SYS_close, now);
  if (error < 0) {
    if (copy >= 0) close_copy(copy);
    return error;
  }
  kept_[count_++] = {descriptor, copy};
  return 0;
}

long HandOver::begin() {
  const std::uint32_t end = state.most_descriptors < kLooked ? state.most_descriptors : kLooked;
  long error = 0;
  for (std::uint32_t i = 0; i < end && error == 0; ++i) error = replace(static_cast<int>(i));
  if (OpenRecord* const directory = state.working_directory.load();
      error == 0 && directory != nullptr) {
    char path[kPathBytes];
    before_ = raw::syscall(SYS_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    const long bytes =
        before_ < 0 ? before_ : calls::path_of(*directory, -1, path, sizeof path - 1);
    if (bytes >= 0) path[bytes] = '\0';
    error = bytes < 0 ? bytes : raw::syscall(SYS_chdir, path);
    if (error == -ENOENT) error = -EOPNOTSUPP;
  }
  if (error != 0) take_back();
  return error;
}

void HandOver::take_back() {
  while (count_ > 0) {
    const Kept& one = kept_[--count_];
    raw::syscall(SYS_dup3, one.copy, one.descriptor, 0);
    close_copy(one.copy);
  }
  if (before_ < 0) return;
  raw::syscall(SYS_fchdir, before_);
  raw::syscall(SYS_close, before_);
  before_ = -1;
}

}  // namespace libservices::client
