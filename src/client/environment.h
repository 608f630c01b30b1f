// SPDX-License-Identifier: Apache-2.0
//
// The variables by which a program is told its pool, and how they are read without libc.
// Freestanding.
#ifndef LIBSERVICES_SRC_CLIENT_ENVIRONMENT_H_
#define LIBSERVICES_SRC_CLIENT_ENVIRONMENT_H_

#include <cstddef>

namespace libservices::client {

inline constexpr char kPreloadVariable[] = "LD_PRELOAD=";
inline constexpr char kPoolVariable[] = "LIBSERVICES_POOL=";  // the run directory
inline constexpr char kReportVariable[] = "LIBSERVICES_REPORT=";
inline constexpr char kStrictVariable[] = "LIBSERVICES_STRICT=";

// The value of the variable `name`, which ends in '='; null if there is none.
inline const char* value_of(const char* const* environment, const char* name) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const char* at = *environment;
    const char* wanted = name;
    while (*wanted != '\0' && *at == *wanted) {
      ++at;
      ++wanted;
    }
    if (*wanted == '\0') return at;
  }
  return nullptr;
}

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_ENVIRONMENT_H_
