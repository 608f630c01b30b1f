// SPDX-License-Identifier: Apache-2.0
//
// One request of a session, from its message to the reply. Included by session.cc and request*.cc
// alone.
#ifndef LIBSERVICES_SRC_FUSE_REQUEST_H_
#define LIBSERVICES_SRC_FUSE_REQUEST_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "src/fuse/session.h"
#include "src/fuse/supplementary_groups.h"

namespace libservices::fuse {

class Session::Run {
 public:
  Run(Session& session, const Message& message, std::span<std::byte> room, Reply& reply)
      : session_(session),
        filesystem_(session.filesystem_),
        message_(message),
        room_(room),
        reply_(reply),
        groups_(message) {
    context_.caller = {
        message.header.uid, message.header.gid, {}, &groups_, session.options_.kernel_decides};
    context_.process = kOfKernel | message.header.pid;
  }

  Result<void> run();

 private:
  struct Validity {
    std::uint64_t seconds;
    std::uint32_t nanoseconds;
  };
  static constexpr std::uint64_t kForEver = std::uint64_t{1} << 32U;  // seconds
  // How long the kernel may believe what it is told.
  Validity validity() const {
    const Coherence& coherence = session_.coherence_;
    if (coherence.kind == Coherence::Kind::kNeverChanges ||
        coherence.kind == Coherence::Kind::kChangesOnlyThroughMe) {
      return {kForEver, 0};
    }
    const auto time = static_cast<std::uint64_t>(coherence.ask_again_after.count());
    return {time / 1000000000, static_cast<std::uint32_t>(time % 1000000000)};
  }
  // Of the request's object: of an inode that is left behind the kernel is not told of changes.
  // Nor does anybody tell of what changes through a mapping.
  Validity validity_of_attributes(OpenFile& object) const {
    const bool is_told =
        session_.nodes_.is_current(message_.header.nodeid) && !filesystem_.is_mapped(object);
    return is_told ? validity() : Validity{0, 0};
  }
  bool keeps_for_ever() const { return validity().seconds == kForEver; }

  Result<OpenFilePtr> node(std::uint64_t id) const {
    OpenFilePtr file = session_.nodes_.find(id);
    if (file == nullptr) return Errno{ESTALE};
    return file;
  }
  Result<OpenFilePtr> node() const { return node(message_.header.nodeid); }
  Result<HandlePtr> handle(std::uint64_t number) const {
    HandlePtr found = session_.handles_.find(number);
    if (found == nullptr) return Errno{EBADF};
    return found;
  }

  // Tells the kernel of the object.
  fuse_entry_out entry_of(const Reference& reference);
  // The entry that was just made.
  Result<void> answer_entry(OpenFile& parent, std::string_view name);
  Result<void> answer_attributes(OpenFile& object, const Attributes& attributes);
  std::uint32_t open_flags_for_kernel(OpenFlags flags, OpenFile& file) const;
  OpenFlags flags_of(std::uint32_t bits) const;
  Result<void> answer_opened(OpenFilePtr file, OpenFlags flags, const Reference* created);

  bool takes_lists();  // in request.cc
  Result<void> init();
  Result<void> forget();
  Result<void> statfs();
  Result<void> readlink();
  Result<void> access();
  Result<void> xattr();

  Result<void> lookup();  // in request_names.cc
  Result<void> getattr();
  Result<void> statx();
  Result<void> setattr();
  Result<void> make();
  Result<void> remove();
  Result<void> rename();
  Result<void> link();
  Result<void> readdir();

  Result<void> open();  // in request_files.cc
  Result<void> create();
  void move_offset(Handle& open, std::uint64_t offset);
  Result<void> read();
  Result<void> write();
  Result<void> flush();
  Result<void> release();
  Result<void> fsync();
  Result<void> fallocate();
  Result<void> lseek();
  Result<void> copy_range();
  Result<void> lock();

  Result<void> ioctl();  // in request_ioctl.cc

  Session& session_;
  AnyFilesystem& filesystem_;
  const Message& message_;
  const std::span<std::byte> room_;
  Reply& reply_;
  SupplementaryGroups groups_;
  Context context_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_REQUEST_H_
