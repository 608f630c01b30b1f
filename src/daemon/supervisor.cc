// SPDX-License-Identifier: Apache-2.0
#include "src/daemon/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "libservices/host.h"
#include "src/host/descriptor.h"

namespace libservices::daemon {
namespace {

using host::Descriptor;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kQuick(10);
constexpr int kMostQuickDeaths = 5;  // in a row
constexpr milliseconds kFirstPause(100);
constexpr milliseconds kLongestPause(10'000);

class Supervisor {
 public:
  Supervisor(const Supervision& supervision, const Service& service)
      : supervision_(supervision), service_(service) {
    ::sigemptyset(&signals_);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::sigaddset(&signals_, signal);
    ::sigprocmask(SIG_BLOCK, &signals_, &before_);
    ::signal(SIGCHLD, SIG_DFL);  // ignored, its children's ends would not be told
    told_ = Descriptor(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  int run() {
    if (!told_.ok()) return fail("signalfd", errno);
    int quick = 0;
    milliseconds pause = kFirstPause;
    for (;;) {
      const auto begun = steady_clock::now();
      if (!start()) return fail("the service cannot be started", errno);
      const int status = wait();
      if (stopping_ || !was_live_) return status_of(status);
      if (is_live_ && WIFEXITED(status) &&
          WEXITSTATUS(status) != HostConfig::kEndedByStuckCalls) {
        return status_of(status);
      }
      const bool is_quick = steady_clock::now() - begun < kQuick;
      quick = is_quick ? quick + 1 : 0;
      if (!is_quick) pause = kFirstPause;
      if (quick == kMostQuickDeaths) {
        supervision_.tell(fmt::format("service {}: {}, and so did {} before it (it is not started "
                                      "again; see what it said)",
                                      child_, end_of(status), kMostQuickDeaths - 1));
        return supervision_.failure;
      }
      supervision_.tell(
          fmt::format("service {}: {} (it is started anew)", child_, end_of(status)));
      if (!rest(pause)) return status_of(status);
      pause = std::min(2 * pause, kLongestPause);
    }
  }

 private:
  static int status_of(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  static std::string end_of(int status) {
    if (WIFSIGNALED(status)) return fmt::format("signal {} killed it", WTERMSIG(status));
    return fmt::format("it ended with status {}", WEXITSTATUS(status));
  }
  int fail(std::string_view what, int error) const {
    supervision_.tell(
        fmt::format("{}: {} (raise the limits of processes and open files)", what,
                    std::strerror(error)));
    return supervision_.failure;
  }

  bool start() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    live_ = Descriptor(ends[0]);
    Descriptor theirs(ends[1]);
    is_live_ = false;
    const pid_t parent = ::getpid();
    child_ = ::fork();
    if (child_ < 0) return false;
    if (child_ != 0) return true;
    live_.reset();
    told_.reset();
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(supervision_.failure);
    ::_exit(service_([&] {
      (void)!::write(theirs.get(), "l", 1);
      theirs.reset();
    }));
  }

  // Passes signals on. True: one came.
  bool take_signals() {
    bool any = false;
    signalfd_siginfo signal{};
    while (::read(told_.get(), &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_signo == SIGCHLD) continue;
      any = stopping_ = true;
      if (child_ > 0) ::kill(child_, static_cast<int>(signal.ssi_signo));
    }
    return any;
  }

  void take_news() {
    char byte = 0;
    if (::read(live_.get(), &byte, 1) == 1) {
      is_live_ = true;
      if (!was_live_) supervision_.live();
      was_live_ = true;
    }
    live_.reset();
  }

  // The wait status of the service, which has ended.
  int wait() {
    for (;;) {
      pollfd events[] = {{told_.get(), POLLIN, 0}, {live_.get(), POLLIN, 0}};
      if (::poll(events, live_.ok() ? 2 : 1, -1) < 0) continue;
      (void)take_signals();
      if (live_.ok() && events[1].revents != 0) take_news();
      int status = 0;
      if (::waitpid(child_, &status, WNOHANG) == child_) return status;
    }
  }

  // False: a signal came instead.
  bool rest(milliseconds pause) {
    child_ = -1;
    const auto end = steady_clock::now() + pause;
    for (auto left = pause; left.count() > 0;
         left = std::chrono::ceil<milliseconds>(end - steady_clock::now())) {
      pollfd event{told_.get(), POLLIN, 0};
      if (::poll(&event, 1, static_cast<int>(left.count())) > 0 && take_signals()) return false;
    }
    return true;
  }

  const Supervision& supervision_;
  const Service& service_;
  sigset_t signals_;
  sigset_t before_;
  Descriptor told_;
  Descriptor live_;
  pid_t child_ = -1;
  bool is_live_ = false;   // the present service
  bool was_live_ = false;  // one of them
  bool stopping_ = false;
};

}  // namespace

int supervise(const Supervision& supervision, const Service& service) {
  return Supervisor(supervision, service).run();
}

}  // namespace libservices::daemon
