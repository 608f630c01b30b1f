// SPDX-License-Identifier: Apache-2.0
//
// The directory beside `Ceph`'s own for what is not in the tree: drafts, and what is kept.
//
// `lock` in it is locked while an instance runs that has used it, whichever client of the cluster
// that is; `staging` is emptied when it is opened and closed; what is in `kept` stays.
#ifndef LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_
#define LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_

#include <memory>
#include <string>

#include "libservices/open_flags.h"
#include "services/ceph/client.h"

namespace libservices::ceph_internal {

// Removes the name and all that is below it, if it is there. Links are removed, never followed.
// `depth` is of the directory, below the first one.
Result<void> remove_all(const std::shared_ptr<Client>& client, Inode* parent, const char* name,
                        int depth = 0);

class WorkDirectory {
 public:
  // `path` from the client's root. ERRORS: EBUSY while another instance has it.
  static Result<std::unique_ptr<WorkDirectory>> open(const std::shared_ptr<Client>& client,
                                                     const std::string& path);
  // Whether it exists.
  static bool exists(Client& client, const std::string& path);

  ~WorkDirectory();
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  Result<ObjectPtr> get(Staging which);

 private:
  explicit WorkDirectory(std::shared_ptr<Client> client) : client_(std::move(client)) {}
  Result<void> lock();

  const std::shared_ptr<Client> client_;
  ObjectPtr directory_;
  ObjectPtr staging_;
  ObjectPtr kept_;
  ObjectPtr lock_object_;
  Fh* lock_ = nullptr;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_
