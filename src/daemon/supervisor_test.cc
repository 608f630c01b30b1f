// SPDX-License-Identifier: Apache-2.0
#include "src/daemon/supervisor.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <new>
#include <string>

#include "libservices/host.h"

namespace libservices::daemon {
namespace {

// What the processes of one test see.
struct Shared {
  std::atomic<int> begun{0};
  std::atomic<int> told{0};
  std::atomic<int> live{0};
  std::atomic<pid_t> service{0};
};

class Supervised {
 public:
  using Work = std::function<int(Shared&, const std::function<void()>& live)>;

  explicit Supervised(const Work& work)
      : shared_(new (::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Shared) {
    process_ = ::fork();
    if (process_ != 0) return;
    ::alarm(60);
    const Supervision supervision{.tell = [&](const std::string&) { ++shared_->told; },
                                  .live = [&] { ++shared_->live; },
                                  .failure = 99};
    ::_exit(supervise(supervision, [&](const std::function<void()>& live) {
      ::alarm(60);
      shared_->service.store(::getpid());
      ++shared_->begun;
      return work(*shared_, live);
    }));
  }
  ~Supervised() { ::munmap(shared_, sizeof(Shared)); }
  Supervised(const Supervised&) = delete;
  Supervised& operator=(const Supervised&) = delete;

  Shared& shared() { return *shared_; }
  pid_t process() const { return process_; }
  void await(const std::function<bool()>& holds) {
    while (!holds()) ::usleep(1000);
  }
  int status() const {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0) {
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  Shared* const shared_;
  pid_t process_ = -1;
};

int wait_for_sigterm(const std::function<void()>& live) {
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  live();
  int signal = 0;
  ::sigwait(&ends, &signal);
  return 7;
}

TEST_CASE("the status is the service's when it ends of itself") {
  for (const int status : {0, 5}) {
    Supervised one([&](Shared&, const auto& live) {
      live();
      return status;
    });
    CHECK(one.status() == status);
    CHECK(one.shared().begun.load() == 1);
    CHECK(one.shared().live.load() == 1);
    CHECK(one.shared().told.load() == 0);
  }
}

TEST_CASE("what has never answered is not started again") {
  Supervised one([](Shared&, const auto&) { return HostConfig::kEndedByStuckCalls; });
  CHECK(one.status() == HostConfig::kEndedByStuckCalls);
  CHECK(one.shared().begun.load() == 1);
  CHECK(one.shared().live.load() == 0);
}

TEST_CASE("a service that is killed is started again, and ends with SIGTERM") {
  Supervised one([](Shared&, const auto& live) { return wait_for_sigterm(live); });
  one.await([&] { return one.shared().live.load() == 1; });
  const pid_t first = one.shared().service.load();
  ::kill(first, SIGKILL);
  one.await([&] { return one.shared().begun.load() == 2; });
  CHECK(one.shared().service.load() != first);
  ::usleep(100'000);
  ::kill(one.process(), SIGTERM);
  CHECK(one.status() == 7);
  CHECK(one.shared().live.load() == 1);
  CHECK(one.shared().told.load() == 1);
}

TEST_CASE("a service that ends because of stuck calls is started again") {
  Supervised one([](Shared& shared, const auto& live) {
    live();
    return shared.begun.load() < 3 ? HostConfig::kEndedByStuckCalls : 0;
  });
  CHECK(one.status() == 0);
  CHECK(one.shared().begun.load() == 3);
}

TEST_CASE("one that dies again and again is given up, and what does not begin is tried again") {
  Supervised one([](Shared& shared, const auto& live) {
    if (shared.begun.load() == 1) live();
    if (shared.begun.load() == 3) return 1;  // before it answered, as no other did
    ::raise(SIGKILL);
    return 0;
  });
  CHECK(one.status() == 99);
  CHECK(one.shared().begun.load() == 5);
  CHECK(one.shared().told.load() == 5);
}

TEST_CASE("the service stops in order when its supervisor is killed") {
  Supervised one([](Shared& shared, const auto& live) {
    const int status = wait_for_sigterm(live);
    shared.told.store(100);
    return status;
  });
  one.await([&] { return one.shared().live.load() == 1; });
  ::kill(one.process(), SIGKILL);
  CHECK(one.status() == 128 + SIGKILL);
  one.await([&] { return one.shared().told.load() == 100; });
}

}  // namespace
}  // namespace libservices::daemon
