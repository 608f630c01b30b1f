// SPDX-License-Identifier: Apache-2.0
//
// The status of a failed system call whose message says everything already.
// (absl::ErrnoToStatus would add the error's name behind the remedy.)
#ifndef LIBSERVICES_SRC_HOST_ERROR_STATUS_H_
#define LIBSERVICES_SRC_HOST_ERROR_STATUS_H_

#include <string>

#include "absl/status/status.h"

namespace libservices::host {

inline absl::Status error_status(int error, const std::string& message) {
  return absl::Status(absl::ErrnoToStatusCode(error), message);
}

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_ERROR_STATUS_H_
