// SPDX-License-Identifier: Apache-2.0
//
// `libservices ceph-tenant add|remove|list`. The work is libservices-ceph.so's, so that the command
// needs none of the cluster's libraries.
#ifndef LIBSERVICES_SRC_CLI_CEPH_TENANT_H_
#define LIBSERVICES_SRC_CLI_CEPH_TENANT_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "services/ceph/tenants.h"
#include "src/cli/verbs.h"

namespace libservices::cli {

struct CephTenantWords {
  CephAdministrator who;
  NewCephTenant fresh;
  std::string owner;  // UID[:GID]
  std::string mode;   // octal
  std::uint64_t size = 0;
  OldCephTenant old;
  bool data = false;
  bool json = false;
};

void add_ceph_tenants(CLI::App& verb, CephTenantWords& words);

// What `verb` was parsed to. Its exit status.
int ceph_tenant(const CLI::App& verb, CephTenantWords& words);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_CEPH_TENANT_H_
