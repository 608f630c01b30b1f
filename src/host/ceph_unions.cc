// SPDX-License-Identifier: Apache-2.0
#include "src/host/ceph_specs.h"
#include "src/host/layer_specs.h"

namespace libservices::host {

void add_ceph_unions(Catalog& catalog) {
  catalog.add<Union<Ceph, Ceph>>("union(ceph, ceph...)");
  catalog.add<Union<Local, Ceph>>("union(local, ceph...)");
  catalog.add<ReadOnly<Union<Ceph, Ceph>>>("readonly(union(ceph, ceph...))");
}

}  // namespace libservices::host
