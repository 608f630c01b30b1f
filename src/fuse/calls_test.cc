// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/calls.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <random>
#include <thread>
#include <vector>

namespace libservices::fuse {
namespace {

using std::chrono::milliseconds;

fuse_in_header header_of(std::uint32_t opcode, std::uint64_t unique, pid_t task = 0) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.unique = unique;
  header.pid = static_cast<std::uint32_t>(task);
  return header;
}

void wait_until(const std::function<bool()>& holds) {
  while (!holds()) std::this_thread::sleep_for(milliseconds(1));
}

struct Fixture {
  explicit Fixture(milliseconds deadline)
      : calls({.deadline = deadline,
               .given_up = [this](const void*) { ++given_up; },
               .came_back = [this](const void*) { ++came_back; }}) {
    ::alarm(60);
    REQUIRE(calls.start());
  }
  ~Fixture() { ::alarm(0); }

  Calls::Call::Watched watched() {
    return {.held_up = [this] { ++held_up; },
            .answer =
                [this](const fuse_in_header& header, int error) {
                  if (refusals.load() > 0) {
                    --refusals;
                    return false;
                  }
                  last_unique = header.unique;
                  last_error = error;
                  ++answered;
                  return true;
                }};
  }

  std::atomic<int> given_up{0};
  std::atomic<int> came_back{0};
  std::atomic<int> held_up{0};
  std::atomic<int> answered{0};
  std::atomic<int> refusals{0};
  std::atomic<std::uint64_t> last_unique{0};
  std::atomic<int> last_error{0};
  Calls calls;
};

TEST_CASE("a call that ends in time is its thread's to answer") {
  Fixture fixture(milliseconds(100));
  Calls::Call call(fixture.calls, fixture.watched());
  for (int i = 0; i < 1000; ++i) {
    call.begin(header_of(FUSE_READ, 1));
    CHECK(call.claim());
    CHECK_FALSE(call.was_held_up());
  }
  call.begin(header_of(FUSE_READ, 2));
  wait_until([&] { return fixture.held_up.load() == 1; });
  CHECK(fixture.calls.held_up() == 1);
  CHECK(call.claim());
  CHECK(call.was_held_up());
  CHECK(fixture.calls.held_up() == 0);
  CHECK(fixture.answered.load() == 0);
}

TEST_CASE("a call that takes longer is answered in its place, once") {
  Fixture fixture(milliseconds(50));
  Calls::Call call(fixture.calls, fixture.watched());
  std::this_thread::sleep_for(milliseconds(700));  // the watcher sleeps by now
  fixture.refusals = 3;
  call.begin(header_of(FUSE_READ, 7));
  wait_until([&] { return fixture.answered.load() == 1; });
  CHECK(fixture.last_unique.load() == 7);
  CHECK(fixture.last_error.load() == ETIMEDOUT);
  CHECK(fixture.given_up.load() == 1);
  CHECK(fixture.came_back.load() == 0);
  CHECK_FALSE(call.claim());
  CHECK(call.was_held_up());
  CHECK(call.end());
  CHECK(fixture.came_back.load() == 1);
  CHECK(fixture.calls.held_up() == 0);
  call.begin(header_of(FUSE_READ, 8));
  CHECK(call.claim());
  CHECK(fixture.answered.load() == 1);
}

TEST_CASE("who could not be answered in time is left to the thread") {
  Fixture fixture(milliseconds(20));
  fixture.refusals = 1'000'000;
  Calls::Call call(fixture.calls, fixture.watched());
  call.begin(header_of(FUSE_READ, 7));
  wait_until([&] { return fixture.given_up.load() == 1; });
  CHECK_FALSE(call.claim());
  CHECK_FALSE(call.end());
  CHECK(fixture.answered.load() == 0);
}

TEST_CASE("what has no answer gets none, and without a deadline nothing is given up") {
  for (const bool has_deadline : {true, false}) {
    Fixture fixture(milliseconds(has_deadline ? 20 : 0));
    Calls::Call call(fixture.calls, fixture.watched());
    call.begin(header_of(has_deadline ? FUSE_FORGET : FUSE_READ, 1, ::getpid()));
    std::this_thread::sleep_for(milliseconds(400));
    CHECK(fixture.held_up.load() == 1);
    CHECK(call.claim());
    CHECK(fixture.answered.load() == 0);
  }
}

TEST_CASE("a caller that is being killed waits no longer, and others do") {
  Fixture fixture(milliseconds(0));
  // Blocked before there is a child, which so has them blocked from its first moment on.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  Calls::Call call(fixture.calls, fixture.watched());
  call.begin(header_of(FUSE_READ, 9, child));
  ::kill(child, SIGTERM);  // blocked: it lives
  std::this_thread::sleep_for(milliseconds(500));
  CHECK(fixture.answered.load() == 0);
  ::kill(child, SIGKILL);  // a zombie has its flags yet
  wait_until([&] { return fixture.answered.load() == 1; });
  CHECK(fixture.last_error.load() == EINTR);
  CHECK_FALSE(call.claim());
  CHECK(call.end());
  ::waitpid(child, nullptr, 0);
  // Gone altogether: others may wait for what it has had read ahead.
  call.begin(header_of(FUSE_WRITE, 10, child));
  std::this_thread::sleep_for(milliseconds(400));
  CHECK(call.claim());
  call.begin(header_of(FUSE_READ, 11, child));
  wait_until([&] { return fixture.answered.load() == 2; });
  CHECK_FALSE(call.claim());
  CHECK(call.end());
}

TEST_CASE("each call is answered once, however close its end and the deadline are") {
  Fixture fixture(milliseconds(10));
  std::atomic<int> by_thread{0};
  std::vector<std::thread> threads;
  constexpr int kThreads = 8;
  constexpr int kCalls = 60;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      Calls::Call call(fixture.calls, fixture.watched());
      for (int i = 0; i < kCalls; ++i) {
        call.begin(header_of(FUSE_WRITE, static_cast<std::uint64_t>(i) + 1));
        std::this_thread::sleep_for(std::chrono::microseconds(20'000 + random() % 30'000));
        if (call.claim()) {
          ++by_thread;
        } else {
          CHECK(call.end());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(by_thread.load() + fixture.answered.load() == kThreads * kCalls);
  CHECK(fixture.given_up.load() == fixture.answered.load());
  CHECK(fixture.came_back.load() == fixture.answered.load());
  CHECK(fixture.calls.held_up() == 0);
}

}  // namespace
}  // namespace libservices::fuse
