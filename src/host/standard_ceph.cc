// SPDX-License-Identifier: Apache-2.0
//
// The catalog's side of libservices-ceph.so.
#include "libservices/catalog.h"
#include "src/host/ceph_plugin.h"
#include "src/host/standard_catalog.h"

namespace libservices::host {
namespace {

absl::StatusOr<std::unique_ptr<AnyFilesystem>> build(const Spec& spec) {
  const absl::StatusOr<const CephPlugin*> plugin = ceph_plugin();
  if (!plugin.ok()) return plugin.status();
  absl::StatusOr<std::unique_ptr<AnyFilesystem>> built = absl::UnknownError("");
  (*plugin)->build(spec, built);
  return built;
}

}  // namespace

void add_ceph_plugin(Catalog& catalog) {
  for (const std::string_view pattern : kCephPatterns) catalog.add(pattern, build);
}

}  // namespace libservices::host
