// SPDX-License-Identifier: Apache-2.0
//
// `libservices-overlay`: layers mounted through FUSE, for programs that know fuse-overlayfs.
//
// The first process ends when the tree is mounted; the second is the service, which has nothing of
// the caller's then: whoever reads the caller's standard error to its end is not kept waiting.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "src/host/descriptor.h"
#include "src/overlay/layers.h"
#include "src/overlay/mount.h"
#include "src/overlay/options.h"

namespace libservices::overlay {
namespace {

using host::Descriptor;

constexpr int kFailure = 1;

void complain(std::string_view message) {
  const std::string line = fmt::format("libservices-overlay: {}\n", message);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

int fail(const absl::Status& status) {
  complain(std::string(status.message()));
  return kFailure;
}

// Of the caller's descriptors only 0 to 2 stay, and those are open, so that nothing of ours gets
// their numbers.
void keep_standard_descriptors() {
  ::close_range(STDERR_FILENO + 1, UINT_MAX, 0);
  while (::fcntl(STDIN_FILENO, F_GETFD) < 0 || ::fcntl(STDOUT_FILENO, F_GETFD) < 0 ||
         ::fcntl(STDERR_FILENO, F_GETFD) < 0) {
    if (::open("/dev/null", O_RDWR) < 0) break;
  }
}

void leave_standard_descriptors() {
  const Descriptor nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(nothing.get(), descriptor);
  }
}

// The service's exit status. `ready`: where one byte says that the tree is mounted; -1: nowhere,
// and it stays in the foreground.
int be_the_service(const Options& options, int ready) {
  // Blocked before there are threads, so that all of them inherit it and the signal waits for us.
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ends, signal);
  ::sigprocmask(SIG_SETMASK, &ends, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  host::raise_descriptor_limit();  // for 500 layers
  const std::string spec =
      spec_of(options, options.upper.empty() ? Marks::kOverlay : marks_for(options.work));
  if (options.debug) {
    complain(fmt::format("{} on {}, {}", spec, options.mountpoint,
                         options.read_only ? "read-only" : "read-write"));
  }
  bool is_live = false;
  const absl::Status served = serve(options, spec, catalog(), ends, [&] {
    is_live = true;
    if (ready < 0) return;
    leave_standard_descriptors();
    (void)!::write(ready, "r", 1);
    ::close(ready);
  });
  if (served.ok()) return 0;
  if (is_live && ready >= 0) {
    // Nobody reads what it says elsewhere.
    ::syslog(LOG_DAEMON | LOG_ERR, "libservices-overlay: %s: %s", options.mountpoint.c_str(),
             std::string(served.message()).c_str());
    return kFailure;
  }
  return fail(served);
}

int start_the_service(const Options& options) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    complain(fmt::format("pipe: {} (raise the limit of open files)", std::strerror(errno)));
    return kFailure;
  }
  Descriptor ours(ends[0]);
  Descriptor theirs(ends[1]);
  const pid_t service = ::fork();
  if (service < 0) {
    complain(fmt::format("fork: {} (raise the limit of processes)", std::strerror(errno)));
    return kFailure;
  }
  if (service == 0) {
    ours.reset();
    ::setsid();
    (void)!::chdir("/");
    const int ready = theirs.get();
    ::_exit(be_the_service(options, ready));
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
    complain(
        fmt::format("service: signal {} killed it before the tree was mounted (see the "
                    "system's log)",
                    WTERMSIG(status)));
  }
  return kFailure;
}

int run(const std::vector<std::string_view>& words) {
  absl::StatusOr<Options> options = parse_options(words);
  if (!options.ok()) return fail(options.status());
  if (options->action != Options::Action::kMount) {
    const bool version = options->action == Options::Action::kVersion;
    fmt::print("{}", version ? version_text() : help_text());
    return 0;
  }
  for (const std::string& warning : options->warnings) complain(warning);
  if (absl::Status found = find_directories(*options); !found.ok()) return fail(found);
  leave_owners_to_mounts(*options);
  if (options->place == Options::Place::kForeground) return be_the_service(*options, -1);
  return start_the_service(*options);
}

}  // namespace
}  // namespace libservices::overlay

int main(int argc, char** argv) {
  libservices::overlay::keep_standard_descriptors();
  return libservices::overlay::run({argv + (argc > 0 ? 1 : 0), argv + argc});
}
