// SPDX-License-Identifier: Apache-2.0
//
// Requests that take long, or never end: others go on, callers are told in time, and nothing is
// answered twice or written where somebody else may be.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "ipc/test_service.h"

namespace libservices::ipc {
namespace {

using namespace testing;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Instance 1 is waited for so long, all others for ever.
class ShortPatience final : public Patience {
 public:
  explicit ShortPatience(milliseconds most) : most_(most) {}
  milliseconds most(const RequestHeader& request) override {
    return request.instance == 1 ? most_ : kForEver;
  }
  void given_up(const RequestHeader&) override { up.fetch_add(1); }
  void came_back(const RequestHeader&) override { back.fetch_add(1); }

  std::atomic<int> up{0};
  std::atomic<int> back{0};

 private:
  const milliseconds most_;
};

struct Impatient {
  explicit Impatient(milliseconds most = milliseconds(50)) : patience(most) {
    REQUIRE(service.start().ok());
    REQUIRE(attach(driver, directory.socket()) == 0);
  }
  ~Impatient() {
    service.stop();
    driver.detach();
  }

  // What a call of the instance that is not waited for long is answered with.
  int ask(RequestBuffer& buffer, std::uint16_t operation, std::uint64_t word = 0) {
    buffer.start(operation, 1);
    buffer.set_words(word);
    return driver.call(buffer) ? buffer.answer.error : -1;
  }

  const Watchdog watchdog{120};
  const RunDirectory directory;
  ShortPatience patience;
  TestService service{directory.path(), {}, {}, {allowed_cpus()}, &patience};
  FrontDriver driver;
};

TEST_CASE("hundreds of requests that do not end hold nobody up") {
  const Watchdog watchdog(120);
  const RunDirectory directory;
  constexpr unsigned kSessions = 4;
  constexpr unsigned kOfEach = 50;
  TestService service(directory.path());
  REQUIRE(service.start().ok());
  std::vector<FrontDriver> drivers(kSessions + 1);
  for (FrontDriver& driver : drivers) REQUIRE(attach(driver, directory.socket()) == 0);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kSessions * kOfEach; ++i) {
    threads.emplace_back([&driver = drivers[i % kSessions]] {
      RequestBuffer* const buffer = driver.take_buffer();
      CHECK(call(driver, *buffer, kAwait));
      driver.give_back(*buffer);
    });
  }
  wait_until([&] { return service.awaiting.load() == kSessions * kOfEach; });
  FrontDriver& other = drivers.back();
  RequestBuffer* const buffer = other.take_buffer();
  for (unsigned i = 0; i < 2000; ++i) REQUIRE(reverses(other, *buffer, i, i));
  CHECK(call(other, *buffer, kRelease));
  for (std::thread& thread : threads) thread.join();
  // Those that were held up are not all kept.
  wait_until([&] { return service.listener.counts().threads <= 40; });
  service.stop();
  for (FrontDriver& driver : drivers) driver.detach();
}

TEST_CASE_FIXTURE(Impatient, "a caller is told in time, and its buffer is the service's till the end") {
  std::uint32_t index = 0;
  RequestBuffer* const buffer = driver.take_buffer(0, index);
  const auto begun = Clock::now();
  CHECK(ask(*buffer, kAwait) == ETIMEDOUT);
  CHECK(Clock::now() - begun >= milliseconds(50));
  CHECK(patience.up.load() == 1);
  CHECK(patience.back.load() == 0);
  CHECK(buffer->held.load() == 1);
  REQUIRE(driver.set_aside(*buffer, index));
  CHECK_FALSE(driver.has_taken_buffers());
  CHECK(driver.take_buffer(index) != buffer);
  std::uint32_t other = 0;
  RequestBuffer* const next = driver.take_buffer(index, other);
  REQUIRE(next != nullptr);
  CHECK(next != buffer);
  CHECK(reverses(driver, *next, 1, 5000));
  CHECK(service.dropped.load() == 0);
  CHECK(ask(*next, kRelease) == 0);
  wait_until([&] { return buffer->held.load() == 0; });
  CHECK(service.dropped.load() == 1);
  CHECK(patience.back.load() == 1);
  // It is used again.
  CHECK(driver.take_buffer(index) == buffer);
  CHECK(reverses(driver, *buffer, 2, 5000));
}

TEST_CASE_FIXTURE(Impatient, "who is waited for without end gets the answer") {
  RequestBuffer* const buffer = driver.take_buffer();
  RequestBuffer* const other = driver.take_buffer();
  std::thread release([&] {
    std::this_thread::sleep_for(milliseconds(300));
    CHECK(ask(*other, kRelease) == 0);
  });
  buffer->start(kAwait, 0);
  CHECK(driver.call(*buffer));
  CHECK(buffer->answer.error == 0);
  CHECK(buffer->held.load() == 0);
  release.join();
  CHECK(patience.up.load() == 0);
}

TEST_CASE_FIXTURE(Impatient, "the time runs also while no other request comes") {
  RequestBuffer* const buffer = driver.take_buffer();
  RequestBuffer* const other = driver.take_buffer();
  std::thread waits([&] {
    buffer->start(kAwait, 0);  // for ever
    CHECK(driver.call(*buffer));
  });
  std::this_thread::sleep_for(milliseconds(300));  // who looks for long requests sleeps by now
  CHECK(ask(*other, kAwait) == ETIMEDOUT);
  RequestBuffer* const third = driver.take_buffer();
  CHECK(ask(*third, kRelease) == 0);
  waits.join();
}

// Handlers that end when their time does: the answer is one or the other, and whole.
TEST_CASE("each request is answered once, however close the end and the deadline are") {
  Impatient all(milliseconds(4));
  std::atomic<std::uint64_t> late{0};
  std::atomic<std::uint64_t> in_time{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (unsigned i = 0; i < 300; ++i) {
        std::uint32_t index = 0;
        RequestBuffer* buffer = nullptr;
        while ((buffer = all.driver.take_buffer(t, index)) == nullptr) std::this_thread::yield();
        if (i % 3 == 0) REQUIRE(reverses(all.driver, *buffer, i, 3000));
        const int error = all.ask(*buffer, kSleep, 4000 + random() % 5000);
        CHECK((error == 0 || error == ETIMEDOUT));
        (error == 0 ? in_time : late).fetch_add(1);
        if (error != ETIMEDOUT || !all.driver.set_aside(*buffer, index)) {
          all.driver.give_back(index);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(in_time.load() + late.load() == 6 * 300);
  CHECK(late.load() == static_cast<std::uint64_t>(all.patience.up.load()));
  wait_until([&] { return all.patience.back.load() == all.patience.up.load(); });
  CHECK(all.service.dropped.load() == late.load());
  MESSAGE(late.load(), " of 1800 were late");
}

TEST_CASE_FIXTURE(Impatient, "the last buffers are for those who have few") {
  std::vector<std::uint32_t> taken;
  std::uint32_t index = 0;
  while (driver.take_buffer(0, index, 7) != nullptr) taken.push_back(index);
  CHECK(taken.size() >= kBuffersInSession / 2);
  CHECK(taken.size() < kBuffersInSession);
  unsigned others = 0;
  for (std::uint32_t user = 8; driver.take_buffer(0, index, user) != nullptr; ++user) ++others;
  CHECK(taken.size() + others == kBuffersInSession);
  CHECK_FALSE(driver.has_aside(7));
  for (const std::uint32_t each : taken) driver.give_back(each);
}

TEST_CASE("clients that are killed while their requests do not end leave nothing" *
          doctest::skip(kThreadSanitizer)) {
  Impatient all;
  constexpr unsigned kClients = 20;
  std::vector<pid_t> children;
  for (unsigned i = 0; i < kClients; ++i) {
    children.push_back(in_child([&] {
      FrontDriver own;
      if (attach(own, all.directory.socket()) != 0) return 1;
      RequestBuffer* const buffer = own.take_buffer();
      buffer->start(kAwait, i % 2);
      return own.call(*buffer) && buffer->answer.error == ETIMEDOUT ? 0 : 2;
    }));
  }
  wait_until([&] { return all.service.awaiting.load() == kClients; });
  for (unsigned i = 0; i < kClients; ++i) {
    if (i % 2 == 0) ::kill(children[i], SIGKILL);
    CHECK(status_of(children[i]) == (i % 2 == 0 ? 128 + SIGKILL : 0));
  }
  wait_until([&] { return all.service.listener.counts().sessions == 1; });
  RequestBuffer* const buffer = all.driver.take_buffer();
  CHECK(reverses(all.driver, *buffer, 3, 100));
  CHECK(all.ask(*buffer, kRelease) == 0);
  wait_until([&] { return all.service.served.load() >= kClients + 2; });
}

TEST_CASE("a service stops in time although requests do not end" *
          doctest::skip(kThreadSanitizer)) {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = in_child([&] {
    auto* const service = new TestService(directory.path());  // never destroyed
    if (!service->start().ok()) return 1;
    (void)!::write(ready[1], "r", 1);
    while (service->awaiting.load() == 0) ::usleep(1000);
    service->listener.stop();
    service->thread.join();
    return service->listener.finish(milliseconds(200)) ? 2 : 0;
  });
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  RequestBuffer* const buffer = driver.take_buffer();
  CHECK_FALSE(call(driver, *buffer, kAwait));
  CHECK(status_of(child) == 0);
  driver.detach();
  for (const int end : ready) ::close(end);
}

}  // namespace
}  // namespace libservices::ipc
