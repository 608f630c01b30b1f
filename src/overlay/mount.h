// SPDX-License-Identifier: Apache-2.0
//
// The service of one mount: what a host is told, and until when it serves.
#ifndef LIBSERVICES_SRC_OVERLAY_MOUNT_H_
#define LIBSERVICES_SRC_OVERLAY_MOUNT_H_

#include <signal.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "libservices/catalog.h"
#include "src/overlay/options.h"

namespace libservices::overlay {

// Mounts, calls `live`, and serves until the tree is unmounted or one of `ends`, which are blocked,
// is pending; then everything is where it belongs, and the run directory is gone.
// ERRORS: for a person to read; `live` was not called when it could not be mounted.
absl::Status serve(const Options& options, const std::string& spec, const Catalog& catalog,
                   const sigset_t& ends, const std::function<void()>& live);

}  // namespace libservices::overlay

#endif  // LIBSERVICES_SRC_OVERLAY_MOUNT_H_
