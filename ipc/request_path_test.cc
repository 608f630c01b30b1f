// SPDX-License-Identifier: Apache-2.0
// Requests between processes: what comes back, and what happens when one of the two dies or lies.
#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "ipc/test_service.h"

namespace libservices::ipc {
namespace {

using namespace testing;

TEST_CASE_FIXTURE(Attached, "words and bytes come back from the handler, from none to the most") {
  RequestBuffer* buffer = driver.take_buffer();
  REQUIRE(buffer != nullptr);
  for (const std::uint32_t bytes : {0U, 1U, 4096U, 1U << 20U, kDataBytes}) {
    CHECK(reverses(driver, *buffer, bytes + 1, bytes));
  }
  CHECK(call(driver, *buffer, 999));
  CHECK(buffer->answer.error == ENOSYS);
  driver.give_back(*buffer);
}

TEST_CASE_FIXTURE(
    Attached, "a request that claims more input than there is room for never reaches the handler") {
  RequestBuffer* buffer = driver.take_buffer();
  struct Bad {
    std::uint32_t bytes;
    std::uint16_t inlined;
  };
  for (const auto& [bytes, inlined] :
       {Bad{kDataBytes + 1, 0}, Bad{UINT32_MAX, 0}, Bad{8 * (kRequestWords + 1) + 1, 1}}) {
    buffer->start(kReverse, 0);
    buffer->request.inlined = inlined;
    buffer->request.input_bytes = bytes;
    CHECK(driver.call(*buffer));
    CHECK(buffer->answer.error == EINVAL);
  }
  CHECK(service.served.load() == 0);
  CHECK(service.listener.counts().refused == 3);
}

TEST_CASE_FIXTURE(Attached, "64 threads share the buffers of one session") {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 64; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 200; ++i) {
        RequestBuffer* buffer = nullptr;
        while ((buffer = driver.take_buffer(t)) == nullptr) std::this_thread::yield();
        if (!reverses(driver, *buffer, t * 1000 + i, i)) wrong.fetch_add(1);
        driver.give_back(*buffer);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
  CHECK(service.served.load() == 64 * 200);
}

TEST_CASE_FIXTURE(Attached, "more threads than buffers: who finds none is told so") {
  std::vector<RequestBuffer*> taken;
  for (unsigned i = 0; i < kBuffersInSession; ++i) taken.push_back(driver.take_buffer(i * 7));
  std::sort(taken.begin(), taken.end());
  CHECK(std::unique(taken.begin(), taken.end()) == taken.end());
  CHECK(taken.front() != nullptr);
  CHECK(driver.take_buffer() == nullptr);
  driver.give_back(*taken[17]);
  CHECK(driver.take_buffer() == taken[17]);
}

TEST_CASE("client and service on one core" * doctest::skip(kThreadSanitizer)) {
  const Watchdog watchdog(120);
  const RunDirectory directory;
  const pid_t server = in_child([&] {
    if (!run_on(0)) return 1;
    TestService service(directory.path());
    if (!service.start().ok()) return 2;
    service.released.wait(0);
    return 0;
  });
  const pid_t client = in_child([&] {
    if (!run_on(0)) return 1;
    FrontDriver driver;
    while (attach(driver, directory.socket()) != 0) ::usleep(1000);
    RequestBuffer* buffer = driver.take_buffer();
    for (unsigned i = 0; i < 5000; ++i) {
      if (!reverses(driver, *buffer, i, i % 64)) return 2;
    }
    return call(driver, *buffer, kRelease) ? 0 : 3;
  });
  CHECK(status_of(client) == 0);
  CHECK(status_of(server) == 0);
}

TEST_CASE("a request is served in the core group that it comes from, also after a move") {
  const Watchdog watchdog(60);
  const std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < 2) {
    MESSAGE("SKIPPED: there is one processor");
    return;
  }
  const RunDirectory directory;
  TestService service(directory.path(), {}, {}, {{cpus[0]}, {cpus[1]}});
  REQUIRE(service.start().ok());
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  CHECK(service.listener.counts().queues == 2);
  RequestBuffer* buffer = driver.take_buffer();
  std::thread([&] {
    for (int move = 0; move < 20; ++move) {
      const int cpu = cpus[static_cast<std::size_t>(move % 2)];
      REQUIRE(run_on(cpu));
      CHECK(call(driver, *buffer, kCpu));  // whoever watched the buffer may have answered this one
      for (int i = 0; i < 20; ++i) {
        REQUIRE(call(driver, *buffer, kCpu));
        CHECK(buffer->answer.words[0] == static_cast<std::uint64_t>(cpu));
      }
    }
  }).join();
  driver.detach();
}

TEST_CASE("requests that wait for another request do not hold it up") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  for (int round = 0; round < 5; ++round) {
    TestService service(directory.path());
    REQUIRE(service.start().ok());
    FrontDriver driver;
    REQUIRE(attach(driver, directory.socket()) == 0);
    std::atomic<int> answered{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t) {
      threads.emplace_back([&] {
        RequestBuffer* buffer = driver.take_buffer();
        if (call(driver, *buffer, kAwait)) answered.fetch_add(1);
        driver.give_back(*buffer);
      });
    }
    wait_until([&] { return service.awaiting.load() == 8; });
    RequestBuffer* buffer = driver.take_buffer();
    CHECK(reverses(driver, *buffer, 3, 100));
    CHECK(answered.load() == 0);
    CHECK(call(driver, *buffer, kRelease));
    for (std::thread& thread : threads) thread.join();
    CHECK(answered.load() == 8);
    driver.detach();
  }
}

// How often the threads of this process have been scheduled so far.
std::uint64_t context_switches() {
  std::uint64_t sum = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.' || std::atoi(entry->d_name) == ::getpid()) continue;
    const std::string path = std::string("/proc/self/task/") + entry->d_name + "/status";
    FILE* file = std::fopen(path.c_str(), "r");
    if (file == nullptr) continue;
    char line[256];
    unsigned long long count = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
      if (std::sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1 ||
          std::sscanf(line, "nonvoluntary_ctxt_switches: %llu", &count) == 1) {
        sum += count;
      }
    }
    std::fclose(file);
  }
  ::closedir(tasks);
  return sum;
}

// That no thread but the caller's runs any more. Hangs, for the watchdog, if some never stop.
void wait_until_idle() {
  while (!kThreadSanitizer) {
    const std::uint64_t before = context_switches();
    ::usleep(300'000);
    if (context_switches() == before) return;
  }
}

TEST_CASE_FIXTURE(Attached, "a long request in one hot buffer does not hold up those in others") {
  RequestBuffer* first = driver.take_buffer();
  RequestBuffer* second = driver.take_buffer();
  int both_watched = 0;
  for (int round = 0; round < 20; ++round) {
    service.released.store(0);
    service.awaiting.store(0);
    for (unsigned i = 0; i < 50; ++i) {
      REQUIRE(reverses(driver, *first, i, i));
      REQUIRE(reverses(driver, *second, i, i));
      if (first->watched.load() != 0 && second->watched.load() != 0) ++both_watched;
    }
    std::thread waiter([&] { CHECK(call(driver, *first, kAwait)); });
    wait_until([&] { return service.awaiting.load() == 1; });
    for (unsigned i = 0; i < 50; ++i) CHECK(reverses(driver, *second, i, i));
    CHECK(call(driver, *second, kRelease));
    waiter.join();
  }
  CHECK(both_watched > 0);
}

TEST_CASE_FIXTURE(Attached,
                  "a request that comes while the service falls asleep is served at once") {
  RequestBuffer* buffer = driver.take_buffer();
  std::mt19937 random(7);
  auto slowest = std::chrono::nanoseconds(0);
  for (unsigned i = 0; i < 20'000; ++i) {
    const auto pause = std::chrono::nanoseconds(20'000 + random() % 60'000);  // it looks for 50 µs
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < pause) cpu_relax();
    const auto posted = std::chrono::steady_clock::now();
    REQUIRE(reverses(driver, *buffer, i, 8));
    slowest = std::max(slowest, std::chrono::steady_clock::now() - posted);
  }
  // A missed one is posted again after a second.
  CHECK(slowest < std::chrono::milliseconds(900));
}

TEST_CASE_FIXTURE(Attached, "no request is forgotten while service threads come and go") {
  std::atomic<std::int64_t> slowest{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      RequestBuffer* buffer = driver.take_buffer(t);
      for (unsigned i = 0; i < 1500; ++i) {
        // Long ones hold a thread up, so that others become active; pauses let them sleep again.
        const bool is_long = t < 2 && i % 20 == 0;
        std::this_thread::sleep_for(
            std::chrono::microseconds(random() % (i % 50 == 0 ? 5000 : 100)));
        buffer->start(is_long ? kSleep : kNothing, 0);
        buffer->set_words(std::uint64_t{is_long ? 4000U : 0U});
        const auto posted = std::chrono::steady_clock::now();
        if (!driver.call(*buffer)) return;
        const auto taken = std::chrono::steady_clock::now() - posted;
        std::int64_t seen = slowest.load();
        while (seen < taken.count() && !slowest.compare_exchange_weak(seen, taken.count())) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(service.served.load() == 6 * 1500);
  CHECK(std::chrono::nanoseconds(slowest.load()) < std::chrono::milliseconds(900));
}

TEST_CASE_FIXTURE(Served, "a request that is rung for more than once is run once") {
  RawSession session;
  REQUIRE(session.attach(directory.socket()));
  RequestBuffer& buffer = *buffer_at(session.region, 0);
  for (std::uint32_t i = 0; i < 200; ++i) {
    buffer.start(kSleep, 0);
    buffer.set_words(std::uint64_t{i % 2 == 0 ? 0U : 5'000U});
    buffer.state.exchange(2 * i + 1);
    for (int rings = 0; rings < 3; ++rings) {
      REQUIRE(session.queue->post(doorbell_of(session.welcome.session, 0), [] { return false; }));
    }
    wait_until([&] { return buffer.state.load() == 2 * i + 2; });
  }
  wait_until_idle();
  CHECK(service.served.load() == 200);
  session.detach();
}

TEST_CASE_FIXTURE(Attached, "a service without requests sleeps, and wakes for the next one") {
  RequestBuffer* buffer = driver.take_buffer();
  for (int round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < 100; ++i) REQUIRE(reverses(driver, *buffer, i, 10));
    wait_until_idle();
  }
}

TEST_CASE_FIXTURE(Attached,
                  "a request after a pause is watched over too: it may wait for another one") {
  // About where the thread that stands by goes to sleep, so that the two meet.
  for (int pause_ms = 90; pause_ms < 140; ++pause_ms) {
    service.released.store(0);
    service.awaiting.store(0);
    ::usleep(static_cast<useconds_t>(pause_ms) * 1000);
    std::thread waiter([&] {
      RequestBuffer* buffer = driver.take_buffer();
      CHECK(call(driver, *buffer, kAwait));
      driver.give_back(*buffer);
    });
    wait_until([&] { return service.awaiting.load() == 1; });
    RequestBuffer* buffer = driver.take_buffer();
    CHECK(call(driver, *buffer, kRelease));
    driver.give_back(*buffer);
    waiter.join();
  }
}

TEST_CASE("kill -9 of the service: clients in a call are told, asleep or spinning" *
          doctest::skip(kThreadSanitizer)) {
  const Watchdog watchdog(120);
  for (int round = 0; round < 10; ++round) {
    const RunDirectory directory;
    const pid_t server = in_child([&] {
      TestService service(directory.path());
      if (!service.start().ok()) return 2;
      service.released.wait(0);
      return 0;
    });
    FrontDriver driver;
    while (attach(driver, directory.socket()) != 0) ::usleep(1000);
    std::atomic<int> ended{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        RequestBuffer* buffer = driver.take_buffer(t);
        do {
          buffer->start(t == 0 ? kAwait : t == 1 ? kSleep : kNothing, 0);
          buffer->set_words(std::uint64_t{100});
        } while (driver.call(*buffer));
        ended.fetch_add(1);
      });
    }
    ::usleep(20'000 + 3'000 * static_cast<unsigned>(round));
    ::kill(server, SIGKILL);
    for (std::thread& thread : threads) thread.join();
    CHECK(ended.load() == 4);
    CHECK(status_of(server) == 128 + SIGKILL);
    driver.detach();
  }
}

TEST_CASE_FIXTURE(Attached, "a service that stops tells its clients too") {
  std::thread client([&] {
    RequestBuffer* buffer = driver.take_buffer();
    while (reverses(driver, *buffer, 1, 1)) {
    }
  });
  wait_until([&] { return service.served.load() > 100; });
  service.stop();
  client.join();
}

TEST_CASE_FIXTURE(Served,
                  "kill -9 of clients anywhere in a request: others go on, and all is given back") {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<std::uint64_t> right{0};
  std::thread bystander([&] {
    FrontDriver driver;
    if (attach(driver, directory.socket()) != 0) return;
    RequestBuffer* buffer = driver.take_buffer();
    for (std::uint64_t i = 0; !stop.load(); ++i) {
      if (reverses(driver, *buffer, i, 40)) {
        right.fetch_add(1);
      } else {
        wrong.fetch_add(1);
      }
    }
    driver.detach();
  });
  wait_until([&] { return right.load() > 0; });
  std::mt19937 random(42);
  for (int round = 0; round < 150; ++round) {
    const pid_t child = in_child([&] {
      FrontDriver driver;
      if (attach(driver, directory.socket()) != 0) return 1;
      RequestBuffer* buffer = driver.take_buffer();
      for (std::uint64_t i = 0;; ++i) {
        if (!reverses(driver, *buffer, i, static_cast<std::uint32_t>(i % 100))) return 2;
      }
    });
    ::usleep(500 + random() % 4000);
    ::kill(child, SIGKILL);
    const int status = status_of(child);
    REQUIRE(status == 128 + SIGKILL);
  }
  wait_until([&] { return service.listener.counts().sessions == 1; });
  const std::uint64_t before = right.load();
  wait_until([&] { return right.load() > before + 100; });
  stop.store(true);
  bystander.join();
  CHECK(wrong.load() == 0);
  wait_until([&] { return service.listener.counts().sessions == 0; });
  wait_until_idle();
}

TEST_CASE_FIXTURE(Served, "a client that says the service has ended is believed until the next one") {
  RawSession liar;
  REQUIRE(liar.attach(directory.socket()));
  liar.queue->closed.store(1);
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  RequestBuffer* const buffer = driver.take_buffer();
  buffer->start(kSleep, 0);
  buffer->set_words(std::uint64_t{50'000});  // it looks at the queue
  CHECK(driver.call(*buffer));
  driver.detach();
  liar.detach();
}

// Writes garbage over a session's headers and its queue, and rings for requests meanwhile.
int vandal(const std::string& socket, unsigned seed, unsigned rounds) {
  RawSession session;
  if (!session.attach(socket) || session.queue == nullptr) return 1;
  std::mt19937_64 random(seed);
  auto* words = reinterpret_cast<std::atomic<std::uint64_t>*>(session.queue);
  for (unsigned i = 0; i < rounds; ++i) {
    const auto b = static_cast<std::uint32_t>(random() % 4);
    RequestBuffer& buffer = *buffer_at(session.region, b);
    buffer.start(kReverse, 0);
    buffer.request.inlined = 0;
    buffer.request.input_bytes = static_cast<std::uint32_t>(random() % 8192);
    buffer.state.store(buffer.state.load() + 1);
    for (int tries = 0; tries < 3; ++tries) {
      // What try_enqueue() does; it could loop for ever on what stands there now.
      const std::uint64_t ticket = words[0].fetch_add(1);
      words[16 + ticket % kQueueCapacity].store((ticket / kQueueCapacity) << 32 |
                                                doorbell_of(session.welcome.session, b));
    }
    if (i % 16 == 0) session.queue->bell.ring(1);
    auto* bytes = reinterpret_cast<std::atomic<std::uint8_t>*>(&buffer);
    for (int flips = 0; flips < 4; ++flips) {
      bytes[random() % offsetof(RequestBuffer, data)].store(static_cast<std::uint8_t>(random()));
    }
    if (i % 8 == 0) words[random() % (sizeof(RequestQueue) / 8)].store(random() >> random() % 64);
    if (i % 32 == 0) words[8 * (random() % 2)].store(random() >> random() % 64);
    if (i % 64 == 0) ::sched_yield();
  }
  return 0;
}

TEST_CASE_FIXTURE(
    Served, "a client that scribbles over all it can write: the service stays, others get answers" *
                doctest::skip(kThreadSanitizer)) {
  std::vector<pid_t> vandals;
  for (unsigned seed = 1; seed <= 2; ++seed) {
    vandals.push_back(in_child([&] { return vandal(directory.socket(), seed, 100'000); }));
  }
  // Another trust domain: other queue, other buffers.
  const pid_t neighbour = in_child([&] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return 1;
    FrontDriver driver;
    if (attach(driver, directory.socket()) != 0) return 2;
    RequestBuffer* buffer = driver.take_buffer();
    for (unsigned i = 0; i < 5000; ++i) {
      if (!reverses(driver, *buffer, i, i % 100)) return 3;
    }
    return 0;
  });
  CHECK(status_of(neighbour) == 0);
  for (const pid_t child : vandals) CHECK(status_of(child) == 0);
  wait_until([&] { return service.listener.counts().sessions == 0; });
  wait_until_idle();  // nothing of it keeps the service busy
  // And the queue works again for who comes next.
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  RequestBuffer* buffer = driver.take_buffer();
  for (unsigned i = 0; i < 3 * kQueueCapacity; ++i) REQUIRE(reverses(driver, *buffer, i, 8));
  driver.detach();
}

}  // namespace
}  // namespace libservices::ipc
