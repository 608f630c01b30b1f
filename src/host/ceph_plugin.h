// SPDX-License-Identifier: Apache-2.0
//
// Between the command and libservices-ceph.so, which has the compositions with `ceph`, and their
// tenants. It is loaded when the first of them is wanted: libcephfs takes its time to load, which
// nobody shall pay who has no file there, `libservices run` least of all.
//
// Both are of one build; the version says so.
#ifndef LIBSERVICES_SRC_HOST_CEPH_PLUGIN_H_
#define LIBSERVICES_SRC_HOST_CEPH_PLUGIN_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "libservices/any_filesystem.h"
#include "libservices/spec.h"
#include "services/ceph/tenants.h"

namespace libservices::host {

inline constexpr std::string_view kCephPatterns[] = {
    "ceph",
    "readonly(ceph)",
    "subtree(ceph)",
    "union(ceph, ceph...)",
    "union(local, ceph...)",
    "readonly(union(ceph, ceph...))",
};

// What the plug-in defines with C's linkage, and its name.
struct CephPlugin {
  const char* version;
  void (*build)(const Spec& spec, absl::StatusOr<std::unique_ptr<AnyFilesystem>>& into);
  void (*connect_tenants)(const CephAdministrator& who,
                          absl::StatusOr<std::unique_ptr<CephTenants>>& into);
};
inline constexpr const char* kCephPluginSymbol = "libservices_ceph_plugin";
// Changes with whatever both sides must agree in.
inline constexpr const char* kCephPluginVersion = "3";

// The plug-in, loaded by the first call. ERRORS: where it was looked for, or why it cannot be used.
absl::StatusOr<const CephPlugin*> ceph_plugin();

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_CEPH_PLUGIN_H_
