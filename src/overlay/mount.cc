// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/mount.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

#include "libservices/host.h"
#include "src/host/descriptor.h"
#include "src/host/error_status.h"
#include "src/host/run_directory.h"

namespace libservices::overlay {
namespace {

using host::Descriptor;
using std::chrono::steady_clock;

// An upper is free when the service of its last mount has ended, which is a moment after umount.
constexpr std::chrono::seconds kMostToWait{10};
constexpr std::chrono::milliseconds kBetweenTries{10};

absl::StatusOr<HostConfig> config_of(const Options& options, const std::string& spec,
                                     std::function<void()> on_end) {
  HostConfig config;
  config.pool = "overlay";
  config.restart_wait = {};  // no other service comes
  config.mounts.push_back({options.mountpoint, spec});
  config.mounts.back().fuse = {.allow_other = options.allow_other || ::geteuid() == 0,
                               .read_only = options.read_only,
                               .kernel_decides = true,
                               .source = options.source,
                               .mount_options = options.mount_options,
                               .on_end = std::move(on_end)};
  absl::StatusOr<std::string> directory = host::make_private_run_directory("libservices-overlay");
  if (!directory.ok()) return directory.status();
  config.run_directory = *std::move(directory);
  return config;
}

void wait_for_one_of(const Descriptor& first, const Descriptor& second) {
  pollfd events[] = {{first.get(), POLLIN, 0}, {second.get(), POLLIN, 0}};
  while (::poll(events, std::size(events), -1) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::Status serve(const Options& options, const std::string& spec, const Catalog& catalog,
                   const sigset_t& ends, const std::function<void()>& live) {
  const Descriptor signals(::signalfd(-1, &ends, SFD_CLOEXEC));
  const Descriptor unmounted(::eventfd(0, EFD_CLOEXEC));
  if (!signals.ok() || !unmounted.ok()) {
    return host::error_status(
        errno, fmt::format("signalfd: {} (raise the limit of open files)", std::strerror(errno)));
  }
  absl::StatusOr<HostConfig> config = config_of(options, spec, [&unmounted] {
    const std::uint64_t one = 1;
    (void)!::write(unmounted.get(), &one, sizeof one);
  });
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
  wait_for_one_of(unmounted, signals);
  return host.stop();
}

}  // namespace libservices::overlay
