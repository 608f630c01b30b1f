// SPDX-License-Identifier: Apache-2.0
#include "src/daemon/mounts.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

#include "src/host/descriptor.h"
#include "src/host/error_status.h"

namespace libservices::daemon {
namespace {

using host::Descriptor;
using std::chrono::steady_clock;

// A service ends a moment after umount.
constexpr std::chrono::seconds kMostToWait{10};
constexpr std::chrono::milliseconds kBetweenTries{10};

void wait_for_one_of(const Descriptor& first, const Descriptor& second) {
  pollfd events[] = {{first.get(), POLLIN, 0}, {second.get(), POLLIN, 0}};
  while (::poll(events, std::size(events), -1) < 0 && errno == EINTR) {
  }
}

}  // namespace

absl::Status serve_mounts(HostConfig config, const Catalog& catalog, const sigset_t& ends,
                          const std::function<void()>& live) {
  const Descriptor signals(::signalfd(-1, &ends, SFD_CLOEXEC));
  const Descriptor unmounted(::eventfd(0, EFD_CLOEXEC));
  if (!signals.ok() || !unmounted.ok()) {
    return host::error_status(
        errno, fmt::format("signalfd: {} (raise the limit of open files)", std::strerror(errno)));
  }
  std::atomic<std::size_t> left{config.mounts.size()};
  for (HostConfig::Mount& mount : config.mounts) {
    mount.fuse->on_end = [&] {
      const std::uint64_t one = 1;
      if (--left == 0) (void)!::write(unmounted.get(), &one, sizeof one);
    };
  }
  Host host(std::move(config), catalog);
  const auto give_up = steady_clock::now() + kMostToWait;
  absl::Status started = host.start();
  while (absl::IsAlreadyExists(started) && steady_clock::now() < give_up) {
    std::this_thread::sleep_for(kBetweenTries);
    started = host.start();
  }
  if (!started.ok()) return started;
  live();
  wait_for_one_of(unmounted, signals);
  return host.stop();
}

}  // namespace libservices::daemon
