// SPDX-License-Identifier: Apache-2.0
//
// The maker of placeholders (src/protocol/placeholder.h): their inodes, which open file each
// stands for, and the news that the last descriptor of one is gone.
//
// Each is given to one session, which alone may bind a file to it; whoever comes by a descriptor
// of it later, by fork, exec or a message, has the right to the file.
//
// The service keeps no descriptor of a placeholder that it gave away: it would keep the inode.
// SOURCE: inotify(7): IN_DELETE_SELF comes when the inode itself goes. Tried on tmpfs and ext4.
// THREADS: everything may be called at once, `collect` by one thread at a time.
#ifndef LIBSERVICES_SRC_HOST_PLACEHOLDERS_H_
#define LIBSERVICES_SRC_HOST_PLACEHOLDERS_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "src/host/descriptor.h"
#include "src/host/open_files.h"
#include "src/protocol/placeholder.h"

namespace libservices::host {

class Placeholders {
 public:
  enum class Kind : std::uint8_t { kFile, kDirectory };
  using Session = std::uint64_t;  // never 0

  struct Given {
    protocol::StockEntry entry;
    Descriptor descriptor;  // to be sent, and closed
  };

  // They are made in `directory`, which must be the service's own.
  explicit Placeholders(std::string directory) : directory_(std::move(directory)) {}

  // ERRORS: for a person to read, with what limits them.
  absl::Status start();
  std::uint64_t device() const { return device_; }

  // From those made ahead, or made now, while the session has fewer than `most` alive.
  // ERRORS: EMFILE at that limit; ENOSPC (watches, inodes), EMFILE, ENFILE of the service.
  Result<Given> give(Kind kind, Session session, std::size_t most);
  // Nothing more will be bound by this session. Descriptors of its placeholders live on.
  void end_session(Session session);
  // Makes some ahead, so that a session's start need not wait for them.
  void refill();

  // `placeholder` stands for `file` from now on. Its st_ino.
  // ERRORS: EBADF when the session has no such placeholder; EBUSY when it stands for another.
  Result<std::uint64_t> bind(protocol::Placeholder placeholder, Session session, Kind kind,
                             const ServiceOpenFilePtr& file);
  // A placeholder that an earlier service made, and that `descriptor` refers to, stands for `file`.
  // ERRORS: ENOSPC (watches).
  Result<void> adopt(int descriptor, std::uint64_t inode, const ServiceOpenFilePtr& file);
  // Whether `bind` would do, now.
  Result<void> can_bind(protocol::Placeholder placeholder, Session session, Kind kind) const;
  // It may be bound again, if it stands for `file`.
  void unbind(protocol::Placeholder placeholder, const ServiceOpenFile& file);

  // The file of a descriptor of which fstat says (device, inode). Null when there is none.
  ServiceOpenFilePtr find(std::uint64_t device, std::uint64_t inode) const;

  // Readable when `collect` has something to do.
  int news() const { return inotify_.get(); }
  // The files whose last descriptor is gone. Their handles and this reference are all they have.
  std::vector<ServiceOpenFilePtr> collect();

  // Lets go of every file, whoever has descriptors of it: the service ends.
  void release_all();

  // Placeholders that processes have, and those of them that stand for a file.
  std::size_t given() const;
  std::size_t bound() const;

 private:
  struct Record {
    std::uint64_t inode = 0;
    int watch = -1;
    Kind kind = Kind::kFile;
    Session session = 0;
    ServiceOpenFilePtr file;
  };

  protocol::Placeholder new_record(Kind kind);
  Result<Given> make(Kind kind);
  Result<Given> make_named(const char* name, Kind kind);
  Given assign(Given made, Session session);
  const Record* record_of(protocol::Placeholder, Session, Kind) const;
  void gone(int watch, std::vector<ServiceOpenFilePtr>& files);
  void collect_after_overflow(std::vector<ServiceOpenFilePtr>& files);

  const std::string directory_;
  Descriptor directory_descriptor_;
  Descriptor inotify_;
  std::uint64_t device_ = 0;

  mutable std::mutex mutex_;
  std::vector<Given> ready_[2];  // by Kind; this and the rest: guarded by mutex_
  absl::flat_hash_map<protocol::Placeholder, Record> records_;
  absl::flat_hash_map<std::uint64_t, protocol::Placeholder> by_inode_;
  absl::flat_hash_map<int, protocol::Placeholder> by_watch_;
  absl::flat_hash_map<Session, std::size_t> alive_;  // of each session
  protocol::Placeholder next_ = 1;
  std::size_t bound_ = 0;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_PLACEHOLDERS_H_
