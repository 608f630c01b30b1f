// SPDX-License-Identifier: Apache-2.0
//
// `libservices-overlay`: layers mounted through FUSE, for programs that know fuse-overlayfs.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/host.h"
#include "src/daemon/daemon.h"
#include "src/daemon/mounts.h"
#include "src/host/private_run_directory.h"
#include "src/overlay/layers.h"
#include "src/overlay/options.h"

namespace libservices::overlay {
namespace {

constexpr int kFailure = 1;
constexpr char kProgram[] = "libservices-overlay";

int fail(const absl::Status& status) {
  daemon::complain(kProgram, std::string(status.message()));
  return kFailure;
}

HostConfig config_of(const Options& options, std::string spec, std::string run_directory) {
  HostConfig config;
  config.pool = "overlay";
  config.run_directory = std::move(run_directory);
  config.restart_wait = {};  // no other service comes
  config.mounts.push_back({options.mountpoint, std::move(spec)});
  config.mounts.back().fuse = {.allow_other = options.allow_other || ::geteuid() == 0,
                               .read_only = options.read_only,
                               .kernel_decides = true,
                               .source = options.source,
                               .mount_options = options.mount_options,
                               .on_end = {}};
  return config;
}

absl::Status serve(const Options& options, const sigset_t& ends,
                   const std::function<void()>& live) {
  const std::string spec =
      spec_of(options, options.upper.empty() ? Marks::kOverlay : marks_for(options.work));
  if (options.debug) {
    daemon::complain(kProgram, fmt::format("{} on {}, {}", spec, options.mountpoint,
                                           options.read_only ? "read-only" : "read-write"));
  }
  const absl::StatusOr<host::PrivateRunDirectory> directory =
      host::PrivateRunDirectory::make(kProgram);
  if (!directory.ok()) return directory.status();
  return daemon::serve_mounts(config_of(options, spec, directory->path()), catalog(), ends, live);
}

int run(const std::vector<std::string_view>& words) {
  absl::StatusOr<Options> options = parse_options(words);
  if (!options.ok()) return fail(options.status());
  if (options->action != Options::Action::kMount) {
    const bool version = options->action == Options::Action::kVersion;
    fmt::print("{}", version ? version_text() : help_text());
    return 0;
  }
  for (const std::string& warning : options->warnings) daemon::complain(kProgram, warning);
  if (absl::Status found = find_directories(*options); !found.ok()) return fail(found);
  leave_owners_to_mounts(*options);
  return daemon::run({.program = kProgram,
                      .subject = options->mountpoint,
                      .place = options->place,
                      .failure = kFailure},
                     [&](const sigset_t& ends, const std::function<void()>& live) {
                       return serve(*options, ends, live);
                     });
}

}  // namespace
}  // namespace libservices::overlay

int main(int argc, char** argv) {
  libservices::daemon::keep_standard_descriptors();
  return libservices::overlay::run({argv + (argc > 0 ? 1 : 0), argv + argc});
}
