// SPDX-License-Identifier: Apache-2.0
//
// The extended attributes of `Local`'s objects.
#include <fmt/format.h>
#include <sys/xattr.h>

#include <cerrno>
#include <string>

#include "services/local/local.h"

namespace libservices {

using local_internal::attributes_of;
using local_internal::DescriptorRef;
using local_internal::ObjectIdentity;
using local_internal::ProcPath;
using local_internal::terminated;

namespace {

// `by_descriptor(fd)`, or `by_path(path)` where the descriptor is one for paths alone. The second
// costs a lookup in /proc.
template <class ByDescriptor, class ByPath>
auto on_object(int fd, ByDescriptor by_descriptor, ByPath by_path) {
  const auto result = by_descriptor(fd);
  if (result != -1 || errno != EBADF) return result;
  return by_path(ProcPath(fd).c_str());
}

}  // namespace

// By the object's name where no descriptor is at hand: to open one costs more than to ask twice.
template <class ByDescriptor, class ByPath, class ByName>
Result<std::size_t> Local::read_attributes(const Node& node, ByDescriptor by_descriptor,
                                           ByPath by_path, ByName by_name) {
  DescriptorRef object = nodes_->at_hand(node);
  Node parent;
  std::string name;
  if (object == nullptr && nodes_->last_seen(node, parent, name)) {
    if (auto above = nodes_->descriptor(parent); above.ok()) {
      const int fd = (*above)->fd();
      const auto size = by_name(fmt::format("{}/{}", ProcPath(fd).c_str(), name).c_str());
      const Errno failed = last_errno();
      auto seen = attributes_of(fd, name.c_str());
      if (seen.ok() && ObjectIdentity::of(*seen) == node->identity()) {
        return size < 0 ? Result<std::size_t>(failed) : static_cast<std::size_t>(size);
      }
    }
  }
  if (object == nullptr) {
    LIBSERVICES_TRY(object, nodes_->descriptor(node));
  }
  const auto size = on_object(object->fd(), by_descriptor, by_path);
  if (size < 0) return last_errno();
  return static_cast<std::size_t>(size);
}

Result<std::size_t> Local::getxattr(C, const Node& node, std::string_view name,
                                    std::span<std::byte> into) {
  const std::string attribute = terminated(name);
  const char* const text = attribute.c_str();
  return read_attributes(
      node, [&](int fd) { return ::fgetxattr(fd, text, into.data(), into.size()); },
      [&](const char* path) { return ::getxattr(path, text, into.data(), into.size()); },
      [&](const char* path) { return ::lgetxattr(path, text, into.data(), into.size()); });
}

Result<std::size_t> Local::listxattr(C, const Node& node, std::span<char> into) {
  return read_attributes(
      node, [&](int fd) { return ::flistxattr(fd, into.data(), into.size()); },
      [&](const char* path) { return ::listxattr(path, into.data(), into.size()); },
      [&](const char* path) { return ::llistxattr(path, into.data(), into.size()); });
}

Result<void> Local::setxattr(C, const Node& node, std::string_view name,
                             std::span<const std::byte> value, XattrMode mode) {
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  const std::string attribute = terminated(name);
  const int flags = mode == XattrMode::kCreate    ? XATTR_CREATE
                    : mode == XattrMode::kReplace ? XATTR_REPLACE
                                                  : 0;
  const int set = on_object(
      object->fd(),
      [&](int fd) { return ::fsetxattr(fd, attribute.c_str(), value.data(), value.size(), flags); },
      [&](const char* path) {
        return ::setxattr(path, attribute.c_str(), value.data(), value.size(), flags);
      });
  if (set != 0) return last_errno();
  return {};
}

Result<void> Local::removexattr(C, const Node& node, std::string_view name) {
  LIBSERVICES_TRY(const DescriptorRef object, nodes_->descriptor(node));
  const std::string attribute = terminated(name);
  const int removed = on_object(
      object->fd(), [&](int fd) { return ::fremovexattr(fd, attribute.c_str()); },
      [&](const char* path) { return ::removexattr(path, attribute.c_str()); });
  if (removed != 0) return last_errno();
  return {};
}

}  // namespace libservices
