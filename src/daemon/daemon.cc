// SPDX-License-Identifier: Apache-2.0
#include "src/daemon/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "src/daemon/supervisor.h"
#include "src/host/descriptor.h"

namespace libservices::daemon {
namespace {

using host::Descriptor;

void leave_standard_descriptors() {
  const Descriptor nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(nothing.get(), descriptor);
  }
}

void tell_log(const Process& process, const std::string& message) {
  ::syslog(LOG_DAEMON | LOG_ERR, "%s: %s: %s", process.program.c_str(), process.subject.c_str(),
           message.c_str());
}

// The service's exit status. `ready`: where one byte says that it answers; -1: nowhere, and it
// stays in the foreground.
int be_the_service(const Process& process, const Serve& serve, int ready,
                   const std::function<void()>& live) {
  // Blocked before there are threads, so that all of them inherit it and the signal waits for us.
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ends, signal);
  ::sigprocmask(SIG_SETMASK, &ends, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  host::raise_descriptor_limit();
  bool is_live = false;
  const absl::Status served = serve(ends, [&] {
    is_live = true;
    live();
    if (ready < 0) return;
    leave_standard_descriptors();
    (void)!::write(ready, "r", 1);
    ::close(ready);
  });
  if (served.ok()) return 0;
  const std::string message(served.message());
  if (is_live && ready >= 0) {
    // Nobody reads what it says elsewhere.
    tell_log(process, message);
  } else {
    complain(process.program, message);
  }
  return process.failure;
}

// The same, or its supervisor.
int be_the_service(const Process& process, const Serve& serve, int ready) {
  if (!process.supervised) return be_the_service(process, serve, ready, [] {});
  bool first = true;
  const Supervision supervision{.tell =
                                    [&](const std::string& message) {
                                      if (first || ready < 0) {
                                        complain(process.program, message);
                                      } else {
                                        tell_log(process, message);
                                      }
                                    },
                                .live =
                                    [&] {
                                      first = false;
                                      if (ready < 0) return;
                                      leave_standard_descriptors();
                                      ::close(ready);
                                    },
                                .failure = process.failure};
  return supervise(supervision, [&](const std::function<void()>& live) {
    if (first || ready < 0) return be_the_service(process, serve, ready, live);
    // Who has begun it has its answer. Where it writes, nobody reads.
    return be_the_service(process, serve, ::open("/dev/null", O_WRONLY | O_CLOEXEC), live);
  });
}

}  // namespace

void keep_standard_descriptors() {
  ::close_range(STDERR_FILENO + 1, UINT_MAX, 0);
  while (::fcntl(STDIN_FILENO, F_GETFD) < 0 || ::fcntl(STDOUT_FILENO, F_GETFD) < 0 ||
         ::fcntl(STDERR_FILENO, F_GETFD) < 0) {
    if (::open("/dev/null", O_RDWR) < 0) break;
  }
}

void complain(std::string_view program, std::string_view message) {
  const std::string line = fmt::format("{}: {}\n", program, message);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

int run(const Process& process, const Serve& serve) {
  if (process.place == Place::kForeground) return be_the_service(process, serve, -1);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    complain(process.program,
             fmt::format("pipe: {} (raise the limit of open files)", std::strerror(errno)));
    return process.failure;
  }
  Descriptor ours(ends[0]);
  Descriptor theirs(ends[1]);
  const pid_t service = ::fork();
  if (service < 0) {
    complain(process.program,
             fmt::format("fork: {} (raise the limit of processes)", std::strerror(errno)));
    return process.failure;
  }
  if (service == 0) {
    ours.reset();
    ::setsid();
    (void)!::chdir("/");
    const int ready = theirs.release();
    ::_exit(be_the_service(process, serve, ready));
  }
  theirs.reset();
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::read(ours.get(), &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 1) return 0;
  int status = 0;
  while (::waitpid(service, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    complain(process.program,
             fmt::format("service: signal {} killed it before it answered (see the system's log)",
                         WTERMSIG(status)));
  }
  return process.failure;
}

}  // namespace libservices::daemon
