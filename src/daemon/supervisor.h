// SPDX-License-Identifier: Apache-2.0
//
// A small parent of a service, which starts it anew when it dies: when a signal kills it, or it ends
// itself because of calls that can never end (HostConfig::most_stuck_calls). It has no threads and
// builds nothing, so each service begins as the first did.
#ifndef LIBSERVICES_SRC_DAEMON_SUPERVISOR_H_
#define LIBSERVICES_SRC_DAEMON_SUPERVISOR_H_

#include <functional>
#include <string>

namespace libservices::daemon {

struct Supervision {
  // What it has to tell, in one line.
  std::function<void(const std::string& message)> tell;
  // In the parent, once the first service answers.
  std::function<void()> live;
  int failure = 1;  // the exit status when it gives up
};

// A service's life: calls `live` when it answers, and returns its exit status.
using Service = std::function<int(const std::function<void()>& live)>;

// The exit status of the service that has ended of itself, or on SIGTERM, SIGINT or SIGHUP, which
// are passed on. What fails before it has ever answered is not tried again; one that dies again and
// again within seconds is given up. When this process dies, the service stops in order.
// REQUIRES: no other thread.
int supervise(const Supervision& supervision, const Service& service);

}  // namespace libservices::daemon

#endif  // LIBSERVICES_SRC_DAEMON_SUPERVISOR_H_
