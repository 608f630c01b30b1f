// SPDX-License-Identifier: Apache-2.0
//
// The socket `status` of the run directory: who connects is told the service's state, and the
// connection ends. One short answer, never a question, so nobody can make the service wait.
#ifndef LIBSERVICES_SRC_HOST_STATUS_SERVER_H_
#define LIBSERVICES_SRC_HOST_STATUS_SERVER_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/host/descriptor.h"

namespace libservices::host {

class StatusServer {
 public:
  // `mode` of the socket: who may connect.
  absl::Status start(const std::string& path, mode_t mode);
  int news() const { return listener_.get(); }
  // Answers one who has connected. What does not fit in a socket's buffer at once is dropped.
  void answer(std::string_view status);

 private:
  Descriptor listener_;
};

// Asks a running service. ERRORS: NotFound when none runs, PermissionDenied; for a person to read.
absl::StatusOr<std::string> ask_status(const std::string& run_directory);

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_STATUS_SERVER_H_
