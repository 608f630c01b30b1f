// SPDX-License-Identifier: Apache-2.0
//
// A whole service and processes that use it through the filesystem library: what one sees of the
// other's end, and that nothing is left of either.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "libservices/sources/memory.h"
#include "src/host/run_directory.h"
#include "tests/host/service_process.h"

namespace libservices {
namespace {

using namespace testing;

const Catalog& catalog() {
  static const Catalog only_memory = [] {
    Catalog made;
    made.add<Memory>("memory");
    return made;
  }();
  return only_memory;
}

int write_file(const char* path, const char* text) {
  const long file = calls::open(AT_FDCWD, path, O_CREAT | O_RDWR, 0644);
  if (file < 0) return static_cast<int>(-file);
  const long written = calls::write(static_cast<int>(file), text, std::strlen(text));
  const long closed = calls::close(static_cast<int>(file));
  return written == static_cast<long>(std::strlen(text)) && closed == 0 ? 0 : 1;
}

TEST_CASE("processes share the files of a service, and leave nothing behind") {
  Service service(catalog());
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
  Service service(catalog());
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
  Service service(catalog());
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
  Service service(catalog());
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
  Service service(catalog());
  CHECK(status_of(service.client([] {
          const int file =
              static_cast<int>(calls::open(AT_FDCWD, "/mnt/m/f", O_CREAT | O_RDWR, 0644));
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
  Service service(catalog());
  Host second({.run_directory = service.directory(), .mounts = {{"/mnt/m", "memory"}}}, catalog());
  const absl::Status started = second.start();
  CHECK(started.code() == absl::StatusCode::kAlreadyExists);
  CHECK(std::string(started.message()).find(std::to_string(service.process())) !=
        std::string::npos);
  CHECK(service.status()["pid"] == service.process());
}

}  // namespace
}  // namespace libservices
