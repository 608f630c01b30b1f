// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

// Lowers that are directories of a store whose links must not lead elsewhere, and nothing on disk.
void add_branches(Catalog& catalog) {
  catalog.add<Union<Local, Subtree<Local>>>("union(local, subtree(local)...)");
  catalog.add<Union<Memory, Memory>>("union(memory, memory...)");
}

}  // namespace libservices::host
