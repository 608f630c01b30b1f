// SPDX-License-Identifier: Apache-2.0
//
// ioctl on our files: the flags of inodes, and what else programs ask of any descriptor.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libservices/internal/flag_calls.h"
#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

using internal::FlagCall;
using protocol::Operation;

long flags_of_inode(OpenRecord& record, int descriptor, const FlagCall& call, void* argument) {
  Place place;
  if (const long error = place_of(record, descriptor, place); error != 0) return error;
  protocol::InodeFlagsRequest words;
  words.target = place.target(0);
  words.flags.form = call.form;
  const bool sets = call.kind == FlagCall::Kind::kSet;
  if (sets ? !readable(argument, call.bytes()) : !writable(argument, call.bytes())) return -EFAULT;
  if (sets) words.flags = internal::take_flags(call.form, argument);
  Request request(sets ? Operation::kSetInodeFlags : Operation::kGetInodeFlags, place.instance);
  if (!request.ok()) return request.error();
  request.set(words);
  const long result = request.run();
  if (result == 0 && !sets) internal::put_flags(request.answer<InodeFlags>(), argument);
  return result;
}

}  // namespace

long ioctl(int descriptor, unsigned long command, unsigned long argument) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_ioctl, descriptor, command, argument);
  if ((record->flags & O_PATH) != 0) return -EBADF;
  constexpr unsigned long kClose = 0x5451;    // FIOCLEX
  constexpr unsigned long kNoClose = 0x5450;  // FIONCLEX
  constexpr unsigned long kToRead = 0x541b;   // FIONREAD
  switch (command) {
    case kClose:
      return raw::syscall(SYS_fcntl, descriptor, F_SETFD, FD_CLOEXEC);
    case kNoClose:
      return raw::syscall(SYS_fcntl, descriptor, F_SETFD, 0);
    case kToRead: {
      struct stat status;
      if (const long error = calls::fstat(descriptor, &status); error != 0) return error;
      const long offset = lseek(descriptor, 0, SEEK_CUR);
      if (offset < 0) return offset;
      if (!writable(reinterpret_cast<void*>(argument), sizeof(int))) return -EFAULT;
      *reinterpret_cast<int*>(argument) =
          status.st_size > offset ? static_cast<int>(status.st_size - offset) : 0;
      return 0;
    }
    case FICLONE:
    case FICLONERANGE:
      return -EOPNOTSUPP;
    default:
      break;
  }
  const FlagCall call = internal::flag_call(command);
  if (call.kind == FlagCall::Kind::kOther) return -ENOTTY;
  return flags_of_inode(*record, descriptor, call, reinterpret_cast<void*>(argument));
}

}  // namespace libservices::client::calls
