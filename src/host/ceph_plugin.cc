// SPDX-License-Identifier: Apache-2.0
//
// libservices-ceph.so: everything but the one symbol is its own.
#include "src/host/ceph_plugin.h"

#include "src/host/ceph_specs.h"

namespace libservices::host {
namespace {

void build(const Spec& spec, absl::StatusOr<std::unique_ptr<AnyFilesystem>>& into) {
  static const Catalog* const catalog = [] {
    auto* const made = new Catalog;
    add_ceph(*made);
    add_ceph_unions(*made);
    return made;
  }();
  into = catalog->build(spec);
}

void connect_tenants(const CephAdministrator& who,
                     absl::StatusOr<std::unique_ptr<CephTenants>>& into) {
  into = connect_ceph_tenants(who);
}

}  // namespace
}  // namespace libservices::host

extern "C" __attribute__((visibility("default")))
const libservices::host::CephPlugin libservices_ceph_plugin{libservices::host::kCephPluginVersion,
                                                            libservices::host::build,
                                                            libservices::host::connect_tenants};
