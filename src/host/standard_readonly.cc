// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_readonly(Catalog& catalog) {
  catalog.add<ReadOnly<Local>>("readonly(local)");
  catalog.add<ReadOnly<Union<Local, Local>>>("readonly(union(local, local...))");
}

}  // namespace libservices::host
