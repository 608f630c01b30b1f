// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_idmap(Catalog& catalog) {
  catalog.add<IdMap<Memory>>("idmap(memory)");
  catalog.add<IdMap<Local>>("idmap(local)");
}

}  // namespace libservices::host
