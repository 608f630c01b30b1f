// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_faulty(Catalog& catalog) {
  catalog.add<Faulty<Memory>>("faulty(memory)");
  catalog.add<Faulty<Local>>("faulty(local)");
  catalog.add<Faulty<Union<Local, Local>>>("faulty(union(local, local...))");
}

}  // namespace libservices::host
