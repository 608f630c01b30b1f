// SPDX-License-Identifier: Apache-2.0
//
// A whole service in a child process, which may be killed and started again, and child processes
// that use it through the filesystem library.
#ifndef LIBSERVICES_TESTS_HOST_SERVICE_PROCESS_H_
#define LIBSERVICES_TESTS_HOST_SERVICE_PROCESS_H_

#include <doctest/doctest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "libservices/host.h"
#include "src/client/calls.h"
#include "src/client/state.h"
#include "src/host/status_server.h"

namespace libservices::testing {

namespace calls = client::calls;
using nlohmann::json;

inline constexpr unsigned kWatchdog = 120;  // seconds that any child may take

inline void pause_for(long milliseconds) {
  const timespec pause{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&pause, nullptr);
}

// A child that does `work` and ends with its result.
inline pid_t start_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(kWatchdog);
    ::_exit(work());
  }
  REQUIRE(child > 0);
  return child;
}

inline int status_of(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// A service of `spec` at /mnt/m. In the spec, "$D" is a directory of its own, with empty
// directories `upper` and `lower`.
class Service {
 public:
  explicit Service(const Catalog& catalog, const std::string& spec = "memory",
                   std::chrono::milliseconds restart_wait = {})
      : catalog_(catalog), restart_wait_(restart_wait) {
    char name[] = "/tmp/libservices-service-test.XXXXXX";
    const std::string base = ::mkdtemp(name);
    directory_ = base + "/run";
    files_ = base + "/files";
    std::filesystem::create_directories(files_ + "/upper");
    std::filesystem::create_directory(files_ + "/lower");
    for (std::size_t i = 0; i < spec.size(); ++i) {
      if (spec.compare(i, 2, "$D") == 0) {
        spec_ += files_;
        ++i;
      } else {
        spec_ += spec[i];
      }
    }
    start();
  }
  ~Service() {
    if (process_ > 0) CHECK(stop() == 0);
    std::filesystem::remove_all(std::filesystem::path(directory_).parent_path());
  }

  const std::string& directory() const { return directory_; }
  const std::string& files() const { return files_; }
  pid_t process() const { return process_; }

  void start() {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    process_ = start_child([&] {
      ::alarm(0);
      ::close(ready[0]);
      sigset_t ends;
      ::sigemptyset(&ends);
      ::sigaddset(&ends, SIGTERM);
      ::sigprocmask(SIG_BLOCK, &ends, nullptr);
      Host host({.pool = "test",
                 .run_directory = directory_,
                 .mounts = {{"/mnt/m", spec_}},
                 .clients = HostConfig::Clients::kAllUsers,
                 .restart_wait = restart_wait_},
                catalog_);
      if (!host.start().ok()) return 1;
      (void)!::write(ready[1], "r", 1);
      int signal = 0;
      ::sigwait(&ends, &signal);
      return host.stop().ok() ? 0 : 2;
    });
    ::close(ready[1]);
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
  }
  int stop() {
    ::kill(process_, SIGTERM);
    return status_of(std::exchange(process_, -1));
  }
  void kill() {
    ::kill(process_, SIGKILL);
    CHECK(status_of(std::exchange(process_, -1)) == 128 + SIGKILL);
  }

  json status() const {
    const auto answer = host::ask_status(directory_);
    REQUIRE(answer.ok());
    return json::parse(*answer);
  }
  // The state once nobody uses the service any more.
  json idle_status() const {
    for (int i = 0; i < 1000; ++i) {
      json now = status();
      if (now["sessions"].empty() && now["placeholders"]["given"] == 0 && now["open_files"] == 0) {
        return now;
      }
      pause_for(10);
    }
    return status();
  }

  // A process that uses the service.
  pid_t client(const std::function<int()>& work) const {
    return start_child([&] {
      client::start(directory_.c_str());
      return work();
    });
  }

 private:
  const Catalog& catalog_;
  const std::chrono::milliseconds restart_wait_;
  std::string directory_;
  std::string files_;
  std::string spec_;
  pid_t process_ = -1;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_HOST_SERVICE_PROCESS_H_
