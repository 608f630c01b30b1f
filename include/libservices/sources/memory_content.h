// SPDX-License-Identifier: Apache-2.0
//
// The members of `Memory` that work on one object: content, attributes and extended attributes.
// Included by memory.h alone.
#ifndef LIBSERVICES_SOURCES_MEMORY_CONTENT_H_
#define LIBSERVICES_SOURCES_MEMORY_CONTENT_H_

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "libservices/sources/memory.h"

namespace libservices {

inline Result<Attributes> Memory::setattr(const Context&, const Node& node,
                                          const AttributeChanges& changes) {
  using C = AttributeChanges;
  Object& object = *node.object_;
  std::unique_lock lock(object.mutex);
  object.content.settle(object.attributes);
  if (changes.has(C::kSize)) LIBSERVICES_CHECK_OK(resize_locked(object, changes.size));
  Attributes& a = object.attributes;
  const Timestamp now = Timestamp::now();
  if (changes.has(C::kMode)) a.mode = (a.mode & S_IFMT) | (changes.mode & 07777U);
  if (changes.has(C::kUid)) a.uid = changes.uid;
  if (changes.has(C::kGid)) a.gid = changes.gid;
  if (changes.has(C::kAtime)) a.atime = changes.atime;
  if (changes.has(C::kMtime)) a.mtime = changes.mtime;
  if (changes.has(C::kAtimeNow)) a.atime = now;
  if (changes.has(C::kMtimeNow)) a.mtime = now;
  if (changes.which != 0) a.ctime = now;
  return object.attributes_locked();
}

inline Result<void> Memory::resize_locked(Object& object, std::uint64_t size) {
  if (object.is_directory()) return Errno{EISDIR};
  if (!object.is_regular()) return Errno{EINVAL};
  if (size > kMaxFileBytes) return Errno{EFBIG};
  object.content.settle(object.attributes);
  LIBSERVICES_CHECK_OK(object.content.resize(object.attributes.size, size));
  object.attributes.size = size;
  object.content_changed();
  return {};
}

inline Result<Opened<Memory::File>> Memory::open(const Context&, const Node& node,
                                                 OpenFlags flags) {
  Object& object = *node.object_;
  if (object.is_directory()) {
    if (flags.writes() || flags.truncates()) return Errno{EISDIR};
  } else if (flags.directory()) {
    return Errno{ENOTDIR};
  } else if (!object.is_regular()) {
    return Errno{object.is_symlink() ? ELOOP : ENXIO};
  }
  if (flags.truncates()) {
    std::unique_lock lock(object.mutex);
    LIBSERVICES_CHECK_OK(resize_locked(object, 0));
  }
  return Opened<File>{File(node.object_, flags), object.snapshot()};
}

inline Result<std::size_t> Memory::read(const Context&, File& file, std::uint64_t offset,
                                        std::span<std::byte> into) {
  Object& object = *file.object_;
  if (object.is_directory()) return Errno{EISDIR};
  if (!file.flags_.reads()) return Errno{EBADF};
  bool touch = false;
  std::size_t count = 0;
  const Timestamp now = Timestamp::now();
  {
    std::shared_lock lock(object.mutex);
    const Attributes& a = object.attributes;
    const std::uint64_t size = object.size_locked();
    if (offset >= size || into.empty()) return std::size_t{0};
    count = std::min<std::uint64_t>(into.size(), size - offset);
    LIBSERVICES_TRY(count, object.content.read(offset, into.first(count)));
    constexpr std::int64_t kDaySeconds = 86400;
    touch = !file.flags_.has(O_NOATIME) &&
            (a.atime <= a.mtime || a.atime <= a.ctime ||
             now.seconds - a.atime.seconds >= kDaySeconds);
  }
  if (touch) {
    std::unique_lock lock(object.mutex);
    object.attributes.atime = now;
  }
  return count;
}

inline Result<std::size_t> Memory::write_locked(Object& object, std::uint64_t offset,
                                                std::span<const std::byte> from) {
  if (from.empty()) return std::size_t{0};
  if (offset >= kMaxFileBytes) return Errno{EFBIG};
  from = from.first(std::min<std::uint64_t>(from.size(), kMaxFileBytes - offset));
  object.content.settle(object.attributes);
  const std::size_t written = object.content.write(offset, from);
  if (written == 0) return Errno{ENOSPC};
  object.attributes.size = std::max(object.attributes.size, offset + written);
  object.content_changed();
  return written;
}

inline Result<std::uint64_t> Memory::append(const Context&, File& file,
                                            std::span<const std::byte> from,
                                            std::size_t& written) {
  written = 0;
  LIBSERVICES_CHECK_OK(writable(file));
  Object& object = *file.object_;
  std::unique_lock lock(object.mutex);
  if (object.content.descriptor() && !from.empty()) {
    LIBSERVICES_TRY(const std::uint64_t end, object.content.append(from, written));
    object.attributes.size = end;
    object.content_changed();
    return end;
  }
  LIBSERVICES_TRY(written, write_locked(object, object.size_locked(), from));
  return object.size_locked();
}

inline Result<void> Memory::fallocate(const Context&, File& file, int mode, std::uint64_t offset,
                                      std::uint64_t length) {
  LIBSERVICES_CHECK_OK(writable(file));
  if (length == 0) return Errno{EINVAL};
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) return Errno{EFBIG};
  const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int kind = mode & ~FALLOC_FL_KEEP_SIZE;
  if (kind == FALLOC_FL_PUNCH_HOLE ? !keeps_size : (kind != 0 && kind != FALLOC_FL_ZERO_RANGE)) {
    return Errno{EOPNOTSUPP};
  }
  Object& object = *file.object_;
  std::unique_lock lock(object.mutex);
  object.content.settle(object.attributes);
  if (kind != 0 && !object.content.erase(offset, length)) return Errno{ENOSPC};
  if (kind != FALLOC_FL_PUNCH_HOLE) {
    using Allocate = internal::MemoryBytes::Allocate;
    if (!object.content.allocate(offset, length,
                                 keeps_size ? Allocate::kKeepSize : Allocate::kGrow)) {
      if (object.attributes.size <= offset) object.content.trim(object.attributes.size);
      return Errno{ENOSPC};
    }
    if (!keeps_size) object.attributes.size = std::max(object.attributes.size, offset + length);
  }
  object.content_changed();
  return {};
}

inline Result<std::uint64_t> Memory::seek(const Context&, File& file, std::uint64_t offset,
                                          SeekTarget target) {
  Object& object = *file.object_;
  if (object.is_directory()) return Errno{EINVAL};
  std::shared_lock lock(object.mutex);
  const std::uint64_t size = object.size_locked();
  if (offset >= size) return Errno{ENXIO};
  if (target == SeekTarget::kHole) return std::min(object.content.next_hole(offset), size);
  const std::uint64_t found = object.content.next_data(offset);
  if (found >= size) return Errno{ENXIO};
  return found;
}

inline Result<std::uint64_t> Memory::copy_range(const Context& context, File& from,
                                                std::uint64_t from_offset, File& to,
                                                std::uint64_t to_offset, std::uint64_t length) {
  constexpr std::uint64_t kMostAtOnce = 1U << 20U;  // bytes
  LIBSERVICES_CHECK_OK(writable(to));
  if (from_offset > kMaxFileBytes || length > kMaxFileBytes - from_offset) return Errno{EINVAL};
  if (from.object_ == to.object_ && from_offset < to_offset + length &&
      to_offset < from_offset + length) {
    return Errno{EINVAL};
  }
  std::vector<std::byte> bytes(std::min(length, kMostAtOnce));
  LIBSERVICES_TRY(const std::size_t count, read(context, from, from_offset, bytes));
  LIBSERVICES_TRY(const std::size_t written,
                  write(context, to, to_offset, std::span(bytes).first(count)));
  return std::uint64_t{written};
}

inline Result<Backing> Memory::backing(const Context&, File& file, BackingUse use) {
  Object& object = *file.object_;
  if (!object.is_regular() || volume_->budget->is_limited()) return Errno{EOPNOTSUPP};
  const auto held = [&] {
    std::shared_lock lock(object.mutex);
    return object.content.descriptor();
  };
  for (file.backing_ = held(); !file.backing_; file.backing_ = held()) {
    LIBSERVICES_CHECK_OK(volume_->make_room_for_descriptor());
    bool moved = false;
    {
      std::unique_lock lock(object.mutex);
      if (!object.content.descriptor()) {
        LIBSERVICES_CHECK_OK(object.content.move_out(object.attributes.size));
        moved = true;
      }
      file.backing_ = object.content.descriptor();
    }
    if (moved) volume_->has_descriptor(file.object_);
  }
  if (use == BackingUse::kLasting) {
    std::unique_lock lock(object.mutex);
    object.content.lend();
  }
  return Backing{file.backing_->fd()};
}

inline Result<VolumeInfo> Memory::statfs(const Context&, const Node&) {
  const internal::PageBudget& budget = *volume_->budget;
  const std::uint64_t used = budget.used();
  VolumeInfo info;
  info.block_size = internal::kPageBytes;
  info.blocks = std::min<std::uint64_t>(budget.pages(),
                                        static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)));
  info.blocks = std::max(info.blocks, used);
  info.blocks_free = info.blocks_available = info.blocks - used;
  const std::uint64_t files = volume_->files.load(std::memory_order_relaxed);
  info.files = std::max<std::uint64_t>(files, std::min<std::uint64_t>(volume_->max_files, 1U << 30U));
  info.files_free = info.files - files;
  info.name_max = kMaxNameBytes;
  return info;
}

namespace internal {

// ERRORS: ENOTSUP for a namespace that does not exist, EINVAL for a bare one, ERANGE.
inline Result<void> check_xattr_name(std::string_view name) {
  for (std::string_view prefix : {"user.", "trusted.", "security.", "system."}) {
    if (!name.starts_with(prefix)) continue;
    if (name.size() == prefix.size()) return Errno{EINVAL};
    if (name.size() > 255) return Errno{ERANGE};
    return {};
  }
  return Errno{EOPNOTSUPP};
}

}  // namespace internal

inline Result<std::size_t> Memory::getxattr(const Context&, const Node& node,
                                            std::string_view name, std::span<std::byte> into) {
  LIBSERVICES_CHECK_OK(internal::check_xattr_name(name));
  std::shared_lock lock(node.object_->mutex);
  const auto at = node.object_->xattrs.find(name);
  if (at == node.object_->xattrs.end()) return Errno{ENODATA};
  if (!into.empty()) {
    if (into.size() < at->second.size()) return Errno{ERANGE};
    std::memcpy(into.data(), at->second.data(), at->second.size());
  }
  return at->second.size();
}

inline Result<void> Memory::setxattr(const Context&, const Node& node, std::string_view name,
                                     std::span<const std::byte> value, XattrMode mode) {
  LIBSERVICES_CHECK_OK(internal::check_xattr_name(name));
  if (value.size() > kMaxXattrBytes) return Errno{E2BIG};
  std::unique_lock lock(node.object_->mutex);
  auto& xattrs = node.object_->xattrs;
  const auto at = xattrs.find(name);
  if (at != xattrs.end() && mode == XattrMode::kCreate) return Errno{EEXIST};
  if (at == xattrs.end() && mode == XattrMode::kReplace) return Errno{ENODATA};
  std::string bytes(reinterpret_cast<const char*>(value.data()), value.size());
  xattrs.insert_or_assign(std::string(name), std::move(bytes));
  node.object_->attributes.ctime = Timestamp::now();
  return {};
}

inline Result<std::size_t> Memory::listxattr(const Context&, const Node& node,
                                             std::span<char> into) {
  std::shared_lock lock(node.object_->mutex);
  std::size_t size = 0;
  for (const auto& [name, value] : node.object_->xattrs) size += name.size() + 1;
  if (into.empty()) return size;
  if (into.size() < size) return Errno{ERANGE};
  char* at = into.data();
  for (const auto& [name, value] : node.object_->xattrs) {
    std::memcpy(at, name.c_str(), name.size() + 1);
    at += name.size() + 1;
  }
  return size;
}

inline Result<void> Memory::removexattr(const Context&, const Node& node, std::string_view name) {
  LIBSERVICES_CHECK_OK(internal::check_xattr_name(name));
  std::unique_lock lock(node.object_->mutex);
  const auto at = node.object_->xattrs.find(name);
  if (at == node.object_->xattrs.end()) return Errno{ENODATA};
  node.object_->xattrs.erase(at);
  node.object_->attributes.ctime = Timestamp::now();
  return {};
}

}  // namespace libservices

#endif  // LIBSERVICES_SOURCES_MEMORY_CONTENT_H_
