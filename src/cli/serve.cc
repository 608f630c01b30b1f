// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <utility>

#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/daemon/supervisor.h"
#include "src/host/descriptor.h"

namespace libservices::cli {

namespace {

int serve_once(HostConfig config, const Catalog& catalog, int ready_descriptor,
               const std::function<void()>& live) {
  // Blocked before there are threads, so that all of them inherit it and the signal waits for us.
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ends, signal);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  host::raise_descriptor_limit();
  Host host(std::move(config), catalog);
  if (const absl::Status started = host.start(); !started.ok()) {
    complain(started);
    return kOwnFailure;
  }
  live();
  if (ready_descriptor >= 0) {
    (void)!::write(ready_descriptor, "\n", 1);
    if (ready_descriptor > STDERR_FILENO) ::close(ready_descriptor);
  }
  int signal = 0;
  while (::sigwait(&ends, &signal) != 0) {
  }
  if (const absl::Status stopped = host.stop(); !stopped.ok()) {
    complain(stopped);
    return kOwnFailure;
  }
  return 0;
}

}  // namespace

int serve(HostConfig config, const Catalog& catalog, int ready_descriptor, bool supervised) {
  if (!supervised) return serve_once(std::move(config), catalog, ready_descriptor, [] {});
  int ready = ready_descriptor;
  const daemon::Supervision supervision{
      .tell = [](const std::string& message) { complain(message); },
      .live =
          [&] {
            if (ready > STDERR_FILENO) ::close(ready);
            ready = -1;
          },
      .failure = kOwnFailure};
  return daemon::supervise(supervision, [&](const std::function<void()>& live) {
    return serve_once(config, catalog, ready, live);
  });
}

}  // namespace libservices::cli
