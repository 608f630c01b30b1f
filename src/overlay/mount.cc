// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/mount.h"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "libservices/host.h"
#include "src/host/run_directory.h"

namespace libservices::overlay {
namespace {

using std::chrono::steady_clock;

// An upper is free when the service of its last mount has ended, which is a moment after umount.
constexpr std::chrono::seconds kMostToWait{10};
constexpr std::chrono::milliseconds kBetweenTries{10};

// What the mount asks of FUSE. False: this host has none.
template <class Mount>
bool ask_for_fuse(const Options& options, Mount& mount) {
  if constexpr (requires { mount.fuse; }) {
    auto& fuse = mount.fuse.emplace();
    fuse.allow_other = options.allow_other || ::geteuid() == 0;
    fuse.read_only = options.read_only;
    fuse.mount_flags = options.mount_flags;
    return true;
  } else {
    return false;
  }
}

absl::StatusOr<HostConfig> config_of(const Options& options, const std::string& spec) {
  HostConfig config;
  config.pool = "overlay";
  config.restart_wait = {};  // no other service comes
  config.mounts.push_back({options.mountpoint, spec});
  if (!ask_for_fuse(options, config.mounts.back())) {
    return absl::UnimplementedError(
        "FUSE: this program was built without it (build a later version)");
  }
  absl::StatusOr<std::string> directory = host::make_private_run_directory("libservices-overlay");
  if (!directory.ok()) return directory.status();
  config.run_directory = *std::move(directory);
  return config;
}

// Until nothing is mounted any more, or a signal of `ends` is pending.
template <class AHost>
void wait_for_end(AHost& host, const sigset_t& ends) {
  if constexpr (requires { host.wait_until_unmounted(ends); }) {
    host.wait_until_unmounted(ends);
  } else {
    int signal = 0;
    while (::sigwait(&ends, &signal) != 0) {
    }
  }
}

}  // namespace

absl::Status serve(const Options& options, const std::string& spec, const Catalog& catalog,
                   const sigset_t& ends, const std::function<void()>& live) {
  absl::StatusOr<HostConfig> config = config_of(options, spec);
  if (!config.ok()) return config.status();
  Host host(*config, catalog);
  const auto give_up = steady_clock::now() + kMostToWait;
  absl::Status started = host.start();
  while (absl::IsAlreadyExists(started) && steady_clock::now() < give_up) {
    std::this_thread::sleep_for(kBetweenTries);
    started = host.start();
  }
  if (!started.ok()) {
    ::rmdir(config->run_directory.c_str());
    return started;
  }
  live();
  wait_for_end(host, ends);
  return host.stop();
}

}  // namespace libservices::overlay
