// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_subtree(Catalog& catalog) {
  catalog.add<Subtree<Local>>("subtree(local)");
  catalog.add<Subtree<Union<Local, Local>>>("subtree(union(local, local...))");
}

}  // namespace libservices::host
