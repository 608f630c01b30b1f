// SPDX-License-Identifier: Apache-2.0
#include "src/host/ceph_specs.h"

#include "src/host/layer_specs.h"

namespace libservices {

absl::StatusOr<Ceph::Config> FromSpec<Ceph>::config(SpecArguments& arguments) {
  Ceph::Config config;
  absl::StatusOr<std::string> directory = arguments.path();
  if (!directory.ok()) return directory.status();
  config.directory = *std::move(directory);
  for (const absl::Status& taken :
       {arguments.take("work", config.work), arguments.take("exclusive", config.exclusive),
        arguments.take("conf", config.conf_file), arguments.take("cluster", config.cluster),
        arguments.take("client", config.client), arguments.take("key", config.key_file),
        arguments.take("filesystem", config.filesystem), arguments.take("root", config.root),
        arguments.take("cache", config.cache_bytes), arguments.take("dirty", config.dirty_bytes),
        arguments.take("flush", config.flush_after), arguments.take("hot", config.hot_bytes),
        arguments.take("mount_timeout", config.mount_timeout),
        arguments.take("data_timeout", config.data_timeout),
        arguments.take("session", config.session), arguments.take("service", config.service)}) {
    if (!taken.ok()) return taken;
  }
  return config;
}

void host::add_ceph(Catalog& catalog) {
  catalog.add<Ceph>("ceph");
  catalog.add<ReadOnly<Ceph>>("readonly(ceph)");
  catalog.add<Subtree<Ceph>>("subtree(ceph)");
}

}  // namespace libservices
