// SPDX-License-Identifier: Apache-2.0
//
// Two children: the service, and the program. The service ends when this process closes the
// control socket, which it does when the program has ended; if this process is killed, the service
// goes on until the program has ended too, which it sees by the program's pidfd. Nothing is left.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/host/descriptor_message.h"
#include "src/host/private_run_directory.h"

namespace libservices::cli {
namespace {

using host::Descriptor;

constexpr int kMostToStop = 10000;  // ms that a service may take to end before it is killed

void wait_readable(int descriptor) {
  pollfd event{descriptor, POLLIN, 0};
  while (::poll(&event, 1, -1) < 0 && errno == EINTR) {
  }
}

// The service's process.
[[noreturn]] void be_the_service(const HostConfig& config, const Catalog& catalog, int control) {
  // What the terminal sends to the program's group is not for the service.
  ::setsid();
  for (const int ignored : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE}) ::signal(ignored, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(nothing, STDOUT_FILENO);
  host::raise_descriptor_limit();
  int status = 0;
  {
    Host host(config, catalog);
    if (const absl::Status started = host.start(); !started.ok()) {
      complain(started);
      ::_exit(kOwnFailure);
    }
    (void)!::write(control, "r", 1);
    const Descriptor program = host::receive_descriptor(control);
    if (program.ok()) {
      wait_readable(control);        // the end of `libservices with`
      wait_readable(program.get());  // usually long before
    }
    if (const absl::Status stopped = host.stop(); !stopped.ok()) {
      complain(stopped);
      status = kOwnFailure;
    }
  }
  ::_exit(status);
}

int status_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

// The signals that are the program's, and the deaths of our children.
sigset_t signals_to_wait_for() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD}) {
    ::sigaddset(&set, signal);
  }
  return set;
}

int wait_for_program(pid_t program, const sigset_t& signals) {
  for (;;) {
    int wait_status = 0;
    const pid_t ended = ::waitpid(program, &wait_status, WNOHANG);
    if (ended == program) return status_of(wait_status);
    siginfo_t signal{};
    if (::sigwaitinfo(&signals, &signal) < 0 || signal.si_signo == SIGCHLD) continue;
    // The terminal has sent its own to the program as well.
    if (signal.si_code != SI_KERNEL) ::kill(program, signal.si_signo);
  }
}

// The service's process, ended; what it wrote to standard error says why if it failed.
void wait_for_service(pid_t service) {
  const Descriptor pidfd = host::open_pidfd(service);
  pollfd event{pidfd.get(), POLLIN, 0};
  if (::poll(&event, 1, kMostToStop) == 0) {
    complain(
        fmt::format("service {}: it does not stop, and is killed (look at its backends)", service));
    ::kill(service, SIGKILL);
  }
  int wait_status = 0;
  while (::waitpid(service, &wait_status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(wait_status)) {
    complain(
        fmt::format("service {}: signal {} killed it, and what was not synced may be lost "
                    "(check the layers)",
                    service, WTERMSIG(wait_status)));
  }
}

}  // namespace

int with(HostConfig config, const Catalog& catalog, const std::vector<std::string>& program) {
  const Program found = find_program(program.front());
  const bool at_kernel =
      std::all_of(config.mounts.begin(), config.mounts.end(),
                  [](const HostConfig::Mount& mount) { return mount.fuse.has_value(); });
  if (found.exit_status != 0 && !(found.runs_apart && at_kernel)) {
    complain(found.message);
    return found.exit_status;
  }
  const std::string preload = find_preload_library();
  if (preload.empty()) return kOwnFailure;
  config.restart_wait = {};  // no other service will come
  host::PrivateRunDirectory directory;
  if (config.run_directory.empty()) {
    absl::StatusOr<host::PrivateRunDirectory> made =
        host::PrivateRunDirectory::make("libservices-with");
    if (!made.ok()) {
      complain(made.status());
      return kOwnFailure;
    }
    directory = *std::move(made);
    config.run_directory = directory.path();
  }

  const sigset_t signals = signals_to_wait_for();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  int control[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
    complain(fmt::format("socketpair: {} (raise the limit of open files)", std::strerror(errno)));
    return kOwnFailure;
  }
  Descriptor ours(control[0]);
  Descriptor theirs(control[1]);
  const pid_t service = ::fork();
  if (service == 0) {
    ours.reset();
    be_the_service(config, catalog, theirs.get());
  }
  theirs.reset();
  char ready = 0;
  if (service < 0 || ::read(ours.get(), &ready, 1) != 1) {
    if (service < 0) {
      complain(fmt::format("fork: {} (raise the limit of processes)", std::strerror(errno)));
    } else {
      wait_for_service(service);
    }
    return kOwnFailure;
  }

  const pid_t child = ::fork();
  if (child == 0) {
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::_exit(become(program, found.path, preload, config.run_directory));
  }
  int exit_status = kOwnFailure;
  if (child < 0) {
    complain(fmt::format("fork: {} (raise the limit of processes)", std::strerror(errno)));
  } else {
    host::send_descriptor(ours.get(), host::open_pidfd(child));
    exit_status = wait_for_program(child, signals);
  }
  ours.reset();
  wait_for_service(service);
  return exit_status;
}

}  // namespace libservices::cli
