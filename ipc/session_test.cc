// SPDX-License-Identifier: Apache-2.0
// Sessions: who is let in and how, what passes over the socket, and what remains of the dead.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <mutex>

#include "ipc/test_service.h"

namespace libservices::ipc {
namespace {

using namespace testing;

TEST_CASE("the welcome carries the upper layer's bytes and descriptors") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  SessionListener::Hooks hooks;
  hooks.welcome = [](ServerSession& session, Message& reply) {
    session.upper = std::string("mine");
    reply.append(std::uint64_t{0x1234567890abcdefULL});
    const int descriptor = ::memfd_create("given", MFD_CLOEXEC);
    if (::write(descriptor, "hello", 5) != 5) return EIO;
    reply.descriptors.push_back(descriptor);
    return 0;
  };
  TestService service(directory.path(), {}, hooks);
  REQUIRE(service.start().ok());
  FrontDriver driver;
  std::uint64_t upper = 0;
  std::size_t upper_bytes = 0;
  int descriptors[4];
  unsigned count = 4;
  REQUIRE(driver.attach(directory.socket().c_str(), &upper, sizeof upper, upper_bytes, descriptors,
                        count) == 0);
  CHECK(upper_bytes == sizeof upper);
  CHECK(upper == 0x1234567890abcdefULL);
  REQUIRE(count == 1);
  char text[6] = {};
  CHECK(::pread(descriptors[0], text, 5, 0) == 5);
  CHECK(std::string(text) == "hello");
  CHECK((::fcntl(descriptors[0], F_GETFD) & FD_CLOEXEC) != 0);
  ::close(descriptors[0]);
  const auto sessions = service.listener.sessions();
  REQUIRE(sessions.size() == 1);
  CHECK(std::any_cast<std::string>(sessions[0]->upper) == "mine");
  driver.detach();
}

TEST_CASE("later messages take bytes and descriptors both ways") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  SessionListener::Hooks hooks;
  hooks.message = [](ServerSession&, std::span<const std::byte> bytes,
                     std::span<const int> descriptors, Message& reply) {
    if (bytes.size() == 1) return false;
    reply.append(static_cast<std::uint32_t>(bytes.size()));
    reply.append(static_cast<std::uint32_t>(descriptors.size()));
    for (const int descriptor : descriptors) reply.descriptors.push_back(::dup(descriptor));
    return true;
  };
  TestService service(directory.path(), {}, hooks);
  REQUIRE(service.start().ok());
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  const int given[2] = {::memfd_create("a", MFD_CLOEXEC), ::memfd_create("b", MFD_CLOEXEC)};
  const char text[] = "message";
  const iovec part{const_cast<char*>(text), sizeof text};
  for (int round = 0; round < 100; ++round) {
    REQUIRE(send_message(driver.socket(), &part, 1, given, 2) == 0);
    std::uint32_t answer[2] = {};
    int received[4];
    unsigned count = 4;
    REQUIRE(receive_message(driver.socket(), answer, sizeof answer, received, count) == 8);
    CHECK(answer[0] == sizeof text);
    CHECK(answer[1] == 2);
    REQUIRE(count == 2);
    for (unsigned i = 0; i < 2; ++i) {
      struct stat sent;
      struct stat back;
      CHECK(::fstat(given[i], &sent) == 0);
      CHECK(::fstat(received[i], &back) == 0);
      CHECK(sent.st_ino == back.st_ino);
      ::close(received[i]);
    }
  }
  ::close(given[0]);
  ::close(given[1]);
  // A message that the hook refuses ends the session; a call notices.
  REQUIRE(::send(driver.socket(), "x", 1, MSG_NOSIGNAL) == 1);
  wait_until([&] { return service.listener.counts().sessions == 0; });
  RequestBuffer* buffer = driver.take_buffer();
  CHECK_FALSE(driver.call(*buffer));
  driver.detach();
}

TEST_CASE("identity comes from the kernel: user, group and supplementary groups") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  std::mutex mutex;
  std::vector<Peer> peers;
  SessionListener::Hooks hooks;
  hooks.welcome = [&](ServerSession& session, Message&) {
    std::lock_guard lock(mutex);
    peers.push_back(session.peer());
    return 0;
  };
  TestService service(directory.path(), {}, hooks);
  REQUIRE(service.start().ok());
  const pid_t child = in_child([&] {
    const gid_t groups[] = {30, 10, 20};
    if (::setgroups(3, groups) != 0 || ::setgid(1234) != 0 || ::setuid(4321) != 0) return 1;
    FrontDriver driver;
    if (attach(driver, directory.socket()) != 0) return 2;
    RequestBuffer* buffer = driver.take_buffer();
    if (!call(driver, *buffer, kIdentity)) return 3;
    const std::uint64_t* words = buffer->answer.words;
    return words[0] == 4321 && words[1] == 1234 && words[2] == 3 &&
                   words[3] == static_cast<std::uint64_t>(::getpid())
               ? 0
               : 4;
  });
  CHECK(status_of(child) == 0);
  std::lock_guard lock(mutex);
  REQUIRE(peers.size() == 1);
  CHECK(peers[0].groups == std::vector<gid_t>{10, 20, 30});
  CHECK(peers[0].pid == child);
}

TEST_CASE_FIXTURE(Served,
                  "a doorbell for a session of another trust domain, or of none, is refused") {
  RawSession mine;
  REQUIRE(mine.attach(directory.socket()));
  REQUIRE(mine.queue != nullptr);
  int ready[2];
  int done[2];
  REQUIRE(::pipe(ready) == 0);
  REQUIRE(::pipe(done) == 0);
  const pid_t other = in_child([&] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return 1;
    RawSession session;
    if (!session.attach(directory.socket()) || session.queue == nullptr) return 2;
    RequestBuffer& buffer = *buffer_at(session.region, 0);
    buffer.state.store(1);  // posted, but rings not
    if (::write(ready[1], &session.welcome.session, 4) != 4) return 3;
    char byte;
    if (::read(done[0], &byte, 1) != 1) return 4;
    return buffer.state.load() == 1 ? 0 : 5;
  });
  std::uint32_t session = 0;
  REQUIRE(::read(ready[0], &session, 4) == 4);
  CHECK(session != mine.welcome.session);
  CHECK(service.listener.counts().queues == 2);
  for (const std::uint32_t target : {session, kMostSessions - 1, 77U}) {
    REQUIRE(mine.queue->doorbells.try_enqueue(doorbell_of(target, 0)));
    mine.queue->bell.ring(1);
  }
  wait_until([&] { return service.listener.counts().refused >= 3; });
  CHECK(::write(done[1], "x", 1) == 1);
  CHECK(status_of(other) == 0);
  CHECK(service.served.load() == 0);
  for (const int end : {ready[0], ready[1], done[0], done[1]}) ::close(end);
  mine.detach();
}

TEST_CASE("a second service in the same directory is refused, and the first one stays reachable") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  TestService first(directory.path());
  REQUIRE(first.start().ok());
  {
    TestService second(directory.path());
    CHECK(second.start().code() == absl::StatusCode::kAlreadyExists);
  }
  FrontDriver driver;
  REQUIRE(attach(driver, directory.socket()) == 0);
  CHECK(reverses(driver, *driver.take_buffer(), 1, 1));
  driver.detach();
}

TEST_CASE("the socket of a dead service is told from a live one's and used again" *
          doctest::skip(kThreadSanitizer)) {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  FrontDriver driver;
  CHECK(attach(driver, directory.socket()) == -ENOENT);
  const pid_t dead = in_child([&] {
    TestService service(directory.path());
    if (!service.start().ok()) return 1;
    ::raise(SIGKILL);
    return 0;
  });
  CHECK(status_of(dead) == 128 + SIGKILL);
  CHECK(attach(driver, directory.socket()) == -ECONNREFUSED);
  TestService service(directory.path());
  REQUIRE(service.start().ok());
  CHECK(attach(driver, directory.socket()) == 0);
  driver.detach();
}

TEST_CASE_FIXTURE(Served, "another version is told so, and what is no greeting is not answered") {
  RawSession session;
  REQUIRE(session.attach(directory.socket(), {.version = kProtocolVersion + 1}));
  CHECK(session.welcome.error == EPROTO);
  CHECK(session.region == nullptr);
  session.detach();
  CHECK_FALSE(session.attach(directory.socket(), {.magic = 1}));
  session.detach();
  RawSession talker;
  REQUIRE(talker.connect(directory.socket()));
  char garbage[3000] = {1, 2, 3};
  CHECK(::send(talker.socket, garbage, sizeof garbage, MSG_NOSIGNAL) > 0);
  CHECK(::recv(talker.socket, garbage, sizeof garbage, 0) <= 0);
  talker.detach();
  CHECK(service.listener.counts().sessions == 0);
  CHECK(service.listener.counts().refused >= 2);
}

TEST_CASE("limits refuse with a clear error, and what ended makes room") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  TestService service(directory.path(), {.sessions = 3, .queues = 2});
  REQUIRE(service.start().ok());
  {
    FrontDriver drivers[4];
    for (int i = 0; i < 3; ++i) CHECK(attach(drivers[i], directory.socket()) == 0);
    CHECK(attach(drivers[3], directory.socket()) == -EUSERS);
    drivers[0].detach();
    wait_until([&] { return service.listener.counts().sessions == 2; });
    CHECK(attach(drivers[3], directory.socket()) == 0);
    for (int i = 1; i < 4; ++i) drivers[i].detach();
  }
  wait_until([&] { return service.listener.counts().sessions == 0; });
  // Each user is a trust domain; the queues of those who left make room for the next.
  for (uid_t user = 5000; user < 5020; ++user) {
    const pid_t child = in_child([&] {
      if (::setuid(user) != 0) return 1;
      FrontDriver driver;
      if (attach(driver, directory.socket()) != 0) return 2;
      return reverses(driver, *driver.take_buffer(), user, 9) ? 0 : 3;
    });
    CHECK(status_of(child) == 0);
    wait_until([&] { return service.listener.counts().sessions == 0; });
    CHECK(service.listener.counts().queues <= 2);
  }
  // But nobody is turned out.
  FrontDriver mine;
  REQUIRE(attach(mine, directory.socket()) == 0);
  int hold[2];
  int ready[2];
  REQUIRE(::pipe(hold) == 0);
  REQUIRE(::pipe(ready) == 0);
  const pid_t holder = in_child([&] {
    ::close(hold[1]);
    FrontDriver driver;
    char byte = 0;
    if (::setuid(6000) != 0 || attach(driver, directory.socket()) != 0) return 1;
    if (::write(ready[1], "r", 1) != 1) return 2;
    return ::read(hold[0], &byte, 1) == 0 ? 0 : 3;
  });
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const pid_t third = in_child([&] {
    FrontDriver driver;
    if (::setuid(6001) != 0) return 1;
    return attach(driver, directory.socket()) == -EUSERS ? 0 : 2;
  });
  CHECK(status_of(third) == 0);
  CHECK(reverses(mine, *mine.take_buffer(), 5, 5));
  ::close(hold[1]);
  CHECK(status_of(holder) == 0);
  for (const int end : {hold[0], ready[0], ready[1]}) ::close(end);
  mine.detach();
}

TEST_CASE("a session ends with its process, even while a child holds the socket") {
  const Watchdog watchdog(60);
  const RunDirectory directory;
  std::atomic<int> closed{0};
  SessionListener::Hooks hooks;
  hooks.closed = [&](ServerSession&) { closed.fetch_add(1); };
  TestService service(directory.path(), {}, hooks);
  REQUIRE(service.start().ok());
  int grandchild[2];
  REQUIRE(::pipe(grandchild) == 0);
  const pid_t child = in_child([&] {
    FrontDriver driver;
    if (attach(driver, directory.socket()) != 0) return 1;
    const pid_t heir = ::fork();
    if (heir == 0) {
      ::pause();
      ::_exit(0);
    }
    return ::write(grandchild[1], &heir, sizeof heir) == sizeof heir ? 0 : 2;
  });
  pid_t heir = 0;
  REQUIRE(::read(grandchild[0], &heir, sizeof heir) == sizeof heir);
  CHECK(status_of(child) == 0);
  wait_until([&] { return closed.load() == 1; });
  CHECK(service.listener.counts().sessions == 0);
  ::kill(heir, SIGKILL);
  ::close(grandchild[0]);
  ::close(grandchild[1]);
}

TEST_CASE_FIXTURE(Served, "a region is used again after its process is dead, and not before") {
  constexpr std::size_t kMark = 1000;
  int marked[2];
  int noticed[2];
  REQUIRE(::pipe(marked) == 0);
  REQUIRE(::pipe(noticed) == 0);
  const pid_t child = in_child([&] {
    RawSession session;
    if (!session.attach(directory.socket()) || session.region == nullptr) return 1;
    buffer_at(session.region, 0)->state.store(1);
    buffer_at(session.region, 0)->watched.store(1);
    buffer_at(session.region, 0)->data[kMark] = std::byte{'d'};
    char byte = 0;
    return ::write(marked[1], "m", 1) == 1 && ::read(noticed[0], &byte, 1) == 1 ? 0 : 2;
  });
  char byte = 0;
  REQUIRE(::read(marked[0], &byte, 1) == 1);
  // Sessions begin one after the other: when this one has, the service follows the child's life.
  RawSession other;
  REQUIRE(other.attach(directory.socket()));
  REQUIRE(::write(noticed[1], "n", 1) == 1);
  CHECK(status_of(child) == 0);
  for (const int end : {marked[0], marked[1], noticed[0], noticed[1]}) ::close(end);
  wait_until([&] { return service.listener.counts().sessions == 1; });
  RawSession heir;
  REQUIRE(heir.attach(directory.socket()));
  CHECK(buffer_at(heir.region, 0)->data[kMark] == std::byte{'d'});
  CHECK(buffer_at(heir.region, 0)->state.load() == 0);
  CHECK(buffer_at(heir.region, 0)->watched.load() == 0);

  // The socket goes, the process and its mapping stay.
  void* const kept = heir.region;
  heir.region = nullptr;
  heir.detach();
  wait_until([&] { return service.listener.counts().sessions == 1; });
  RawSession next;
  REQUIRE(next.attach(directory.socket()));
  buffer_at(kept, 0)->data[kMark] = std::byte{'x'};
  CHECK(buffer_at(next.region, 0)->data[kMark] == std::byte{0});
  ::munmap(kept, kSessionRegionBytes);
  next.detach();
  other.detach();
}

TEST_CASE("no client can cut a region under the service") {
  const Watchdog watchdog(60);
  Region region;
  REQUIRE(region.make("sealed", kSessionRegionBytes) == 0);
  CHECK(::ftruncate(region.descriptor(), 4096) != 0);
  CHECK(::ftruncate(region.descriptor(), kSessionRegionBytes * 2) != 0);
  CHECK(::fcntl(region.descriptor(), F_ADD_SEALS, F_SEAL_WRITE) != 0);
  CHECK(::fallocate(region.descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192) == 0);
  CHECK(buffer_at(region.address(), 0)->state.load() == 0);
}

TEST_CASE_FIXTURE(Served, "thousands of sessions leave no descriptors, threads or regions behind") {
  const auto descriptors = [] {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
      ++count;
    }
    return count;
  };
  std::size_t settled = 0;
  for (int round = 0; round < 2000; ++round) {
    FrontDriver driver;
    REQUIRE(attach(driver, directory.socket()) == 0);
    REQUIRE(reverses(driver, *driver.take_buffer(), 1, 1));
    driver.detach();
    wait_until([&] { return service.listener.counts().sessions == 0; });
    if (round == 100) settled = descriptors();
  }
  // Regions that wait to be used again have two each; how many there are at a time depends.
  wait_until([&] { return descriptors() <= settled + 20; });
  CHECK(service.listener.counts().queues == 1);
}

}  // namespace
}  // namespace libservices::ipc
