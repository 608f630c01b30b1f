// SPDX-License-Identifier: Apache-2.0
#include "src/host/private_run_directory.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "src/host/mount_services.h"
#include "src/host/run_directory.h"

namespace libservices::host {
namespace {

// Names of this process alone: other tests look at the same directories.
std::string name_of(const char* test) {
  return "libservices-" + std::string(test) + "-" + std::to_string(::getpid());
}
std::string make(const std::string& name, std::vector<PrivateRunDirectory>& kept) {
  auto made = PrivateRunDirectory::make(name);
  REQUIRE_MESSAGE(made.ok(), std::string(made.status().message()));
  kept.push_back(*std::move(made));
  return kept.back().path();
}
bool exists(const std::string& path) { return std::filesystem::exists(path); }

// What a process that was killed has left; its path.
std::string left_behind(const std::string& name) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto made = PrivateRunDirectory::make(name);
    if (!made.ok()) ::_exit(1);
    std::ofstream(made->path() + "/lock") << "12345\n";
    std::filesystem::create_directory(made->path() + "/placeholders");
    (void)!::write(ends[1], made->path().data(), made->path().size());
    ::kill(::getpid(), SIGKILL);
  }
  ::close(ends[1]);
  std::string path(4096, '\0');
  const ssize_t bytes = ::read(ends[0], path.data(), path.size());
  ::close(ends[0]);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  REQUIRE(bytes > 0);
  path.resize(static_cast<std::size_t>(bytes));
  return path;
}

TEST_CASE("a private run directory goes with its owner") {
  std::string path;
  {
    std::vector<PrivateRunDirectory> kept;
    path = make(name_of("end"), kept);
    CHECK(exists(path));
    std::ofstream(path + "/mounts") << "text";
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("what a killed process has left goes with the next start, and nothing else does") {
  const std::string name = name_of("kill");
  std::vector<PrivateRunDirectory> kept;
  const std::string living = make(name, kept);
  const std::string dead = left_behind(name);
  const std::string other = left_behind(name + "x");
  CHECK(exists(dead));
  // A service of before that holds its lock alone.
  const std::string served = left_behind(name);
  CHECK_FALSE(exists(dead));
  auto claimed = RunDirectory::claim(served, 0700);
  REQUIRE(claimed.ok());
  // Somebody else's, as far as that can be made.
  const std::string foreign = left_behind(name + "x");
  CHECK_FALSE(exists(other));
  if (::geteuid() == 0) REQUIRE(::chown(foreign.c_str(), 1, 1) == 0);
  (void)make(name, kept);
  (void)make(name + "x", kept);
  CHECK(exists(living));
  CHECK(exists(served));
  if (::geteuid() == 0) CHECK(exists(foreign));
  std::filesystem::remove_all(foreign);
}

TEST_CASE("who makes and who sweeps at the same time take nothing from each other") {
  const std::string name = name_of("race");
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 100; ++turn) {
        const auto made = PrivateRunDirectory::make(name);
        if (!made.ok() || !std::ofstream(made->path() + "/file").put('x')) ++lost;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(lost == 0);
}

TEST_CASE("pools of mounts have names of their own") {
  CHECK(pool_of_mount("/srv/web") == "srv-web");
  CHECK(pool_of_mount("/srv-web") != pool_of_mount("/srv/web"));
  CHECK(pool_of_mount("/a b") != pool_of_mount("/a,b"));
  CHECK(pool_of_mount("/" + std::string(200, 'x') + "1") !=
        pool_of_mount("/" + std::string(200, 'x') + "2"));
  for (const std::string& path :
       {std::string("/.hidden"), std::string("/a b/ü"), "/" + std::string(250, '-')}) {
    CAPTURE(path);
    CHECK(run_directory_of(pool_of_mount(path)).ok());
  }
}

}  // namespace
}  // namespace libservices::host
