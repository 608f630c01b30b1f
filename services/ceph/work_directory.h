// SPDX-License-Identifier: Apache-2.0
//
// The directory beside `Ceph`'s own for what is not in the tree: drafts, and what is kept.
//
// `lock` in it is locked while an instance runs that has used it, whichever client of the cluster
// that is; `staging` is emptied when it is opened and closed; what is in `kept` stays.
#ifndef LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_
#define LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_

#include <atomic>
#include <memory>
#include <string>

#include "libservices/open_flags.h"
#include "services/ceph/object.h"

namespace libservices::ceph_internal {

// Removes the name and all that is below it, if it is there. Links are removed, never followed.
// `depth` is of the directory, below the first one.
Result<void> remove_all(const std::shared_ptr<Client>& client, const Use& use, Inode* parent,
                        const char* name, int depth = 0);

class WorkDirectory : private Keeper {
 public:
  // `path` from the client's root. When the cluster shuts the client out it loses the lock, and
  // takes it again; if another instance has it by then, `displaced` is set, which outlives this.
  // ERRORS: EBUSY while another instance has it.
  static Result<std::unique_ptr<WorkDirectory>> open(const std::shared_ptr<Client>& client,
                                                     const std::string& path,
                                                     std::atomic<bool>& displaced);
  // Whether it exists.
  static bool exists(Client& client, const std::string& path);

  ~WorkDirectory() override;
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  Result<ObjectPtr> get(Staging which);

 private:
  WorkDirectory(std::shared_ptr<Client> client, std::string path, std::atomic<bool>& displaced)
      : client_(std::move(client)), path_(std::move(path)), displaced_(displaced) {}
  Result<void> open_in(const Use& use);
  Result<void> lock(const Use& use);
  void take_again(const Use& fresh) override;

  const std::shared_ptr<Client> client_;
  const std::string path_;
  std::atomic<bool>& displaced_;
  bool is_kept_ = false;
  ObjectPtr directory_;
  ObjectPtr staging_;
  ObjectPtr kept_;
  OfMount<Fh> lock_;
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_WORK_DIRECTORY_H_
