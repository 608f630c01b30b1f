// SPDX-License-Identifier: Apache-2.0
//
// What is done to tenants' directories, in a CephFS that is mounted at its root.
#ifndef LIBSERVICES_SERVICES_CEPH_TENANT_FILES_H_
#define LIBSERVICES_SERVICES_CEPH_TENANT_FILES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "services/ceph/object.h"
#include "services/ceph/tenants.h"

namespace libservices::ceph_internal {

class TenantFiles {
 public:
  static constexpr const char* kLayout = "ceph.dir.layout";
  static constexpr const char* kNamespace = "ceph.dir.layout.pool_namespace";
  static constexpr const char* kPool = "ceph.dir.layout.pool";
  static constexpr const char* kQuota = "ceph.quota.max_bytes";
  static constexpr const char* kUsed = "ceph.dir.rbytes";

  static absl::StatusOr<std::unique_ptr<TenantFiles>> mount(ClientConfig config,
                                                            const std::string& filesystem);
  ~TenantFiles();
  TenantFiles(const TenantFiles&) = delete;
  TenantFiles& operator=(const TenantFiles&) = delete;

  // ERRORS: ENOTDIR, over links as well, since rights are on the path as it is written.
  Result<ObjectPtr> find(std::string_view path) const;
  struct Made {
    ObjectPtr directory;
    bool is_new = false;
  };
  // Makes it with all directories above it, root's with mode 0755, where they are missing.
  Result<Made> make(std::string_view path) const;
  // Takes the name away, with all that is below it.
  Result<void> remove(const std::string& path) const;
  Result<bool> is_empty(const ObjectPtr& directory) const;

  // An attribute's text; empty where it is not set.
  Result<std::string> text(const ObjectPtr& directory, const char* name) const;
  Result<std::uint64_t> number(const ObjectPtr& directory, const char* name) const;
  Result<void> set(const ObjectPtr& directory, const char* name, const std::string& value) const;
  Result<void> unset(const ObjectPtr& directory, const char* name) const;
  // Gives it the owner, mode and quota that are wanted.
  Result<void> dress(const ObjectPtr& directory, const NewCephTenant& wanted) const;
  Result<void> sync() const;

  // Ends the sessions of all who have come to this MDS with the key, and shuts them out of the
  // OSDs.
  // ERRORS: ETIMEDOUT if it does not answer; then this is not unmounted any more.
  Result<void> evict(const std::string& mds, const std::string& client);

 private:
  TenantFiles(std::shared_ptr<Client> client, Use use)
      : client_(std::move(client)), use_(std::move(use)) {}

  ceph_mount_info* mounted() const { return use_.info(); }
  Result<ObjectPtr> top() const;
  Result<ObjectPtr> directory_in(const ObjectPtr& parent, const std::string& name) const;

  const std::shared_ptr<Client> client_;
  Use use_;             // of the first mount: a client that is shut out does not begin again
  bool waits_ = false;  // a thread in libcephfs, for an MDS
};

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_TENANT_FILES_H_
