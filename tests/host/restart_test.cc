// SPDX-License-Identifier: Apache-2.0
//
// A service is killed, and another one started in its place: programs go on with their open files,
// or get EIO. Never a wait without end, never a wrong answer.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "libservices/catalog.h"
#include "tests/host/service_process.h"

namespace libservices {
namespace {

using namespace testing;
using std::chrono::milliseconds;

const Catalog& catalog() {
  static const Catalog all = standard_catalog();
  return all;
}

// Steps that a client and the test take in turn.
struct Steps {
  Steps() {
    shared = static_cast<Shared*>(
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }
  ~Steps() { ::munmap(shared, sizeof(Shared)); }
  void reach(unsigned step) { shared->step.store(step); }
  void await(unsigned step) const {
    while (shared->step.load() < step) pause_for(1);
  }
  struct Shared {
    std::atomic<unsigned> step;
    std::atomic<std::uint64_t> count;
  };
  Shared* shared;
};

long open_file(const char* path, int flags, mode_t mode = 0644) {
  return calls::open(AT_FDCWD, path, flags, mode);
}
bool writes(long file, const char* text) {
  const std::size_t size = std::strlen(text);
  return calls::write(static_cast<int>(file), text, size) == static_cast<long>(size);
}
bool reads(long file, const char* text) {
  char bytes[64] = {};
  const std::size_t size = std::strlen(text);
  return calls::read(static_cast<int>(file), bytes, size) == static_cast<long>(size) &&
         std::memcmp(bytes, text, size) == 0;
}

constexpr const char* kSpecs[] = {"local:$D", "union(local:$D/upper, local:$D/lower)"};

// Runs `before`, kills the service, starts another one, runs `after`, in one client.
int across_restart(Service& service, const std::function<int()>& before,
                   const std::function<int()>& after) {
  Steps steps;
  const pid_t client = service.client([&] {
    if (const int failed = before(); failed != 0) return failed;
    steps.reach(1);
    steps.await(2);
    return after();
  });
  steps.await(1);
  service.kill();
  service.start();
  steps.reach(2);
  return status_of(client);
}

TEST_CASE("open files go on at their offset, with their flags, under their new names") {
  for (const char* spec : kSpecs) {
    CAPTURE(spec);
    Service service(catalog(), spec, milliseconds(20'000));
    long plain = -1;
    long appending = -1;
    long directory = -1;
    long renamed = -1;
    CHECK(across_restart(
              service,
              [&] {
                if (calls::mkdirat(AT_FDCWD, "/mnt/m/d", 0755) != 0) return 1;
                plain = open_file("/mnt/m/d/plain", O_CREAT | O_RDWR);
                appending = open_file("/mnt/m/d/appending", O_CREAT | O_WRONLY);
                renamed = open_file("/mnt/m/d/old", O_CREAT | O_RDWR);
                directory = open_file("/mnt/m/d", O_RDONLY | O_DIRECTORY);
                if (plain < 0 || appending < 0 || renamed < 0 || directory < 0) return 2;
                if (!writes(plain, "one two three") || !writes(renamed, "renamed")) return 3;
                if (calls::lseek(static_cast<int>(plain), 4, SEEK_SET) != 4) return 4;
                if (calls::fcntl(static_cast<int>(appending), F_SETFL, O_APPEND) != 0) return 5;
                if (!writes(appending, "a")) return 6;
                return calls::renameat2(AT_FDCWD, "/mnt/m/d/old", AT_FDCWD, "/mnt/m/d/new", 0) == 0
                           ? 0
                           : 7;
              },
              [&] {
                if (!reads(plain, "two")) return 11;
                if (!writes(plain, "-THREE") ||
                    calls::lseek(static_cast<int>(plain), 0, SEEK_CUR) != 13) {
                  return 12;
                }
                if (!writes(appending, "b")) return 13;
                struct stat status;
                if (calls::fstat(static_cast<int>(appending), &status) != 0 ||
                    status.st_size != 2) {
                  return 14;
                }
                if (calls::lseek(static_cast<int>(renamed), 0, SEEK_SET) != 0 ||
                    !reads(renamed, "renamed")) {
                  return 15;
                }
                const long inside = calls::open(static_cast<int>(directory), "plain", O_RDONLY, 0);
                if (inside < 0 || !reads(inside, "one two-THREE")) return 16;
                for (const long file : {plain, appending, renamed, directory, inside}) {
                  if (calls::close(static_cast<int>(file)) != 0) return 17;
                }
                return 0;
              }) == 0);
    CHECK(service.idle_status()["open_files"] == 0);
  }
}

TEST_CASE("sockets are reached by their names, and fifos opened, as before") {
  for (const char* spec : kSpecs) {
    CAPTURE(spec);
    Service service(catalog(), spec, milliseconds(20'000));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, "/mnt/m/s");
    const auto connects = [&] {
      const int one = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      return calls::connect(one, &address, sizeof address) == 0;
    };
    long reading = -1;
    CHECK(across_restart(
              service,
              [&] {
                const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (calls::bind(listener, &address, sizeof address) != 0) return 1;
                if (::listen(listener, 10) != 0 || !connects()) return 2;
                if (calls::mknodat(AT_FDCWD, "/mnt/m/f", S_IFIFO | 0600, 0) != 0) return 3;
                reading = open_file("/mnt/m/f", O_RDONLY | O_NONBLOCK);
                return reading >= 0 ? 0 : 4;
              },
              [&] {
                if (!connects()) return 11;
                const long writing = open_file("/mnt/m/f", O_WRONLY | O_NONBLOCK);
                if (writing < 0 || !writes(writing, "text") || !reads(reading, "text")) return 12;
                if (calls::unlinkat(AT_FDCWD, "/mnt/m/s", 0) != 0) return 13;
                return connects() ? 14 : 0;
              }) == 0);
  }
}

TEST_CASE("what cannot go on gives EIO, and everything else works") {
  Service service(catalog(), kSpecs[0], milliseconds(20'000));
  long unlinked = -1;
  long locked = -1;
  long listing = -1;
  long replaced = -1;
  char entries[256];
  CHECK(across_restart(
            service,
            [&] {
              unlinked = open_file("/mnt/m/unlinked", O_CREAT | O_RDWR);
              locked = open_file("/mnt/m/locked", O_CREAT | O_RDWR);
              replaced = open_file("/mnt/m/replaced", O_CREAT | O_RDWR);
              listing = open_file("/mnt/m", O_RDONLY | O_DIRECTORY);
              if (!writes(unlinked, "x") || !writes(locked, "x") || !writes(replaced, "x"))
                return 1;
              if (calls::unlinkat(AT_FDCWD, "/mnt/m/unlinked", 0) != 0) return 2;
              if (calls::unlinkat(AT_FDCWD, "/mnt/m/replaced", 0) != 0) return 3;
              if (!writes(open_file("/mnt/m/replaced", O_CREAT | O_WRONLY), "another")) return 4;
              if (calls::flock(static_cast<int>(locked), LOCK_EX) != 0) return 5;
              return calls::getdents64(static_cast<int>(listing), entries, 64) > 0 ? 0 : 6;
            },
            [&] {
              char byte = 0;
              for (const long file : {unlinked, locked, replaced}) {
                if (calls::pread(static_cast<int>(file), &byte, 1, 0) != -EIO) return 11;
                if (calls::pwrite(static_cast<int>(file), &byte, 1, 0) != -EIO) return 12;
              }
              // What is gone can be given back.
              struct flock unlock {};
              unlock.l_type = F_UNLCK;
              if (calls::fcntl(static_cast<int>(locked), F_SETLK,
                               reinterpret_cast<unsigned long>(&unlock)) != 0 ||
                  calls::flock(static_cast<int>(locked), LOCK_UN) != 0) {
                return 19;
              }
              if (calls::pread(static_cast<int>(locked), &byte, 1, 0) != -EIO) return 20;
              if (calls::getdents64(static_cast<int>(listing), entries, sizeof entries) != -EIO) {
                return 13;
              }
              if (calls::lseek(static_cast<int>(listing), 0, SEEK_SET) != 0) return 14;
              if (calls::getdents64(static_cast<int>(listing), entries, sizeof entries) <= 0)
                return 15;
              for (const long file : {unlinked, locked, replaced, listing}) {
                if (calls::close(static_cast<int>(file)) != 0) return 16;
              }
              const long fresh = open_file("/mnt/m/locked", O_RDWR);
              if (fresh < 0 || !reads(fresh, "x")) return 17;
              return calls::flock(static_cast<int>(fresh), LOCK_EX) == 0 ? 0 : 18;
            }) == 0);
  CHECK(service.idle_status()["open_files"] == 0);
}

TEST_CASE("the files of an instance in memory are gone with it, and say so") {
  Service service(catalog(), "memory", milliseconds(20'000));
  long file = -1;
  CHECK(across_restart(
            service,
            [&] {
              file = open_file("/mnt/m/f", O_CREAT | O_RDWR);
              return writes(file, "text") ? 0 : 1;
            },
            [&] {
              char byte = 0;
              if (calls::pread(static_cast<int>(file), &byte, 1, 0) != -EIO) return 11;
              if (open_file("/mnt/m/f", O_RDWR) != -ENOENT) return 12;
              return writes(open_file("/mnt/m/f", O_CREAT | O_RDWR), "again") ? 0 : 13;
            }) == 0);
}

TEST_CASE("a working directory and a child's inherited files go on, at one common offset") {
  Service service(catalog(), kSpecs[1], milliseconds(20'000));
  Steps steps;
  const pid_t client = service.client([&] {
    if (calls::mkdirat(AT_FDCWD, "/mnt/m/d", 0755) != 0 || calls::chdir("/mnt/m/d") != 0) return 1;
    const int file = static_cast<int>(open_file("f", O_CREAT | O_RDWR));
    if (!writes(file, "0123456789") || calls::lseek(file, 2, SEEK_SET) != 2) return 2;
    client::share_all();
    const pid_t child = ::fork();
    if (child == 0) {
      client::after_fork_in_child();
      steps.await(2);
      ::_exit(reads(file, "23") ? 0 : 1);
    }
    steps.reach(1);
    steps.await(2);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return 3;
    if (!reads(file, "45")) return 4;
    return writes(open_file("g", O_CREAT | O_RDWR), "x") ? 0 : 5;
  });
  steps.await(1);
  service.kill();
  service.start();
  steps.reach(2);
  CHECK(status_of(client) == 0);
  CHECK(std::filesystem::exists(service.files() + "/upper/d/g"));
}

TEST_CASE("without another service calls fail after the wait, then at once, until one is there") {
  Service service(catalog(), kSpecs[0], milliseconds(100));
  Steps steps;
  const pid_t client = service.client([&] {
    const long file = open_file("/mnt/m/f", O_CREAT | O_RDWR);
    if (!writes(file, "text")) return 1;
    steps.reach(1);
    steps.await(2);
    for (int i = 0; i < 1000; ++i) {  // with a wait at each it would take two minutes
      if (calls::lseek(static_cast<int>(file), 0, SEEK_SET) != -EIO) return 2;
      if (open_file("/mnt/m/g", O_CREAT | O_RDWR) != -EIO) return 3;
    }
    steps.reach(3);
    steps.await(4);
    if (calls::lseek(static_cast<int>(file), 0, SEEK_SET) != 0 || !reads(file, "text")) return 4;
    return writes(open_file("/mnt/m/g", O_CREAT | O_RDWR), "x") ? 0 : 5;
  });
  steps.await(1);
  service.kill();
  steps.reach(2);
  steps.await(3);
  service.start();
  steps.reach(4);
  CHECK(status_of(client) == 0);
}

// What one client does in the test below: appends numbered lines at the file's offset and reads
// them back, and opens anew what was lost. The lines that were acknowledged are counted.
int write_lines(const char* path, Steps& steps) {
  constexpr std::size_t kLine = 8;
  long file = open_file(path, O_CREAT | O_RDWR);
  std::uint64_t lines = 0;
  unsigned failures = 0;
  while (steps.shared->step.load() == 0) {
    char line[kLine + 1];
    (void)std::snprintf(line, sizeof line, "%07llu\n",
                        static_cast<unsigned long long>(lines % 10'000'000));
    const long wrote = calls::write(static_cast<int>(file), line, kLine);
    if (wrote == static_cast<long>(kLine)) {
      ++lines;
      char back[kLine];
      const long got = calls::pread(static_cast<int>(file), back, kLine,
                                    static_cast<off_t>((lines - 1) * kLine));
      if (got == static_cast<long>(kLine)) {
        if (std::memcmp(back, line, kLine) != 0) return 1;
        continue;
      }
      if (got != -EIO) return 2;
    } else if (wrote != -EIO) {
      return 3;
    }
    // Nobody knows whether this line was written: it is written again, where it belongs.
    ++failures;
    (void)calls::close(static_cast<int>(file));
    file = open_file(path, O_RDWR);
    if (file < 0) return 4;
    if (calls::lseek(static_cast<int>(file), static_cast<off_t>(lines * kLine), SEEK_SET) < 0)
      return 5;
  }
  steps.shared->count.fetch_add(lines);
  struct stat status;
  if (calls::fstat(static_cast<int>(file), &status) != 0) return 6;
  if (static_cast<std::uint64_t>(status.st_size) != lines * kLine) return 7;
  return failures < 20 ? 0 : 8;
}

TEST_CASE("services are killed at work, again and again: nothing acknowledged is lost or doubled") {
  for (const char* spec : kSpecs) {
    CAPTURE(spec);
    constexpr int kKills = 30;
    Service service(catalog(), spec, milliseconds(20'000));
    Steps steps;
    std::vector<pid_t> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(service.client(
          [&, i] { return write_lines(("/mnt/m/lines" + std::to_string(i)).c_str(), steps); }));
    }
    for (int i = 0; i < kKills; ++i) {
      pause_for(20 + i % 7);
      service.kill();
      service.start();
    }
    pause_for(50);
    steps.reach(1);
    for (const pid_t client : clients) CHECK(status_of(client) == 0);
    CHECK(steps.shared->count.load() > 1000);
    CHECK(service.idle_status()["open_files"] == 0);
  }
}

TEST_CASE("64 threads of a process go on when the service is killed under them") {
  Service service(catalog(), kSpecs[0], milliseconds(20'000));
  Steps steps;
  const pid_t client = service.client([&] {
    std::atomic<int> failed{0};
    const auto fail = [&](const char* what, long result) {
      std::fprintf(stderr, "%s: %ld\n", what, result);
      failed.fetch_add(1);
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 64; ++t) {
      threads.emplace_back([&, t] {
        const std::string path = "/mnt/m/f" + std::to_string(t);
        const int file = static_cast<int>(open_file(path.c_str(), O_CREAT | O_RDWR));
        for (std::uint64_t i = 0; steps.shared->step.load() == 0; ++i) {
          if (i == 1) steps.shared->count.fetch_add(1);
          const long wrote = calls::pwrite(file, &i, sizeof i, 0);
          if (wrote != sizeof i) return fail("pwrite", wrote);
          std::uint64_t back = 0;
          const long got = calls::pread(file, &back, sizeof back, 0);
          if (got != sizeof back || back != i) return fail("pread", got);
          const long other = open_file(path.c_str(), O_RDONLY);
          if (other < 0) return fail("open", other);
          const long closed = calls::close(static_cast<int>(other));
          if (closed != 0) return fail("close", closed);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return failed.load() != 0 ? 1 : 0;
  });
  while (steps.shared->count.load() < 64) pause_for(1);
  for (int i = 0; i < 5; ++i) {
    service.kill();
    service.start();
    pause_for(100);
  }
  steps.reach(1);
  CHECK(status_of(client) == 0);
}

}  // namespace
}  // namespace libservices
