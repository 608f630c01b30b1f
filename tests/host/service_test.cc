// SPDX-License-Identifier: Apache-2.0
//
// A whole service and processes that use it through the filesystem library: what one sees of the
// other's end, and that nothing is left of either.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "libservices/host.h"
#include "libservices/sources/memory.h"
#include "src/client/calls.h"
#include "src/client/state.h"
#include "src/host/run_directory.h"
#include "src/host/status_server.h"

namespace libservices {
namespace {

namespace calls = client::calls;
using nlohmann::json;

constexpr unsigned kWatchdog = 120;  // seconds that any child may take

void pause_for(long milliseconds) {
  const timespec pause{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&pause, nullptr);
}

// A child that does `work` and ends with its result.
pid_t start_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(kWatchdog);
    ::_exit(work());
  }
  REQUIRE(child > 0);
  return child;
}

int status_of(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// A service in a child process, with memory at /mnt/m.
class Service {
 public:
  Service() {
    char name[] = "/tmp/libservices-service-test.XXXXXX";
    directory_ = std::string(::mkdtemp(name)) + "/run";
    start();
  }
  ~Service() {
    if (process_ > 0) CHECK(stop() == 0);
    std::filesystem::remove_all(std::filesystem::path(directory_).parent_path());
  }

  const std::string& directory() const { return directory_; }
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
      Catalog catalog;
      catalog.add<Memory>("memory");
      Host host({.pool = "test",
                 .run_directory = directory_,
                 .mounts = {{"/mnt/m", "memory"}},
                 .clients = HostConfig::Clients::kAllUsers},
                catalog);
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
  std::string directory_;
  pid_t process_ = -1;
};

int write_file(const char* path, const char* text) {
  const long file = calls::open(AT_FDCWD, path, O_CREAT | O_RDWR, 0644);
  if (file < 0) return static_cast<int>(-file);
  const long written = calls::write(static_cast<int>(file), text, std::strlen(text));
  const long closed = calls::close(static_cast<int>(file));
  return written == static_cast<long>(std::strlen(text)) && closed == 0 ? 0 : 1;
}

TEST_CASE("processes share the files of a service, and leave nothing behind") {
  Service service;
  CHECK(status_of(service.client([] { return write_file("/mnt/m/f", "hello"); })) == 0);
  CHECK(status_of(service.client([] {
    const int file = static_cast<int>(calls::open(AT_FDCWD, "/mnt/m/f", O_RDONLY, 0));
    char text[16] = {};
    if (calls::read(file, text, sizeof text) != 5) return 1;
    return std::strcmp(text, "hello") == 0 ? 0 : 2;  // ends without closing
  })) == 0);
  const json status = service.idle_status();
  CHECK(status["pool"] == "test");
  CHECK(status["pid"] == service.process());
  CHECK(status["mounts"][0]["path"] == "/mnt/m");
  CHECK(status["mounts"][0]["spec"] == "memory");
  CHECK(status["sessions"].empty());
  CHECK(status["open_files"] == 0);
  CHECK(status["placeholders"]["given"] == 0);
  CHECK(status["requests_by_operation"]["write"] == 1);
  CHECK(status["refused"]["malformed"] == 0);
}

TEST_CASE("a service that stops leaves no trace, and its clients get errors, not waits") {
  Service service;
  int gate[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, gate) == 0);
  const pid_t client = service.client([&] {
    ::close(gate[0]);  // so that its end is seen
    if (write_file("/mnt/m/f", "x") != 0) return 1;
    const int file = static_cast<int>(calls::open(AT_FDCWD, "/mnt/m/f", O_RDWR, 0));
    (void)!::write(gate[1], "r", 1);
    char byte = 0;
    (void)!::read(gate[1], &byte, 1);
    const long result = calls::write(file, "y", 1);
    return result < 0 ? 0 : 2;
  });
  ::close(gate[1]);
  char byte = 0;
  REQUIRE(::read(gate[0], &byte, 1) == 1);
  SUBCASE("by SIGTERM") {
    CHECK(service.stop() == 0);
    CHECK_FALSE(std::filesystem::exists(service.directory()));
  }
  SUBCASE("by SIGKILL, and what it left is used again") {
    service.kill();
    CHECK(std::filesystem::exists(host::socket_path(service.directory())));
    CHECK(host::service_of(service.directory()) == 0);
    (void)!::write(gate[0], "g", 1);
    CHECK(status_of(client) == 0);
    service.start();
    CHECK(service.status()["sessions"].empty());
    ::close(gate[0]);
    return;
  }
  (void)!::write(gate[0], "g", 1);
  CHECK(status_of(client) == 0);
  ::close(gate[0]);
}

TEST_CASE("a service stops while clients are at work") {
  Service service;
  std::vector<pid_t> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(service.client([i] {
      const std::string path = "/mnt/m/f" + std::to_string(i);
      for (;;) {
        if (write_file(path.c_str(), "text") != 0) return 0;  // the service has ended
      }
    }));
  }
  pause_for(100);
  CHECK(service.stop() == 0);
  for (const pid_t client : clients) CHECK(status_of(client) == 0);
  CHECK_FALSE(std::filesystem::exists(service.directory()));
}

TEST_CASE("a thousand clients that are killed at work leave nothing") {
  Service service;
  constexpr int kKills = 1000;
  const std::uint64_t memory_before = service.status()["memory_bytes"];
  for (int i = 0; i < kKills; ++i) {
    const pid_t client = service.client([] {
      for (int k = 0;; ++k) {
        const long file = calls::open(AT_FDCWD, "/mnt/m/f", O_CREAT | O_RDWR, 0644);
        if (file < 0) return 1;
        if (calls::write(static_cast<int>(file), "some text", 9) != 9) return 2;
        if (k % 3 != 0) calls::close(static_cast<int>(file));
      }
    });
    const timespec pause{0, (i % 40) * 100'000};  // 0 to 4 ms
    ::nanosleep(&pause, nullptr);
    ::kill(client, SIGKILL);
    CHECK(status_of(client) == 128 + SIGKILL);
  }
  const json status = service.idle_status();
  CHECK(status["sessions"].empty());
  CHECK(status["open_files"] == 0);
  CHECK(status["placeholders"]["given"] == 0);
  CHECK(status["placeholders"]["bound"] == 0);
  CHECK(status["refused"]["malformed"] == 0);
  // Memory that grows with every kill would be far more: a session alone is a page or more.
  // AddressSanitizer keeps what was freed, up to 256 MiB, to find uses of it.
#ifdef __SANITIZE_ADDRESS__
  constexpr std::uint64_t kAllowed = 512U << 20U;
#else
  constexpr std::uint64_t kAllowed = 64U << 20U;
#endif
  CHECK(status["memory_bytes"].get<std::uint64_t>() < memory_before + kAllowed);
  CHECK(status_of(service.client([] { return write_file("/mnt/m/g", "well"); })) == 0);
}

TEST_CASE("an open file is shared with a child process, and lives as long as either has it") {
  Service service;
  CHECK(status_of(service.client([] {
    const int file = static_cast<int>(calls::open(AT_FDCWD, "/mnt/m/f", O_CREAT | O_RDWR, 0644));
    if (calls::write(file, "abc", 3) != 3) return 1;
    client::share_all();
    const pid_t child = ::fork();
    if (child == 0) {
      client::after_fork_in_child();
      // The offset is common.
      ::_exit(calls::write(file, "def", 3) == 3 && calls::close(file) == 0 ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return 2;
    if (calls::write(file, "ghi", 3) != 3) return 3;
    char text[16] = {};
    if (calls::pread(file, text, sizeof text, 0) != 9) return 4;
    return std::strcmp(text, "abcdefghi") == 0 ? 0 : 5;
  })) == 0);
  CHECK(service.idle_status()["open_files"] == 0);
}

TEST_CASE("only one service runs in a run directory") {
  Service service;
  Catalog catalog;
  catalog.add<Memory>("memory");
  Host second({.run_directory = service.directory(), .mounts = {{"/mnt/m", "memory"}}}, catalog);
  const absl::Status started = second.start();
  CHECK(started.code() == absl::StatusCode::kAlreadyExists);
  CHECK(std::string(started.message()).find(std::to_string(service.process())) !=
        std::string::npos);
  CHECK(service.status()["pid"] == service.process());
}

}  // namespace
}  // namespace libservices
