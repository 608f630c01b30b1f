// SPDX-License-Identifier: Apache-2.0
//
// Service open files, and the handles by which a session names them.
//
// A service open file lives as long as anything refers to it: a session's handle, a placeholder
// that some process still has a descriptor of, or a request under way. Whoever lets go last
// closes it, with the identity of its opener.
//
// A handle is an index and a generation in one session's own table, so that no number, forged or
// stale, reaches the file of another session or a later file of the same.
// THREADS: everything here may be called at once.
#ifndef LIBSERVICES_SRC_HOST_OPEN_FILES_H_
#define LIBSERVICES_SRC_HOST_OPEN_FILES_H_

#include <fcntl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/any_filesystem.h"
#include "src/host/kept_files.h"
#include "src/protocol/messages.h"

namespace libservices::host {

class HandleTable;

// Context::process of a session is the process's pid, and above that a number that tells it from
// later processes with the same pid.
inline constexpr std::uint64_t kPidMask = 0xffffffffU;

// Whom a session's requests are run for: from the kernel, never from the peer.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::uint64_t process = 0;  // Context::process

  Context context() const {
    Context context;
    context.caller = {uid, gid, groups};
    context.process = process;
    return context;
  }
};

class ServiceOpenFile {
 public:
  ServiceOpenFile(AnyFilesystem& filesystem, std::uint32_t instance, OpenFilePtr file,
                  std::uint32_t mode, std::shared_ptr<const Caller> opener)
      : filesystem_(filesystem),
        instance_(instance),
        mode_(mode),
        opener_(std::move(opener)),
        file_(std::move(file)) {}
  ServiceOpenFile(const ServiceOpenFile&) = delete;
  ServiceOpenFile& operator=(const ServiceOpenFile&) = delete;
  ~ServiceOpenFile();

  AnyFilesystem& filesystem() const { return filesystem_; }
  std::uint32_t instance() const { return instance_; }
  std::uint32_t mode() const { return mode_; }  // st_mode when it was opened
  OpenFile& file() const { return *file_; }
  const OpenFilePtr& shared_file() const { return file_; }

  std::atomic<protocol::Placeholder> placeholder{protocol::kNone};  // the one bound to it

  // What a later service would need to open it again, from now on.
  void keep(KeptFiles::Entry entry);
  // Nobody shall open it again. Before its placeholder may stand for another file.
  void keep_no_more();
  void keep_flags();
  std::string kept_path() const;  // in its instance; empty when it is not kept
  void had_locks();
  // Around a change of its content, where that dies with the service until it is synchronised.
  class Change {
   public:
    explicit Change(ServiceOpenFile& file) : file_(file.may_lose_changes() ? &file : nullptr) {
      if (file_ != nullptr) file_->count_change();
    }
    ~Change() {
      if (file_ != nullptr) file_->count_change();
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    ServiceOpenFile* const file_;
  };
  Result<void> fsync(const Context& context, SyncScope scope);

  // Of a file that was open in a service that died: the last move of its offset there.
  struct LastMove {
    std::uint64_t before = 0;
    std::uint64_t after = 0;
    std::uint32_t number = 0;  // 0: unknown
  };
  LastMove last_move;
  // The place in a listing that a dead service had begun means nothing here.
  std::atomic<bool> lost_its_place{false};
  // It was made by kMakeSocket, and not bound yet. Set before it has a handle.
  bool is_new_socket = false;

 private:
  friend class HandleTable;
  friend Result<void> end_use(const Context&, std::shared_ptr<ServiceOpenFile>);
  friend void end_everywhere(const std::shared_ptr<ServiceOpenFile>&);

  bool may_lose_changes() const {
    return filesystem_.may_lose_writes() && (file_->flags().bits & O_DSYNC) == 0;
  }
  void count_change();
  Result<void> drop_locks(const Context& context) { return filesystem_.close(context, file_); }

  AnyFilesystem& filesystem_;
  const std::uint32_t instance_;
  const std::uint32_t mode_;
  const std::shared_ptr<const Caller> opener_;
  OpenFilePtr file_;

  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::weak_ptr<HandleTable>> holders_;
  KeptFiles::Entry kept_;
};

using ServiceOpenFilePtr = std::shared_ptr<ServiceOpenFile>;

// Gives up one reference. Drops the record locks of the caller's process on the file; the last
// reference closes it, and says what its delayed writes came to.
Result<void> end_use(const Context& context, ServiceOpenFilePtr file);

// Takes the handles of all sessions, and drops the record locks of their processes: no descriptor
// of the file is left anywhere.
void end_everywhere(const ServiceOpenFilePtr& file);

// The handles of one session. Lock order: HandleTable before ServiceOpenFile.
class HandleTable : public std::enable_shared_from_this<HandleTable> {
 public:
  // For at most `most` files of the process that Context::process names so.
  // `first_generation` differs from session to session, so that a handle of another one, which a
  // process may still hold when it changes sessions, names nothing here.
  HandleTable(std::size_t most, std::uint64_t process, std::uint32_t first_generation)
      : most_(most), process_(process), first_generation_(first_generation | 1U) {}

  // The handle of `file`, which it has already or is given now. ERRORS: EMFILE.
  Result<protocol::Handle> add(const ServiceOpenFilePtr& file);
  // Null when there is no such handle.
  ServiceOpenFilePtr find(protocol::Handle handle) const;
  ServiceOpenFilePtr remove(protocol::Handle handle);
  ServiceOpenFilePtr remove(const ServiceOpenFile* file);
  // Whether sessions other than this one have handles of `file`.
  bool others_hold(ServiceOpenFile& file) const;
  std::vector<ServiceOpenFilePtr> remove_all();
  std::size_t size() const;

 private:
  struct Slot {
    ServiceOpenFilePtr file;
    std::uint32_t generation = 0;
  };

  static protocol::Handle handle_of(std::size_t index, std::uint32_t generation) {
    return (std::uint64_t{generation} << 32) | (index + 1);
  }
  Slot* slot_of(protocol::Handle handle);
  ServiceOpenFilePtr take(std::size_t index);

  friend void end_everywhere(const ServiceOpenFilePtr& file);

  const std::size_t most_;
  const std::uint64_t process_;
  const std::uint32_t first_generation_;  // never 0
  mutable std::mutex mutex_;
  std::vector<Slot> slots_;  // this and the rest: guarded by mutex_
  std::vector<std::uint32_t> free_;
  absl::flat_hash_map<const ServiceOpenFile*, std::uint32_t> indexes_;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_OPEN_FILES_H_
