// SPDX-License-Identifier: Apache-2.0
//
// The parts of the standard catalog, each compiled in a file of its own: a stack takes seconds.
#ifndef LIBSERVICES_SRC_HOST_STANDARD_CATALOG_H_
#define LIBSERVICES_SRC_HOST_STANDARD_CATALOG_H_

namespace libservices {
class Catalog;
}

namespace libservices::host {

void add_sources(Catalog& catalog);
void add_local(Catalog& catalog);
void add_unions(Catalog& catalog);
void add_branches(Catalog& catalog);
void add_faulty_branches(Catalog& catalog);
void add_readonly(Catalog& catalog);
void add_subtree(Catalog& catalog);
void add_idmap(Catalog& catalog);
void add_idmap_unions(Catalog& catalog);
void add_trace(Catalog& catalog);
void add_faulty(Catalog& catalog);
void add_ceph_plugin(Catalog& catalog);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_STANDARD_CATALOG_H_
