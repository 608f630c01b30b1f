// SPDX-License-Identifier: Apache-2.0
//
// Tenants of a CephFS: clients of the cluster whose key reaches one directory, and the RADOS
// namespace that is this directory's alone.
//
// A right on a path is checked by the MDS; contents are read from the OSDs, which know nothing of
// paths. So each tenant's directory puts its contents into a namespace of its own, and the key has
// rights to that one. It is named NAME.INODE by the directory's number, which the cluster gives to
// nothing else ever again: no later tenant can be given an earlier one's bytes.
//
// The cluster keeps all that is known of tenants, in the rights of their keys and in what their
// directories are set to; so what was interrupted is completed by doing it again.
// THREADS: one at a time. ERRORS: for a person to read, `ceph-tenant: WHAT: WHY (HOW TO MEND)`; no
// key is in them, or in anything else that is returned.
#ifndef LIBSERVICES_SERVICES_CEPH_TENANTS_H_
#define LIBSERVICES_SERVICES_CEPH_TENANTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace libservices {

// As whom the cluster is asked; empty as in Ceph::Config.
struct CephAdministrator {
  std::string conf_file;
  std::string client = "admin";
  std::string key_file;
  std::string filesystem;  // empty: the only one, or, to list, all
};

struct NewCephTenant {
  std::string name;       // without the "client." before it
  std::string directory;  // empty: /NAME
  // Empty: root's and 0755 if the directory is made, and as they are if not.
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::optional<std::uint32_t> mode;
  std::optional<std::uint64_t> quota_bytes;  // 0: none; empty: as it is
  std::string keyring_file;  // gets the key, and must not exist or have it already; empty: none
};

struct CephTenant {
  std::string name;
  std::string filesystem;
  std::string directory;
  std::string pool;
  std::string rados_namespace;
  std::uint64_t quota_bytes = 0;  // 0: none
  std::uint64_t used_bytes = 0;   // as the cluster has counted, which lags
  std::string problem;            // what keeps it from its files; empty: nothing
};

struct OldCephTenant {
  std::string name;
  std::string directory;  // empty: the key's own, or /NAME
  enum class Data : std::uint8_t { kKeep, kRemove };
  Data data = Data::kKeep;
};

class CephTenants {
 public:
  virtual ~CephTenants() = default;

  // The directory, its namespace, its quota, the key, and the file with it, each if it is not there
  // yet. Nobody else may use the directory meanwhile.
  virtual absl::StatusOr<CephTenant> add(const NewCephTenant& wanted) = 0;
  // Takes the key away, ends the sessions of those who have it and, if so said, removes the
  // directory. Returns the directory.
  virtual absl::StatusOr<std::string> remove(const OldCephTenant& old) = 0;
  virtual absl::StatusOr<std::vector<CephTenant>> list() = 0;
};

absl::StatusOr<std::unique_ptr<CephTenants>> connect_ceph_tenants(const CephAdministrator& who);

}  // namespace libservices

#endif  // LIBSERVICES_SERVICES_CEPH_TENANTS_H_
