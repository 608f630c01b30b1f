// SPDX-License-Identifier: Apache-2.0
//
// The flags of `Local`'s objects (inode_flags.h), which the host keeps and enforces.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>

#include "libservices/internal/flag_calls.h"
#include "services/local/local.h"

namespace libservices {

using internal::FlagCall;
using local_internal::Descriptor;
using local_internal::DescriptorRef;
using local_internal::ProcPath;

namespace {

using Argument = std::array<std::byte, internal::kMostFlagBytes>;

// The object is opened anew where the descriptor is one for paths alone.
Result<void> control(int fd, const FlagCall& call, Argument& argument) {
  if (::ioctl(fd, call.number(), argument.data()) == 0) return {};
  if (errno != EBADF) return last_errno();
  const Descriptor file(::open(ProcPath(fd).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (file.fd() < 0 || ::ioctl(file.fd(), call.number(), argument.data()) != 0) return last_errno();
  return {};
}

bool has_flags(const Local::Node& node) { return node->is(S_IFREG) || node->is(S_IFDIR); }

}  // namespace

Result<InodeFlags> Local::getflags(C, const Node& node, InodeFlags::Form form) {
  if (!has_flags(node)) return Errno{ENOTTY};
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  Argument seen{};
  LIBSERVICES_CHECK_OK(control(object->fd(), {FlagCall::Kind::kGet, form}, seen));
  return internal::take_flags(form, seen.data());
}

Result<void> Local::setflags(C, const Node& node, const InodeFlags& flags) {
  if (!has_flags(node)) return Errno{ENOTTY};
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  Argument wanted{};
  internal::put_flags(flags, wanted.data());
  return control(object->fd(), {FlagCall::Kind::kSet, flags.form}, wanted);
}

}  // namespace libservices
