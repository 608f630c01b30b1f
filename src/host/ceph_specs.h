// SPDX-License-Identifier: Apache-2.0
//
// How `Ceph`'s configuration is written in a spec.
//
//   ceph:/directory(exclusive=true, work=/directory, conf=FILE, cluster=NAME, client=NAME,
//                   key=FILE, filesystem=NAME, root=/directory, cache=200M, dirty=100M, flush=5s,
//                   hot=64M, mount_timeout=5s, data_timeout=30s, session=NAME, service=NAME)
//
// services/ceph/README.md has their meaning.
#ifndef LIBSERVICES_SRC_HOST_CEPH_SPECS_H_
#define LIBSERVICES_SRC_HOST_CEPH_SPECS_H_

#include "services/ceph/ceph.h"
#include "src/host/specs.h"

namespace libservices {

template <>
struct FromSpec<Ceph> {
  static constexpr bool kLayers = false;
  static absl::StatusOr<Ceph::Config> config(SpecArguments& arguments);
};

namespace host {

void add_ceph(Catalog& catalog);
void add_ceph_unions(Catalog& catalog);

}  // namespace host
}  // namespace libservices

#endif  // LIBSERVICES_SRC_HOST_CEPH_SPECS_H_
