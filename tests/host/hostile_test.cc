// SPDX-License-Identifier: Apache-2.0
//
// A client that keeps to no rules: it sends requests of any operation with any words, and another
// of its threads changes the bytes of requests and answers while the service is at them. The
// service neither crashes nor reads out of bounds (AddressSanitizer and UBSan watch), and a client
// beside it gets right answers.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ipc/front_driver.h"
#include "libservices/host.h"
#include "src/host/run_directory.h"
#include "src/protocol/messages.h"

namespace libservices {
namespace {

using protocol::Operation;

#if defined(__SANITIZE_ADDRESS__)
constexpr int kRequests = 3000;
#else
constexpr int kRequests = 10000;
#endif

struct Session {
  explicit Session(const std::string& socket) {
    std::array<char, 4096> upper;
    std::size_t upper_bytes = 0;
    std::array<int, 80> descriptors;
    unsigned count = descriptors.size();
    REQUIRE(driver.attach(socket.c_str(), upper.data(), upper.size(), upper_bytes,
                          descriptors.data(), count) == 0);
    for (unsigned i = 0; i < count; ++i) ::close(descriptors[i]);
  }
  ~Session() { driver.detach(); }
  ipc::FrontDriver driver;
};

// Requests that are half right: real operations and handles among anything.
class Vandal {
 public:
  Vandal(ipc::FrontDriver& driver, unsigned seed)
      : driver_(driver), buffer_(*driver.take_buffer()), random_(seed) {}
  ~Vandal() { driver_.give_back(buffer_); }

  bool ask() {
    constexpr auto kOperations = static_cast<unsigned>(Operation::kLast) + 2;
    const auto operation = static_cast<std::uint16_t>(random_() % kOperations);
    // Put together here: what stands in the buffer is not to be relied on by us either.
    ipc::RequestHeader header{};
    header.operation = operation;
    header.instance = static_cast<std::uint16_t>(random_() % 8 == 0 ? random_() : 0);
    header.word_count = ipc::kRequestWords;
    for (std::uint64_t& word : header.words) word = any_word();
    std::string path = kPaths[random_() % kPaths.size()];
    if (random_() % 2 == 0) {  // a target that makes sense, and its path
      header.words[0] =
          random_() % 2 == 0 ? protocol::kRoot : handles_[random_() % handles_.size()];
      header.words[1] = (std::uint64_t{path.size()} << 32U) | (random_() % 4);
      if (operation == static_cast<std::uint16_t>(Operation::kOpen)) {
        constexpr std::array kFlags = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_PATH, O_DIRECTORY};
        header.words[2] =
            (std::uint64_t{0644} << 32U) | static_cast<unsigned>(kFlags[random_() % 5]);
        header.words[3] = 0;
      }
    }
    if (random_() % 16 == 0) header.word_count = static_cast<std::uint16_t>(random_());
    if (random_() % 32 == 0) path.resize(random_() % 20'000, 'x');
    std::memcpy(buffer_.data, path.data(), path.size());
    header.input_bytes = static_cast<std::uint32_t>(random_() % 16 == 0 ? random_() : path.size());
    header.repeats = random_() % 4 == 0 ? static_cast<std::uint32_t>(random_()) : 0;
    std::memcpy(&buffer_.request, &header, sizeof header);
    if (!driver_.call(buffer_)) return false;
    if (operation == static_cast<std::uint16_t>(Operation::kOpen)) {
      handles_[random_() % handles_.size()] = buffer_.answer.words[0];
    }
    return true;
  }

 private:
  static constexpr std::array<const char*, 8> kPaths = {
      "", "a", "/a/b", "../..", "d/e/f/g/h", "\0hidden", ".", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"};

  std::uint64_t any_word() {
    switch (random_() % 6) {
      case 0:
        return 0;
      case 1:
        return UINT64_MAX - random_() % 3;
      case 2:
        return std::uint64_t{1} << random_() % 64;
      case 3:
        return random_() % 10'000;
      case 4:
        return handles_[random_() % handles_.size()];
      default:
        return random_();
    }
  }

  ipc::FrontDriver& driver_;
  ipc::RequestBuffer& buffer_;
  std::mt19937_64 random_;
  std::array<protocol::Handle, 16> handles_{};
};

// The service runs as we do. A superuser's request may make the root immutable, and his neighbours
// would have to live with that.
void give_up_immutable_flags() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  REQUIRE(::syscall(SYS_capget, &header, sets) == 0);
  sets[0].effective &= ~(1U << CAP_LINUX_IMMUTABLE);
  REQUIRE(::syscall(SYS_capset, &header, sets) == 0);
}

// Writes and reads back a file of its own.
int neighbour(const std::string& socket, const std::atomic<bool>& stop) {
  Session session(socket);
  ipc::RequestBuffer& buffer = *session.driver.take_buffer();
  const std::string path = "neighbour";
  protocol::OpenRequest open;
  open.target.path_bytes = static_cast<std::uint32_t>(path.size());
  open.flags = O_RDWR | O_CREAT;
  open.mode = 0600;
  buffer.start(static_cast<std::uint16_t>(Operation::kOpen), 0);
  buffer.set_words(open);
  buffer.add(path.data(), path.size());
  if (!session.driver.call(buffer) || buffer.answer.error != 0) return 1;
  const protocol::Handle file = buffer.answer.words[0];
  for (std::uint64_t i = 0; !stop.load(); ++i) {
    buffer.start(static_cast<std::uint16_t>(Operation::kWrite), 0);
    buffer.set_words(protocol::WriteRequest{file, 0});
    buffer.add(&i, sizeof i);
    if (!session.driver.call(buffer) || buffer.answer.error != 0) return 2;
    buffer.start(static_cast<std::uint16_t>(Operation::kRead), 0);
    buffer.set_words(protocol::ReadRequest{file, 0, sizeof i});
    if (!session.driver.call(buffer) || buffer.answer.error != 0) return 3;
    if (std::memcmp(buffer.data, &i, sizeof i) != 0) return 4;
  }
  session.driver.give_back(buffer);
  return 0;
}

TEST_CASE("a client whose requests change while they are served harms nobody") {
  ::alarm(300);
  give_up_immutable_flags();
  char name[] = "/tmp/libservices-hostile-test.XXXXXX";
  const std::string base = ::mkdtemp(name);
  for (const char* each : {"/upper", "/lower"}) std::filesystem::create_directory(base + each);
  const std::string spec = "union(local:" + base + "/upper, local:" + base + "/lower)";
  for (const std::string& mounted : {std::string("memory"), spec}) {
    CAPTURE(mounted);
    const Catalog catalog = standard_catalog();
    Host host({.run_directory = base + "/run", .mounts = {{"/mnt/h", mounted}}}, catalog);
    REQUIRE(host.start().ok());
    const std::string socket = host::socket_path(base + "/run");
    std::atomic<bool> stop{false};
    std::atomic<int> neighbours_result{-1};
    std::thread beside([&] { neighbours_result = neighbour(socket, stop); });
    {
      Session session(socket);
      ipc::RequestBuffer* const first = session.driver.take_buffer();
      session.driver.give_back(*first);
      std::thread flipper([&] {
        std::mt19937_64 random(7);
        auto* const region = reinterpret_cast<std::atomic<std::uint8_t>*>(first);
        while (!stop.load()) {
          // Seldom before the request: without the words of waiting each request waits a second.
          const std::uint64_t buffer = random() % 3 * ipc::kBufferStride;
          region[buffer + (random() % 4096 == 0 ? 4 : 8) + random() % 600].store(
              static_cast<std::uint8_t>(random()));
        }
      });
      std::vector<std::thread> vandals;
      std::atomic<int> lost{0};
      for (unsigned seed = 1; seed <= 3; ++seed) {
        vandals.emplace_back([&, seed] {
          Vandal vandal(session.driver, seed);
          for (int i = 0; i < kRequests; ++i) {
            if (!vandal.ask()) lost.fetch_add(1);
          }
        });
      }
      for (std::thread& vandal : vandals) vandal.join();
      stop.store(true);
      flipper.join();
      CHECK(lost.load() == 0);
    }
    beside.join();
    CHECK(neighbours_result.load() == 0);
    CHECK(host.stop().ok());
  }
  std::filesystem::remove_all(base);
}

}  // namespace
}  // namespace libservices
