// SPDX-License-Identifier: Apache-2.0
//
// How `ceph-tenant` says what is wrong.
#ifndef LIBSERVICES_SERVICES_CEPH_TENANT_ERRORS_H_
#define LIBSERVICES_SERVICES_CEPH_TENANT_ERRORS_H_

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "libservices/result.h"

namespace libservices::ceph_internal {

inline absl::Status tenant_failure(absl::StatusCode code, std::string_view what,
                                   std::string_view why, std::string_view mend) {
  return absl::Status(code, fmt::format("ceph-tenant: {}: {} ({})", what, why, mend));
}
inline absl::Status tenant_failure(Errno error, std::string_view what, std::string_view mend) {
  return tenant_failure(absl::ErrnoToStatusCode(error.value), what, std::strerror(error.value),
                        mend);
}

// A message without its beginning, if it is of these, and without its remedy.
inline std::string reason_of(const absl::Status& status) {
  constexpr std::string_view kBefore = "ceph-tenant: ";
  std::string text(status.message());
  if (text.starts_with(kBefore)) text.erase(0, kBefore.size());
  return text.ends_with(')') ? text.substr(0, text.rfind(" (")) : text;
}

}  // namespace libservices::ceph_internal

#endif  // LIBSERVICES_SERVICES_CEPH_TENANT_ERRORS_H_
