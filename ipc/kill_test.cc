// SPDX-License-Identifier: Apache-2.0
//
// Clients that are killed (SIGKILL, no handler runs) at every step of a request: with their input
// copied, between the stages of the queue, before and after the service knows, while they
// wait, asleep. Nobody else waits for them, and nothing of them remains.
//
// LIBSERVICES_KILLS says how many; the default is a few for every step.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "ipc/test_service.h"

namespace {

// In a client that is to die: how many fault points it may pass, and where it tells the last.
thread_local long passes_left = -1;
char* last_words = nullptr;
constexpr std::size_t kLastWords = 64;

}  // namespace

void reached_fault_point(const char* name) {
  if (passes_left < 0 || passes_left-- != 0) return;
  std::snprintf(last_words, kLastWords, "%s", name);
  ::kill(::getpid(), SIGKILL);
  ::pause();
}

namespace libservices::ipc {
namespace {

using namespace testing;
using Clock = std::chrono::steady_clock;

unsigned kills() {
  const char* wanted = std::getenv("LIBSERVICES_KILLS");
  return wanted != nullptr ? static_cast<unsigned>(std::strtoul(wanted, nullptr, 10)) : 1000;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

std::uint64_t resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  unsigned long total = 0;
  unsigned long resident = 0;
  const bool read = std::fscanf(file, "%lu %lu", &total, &resident) == 2;
  std::fclose(file);
  return read ? resident * 4096 : 0;
}

// A client that works until it has passed `passes` fault points. It answers its own request for
// requests of all sizes; every third one first waits until the service sleeps.
int client(const std::string& socket, long passes, unsigned seed) {
  FrontDriver driver;
  if (attach(driver, socket) != 0) return 1;
  RequestBuffer* const buffer = driver.take_buffer();
  std::mt19937 random(seed);
  passes_left = passes;
  for (unsigned i = 0; i < 10'000; ++i) {
    if (random() % 3 == 0) ::usleep(random() % 300);
    const std::uint32_t bytes = random() % 4 == 0 ? random() % 200'000 : random() % 100;
    if (random() % 5 == 0) {
      buffer->start(kSleep, 0);  // long enough that the client goes to sleep
      buffer->set_words(std::uint64_t{300});
      if (!driver.call(*buffer)) return 2;
    } else if (!reverses(driver, *buffer, i, bytes)) {
      return 3;
    }
  }
  return 4;
}

// The service in a process of its own, so that what it uses can be told from the test's.
class Server {
 public:
  struct Report {
    std::size_t descriptors;
    std::size_t sessions;
    unsigned threads;
    std::uint64_t refused;
    std::uint64_t resident;
    double cpu_seconds;
  };

  explicit Server(const std::string& directory) {
    int questions[2];
    int answers[2];
    REQUIRE(::pipe(questions) == 0);
    REQUIRE(::pipe(answers) == 0);
    process_ = ::fork();
    if (process_ == 0) {
      ::close(questions[1]);
      ::_exit(serve(directory, questions[0], answers[1]));
    }
    ::close(questions[0]);
    ::close(answers[1]);
    questions_ = questions[1];
    answers_ = answers[0];
    ask();  // it listens
  }
  ~Server() {
    ::close(questions_);
    CHECK(status_of(process_) == 0);
    ::close(answers_);
  }

  Report ask() const {
    Report now{};
    REQUIRE(::write(questions_, "?", 1) == 1);
    REQUIRE(::read(answers_, &now, sizeof now) == sizeof now);
    return now;
  }

 private:
  static int serve(const std::string& directory, int questions, int answers) {
    TestService service(directory);
    if (!service.start().ok()) return 1;
    char byte = 0;
    while (::read(questions, &byte, 1) == 1) {
      timespec cpu{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
      const auto counts = service.listener.counts();
      const Report now{open_descriptors(),
                       counts.sessions,
                       counts.threads,
                       counts.refused,
                       resident_bytes(),
                       static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec)};
      if (::write(answers, &now, sizeof now) != sizeof now) return 2;
    }
    service.stop();
    return 0;
  }

  pid_t process_ = -1;
  int questions_ = -1;
  int answers_ = -1;
};
using Report = Server::Report;

// A client of the same trust domain, that is, the same queues. It counts how long it has to wait.
class Bystander {
 public:
  explicit Bystander(const std::string& socket) {
    REQUIRE(attach(driver_, socket) == 0);
    thread_ = std::thread([this] { work(); });
  }
  ~Bystander() {
    stop_.store(true);
    thread_.join();
    driver_.detach();
  }
  void still_works() const {
    const std::uint64_t seen = asked_.load();
    wait_until([&] { return asked_.load() > seen + 100; });
  }
  int wrong() const { return wrong_.load(); }
  long longest_us() const { return longest_us_.load(); }
  std::uint64_t asked() const { return asked_.load(); }

 private:
  void work() {
    RequestBuffer* const buffer = driver_.take_buffer();
    for (std::uint64_t i = 0; !stop_.load(); ++i) {
      const auto start = Clock::now();
      if (!reverses(driver_, *buffer, i, 40)) wrong_.fetch_add(1);
      const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
      longest_us_.store(std::max(longest_us_.load(), static_cast<long>(took.count())));
      asked_.fetch_add(1);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    driver_.give_back(*buffer);
  }

  FrontDriver driver_;
  std::atomic<bool> stop_{false};
  std::atomic<int> wrong_{0};
  std::atomic<long> longest_us_{0};
  std::atomic<std::uint64_t> asked_{0};
  std::thread thread_;
};

TEST_CASE("clients killed at every step: others go on, and nothing of the dead remains") {
  const Watchdog watchdog(3600);
  last_words = static_cast<char*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const RunDirectory directory;
  Server server(directory.path());
  const auto ask = [&] { return server.ask(); };

  Bystander bystander(directory.socket());
  const auto kill_some = [&](unsigned count, unsigned seed,
                             std::map<std::string, unsigned>* where) {
    std::mt19937 random(seed);
    for (unsigned i = 0; i < count; ++i) {
      const long passes = static_cast<long>(random() % 60);
      const unsigned mine = static_cast<unsigned>(random());
      last_words[0] = '\0';
      const pid_t child = ::fork();
      if (child == 0) ::_exit(client(directory.socket(), passes, mine));
      REQUIRE(status_of(child) == 128 + SIGKILL);
      if (where != nullptr) ++(*where)[last_words];
    }
  };
  const auto at_rest = [&] {  // threads that have no work stay for a while
    wait_until([&] { return ask().sessions == 1; });
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    wait_until([&] { return ask().threads <= 4 || std::chrono::steady_clock::now() > give_up; });
    return ask();
  };
  kill_some(200, 1, nullptr);  // what is kept for the next session is there after that
  const Report before = at_rest();
  std::map<std::string, unsigned> where;
  kill_some(kills(), 2, &where);
  const Report after = at_rest();

  for (const auto& [name, count] : where) MESSAGE(name, ": ", count);
  MESSAGE("longest wait of the bystander: ", bystander.longest_us(), " us, of ", bystander.asked());
  for (const char* name :
       {"input copied", "posted in its buffer", "the service knows", "waiting", "about to sleep",
        "ticket drawn", "slot filled", "doorbell in the queue"}) {
    CAPTURE(name);
    CHECK(where[name] > 0);
  }
  CHECK(bystander.wrong() == 0);
  // Two for each region that is kept for the next session.
  CHECK(after.descriptors <= before.descriptors + 16);
  CHECK(after.threads <= 4);
  // Doorbells of the dead that name nothing any more; nobody has written others. On a busy machine
  // those of who waits have not been taken yet.
  CHECK(after.refused - before.refused <=
        where["slot filled"] + where["doorbell in the queue"] + where["the service knows"] +
            where["posted in its buffer"] + where["waiting"] + where["about to sleep"]);
  CHECK(after.resident < before.resident + (16U << 20U));
  bystander.still_works();  // every slot and buffer
}

TEST_CASE("clients that are stopped anywhere hold nobody up, and go on when they are let") {
  const Watchdog watchdog(120);
  const RunDirectory directory;
  const Server server(directory.path());
  constexpr unsigned kClients = 6;
  auto* const rounds = static_cast<std::atomic<unsigned>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<pid_t> clients;
  for (unsigned c = 0; c < kClients; ++c) {
    clients.push_back(in_child([&] {
      FrontDriver driver;
      if (attach(driver, directory.socket()) != 0) return 1;
      RequestBuffer* const buffer = driver.take_buffer();
      for (std::uint64_t i = 0; rounds->load() == 0; ++i) {
        if (!reverses(driver, *buffer, i, static_cast<std::uint32_t>(i * 37 % 3000))) return 2;
      }
      return 0;
    }));
  }
  {
    Bystander bystander(directory.socket());
    std::mt19937 random(3);
    for (int i = 0; i < 60; ++i) {
      for (const pid_t client : clients) {
        if (random() % 2 == 0) ::kill(client, SIGSTOP);
      }
      ::usleep(5000 + random() % 10'000);
      for (const pid_t client : clients) ::kill(client, SIGCONT);
      ::usleep(random() % 1000);
    }
    for (const pid_t client : clients) ::kill(client, SIGSTOP);
    bystander.still_works();
    for (const pid_t client : clients) ::kill(client, SIGCONT);
    MESSAGE("longest wait of the bystander: ", bystander.longest_us(), " us, of ",
            bystander.asked());
    CHECK(bystander.wrong() == 0);
  }
  rounds->store(1);
  for (const pid_t client : clients) CHECK(status_of(client) == 0);
}

// For half a second, as fast as it can; the service's processor time meanwhile, as a share of it.
double share_under(const Server& server, const std::function<void()>& storm) {
  const double before = server.ask().cpu_seconds;
  const auto start = Clock::now();
  while (Clock::now() - start < std::chrono::milliseconds(500)) storm();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return (server.ask().cpu_seconds - before) / seconds;
}

TEST_CASE("who wakes the service for nothing has a small share of its processor time") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  const Server server(directory.path());
  RawSession session;
  REQUIRE(session.attach(directory.socket()));
  REQUIRE(session.queue != nullptr);
  double share = 0;
  SUBCASE("by ringing") {
    share = share_under(server, [&] { session.queue->bell.ring(1); });
  }
  SUBCASE("by doorbells that name nothing") {
    share = share_under(server, [&] {
      (void)session.queue->doorbells.try_enqueue(doorbell_of(session.welcome.session, 63));
      session.queue->wake();
    });
  }
  SUBCASE("by doorbells of sessions that are not") {
    share = share_under(server, [&] {
      (void)session.queue->doorbells.try_enqueue(doorbell_of(1000, 0));
      session.queue->wake();
    });
  }
  MESSAGE("share: ", share);
  CHECK(share < 0.5);  // about 0.1 on a quiet machine; a thread that spins has 1
  // And who has a request gets its answer.
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  RequestBuffer* const buffer = driver.take_buffer();
  for (unsigned i = 0; i < 100; ++i) REQUIRE(reverses(driver, *buffer, i, 8));
  driver.detach();
  session.detach();
}

}  // namespace
}  // namespace libservices::ipc
