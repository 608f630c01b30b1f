// SPDX-License-Identifier: Apache-2.0
//
// From the options to the composition that is served: real directories, and the spec.
#ifndef LIBSERVICES_SRC_OVERLAY_LAYERS_H_
#define LIBSERVICES_SRC_OVERLAY_LAYERS_H_

#include <string>

#include "absl/status/status.h"
#include "libservices/catalog.h"
#include "src/overlay/options.h"

namespace libservices::overlay {

// Every directory by its real and absolute path: they are given from the working directory, which
// the service leaves, and containers/storage names its layers by symbolic links.
// ERRORS: for a person to read, when one is missing.
absl::Status find_directories(Options& options);

// Whether the directory is seen through a mount that changes owners itself (mount_setattr(2)).
bool is_on_idmapped_mount(const std::string& directory);

// containers/storage 1.43, which podman 4 has, asks for owners to be mapped and gives lowers that a
// mount has mapped already, with an upper that is stored so: a second time would be wrong.
// REQUIRES: find_directories().
void leave_owners_to_mounts(Options& options);

// How the upper says what it hides.
enum class Marks : std::uint8_t { kOverlay, kFiles };

// Overlayfs's own form, where a whiteout can be made on the volume of `work`.
Marks marks_for(const std::string& work);

// REQUIRES: find_directories().
std::string spec_of(const Options& options, Marks marks);

// What spec_of() can need.
Catalog catalog();

}  // namespace libservices::overlay

#endif  // LIBSERVICES_SRC_OVERLAY_LAYERS_H_
