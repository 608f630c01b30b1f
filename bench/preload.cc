// SPDX-License-Identifier: Apache-2.0
//
// What the preload library costs a program that has nothing to do with it: the start of `true` and
// `ls` under `libservices run`, and calls on descriptors that are the kernel's.
//
// Prints one JSON object for bench/harness.py (bench/README.md has the form). Programs are started
// by turns with and without the library; a figure is the median. `added` rows are differences of
// medians. With --calls it is itself the program whose calls are timed.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

constexpr int kStarts = 400;
constexpr int kCallRounds = 21;
constexpr int kCallBatches = 200;
constexpr int kCallsInBatch = 1000;
constexpr char kMount[] = "/mnt/libservices-bench";

double since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

[[noreturn]] void fail(const std::string& what) {
  fmt::print(stderr, "libservices: bench: preload: {}\n", what);
  std::exit(1);
}

// Starts a program with its output at `output`; more variables than ours if it is to be preloaded.
pid_t start(const Words& words, const Words& variables, int output) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (const std::string& variable : variables) {
    environment.push_back(const_cast<char*>(variable.c_str()));
  }
  for (char** at = environ; *at != nullptr; ++at) environment.push_back(*at);
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) fail(fmt::format("{}: {}", words.front(), std::strerror(error)));
  return child;
}

void expect_success(pid_t child, const Words& words) {
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) fail(fmt::format("{} ended with status {}", fmt::join(words, " "), status));
}

// --- the calls, in a program of their own -------------------------------------------------------

template <class Call>
void time_calls(const char* name, Call&& call) {
  std::vector<double> batches;
  for (int batch = 0; batch < kCallBatches; ++batch) {
    const auto begin = Clock::now();
    for (int i = 0; i < kCallsInBatch; ++i) call();
    batches.push_back(since(begin) / kCallsInBatch);
  }
  fmt::print("{} {}\n", name, median(batches));
}

int run_calls() {
  int ends[2];
  if (::pipe(ends) != 0) return 1;
  char byte = 'x';
  const std::string block(4096, 'x');
  const int zero = ::open("/dev/zero", O_RDONLY);
  time_calls("write+read", [&] {
    (void)!::write(ends[1], &byte, 1);
    (void)!::read(ends[0], &byte, 1);
  });
  time_calls("lseek", [&] { (void)::lseek(zero, 0, SEEK_CUR); });
  time_calls("poll", [&] {
    pollfd one{ends[0], POLLIN, 0};
    (void)::poll(&one, 1, 0);
  });
  time_calls("open+close", [&] { ::close(::open("/dev/zero", O_RDONLY)); });
  time_calls("access of none", [&] { (void)::access("/etc/libservices-none", F_OK); });
  return 0;
}

std::map<std::string, double> calls_of(const Words& variables) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("no pipe");
  const Words words{"/proc/self/exe", "--calls"};
  const pid_t child = start(words, variables, ends[1]);
  ::close(ends[1]);
  std::map<std::string, double> found;
  FILE* const said = ::fdopen(ends[0], "r");
  char line[256];
  while (std::fgets(line, sizeof line, said) != nullptr) {
    char* const value = std::strrchr(line, ' ');
    *value = '\0';
    found[line] = std::atof(value + 1);
  }
  std::fclose(said);
  expect_success(child, words);
  return found;
}

// --- rows ---------------------------------------------------------------------------------------

std::string row(const std::string& name, double ours, double plain) {
  return fmt::format(R"({{"name": "{}", "ours": {:.1f}, "peers": {{"plain": {:.1f}}}}})", name,
                     ours, plain);
}
std::string added(const std::string& name, double ours, double plain, const std::string& at_most) {
  return fmt::format(R"({{"name": "{}", "ours": {:.1f}, "peers": {{}}, "at_most": {}}})", name,
                     std::max(ours - plain, 0.01), at_most);
}

}  // namespace

int main(int count, char** words) {
  if (count == 2 && std::strcmp(words[1], "--calls") == 0) return run_calls();
  const char* const built = std::getenv("LIBSERVICES_BENCH_PROGRAMS");
  if (built == nullptr) fail("run it by tools/bench preload");
  const std::string command = fmt::format("{}/src/cli/libservices", built);
  const std::string library = fmt::format("{}/src/preload/libservices-preload.so", built);
  ::setenv("LIBSERVICES_PRELOAD", library.c_str(), 1);
  char directory[] = "/tmp/libservices-bench.XXXXXX";
  if (::mkdtemp(directory) == nullptr) fail("no directory in /tmp");
  // On tmpfs, as a pool's is: a disk's journal takes part in each placeholder's end.
  char run_parent[] = "/dev/shm/libservices-bench.XXXXXX";
  if (::mkdtemp(run_parent) == nullptr) fail("no directory in /dev/shm");
  const std::string files = fmt::format("{}/files", directory);
  const std::string run_directory = fmt::format("{}/run", run_parent);
  std::filesystem::create_directory(files);
  for (int i = 0; i < 10; ++i) std::ofstream(fmt::format("{}/file{}", files, i)) << i;

  int ready[2];
  if (::pipe(ready) != 0) fail("no pipe");
  ::fcntl(ready[0], F_SETFD, FD_CLOEXEC);
  const pid_t service =
      start({command, "serve", "--mount", fmt::format("{}=local:{}", kMount, files),
             "--run-directory", run_directory, "--ready", std::to_string(ready[1])},
            {}, STDERR_FILENO);
  ::close(ready[1]);
  char newline = 0;
  if (::read(ready[0], &newline, 1) != 1) fail("the service did not start");

  const int nothing = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  const Words preloaded{"LD_PRELOAD=" + library, "LIBSERVICES_POOL=" + run_directory};
  struct Way {
    std::string name;
    Words words;
    Words variables;
    std::vector<double> times{};
  };
  Way ways[] = {
      {"true", {"/bin/true"}, {}},
      {"true, preloaded", {"/bin/true"}, preloaded},
      {"true, run", {command, "run", "--run-directory", run_directory, "--", "/bin/true"}, {}},
      {"ls", {"/bin/ls", files}, {}},
      {"ls, preloaded", {"/bin/ls", kMount}, preloaded},
      {"ls, run", {command, "run", "--run-directory", run_directory, "--", "/bin/ls", kMount}, {}},
  };
  for (int i = 0; i < kStarts; ++i) {
    for (Way& way : ways) {
      const auto begin = Clock::now();
      expect_success(start(way.words, way.variables, nothing), way.words);
      if (i > 0) way.times.push_back(since(begin));
    }
  }
  std::map<std::string, std::vector<double>> plain_calls;
  std::map<std::string, std::vector<double>> our_calls;
  for (int round = 0; round < kCallRounds; ++round) {
    for (const auto& [name, value] : calls_of({})) plain_calls[name].push_back(value);
    for (const auto& [name, value] : calls_of(preloaded)) our_calls[name].push_back(value);
  }
  ::kill(service, SIGTERM);
  ::waitpid(service, nullptr, 0);
  std::filesystem::remove_all(directory);
  std::filesystem::remove_all(run_parent);

  Words rows;
  for (int program = 0; program < 2; ++program) {
    const Way* const of = ways + program * 3;
    const double plain = median(of[0].times);
    for (int i = 1; i < 3; ++i) rows.push_back(row(of[i].name, median(of[i].times), plain));
    rows.push_back(
        added("added to " + of[0].name + " by run", median(of[2].times), plain, "300000"));
  }
  for (const auto& [name, values] : our_calls) {
    const double plain = median(plain_calls[name]);
    rows.push_back(row(name, median(values), plain));
    const double calls = name.find('+') != std::string::npos ? 2 : 1;
    rows.push_back(added("added to each: " + name, median(values) / calls, plain / calls,
                         name == "write+read" ? "10" : "null"));
  }
  fmt::print(
      R"({{"title": "a program's start, and calls on what is not ours", "settings": {{"starts": {}}}, "rows": [{}]}})"
      "\n",
      kStarts, fmt::join(rows, ", "));
}
