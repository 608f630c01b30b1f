// SPDX-License-Identifier: Apache-2.0
//
// The life of a service that is there for its mounts at the kernel.
#ifndef LIBSERVICES_SRC_DAEMON_MOUNTS_H_
#define LIBSERVICES_SRC_DAEMON_MOUNTS_H_

#include <signal.h>

#include <functional>

#include "absl/status/status.h"
#include "libservices/catalog.h"
#include "libservices/host.h"

namespace libservices::daemon {

// Mounts, calls `live`, and serves until the last mount is gone or one of `ends`, which are
// blocked, is pending; then everything is where it belongs, and the run directory is empty. What
// the last service of the same mount is just leaving, its upper or its pool, is waited for. ERRORS:
// for a person to read; `live` was not called when it could not be mounted.
absl::Status serve_mounts(HostConfig config, const Catalog& catalog, const sigset_t& ends,
                          const std::function<void()>& live);

}  // namespace libservices::daemon

#endif  // LIBSERVICES_SRC_DAEMON_MOUNTS_H_
