// SPDX-License-Identifier: Apache-2.0
//
// An open file or directory of `Ceph`.
//
// On the next mount it is opened again, unless it had changes or locks that were lost with the last
// one: then it fails until it is closed.
#ifndef LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_
#define LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_

#include <dirent.h>
#include <fcntl.h>

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "libservices/dir_entry.h"
#include "libservices/open_flags.h"
#include "services/ceph/object.h"

namespace libservices::ceph_internal {

// Of locks that the cluster was asked for.
struct LockOwner {
  std::uint64_t number = 0;
  bool flock = false;

  friend bool operator==(const LockOwner&, const LockOwner&) = default;
};

class OpenFile {
 public:
  // Of a directory, or of a file that is given `adopt` next.
  OpenFile(const Use& use, ObjectPtr object, OpenFlags opened, const UserPerm* caller)
      : node(std::move(object)),
        flags(opened),
        permissions(caller),
        generation_(use.mount()->generation()) {}
  ~OpenFile() { (void)close(); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void adopt(const Use& use, Fh* handle);
  // The bits that libcephfs is told.
  static constexpr int kBits = O_ACCMODE | O_DIRECT | O_SYNC | O_DSYNC;

  // ERRORS: EIO when something that was written, or a lock, is lost; EISDIR; and those of opening
  // it again.
  Result<Fh*> in(const Use& use);
  bool is_file() const { return node->is(S_IFREG); }
  // Whether changes were lost since it was opened.
  bool is_lost(const Writes& writes) const { return writes.lost() >= generation_; }
  // Of a file that may be written; else null.
  const WritesPtr& writes() const { return writes_; }
  Result<void> close();
  // Whether others may have the handle, before or behind this one.
  static bool opens_for_reading(const Object& object, OpenFlags flags) {
    return object.is(S_IFREG) && !object.in_snapshot() &&
           (flags.bits & (kBits | O_TRUNC)) == O_RDONLY;
  }
  // Whose locks end with it. Both answer whether that is new.
  bool locked(const LockOwner& owner);
  bool unlocked(const LockOwner& owner);

  const ObjectPtr node;
  const OpenFlags flags;
  const UserPerm* const permissions;

  std::mutex listing;                  // guards what follows; held while a file is opened again
  OfMount<ceph_dir_result> directory;  // opened by the first listing
  std::uint64_t listed = 0;            // the cookie behind which `directory` goes on
  // The entry behind `listed` that was read and not taken, if there is one.
  bool has_refused = false;
  Listing refused_for{};
  dirent refused{};
  Statx refused_statx{};

 private:
  bool may_be_idle();

  const std::uint64_t generation_;  // of the mount that it was first opened in
  OfMount<Fh> handle_;
  WritesPtr writes_;

  std::mutex locking_;  // guards what follows
  std::vector<LockOwner> locks_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_OPEN_FILE_H_
