// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

// Drills: what programs do when one branch fails.
void add_faulty_branches(Catalog& catalog) {
  catalog.add<Union<Faulty<Local>, Local>>("union(faulty(local), local...)");
  catalog.add<Union<Local, Faulty<Local>>>("union(local, faulty(local)...)");
}

}  // namespace libservices::host
