// SPDX-License-Identifier: Apache-2.0
//
// The request path by itself: an empty request and its answer between two processes, beside what
// the kernel has for the purpose (a pipe, a Unix socket, an eventfd, a FUSE getattr).
//
//   trip      one client, both ends busy: time of one round trip, median and 99th percentile
//   asleep    the same after 3 ms of silence, when both ends sleep; and how often the client slept
//   crowd     1 to 32 clients at once, threads of one process or processes: time for each request
//   attach    a session, from nothing; and its first answer
//   idle      CPU time of a service with a session and no requests, in one minute
//
// Prints one JSON object for bench/harness.py (bench/README.md has the form). What is compared
// takes turns, in ten rounds; figures are medians of the rounds.
#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fmt/format.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ipc/front_driver.h"
#include "ipc/session.h"

namespace {

namespace ipc = libservices::ipc;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 10;
constexpr int kTrips = 10'000;
constexpr int kAsleepTrips = 20;
constexpr auto kSilence = std::chrono::milliseconds(3);
constexpr auto kCrowdFor = std::chrono::milliseconds(150);

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

// The processors that this run may use: the first, and the last, which is the first if there is
// but one.
struct Cores {
  Cores() {
    const std::vector<int> allowed = ipc::allowed_cpus();
    client = allowed.front();
    other = allowed.back();
  }
  int client = 0;
  int other = 0;
};

void run_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) give_up("sched_setaffinity");
}

// A directory that is gone when the benchmark ends.
struct Scratch {
  Scratch() {
    if (::mkdtemp(path.data()) == nullptr) give_up("mkdtemp");
  }
  ~Scratch() { std::filesystem::remove_all(path); }
  std::string path = "/tmp/libservices-bench-XXXXXX";
};

// A child process; it ends with this object, or with its parent.
class Child {
 public:
  // `body` calls its argument when it is ready.
  explicit Child(const std::function<void(const std::function<void()>&)>& body) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) give_up("pipe");
    pid_ = ::fork();
    if (pid_ < 0) give_up("fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      body([&] {
        if (::write(ready[1], "r", 1) != 1) ::_exit(1);
      });
      ::_exit(0);
    }
    ::close(ready[1]);
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) give_up("a child that serves");
    ::close(ready[0]);
  }
  ~Child() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// One way to ask another process and get an answer. `server_cpu` is -1 for any.
class Way {
 public:
  virtual ~Way() = default;
  virtual void trip() = 0;
};

// ---- ours

void serve(const std::string& directory, int cpu, const std::function<void()>& ready) {
  if (cpu >= 0) run_on(cpu);
  ipc::SessionListener::Hooks hooks;
  hooks.handle = [](ipc::ServerSession&, const ipc::TakenRequest&, ipc::RequestBuffer& buffer) {
    buffer.answer.error = 0;
    buffer.answer.output_bytes = 0;
  };
  ipc::SessionListener listener(directory, hooks, {});
  static ipc::SessionListener* running = nullptr;
  running = &listener;
  if (!listener.start().ok()) give_up("the service");
  ::signal(SIGTERM, [](int) { running->stop(); });
  ready();
  listener.run();
  listener.finish();
}

void attach(ipc::FrontDriver& driver, const std::string& directory) {
  char upper[8];
  std::size_t upper_bytes = 0;
  int descriptors[1];
  unsigned count = 1;
  if (driver.attach((directory + "/socket").c_str(), upper, sizeof upper, upper_bytes, descriptors,
                    count) != 0) {
    give_up("attach");
  }
}

void ask(ipc::FrontDriver& driver, ipc::RequestBuffer& buffer) {
  buffer.start(0, 0);
  if (!driver.call(buffer)) give_up("call");
}

class Queue : public Way {
 public:
  explicit Queue(int cpu) : child_([&](const auto& ready) { serve(scratch_.path, cpu, ready); }) {
    attach(driver_, scratch_.path);
    buffer_ = driver_.take_buffer();
  }
  ~Queue() override { driver_.detach(); }
  void trip() override { ask(driver_, *buffer_); }
  const std::string& directory() const { return scratch_.path; }
  pid_t service() const { return child_.pid(); }

 private:
  Scratch scratch_;
  Child child_;
  ipc::FrontDriver driver_;
  ipc::RequestBuffer* buffer_ = nullptr;
};

// ---- the kernel's

// Eight bytes there and eight back.
class Descriptors : public Way {
 public:
  enum class Kind { kPipe, kSocket, kEventfd };
  Descriptors(Kind kind, int cpu) {
    int to[2];
    int from[2];
    if (kind == Kind::kPipe) {
      if (::pipe(to) != 0 || ::pipe(from) != 0) give_up("pipe");
    } else if (kind == Kind::kSocket) {
      int pair[2];
      if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) give_up("socketpair");
      to[1] = from[0] = pair[0];
      to[0] = from[1] = pair[1];
    } else {
      to[0] = to[1] = ::eventfd(0, 0);
      from[0] = from[1] = ::eventfd(0, 0);
    }
    out_ = to[1];
    in_ = from[0];
    peer_in_ = to[0];
    peer_out_ = from[1];
    child_ = std::make_unique<Child>([&](const auto& ready) {
      run_on(cpu);
      ready();
      for (std::uint64_t word = 0; ::read(peer_in_, &word, sizeof word) == sizeof word;) {
        if (::write(peer_out_, &word, sizeof word) != sizeof word) break;
      }
    });
  }
  ~Descriptors() override {
    child_.reset();
    for (const int descriptor : {out_, in_, peer_in_, peer_out_}) ::close(descriptor);
  }
  void trip() override {
    std::uint64_t word = 1;
    if (::write(out_, &word, sizeof word) != sizeof word ||
        ::read(in_, &word, sizeof word) != sizeof word) {
      give_up("a round trip");
    }
  }

 private:
  int out_ = -1;
  int in_ = -1;
  int peer_in_ = -1;
  int peer_out_ = -1;
  std::unique_ptr<Child> child_;
};

// fstat on a file of a FUSE filesystem that lets the kernel keep no attributes.
class Fuse : public Way {
 public:
  explicit Fuse(int cpu)
      : child_([&](const auto& ready) { serve(scratch_.path, cpu, ready); }),
        file_(::open((scratch_.path + "/file").c_str(), O_RDONLY | O_PATH)) {
    if (file_ < 0) give_up("a file on FUSE");
  }
  ~Fuse() override {
    ::close(file_);
    ::umount2(scratch_.path.c_str(), MNT_DETACH);
  }
  void trip() override {
    struct stat status {};
    if (::fstat(file_, &status) != 0) give_up("fstat");
  }

 private:
  static void serve(const std::string& directory, int cpu, const std::function<void()>& ready) {
    run_on(cpu);
    fuse_lowlevel_ops operations{};
    operations.lookup = [](fuse_req_t request, fuse_ino_t, const char*) {
      fuse_entry_param entry{};
      entry.ino = entry.attr.st_ino = 2;
      entry.attr.st_mode = S_IFREG | 0644;
      entry.attr.st_nlink = 1;
      fuse_reply_entry(request, &entry);
    };
    operations.getattr = [](fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
      struct stat status {};
      status.st_ino = inode;
      status.st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0755U : S_IFREG | 0644U;
      status.st_nlink = 1;
      fuse_reply_attr(request, &status, 0);
    };
    char name[] = "ipc";
    char* words[] = {name};
    fuse_args arguments = FUSE_ARGS_INIT(1, words);
    fuse_session* const session =
        fuse_session_new(&arguments, &operations, sizeof operations, nullptr);
    if (session == nullptr || fuse_set_signal_handlers(session) != 0 ||
        fuse_session_mount(session, directory.c_str()) != 0) {
      give_up("FUSE");
    }
    ready();
    fuse_session_loop(session);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
  }

  Scratch scratch_;
  Child child_;
  int file_ = -1;
};

// ---- measuring

double elapsed(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double at(std::vector<double>& sorted_later, double share) {
  const auto index = static_cast<std::size_t>(share * static_cast<double>(sorted_later.size() - 1));
  std::nth_element(sorted_later.begin(), sorted_later.begin() + static_cast<std::ptrdiff_t>(index),
                   sorted_later.end());
  return sorted_later[index];
}

// Rows of the answer: each a name and what every system took, in ns, one value for each round.
class Rows {
 public:
  void add(const std::string& row, const std::string& system, double value) {
    if (!values_.contains(row)) order_.push_back(row);
    auto& systems = values_[row];
    const auto found = std::find_if(systems.begin(), systems.end(),
                                    [&](const auto& entry) { return entry.first == system; });
    if (found == systems.end()) {
      systems.push_back({system, {value}});
    } else {
      found->second.push_back(value);
    }
  }
  std::string json() {
    std::string text;
    for (const std::string& row : order_) {
      std::string ours = "null";
      std::string peers;
      for (auto& [system, values] : values_[row]) {
        const std::string median = fmt::format("{:.1f}", at(values, 0.5));
        if (system == "ours") {
          ours = median;
        } else {
          peers += fmt::format("{}\"{}\": {}", peers.empty() ? "" : ", ", system, median);
        }
      }
      const char* const unit = row.find("sleeps in") == std::string::npos ? "ns" : "sleeps";
      text +=
          fmt::format("{}{{\"name\": \"{}\", \"unit\": \"{}\", \"ours\": {}, \"peers\": {{{}}}}}",
                      text.empty() ? "" : ",\n ", row, unit, ours, peers);
    }
    return text;
  }

 private:
  std::vector<std::string> order_;
  std::map<std::string, std::vector<std::pair<std::string, std::vector<double>>>> values_;
};

void trips(Rows& rows, const char* where, const char* system, Way& way) {
  std::vector<double> times(kTrips);
  for (int i = 0; i < kTrips / 10; ++i) way.trip();
  auto start = Clock::now();
  for (double& time : times) {
    way.trip();
    const auto end = Clock::now();
    time = std::chrono::duration<double, std::nano>(end - start).count();
    start = end;
  }
  rows.add(fmt::format("trip, {}, p50", where), system, at(times, 0.5));
  rows.add(fmt::format("trip, {}, p99", where), system, at(times, 0.99));
}

void asleep(Rows& rows, const char* where, const char* system, Way& way) {
  std::vector<double> times(kAsleepTrips);
  long slept = 0;
  for (double& time : times) {
    std::this_thread::sleep_for(kSilence);
    rusage before{};
    rusage after{};
    ::getrusage(RUSAGE_THREAD, &before);
    const auto start = Clock::now();
    way.trip();
    time = elapsed(start);
    ::getrusage(RUSAGE_THREAD, &after);
    slept += after.ru_nvcsw - before.ru_nvcsw;
  }
  rows.add(fmt::format("asleep, {}", where), system, at(times, 0.5));
  rows.add(fmt::format("asleep, {}, sleeps in 1000", where), system,
           1000.0 * static_cast<double>(slept) / static_cast<double>(kAsleepTrips));
}

// What the clients of a crowd share.
struct Crowd {
  std::atomic<std::uint32_t> ready;
  std::atomic<std::uint32_t> go;
  std::atomic<std::uint32_t> stop;
  std::atomic<std::uint64_t> done;
};

void one_of(Crowd& crowd, ipc::FrontDriver& driver) {
  ipc::RequestBuffer* const buffer = driver.take_buffer();
  if (buffer == nullptr) give_up("a buffer");
  ask(driver, *buffer);
  crowd.ready.fetch_add(1);
  while (crowd.go.load() == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  std::uint64_t done = 0;
  while (crowd.stop.load(std::memory_order_relaxed) == 0) {
    ask(driver, *buffer);
    ++done;
  }
  crowd.done.fetch_add(done);
  driver.give_back(*buffer);
}

// ns for each request of `clients` at once.
double crowd(const std::string& directory, unsigned clients, bool processes) {
  auto* const shared = static_cast<Crowd*>(
      ::mmap(nullptr, sizeof(Crowd), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (shared == MAP_FAILED) give_up("mmap");
  ipc::FrontDriver driver;
  std::vector<std::thread> threads;
  std::vector<pid_t> children;
  if (!processes) attach(driver, directory);
  for (unsigned i = 0; i < clients; ++i) {
    if (!processes) {
      threads.emplace_back([&] { one_of(*shared, driver); });
      continue;
    }
    const pid_t child = ::fork();
    if (child < 0) give_up("fork");
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ipc::FrontDriver mine;
      attach(mine, directory);
      one_of(*shared, mine);
      ::_exit(0);
    }
    children.push_back(child);
  }
  while (shared->ready.load() != clients) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  shared->go.store(1);
  const auto start = Clock::now();
  std::this_thread::sleep_for(kCrowdFor);
  shared->stop.store(1);
  const double time = elapsed(start);
  for (std::thread& thread : threads) thread.join();
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  if (!processes) driver.detach();
  const auto done = static_cast<double>(shared->done.load());
  ::munmap(shared, sizeof(Crowd));
  return time / std::max(done, 1.0);
}

void beginning(Rows& rows, const std::string& directory) {
  ipc::FrontDriver driver;
  auto start = Clock::now();
  attach(driver, directory);
  rows.add("attach", "ours", elapsed(start));
  ipc::RequestBuffer* const buffer = driver.take_buffer();
  start = Clock::now();
  ask(driver, *buffer);
  rows.add("first answer", "ours", elapsed(start));
  driver.give_back(*buffer);
  driver.detach();
}

// CPU time that a process has used, in ns.
double cpu_time(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
    give_up("the CPU time of the service");
  }
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

void placed(Rows& rows, const char* where, int client, int server) {
  cpu_set_t before;
  ::sched_getaffinity(0, sizeof before, &before);
  run_on(client);
  Queue ours(server);
  Descriptors pipe(Descriptors::Kind::kPipe, server);
  Descriptors socket(Descriptors::Kind::kSocket, server);
  Descriptors eventfd(Descriptors::Kind::kEventfd, server);
  std::unique_ptr<Fuse> fuse;
  if (::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0) {
    fuse = std::make_unique<Fuse>(server);
  }
  std::vector<std::pair<const char*, Way*>> ways = {
      {"ours", &ours}, {"pipe", &pipe}, {"socket", &socket}, {"eventfd", &eventfd}};
  if (fuse != nullptr) ways.emplace_back("FUSE", fuse.get());
  for (int round = 0; round < kRounds; ++round) {
    for (auto& [system, way] : ways) trips(rows, where, system, *way);
    for (auto& [system, way] : ways) asleep(rows, where, system, *way);
  }
  ::sched_setaffinity(0, sizeof before, &before);
}

}  // namespace

int main() {
  Rows rows;
  const Cores cores;
  if (cores.client != cores.other) placed(rows, "two cores", cores.client, cores.other);
  placed(rows, "one core", cores.client, cores.client);
  {
    const Queue service(-1);
    for (int round = 0; round < kRounds; ++round) {
      const double single = crowd(service.directory(), 1, false);
      for (const unsigned clients : {2U, 8U, 32U}) {
        for (const bool processes : {false, true}) {
          const std::string row =
              fmt::format("crowd, {} {}", clients, processes ? "processes" : "threads");
          rows.add(row, "ours", crowd(service.directory(), clients, processes));
          rows.add(row, "one client", single);
        }
      }
      for (int i = 0; i < 20; ++i) beginning(rows, service.directory());
    }
    std::this_thread::sleep_for(std::chrono::seconds(5));  // it comes to rest
    const double rest = cpu_time(service.service());
    std::this_thread::sleep_for(std::chrono::seconds(6));
    rows.add("idle, CPU in a minute", "ours", 10 * (cpu_time(service.service()) - rest));
  }
  fmt::print(
      "{{\"title\": \"an empty request and its answer\",\n \"settings\": {{\"rounds\": {}, "
      "\"trips\": {}}},\n \"rows\": [{}]}}\n",
      kRounds, kTrips, rows.json());
  return 0;
}
