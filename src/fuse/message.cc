// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/message.h"

namespace libservices::fuse {
namespace {

constexpr std::uint16_t kInit = sizeof(fuse_init_in);
constexpr std::uint16_t kOldInit = 16;  // up to `flags`

template <class T>
constexpr Form fixed(std::uint32_t opcode, std::string_view name, std::uint8_t names = 0,
                     bool payload = false) {
  return {opcode, name, sizeof(T), sizeof(T), names, payload};
}
constexpr Form bare(std::uint32_t opcode, std::string_view name, std::uint8_t names = 0) {
  return {opcode, name, 0, 0, names, false};
}

// SOURCE: Documentation and source of fs/fuse in Linux 5.4 to 6.18.
constexpr Form kAll[] = {
    bare(FUSE_LOOKUP, "lookup", 1),
    fixed<fuse_forget_in>(FUSE_FORGET, "forget"),
    fixed<fuse_getattr_in>(FUSE_GETATTR, "getattr"),
    fixed<fuse_setattr_in>(FUSE_SETATTR, "setattr"),
    bare(FUSE_READLINK, "readlink"),
    bare(FUSE_SYMLINK, "symlink", 2),
    fixed<fuse_mknod_in>(FUSE_MKNOD, "mknod", 1),
    fixed<fuse_mkdir_in>(FUSE_MKDIR, "mkdir", 1),
    bare(FUSE_UNLINK, "unlink", 1),
    bare(FUSE_RMDIR, "rmdir", 1),
    fixed<fuse_rename_in>(FUSE_RENAME, "rename", 2),
    fixed<fuse_link_in>(FUSE_LINK, "link", 1),
    fixed<fuse_open_in>(FUSE_OPEN, "open"),
    fixed<fuse_read_in>(FUSE_READ, "read"),
    fixed<fuse_write_in>(FUSE_WRITE, "write", 0, true),
    bare(FUSE_STATFS, "statfs"),
    fixed<fuse_release_in>(FUSE_RELEASE, "release"),
    fixed<fuse_fsync_in>(FUSE_FSYNC, "fsync"),
    {FUSE_SETXATTR, "setxattr", FUSE_COMPAT_SETXATTR_IN_SIZE, sizeof(fuse_setxattr_in), 1, true},
    fixed<fuse_getxattr_in>(FUSE_GETXATTR, "getxattr", 1),
    fixed<fuse_getxattr_in>(FUSE_LISTXATTR, "listxattr"),
    bare(FUSE_REMOVEXATTR, "removexattr", 1),
    fixed<fuse_flush_in>(FUSE_FLUSH, "flush"),
    {FUSE_INIT, "init", kOldInit, kInit, 0, false},
    fixed<fuse_open_in>(FUSE_OPENDIR, "opendir"),
    fixed<fuse_read_in>(FUSE_READDIR, "readdir"),
    fixed<fuse_release_in>(FUSE_RELEASEDIR, "releasedir"),
    fixed<fuse_fsync_in>(FUSE_FSYNCDIR, "fsyncdir"),
    fixed<fuse_lk_in>(FUSE_GETLK, "getlk"),
    fixed<fuse_lk_in>(FUSE_SETLK, "setlk"),
    fixed<fuse_lk_in>(FUSE_SETLKW, "setlkw"),
    fixed<fuse_access_in>(FUSE_ACCESS, "access"),
    fixed<fuse_create_in>(FUSE_CREATE, "create", 1),
    fixed<fuse_interrupt_in>(FUSE_INTERRUPT, "interrupt"),
    fixed<fuse_bmap_in>(FUSE_BMAP, "bmap"),
    bare(FUSE_DESTROY, "destroy"),
    fixed<fuse_ioctl_in>(FUSE_IOCTL, "ioctl", 0, true),
    fixed<fuse_poll_in>(FUSE_POLL, "poll"),
    fixed<fuse_batch_forget_in>(FUSE_BATCH_FORGET, "batch_forget", 0, true),
    fixed<fuse_fallocate_in>(FUSE_FALLOCATE, "fallocate"),
    fixed<fuse_read_in>(FUSE_READDIRPLUS, "readdirplus"),
    fixed<fuse_rename2_in>(FUSE_RENAME2, "rename2", 2),
    fixed<fuse_lseek_in>(FUSE_LSEEK, "lseek"),
    fixed<fuse_copy_file_range_in>(FUSE_COPY_FILE_RANGE, "copy_file_range"),
    fixed<fuse_syncfs_in>(FUSE_SYNCFS, "syncfs"),
    fixed<fuse_create_in>(FUSE_TMPFILE, "tmpfile", 1),
    fixed<abi::StatxIn>(abi::kStatx, "statx"),
};

constexpr auto kByOpcode = [] {
  std::array<const Form*, kForms> table{};
  for (const Form& form : kAll) table[form.opcode] = &form;
  return table;
}();

// Attributes' names may have a '/' in them, and a link's target, which comes second.
bool may_have_slash(const Form& form, std::size_t index) {
  switch (form.opcode) {
    case FUSE_SETXATTR:
    case FUSE_GETXATTR:
    case FUSE_REMOVEXATTR:
      return true;
    case FUSE_TMPFILE:  // the kernel gives what has no name one that none has
      return true;
    case FUSE_SYMLINK:
      return index == 1;
    default:
      return false;
  }
}

// Bytes of the fixed part, of which a name's first may look like one more.
std::size_t most_of(const Form& form, Negotiated negotiated) {
  return form.opcode == FUSE_SETXATTR && !negotiated.setxattr_ext ? form.least : form.most;
}

// Behind the request: security contexts, which we have not asked for, and groups.
Result<void> decode_extensions(std::span<const std::byte> bytes, Message& message) {
  while (!bytes.empty()) {
    fuse_ext_header header;
    if (bytes.size() < sizeof header) return Errno{EIO};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.size < sizeof header || header.size > bytes.size()) return Errno{EIO};
    if (header.type == abi::kExtGroups) {
      const auto list = bytes.first(header.size).subspan(sizeof header);
      std::uint32_t count = 0;
      if (list.size() < sizeof count) return Errno{EIO};
      std::memcpy(&count, list.data(), sizeof count);
      if (count > (list.size() - sizeof count) / sizeof(std::uint32_t)) return Errno{EIO};
      message.groups = list.subspan(sizeof count, count * sizeof(std::uint32_t));
    }
    bytes = bytes.subspan(header.size);
  }
  return {};
}

}  // namespace

const Form* form_of(std::uint32_t opcode) {
  return opcode < kForms ? kByOpcode[opcode] : nullptr;
}

Result<void> decode(std::span<const std::byte> bytes, Negotiated negotiated, Message& message) {
  message = {};
  fuse_in_header header{};
  if (bytes.size() < sizeof header) return Errno{EIO};
  std::memcpy(&header, bytes.data(), sizeof header);
  message.header = header;
  if (header.len != bytes.size()) return Errno{EIO};
  const Form* const form = form_of(header.opcode);
  const auto body = bytes.subspan(sizeof header);
  // Without its form nothing is looked at.
  const std::size_t fixed =
      form == nullptr ? 0 : std::min(body.size(), most_of(*form, negotiated));
  return decode(header, body.first(fixed), body.subspan(fixed), message);
}

Result<void> decode(const fuse_in_header& header, std::span<const std::byte> fixed,
                    std::span<const std::byte> rest, Message& message) {
  message = {};
  message.header = header;
  if (header.len != sizeof header + fixed.size() + rest.size()) return Errno{EIO};
  message.form = form_of(header.opcode);
  if (message.form == nullptr) return Errno{ENOSYS};
  const Form& form = *message.form;
  const std::size_t extensions = std::size_t{header.total_extlen} * 8;
  if (extensions > rest.size()) return Errno{EIO};
  LIBSERVICES_CHECK_OK(decode_extensions(rest.last(extensions), message));
  rest = rest.first(rest.size() - extensions);
  if (fixed.size() < form.least) return Errno{EIO};
  message.fixed = fixed.first(std::min<std::size_t>(fixed.size(), form.most));
  for (std::size_t i = 0; i < form.names; ++i) {
    const auto* const text = reinterpret_cast<const char*>(rest.data());
    const std::size_t length = rest.empty() ? 0 : ::strnlen(text, rest.size());
    if (length == rest.size()) return Errno{EIO};  // no end
    message.names[i] = {text, length};
    if (!may_have_slash(form, i) && message.names[i].find('/') != std::string_view::npos) {
      return Errno{EIO};
    }
    rest = rest.subspan(length + 1);
  }
  if (!form.has_payload && !rest.empty()) return Errno{EIO};
  message.payload = rest;
  return {};
}

}  // namespace libservices::fuse
