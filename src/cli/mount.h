// SPDX-License-Identifier: Apache-2.0
//
// `libservices mount` and `umount`, and the form in which mount(8) calls the command.
#ifndef LIBSERVICES_SRC_CLI_MOUNT_H_
#define LIBSERVICES_SRC_CLI_MOUNT_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libservices/catalog.h"
#include "libservices/host.h"
#include "src/cli/fuse_words.h"
#include "src/daemon/daemon.h"
#include "src/fuse/mount.h"

namespace libservices::cli {

struct MountWords {
  std::string spec;
  std::string path;
  std::string pool;  // empty: one that is made of the path
  HostConfig::Fuse fuse;
  daemon::Place place = daemon::Place::kBackground;
};

// A service that ends with its mount; `limits` has all but mounts and pool.
int mount(MountWords words, HostConfig limits, const Catalog& catalog);
int umount(const std::vector<std::string>& paths, fuse::Detach detach);

// The exit status, if mount(8) or mount.fuse(8) is who calls: `libservices SPEC PATH -o OPTIONS`,
// where SPEC is none of `verbs`, or as the program mount.fuse.libservices.
std::optional<int> mount_program(int argc, char** argv, std::span<const std::string_view> verbs,
                                 const Catalog& catalog);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_MOUNT_H_
