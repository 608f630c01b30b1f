// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_trace(Catalog& catalog) {
  catalog.add<Trace<Memory>>("trace(memory)");
  catalog.add<Trace<Local>>("trace(local)");
  catalog.add<Trace<Union<Local, Local>>>("trace(union(local, local...))");
}

}  // namespace libservices::host
