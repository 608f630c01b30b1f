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

absl::StatusOr<Local::Config> FromSpec<Local>::config(SpecArguments& arguments) {
  Local::Config config;
  absl::StatusOr<std::string> directory = arguments.path();
  if (!directory.ok()) return directory.status();
  config.directory = *std::move(directory);
  config.map_reads = true;  // the process is the service's own
  std::uint64_t most_descriptors = 0;
  for (const absl::Status& taken :
       {arguments.take("work", config.work), arguments.take("exclusive", config.exclusive),
        arguments.take("map_reads", config.map_reads),
        arguments.take("most_descriptors", most_descriptors)}) {
    if (!taken.ok()) return taken;
  }
  config.most_descriptors = most_descriptors;
  return config;
}

absl::Status host::take_durability(SpecArguments& arguments, bool& durable) {
  if (arguments.has("volatile") && arguments.has("durable")) {
    return arguments.error("'volatile' and 'durable' say the same thing", "keep one of both");
  }
  bool is_volatile = !durable;
  if (absl::Status taken = arguments.take_switch("volatile", is_volatile); !taken.ok()) {
    return taken;
  }
  durable = !is_volatile;
  return arguments.take("durable", durable);
}

}  // namespace libservices
