// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/ceph/cluster.h"
#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

constexpr const char* kTool = "tools/cluster";  // where Bazel runs a test
constexpr int kPackagesMissing = 77;

std::unique_ptr<Ceph> root;
std::string conf;
std::string up_at;

// The tool's exit status.
int run_tool(const std::vector<std::string>& arguments) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<char*> words{const_cast<char*>(kTool)};
    for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execv(kTool, words.data());
    std::perror(kTool);
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return 126;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}

}  // namespace

Ceph& cluster_root() { return *root; }

void cluster_tool(std::string verb, std::initializer_list<std::string> words) {
  std::vector<std::string> arguments{std::move(verb), up_at};
  arguments.insert(arguments.end(), words);
  if (const int status = run_tool(arguments); status != 0) {
    throw std::runtime_error(arguments[0] + " ends with status " + std::to_string(status));
  }
}

Ceph::Config cluster_config(std::string directory) {
  Ceph::Config config;
  config.directory = std::move(directory);
  config.conf_file = conf;
  config.cache_bytes = 64U << 20U;
  return config;
}

Ceph::Config second_client_config(std::string directory) {
  Ceph::Config config = cluster_config(std::move(directory));
  config.cache_bytes += 4096;
  return config;
}

std::string fresh_directory() {
  static std::atomic<int> made{0};
  const std::string name = "d" + std::to_string(made.fetch_add(1));
  const Context context;
  const auto top = root->root(context);
  if (!top.ok() || !root->mkdir(context, top->node, name, {.mode = 0755}).ok()) {
    throw std::runtime_error("mkdir /" + name);
  }
  return "/" + name;
}

namespace {

int run(int argc, char** argv) {
  const ScratchDirectory scratch;
  up_at = scratch.path() + "/cluster";
  std::vector<std::string> arguments{"up", "--while", std::to_string(::getpid()), up_at};
  if (argc > 1 && std::string(argv[1]) == "--bluestore")
    arguments.insert(arguments.begin() + 1, argv[1]);
  const int up = run_tool(arguments);
  if (up == kPackagesMissing && std::getenv("LIBSERVICES_REQUIRE_CEPH") == nullptr) {
    std::puts("SKIPPED: Ceph is not installed (tools/packages-install)");
    return 0;
  }
  if (up != 0) return up;
  conf = up_at + "/ceph.conf";
  root = std::make_unique<Ceph>(cluster_config("/"));
  int failed = 1;
  if (const absl::Status started = root->start(); started.ok()) {
    failed = doctest::Context(argc, argv).run();
    if (const absl::Status stopped = root->stop(); !stopped.ok()) {
      std::fprintf(stderr, "%s\n", std::string(stopped.message()).c_str());
      failed = 1;
    }
  } else {
    std::fprintf(stderr, "%s\n", std::string(started.message()).c_str());
  }
  root.reset();
  if (run_tool({"down", up_at}) != 0) failed = 1;
  return failed;
}

}  // namespace
}  // namespace libservices::testing

int main(int argc, char** argv) { return libservices::testing::run(argc, argv); }
