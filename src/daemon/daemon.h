// SPDX-License-Identifier: Apache-2.0
//
// A process that becomes a service in the background: the first process ends when the service
// answers, or has told on standard error why it does not. The service keeps nothing of the caller's
// then, so whoever reads the caller's standard error to its end is not kept waiting.
#ifndef LIBSERVICES_SRC_DAEMON_DAEMON_H_
#define LIBSERVICES_SRC_DAEMON_DAEMON_H_

#include <signal.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace libservices::daemon {

// Of the caller's descriptors only 0 to 2 stay, and those are open, so that nothing of ours gets
// their numbers. To be called first.
void keep_standard_descriptors();

// One line `PROGRAM: MESSAGE` on standard error.
void complain(std::string_view program, std::string_view message);

enum class Place : std::uint8_t { kBackground, kForeground };

struct Process {
  std::string program;  // before messages
  std::string subject;  // what it serves, for the system's log, where a service tells its end
  Place place = Place::kBackground;
  int failure = 1;  // the exit status
  bool supervised = false;  // it is started anew when it dies
};

// Serves until one of `ends`, which are blocked, is pending, or its work is done; calls `live` once
// when it answers. ERRORS: for a person to read.
using Serve = std::function<absl::Status(const sigset_t& ends, const std::function<void()>& live)>;

// The exit status of the first process: 0 when the service is live, or, in the foreground, when it
// has ended in order. REQUIRES: no other thread, and absolute paths, since a service is in "/".
int run(const Process& process, const Serve& serve);

}  // namespace libservices::daemon

#endif  // LIBSERVICES_SRC_DAEMON_DAEMON_H_
