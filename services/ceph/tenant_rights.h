// SPDX-License-Identifier: Apache-2.0
//
// The rights of a tenant's key as the cluster writes them, and what they can be written for.
#ifndef LIBSERVICES_SERVICES_CEPH_TENANT_RIGHTS_H_
#define LIBSERVICES_SERVICES_CEPH_TENANT_RIGHTS_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace libservices::ceph_internal {

// What follows "allow …" for each kind of daemon.
struct Rights {
  std::string mds;
  std::string mon;
  std::string osd;
  friend bool operator==(const Rights&, const Rights&) = default;
};

struct TenantRights {
  std::string filesystem;
  std::string directory;  // clean
  std::string pool;
  std::string rados_namespace;
  friend bool operator==(const TenantRights&, const TenantRights&) = default;
};

Rights rights_of(const TenantRights& tenant);
// Nothing for those of other keys, whatever they may reach.
std::optional<TenantRights> tenant_of(const Rights& rights);

// Whether it stands in rights as it is, without quotes.
bool is_plain(std::string_view word);

// ERRORS: why it cannot be the name of a tenant, or its directory, which is clean.
absl::Status check_tenant_name(std::string_view name);
absl::Status check_tenant_directory(std::string_view name, std::string_view directory);

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_TENANT_RIGHTS_H_
