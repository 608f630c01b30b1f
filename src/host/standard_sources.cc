// SPDX-License-Identifier: Apache-2.0
#include "src/host/specs.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {

void add_sources(Catalog& catalog) {
  catalog.add<Memory>("memory");
  catalog.add<Empty>("empty");
}

}  // namespace libservices::host
