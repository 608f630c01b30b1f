// SPDX-License-Identifier: Apache-2.0
//
// Ceph keeps the contract, shared with others and alone.
#include "libservices/testing/conformance.h"

#include "services/ceph/ceph.h"
#include "tests/ceph/cluster.h"

namespace libservices::testing {

struct CephStack {
  using Service = Ceph;
  static constexpr const char* kName = "ceph";
  static constexpr bool refuses(RenameMode mode) { return mode != RenameMode::kReplace; }
  Ceph::Config config() { return cluster_config(fresh_directory()); }
};

struct ExclusiveCephStack {
  using Service = Ceph;
  static constexpr const char* kName = "ceph(exclusive)";
  static constexpr bool refuses(RenameMode mode) { return mode == RenameMode::kExchange; }
  Ceph::Config config() {
    Ceph::Config config = cluster_config(fresh_directory());
    config.exclusive = true;
    return config;
  }
};

}  // namespace libservices::testing

LIBSERVICES_CONFORMANCE(libservices::testing::CephStack);
LIBSERVICES_CONFORMANCE(libservices::testing::ExclusiveCephStack);
