// SPDX-License-Identifier: Apache-2.0
//
// For ipc's own tests: a service with a handful of operations in this process, in a directory of
// its own, and what its clients need to ask it from this process or from forked ones.
#ifndef LIBSERVICES_IPC_TEST_SERVICE_H_
#define LIBSERVICES_IPC_TEST_SERVICE_H_

#include <doctest/doctest.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ipc/front_driver.h"
#include "ipc/session.h"

namespace libservices::ipc::testing {

// Ends the test program when a test hangs; forked children are ended by their own.
struct Watchdog {
  explicit Watchdog(unsigned seconds) { ::alarm(seconds); }
  ~Watchdog() { ::alarm(0); }
};

// ThreadSanitizer does not follow a child that is forked with threads about and makes its own, has
// a thread of its own that never rests, and takes a vandal's two requests in one buffer for a race.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

// A directory that any user may enter.
class RunDirectory {
 public:
  RunDirectory() {
    char name[] = "/tmp/libservices-ipc-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    REQUIRE(::chmod(name, 0755) == 0);
    path_ = name;
  }
  ~RunDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string socket() const { return path_ + "/socket"; }

 private:
  std::string path_;
};

enum TestOperation : std::uint16_t {
  kNothing,
  kReverse,  // output: the input backwards; the words come back backwards too
  kSleep,    // words[0] microseconds
  kAwait,    // until a kRelease
  kRelease,
  kIdentity,  // words: uid, gid, number of groups, pid
  kCpu,       // word: the processor that runs the request
};

struct TestService {
  explicit TestService(const std::string& directory, SessionLimits limits = {},
                       SessionListener::Hooks more = {},
                       std::vector<CoreGroup> groups = {allowed_cpus()},
                       Patience* patience = nullptr)
      : listener(directory, hooks(std::move(more)), options(std::move(groups), patience), limits) {
  }
  ~TestService() { stop(); }

  absl::Status start() {
    absl::Status status = listener.start();
    if (status.ok()) thread = std::thread([this] { listener.run(); });
    return status;
  }
  void stop() {
    released.store(1);
    released.notify_all();
    if (!thread.joinable()) return;
    listener.stop();
    thread.join();
    listener.finish();
  }

  static BackDriverOptions options(std::vector<CoreGroup> groups, Patience* patience) {
    BackDriverOptions options;
    options.patience = patience;
    options.groups = std::move(groups);
    return options;
  }

  SessionListener::Hooks hooks(SessionListener::Hooks more) {
    more.handle = [this](ServerSession& session, const TakenRequest& request,
                         RequestBuffer& buffer) {
      handle(session, request, buffer);
    };
    return more;
  }

  void handle(ServerSession& session, const TakenRequest& request, RequestBuffer& buffer) {
    const RequestHeader& header = request.header;
    const std::span<const std::byte> bytes = request.input;
    AnswerHeader answer{};
    switch (header.operation) {
      case kNothing:
        break;
      case kReverse: {
        const std::vector<std::byte> input(bytes.begin(), bytes.end());
        for (std::size_t i = 0; i < input.size(); ++i) buffer.data[i] = input[input.size() - 1 - i];
        answer.output_bytes = header.input_bytes;
        for (unsigned i = 0; i < kRequestWords; ++i) {
          answer.words[i] = header.words[kRequestWords - 1 - i];
        }
        break;
      }
      case kSleep:
        std::this_thread::sleep_for(std::chrono::microseconds(header.words[0]));
        break;
      case kAwait:
        awaiting.fetch_add(1);
        released.wait(0);
        break;
      case kRelease:
        released.store(1);
        released.notify_all();
        break;
      case kIdentity:
        answer.words[0] = session.peer().uid;
        answer.words[1] = session.peer().gid;
        answer.words[2] = session.peer().groups.size();
        answer.words[3] = static_cast<std::uint64_t>(session.peer().pid);
        break;
      case kCpu:
        answer.words[0] = static_cast<std::uint64_t>(::sched_getcpu());
        break;
      default:
        answer.error = ENOSYS;
    }
    served.fetch_add(1);
    if (!request.running.claim()) {
      dropped.fetch_add(1);
      return;
    }
    std::memcpy(&buffer.answer, &answer, sizeof answer);
  }

  std::atomic<std::uint64_t> served{0};
  std::atomic<std::uint64_t> dropped{0};  // of those: nobody waited for the answer any more
  std::atomic<std::uint32_t> released{0};
  std::atomic<std::uint32_t> awaiting{0};
  SessionListener listener;
  std::thread thread;
};

inline long attach(FrontDriver& driver, const std::string& socket) {
  char upper[64];
  std::size_t upper_bytes = 0;
  int descriptors[8];
  unsigned count = 8;
  return driver.attach(socket.c_str(), upper, sizeof upper, upper_bytes, descriptors, count);
}

// A service that runs, and a client that has a session with it.
struct Served {
  Served() { REQUIRE(service.start().ok()); }

  const Watchdog watchdog{180};
  const RunDirectory directory;
  TestService service{directory.path()};
};
struct Attached : Served {
  Attached() { REQUIRE(attach(driver, directory.socket()) == 0); }
  ~Attached() { driver.detach(); }

  FrontDriver driver;
};

// A client that keeps to no rules: it has the regions and the socket, and no FrontDriver.
struct RawSession {
  int socket = -1;
  Welcome welcome;
  void* region = nullptr;
  QueueSet* queues = nullptr;
  RequestQueue* queue = nullptr;  // the first of them

  bool connect(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  bool attach(const std::string& path, const Hello& hello = {}) {
    int descriptors[kMostDescriptors];
    unsigned count = kMostDescriptors;
    if (!connect(path) || ::send(socket, &hello, sizeof hello, MSG_NOSIGNAL) < 0 ||
        receive_message(socket, &welcome, sizeof welcome, descriptors, count) !=
            static_cast<long>(sizeof welcome)) {
      return false;
    }
    if (welcome.error != 0 || count < 2) return true;
    region = ::mmap(nullptr, welcome.region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                    descriptors[0], 0);
    queues = static_cast<QueueSet*>(::mmap(nullptr, welcome.queue_bytes, PROT_READ | PROT_WRITE,
                                           MAP_SHARED, descriptors[1], 0));
    queue = &queues->queues[0];
    for (unsigned i = 0; i < count; ++i) ::close(descriptors[i]);
    return true;
  }
  void detach() {
    if (region != nullptr) ::munmap(region, welcome.region_bytes);
    if (queues != nullptr) ::munmap(queues, welcome.queue_bytes);
    if (socket >= 0) ::close(socket);
    *this = RawSession();
  }
};

// One call without words and bytes.
inline bool call(FrontDriver& driver, RequestBuffer& buffer, std::uint16_t operation) {
  buffer.start(operation, 0);
  return driver.call(buffer);
}

// Asks with words and bytes that depend on `seed` and checks each of the answer's.
inline bool reverses(FrontDriver& driver, RequestBuffer& buffer, std::uint64_t seed,
                     std::uint32_t bytes) {
  std::array<std::uint64_t, kRequestWords> words;
  for (unsigned i = 0; i < kRequestWords; ++i) words[i] = seed * 31 + i;
  std::vector<std::byte> input(bytes);
  for (std::uint32_t i = 0; i < bytes; ++i) input[i] = static_cast<std::byte>((seed + i * 7) >> 3);
  buffer.start(kReverse, 0);
  buffer.set_words(words);
  buffer.add(input.data(), input.size());
  if (!driver.call(buffer)) return false;
  bool right = buffer.answer.error == 0 && buffer.answer.output_bytes == bytes;
  for (unsigned i = 0; i < kRequestWords; ++i) {
    right = right && buffer.answer.words[i] == seed * 31 + (kRequestWords - 1 - i);
  }
  for (std::uint32_t i = 0; i < bytes; ++i) {
    right = right && buffer.data[i] == static_cast<std::byte>((seed + (bytes - 1 - i) * 7) >> 3);
  }
  return right;
}

// Runs `body` in a child and returns its pid; the child's status is what `body` returns.
// The child must not use doctest, and ends with the parent or after a minute.
inline pid_t in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(60);
  ::_exit(body());
}
// The exit status, or 128 + signal.
inline int status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Asks again and again until it is so. The watchdog ends what never comes.
inline void wait_until(const std::function<bool()>& holds) {
  while (!holds()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

inline bool run_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace libservices::ipc::testing

#endif  // LIBSERVICES_IPC_TEST_SERVICE_H_
