// SPDX-License-Identifier: Apache-2.0
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_unions(Catalog& catalog) {
  catalog.add<Union<Local, Local>>("union(local, local...)");
  catalog.add<Union<Local, Local>>("union(local)");  // one lower that may hold marks: upper=none
  catalog.add<Union<Memory, Local>>("union(memory, local...)");
}

}  // namespace libservices::host
