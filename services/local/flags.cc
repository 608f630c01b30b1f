// SPDX-License-Identifier: Apache-2.0
//
// The flags of `Local`'s objects (inode_flags.h), which the host keeps and enforces.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "services/local/local.h"

namespace libservices {

using local_internal::Descriptor;
using local_internal::DescriptorRef;
using local_internal::ProcPath;

namespace {

// Opened anew where the descriptor is one for paths alone.
Result<void> control(int fd, unsigned long command, void* argument) {
  if (::ioctl(fd, command, argument) == 0) return {};
  if (errno != EBADF) return last_errno();
  const Descriptor file(::open(ProcPath(fd).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (file.fd() < 0 || ::ioctl(file.fd(), command, argument) != 0) return last_errno();
  return {};
}

bool has_flags(const Local::Node& node) { return node->is(S_IFREG) || node->is(S_IFDIR); }

}  // namespace

Result<InodeFlags> Local::getflags(C, const Node& node, InodeFlags::Form form) {
  if (!has_flags(node)) return Errno{ENOTTY};
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  InodeFlags seen{.form = form};
  if (form == InodeFlags::Form::kFlags) {
    LIBSERVICES_CHECK_OK(control(object->fd(), FS_IOC_GETFLAGS, &seen.flags));
    return seen;
  }
  fsxattr extended{};
  LIBSERVICES_CHECK_OK(control(object->fd(), FS_IOC_FSGETXATTR, &extended));
  seen.flags = extended.fsx_xflags;
  seen.extent_size = extended.fsx_extsize;
  seen.extents = extended.fsx_nextents;
  seen.project = extended.fsx_projid;
  seen.copied_extent_size = extended.fsx_cowextsize;
  return seen;
}

Result<void> Local::setflags(C, const Node& node, const InodeFlags& flags) {
  if (!has_flags(node)) return Errno{ENOTTY};
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  if (flags.form == InodeFlags::Form::kFlags) {
    std::uint32_t plain = flags.flags;
    return control(object->fd(), FS_IOC_SETFLAGS, &plain);
  }
  fsxattr extended{};
  extended.fsx_xflags = flags.flags;
  extended.fsx_extsize = flags.extent_size;
  extended.fsx_projid = flags.project;
  extended.fsx_cowextsize = flags.copied_extent_size;
  return control(object->fd(), FS_IOC_FSSETXATTR, &extended);
}

}  // namespace libservices
