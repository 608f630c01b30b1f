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
