// SPDX-License-Identifier: Apache-2.0
//
// How the configurations of the project's own libservices and layers are written in a spec.
//
//   memory(capacity_bytes=1G, capacity_files=1000)
//   empty
//
// Include it to add a composition of them, or of them and one's own, to a catalog.
#ifndef LIBSERVICES_SRC_HOST_SPECS_H_
#define LIBSERVICES_SRC_HOST_SPECS_H_

#include "absl/status/statusor.h"
#include "libservices/catalog.h"
#include "libservices/sources/empty.h"
#include "libservices/sources/memory.h"

namespace libservices {

template <>
struct FromSpec<Memory> {
  static constexpr bool kLayers = false;
  static absl::StatusOr<Memory::Config> config(SpecArguments& arguments);
};

}  // namespace libservices

#endif  // LIBSERVICES_SRC_HOST_SPECS_H_
