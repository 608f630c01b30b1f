// SPDX-License-Identifier: Apache-2.0
#include "src/host/standard_catalog.h"

#include "libservices/catalog.h"

namespace libservices {

Catalog standard_catalog() {
  Catalog catalog;
  host::add_sources(catalog);
  host::add_local(catalog);
  host::add_unions(catalog);
  host::add_branches(catalog);
  host::add_faulty_branches(catalog);
  host::add_readonly(catalog);
  host::add_subtree(catalog);
  host::add_idmap(catalog);
  host::add_idmap_unions(catalog);
  host::add_trace(catalog);
  host::add_faulty(catalog);
  host::add_ceph_plugin(catalog);
  return catalog;
}

}  // namespace libservices
