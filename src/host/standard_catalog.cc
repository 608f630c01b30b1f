// SPDX-License-Identifier: Apache-2.0
#include "src/host/standard_catalog.h"

#include "libservices/catalog.h"

namespace libservices {

Catalog standard_catalog() {
  Catalog catalog;
  host::add_sources(catalog);
  host::add_local(catalog);
  host::add_unions(catalog);
  return catalog;
}

}  // namespace libservices
