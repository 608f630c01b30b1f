// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

// The first is one container's view of a tree that has its own ids, the second a tree of shared
// images whose ids are made the container's.
void add_idmap_unions(Catalog& catalog) {
  catalog.add<IdMap<Union<Local, Local>>>("idmap(union(local, local...))");
  catalog.add<IdMap<Union<Local, Local>>>("idmap(union(local))");
  catalog.add<Union<Local, IdMap<Local>>>("union(local, idmap(local)...)");
}

}  // namespace libservices::host
