// SPDX-License-Identifier: Apache-2.0
#include "src/host/specs.h"

namespace libservices {

absl::StatusOr<Memory::Config> FromSpec<Memory>::config(SpecArguments& arguments) {
  Memory::Config config;
  absl::Status status = arguments.take("capacity_bytes", config.capacity_bytes);
  if (status.ok()) status = arguments.take("capacity_files", config.capacity_files);
  if (!status.ok()) return status;
  return config;
}

}  // namespace libservices
