// SPDX-License-Identifier: Apache-2.0
//
// Requests that come from ioctl: those for inode flags. The kernel sends no others that we could
// answer, since the sizes of what they read and write must stand in their numbers.
//
// From Linux 5.14 on it opens the object itself for them, asks for the flags before it sets them,
// and has checked who may; before, they come as the program has called them.
#include "libservices/internal/flag_calls.h"
#include "src/fuse/request.h"

namespace libservices::fuse {
namespace {

// Programs of 32 bits have other numbers, which only their calls have.
unsigned long number_of(const fuse_ioctl_in& in) {
  const bool of_32_bits = (in.flags & (FUSE_IOCTL_COMPAT | FUSE_IOCTL_32BIT)) != 0;
  if (of_32_bits && in.cmd == FS_IOC32_GETFLAGS) return FS_IOC_GETFLAGS;
  if (of_32_bits && in.cmd == FS_IOC32_SETFLAGS) return FS_IOC_SETFLAGS;
  return in.cmd;
}

}  // namespace

Result<void> Session::Run::ioctl() {
  const auto in = message_.as<fuse_ioctl_in>();
  const internal::FlagCall call = internal::flag_call(number_of(in));
  if (call.kind == internal::FlagCall::Kind::kOther) return Errno{ENOTTY};
  LIBSERVICES_TRY(const HandlePtr open, handle(in.fh));
  const Location object(*open->file);
  if (call.kind == internal::FlagCall::Kind::kGet) {
    if (in.out_size < call.bytes()) return Errno{EINVAL};
    LIBSERVICES_TRY(const InodeFlags flags, filesystem_.getflags(context_, object, call.form));
    const auto answer = room_.first(call.bytes());
    internal::put_flags(flags, answer.data());
    reply_.set(fuse_ioctl_out{});
    reply_.payload = answer;
    return {};
  }
  if (in.in_size > message_.payload.size()) return Errno{EIO};
  if (in.in_size < call.bytes()) return Errno{EINVAL};
  LIBSERVICES_CHECK_OK(filesystem_.setflags(
      context_, object, internal::take_flags(call.form, message_.payload.data())));
  // The kernel does not ask for the attributes again by itself, and a time has changed.
  if (keeps_for_ever()) session_.send({&session_, 0, 0, 0, {}}, message_.header.nodeid);
  reply_.set(fuse_ioctl_out{});
  return {};
}

}  // namespace libservices::fuse
