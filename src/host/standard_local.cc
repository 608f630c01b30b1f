// SPDX-License-Identifier: Apache-2.0
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_local(Catalog& catalog) { catalog.add<Local>("local"); }

}  // namespace libservices::host
