// SPDX-License-Identifier: Apache-2.0
//
// The strategies between two threads and between two processes, and with a peer that dies or lies.
#include "ipc/copy.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "ipc/copy_channel.h"
#include "ipc/copy_cma.h"
#include "ipc/copy_shared.h"
#include "ipc/request.h"

namespace libservices::ipc {
namespace {

// Ends the test program when a test hangs.
struct Watchdog {
  Watchdog() { ::alarm(120); }
  ~Watchdog() { ::alarm(0); }
};

constexpr std::uint32_t kCapacity = 1U << 16U;

// Memory that both ends map.
struct SharedChannel {
  SharedChannel()
      : address(::mmap(nullptr, CopyChannel::bytes(kCapacity), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    REQUIRE(address != MAP_FAILED);
  }
  ~SharedChannel() { ::munmap(address, CopyChannel::bytes(kCapacity)); }
  SharedChannel(const SharedChannel&) = delete;
  SharedChannel& operator=(const SharedChannel&) = delete;

  CopyLink link(int pid = ::getpid(), int pidfd = -1) const {
    return {static_cast<CopyChannel*>(address), kCapacity, pid, pidfd};
  }
  void* address;
};

// Chunks of 4 KiB everywhere, and kernels that differ between the ends.
CopyTable table_for_tests() {
  CopyTable table;
  for (CopyClass& each : table.classes) {
    each.chunk_bytes = 4096;
    if (can_run(CopyKernel::kRepMovsb)) each.in.kernel = CopyKernel::kRepMovsb;
    if (can_run(CopyKernel::kSse2)) each.out = {CopyKernel::kSse2, 4, 1, 8};
  }
  return table;
}

std::vector<std::byte> bytes_of(unsigned seed, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::minstd_rand random(seed + 1);
  for (std::byte& each : bytes) each = static_cast<std::byte>(random() >> 8U);
  return bytes;
}

std::vector<std::size_t> sizes_of(unsigned seed) {
  std::vector<std::size_t> sizes{0, 1, 4095, 4096, 4097, kCapacity, kCapacity + 1, 3 * kCapacity};
  std::mt19937 random(seed);
  for (int i = 0; i < 60; ++i) sizes.push_back(random() % (5 * kCapacity));
  return sizes;
}

template <class S>
S make(CopyLink link, const CopyTable& table) {
  if constexpr (std::is_constructible_v<S, CopyLink, const CopyTable&>) {
    return S(link, table);
  } else {
    return S(link);
  }
}

// A child that does `work` with sight of this process, and a pidfd of it.
struct Child {
  explicit Child(const std::function<int(int creator_pidfd)>& work) {
    const int self = static_cast<int>(raw::syscall(SYS_pidfd_open, ::getpid(), 0));
    pid = ::fork();
    if (pid == 0) {
      ::alarm(100);
      ::_exit(work(self));
    }
    ::close(self);
    pidfd = static_cast<int>(raw::syscall(SYS_pidfd_open, pid, 0));
    REQUIRE(pidfd >= 0);
  }
  ~Child() {
    ::kill(pid, SIGKILL);
    if (!waited) ::waitpid(pid, nullptr, 0);
    ::close(pidfd);
  }
  int status() {
    int status = 0;
    ::waitpid(pid, &status, 0);
    waited = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  pid_t pid = 0;
  int pidfd = -1;
  bool waited = false;
};

TEST_CASE_TEMPLATE("a strategy carries every size between two threads", S, Smc, Smo, Cma) {
  const Watchdog watchdog;
  const SharedChannel shared;
  const CopyTable table = table_for_tests();
  const auto sizes = sizes_of(1);
  std::thread sender([&] {
    S strategy = make<S>(shared.link(), table);
    for (unsigned i = 0; i < sizes.size(); ++i) {
      const auto bytes = bytes_of(i, sizes[i]);
      CHECK(strategy.send(bytes.data(), sizes[i]) == static_cast<long>(sizes[i]));
    }
  });
  S strategy = make<S>(shared.link(), table);
  for (unsigned i = 0; i < sizes.size(); ++i) {
    std::vector<std::byte> got(sizes[i]);
    REQUIRE(strategy.receive(got.data(), sizes[i]) == static_cast<long>(sizes[i]));
    REQUIRE(got == bytes_of(i, sizes[i]));
  }
  sender.join();
}

TEST_CASE_TEMPLATE("a strategy carries random sizes between two processes", S, Smc, Smo, Cma) {
  const Watchdog watchdog;
  const unsigned seed = std::random_device()();
  MESSAGE("seed " << seed);
  const SharedChannel shared;
  const CopyTable table = table_for_tests();
  const auto sizes = sizes_of(seed);
  const pid_t self = ::getpid();
  Child child([&](int creator) {
    S strategy = make<S>(shared.link(self, creator), table);
    for (unsigned i = 0; i < sizes.size(); ++i) {
      const auto bytes = bytes_of(i, sizes[i]);
      if (strategy.send(bytes.data(), sizes[i]) != static_cast<long>(sizes[i])) return 1;
    }
    return 0;
  });
  S strategy = make<S>(shared.link(child.pid, child.pidfd), table);
  for (unsigned i = 0; i < sizes.size(); ++i) {
    std::vector<std::byte> got(sizes[i]);
    REQUIRE(strategy.receive(got.data(), sizes[i]) == static_cast<long>(sizes[i]));
    REQUIRE(got == bytes_of(i, sizes[i]));
  }
  CHECK(child.status() == 0);
}

TEST_CASE_TEMPLATE("a receiver whose sender is killed is told so", S, Smc, Smo, Cma) {
  const Watchdog watchdog;
  const SharedChannel shared;
  const CopyTable table = table_for_tests();
  const pid_t self = ::getpid();
  Child child([&](int creator) {
    S strategy = make<S>(shared.link(self, creator), table);
    const std::vector<std::byte> bytes(kCapacity);
    for (int i = 0; i < 20; ++i) strategy.send(bytes.data(), bytes.size());
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  S strategy = make<S>(shared.link(child.pid, child.pidfd), table);
  std::vector<std::byte> got(kCapacity);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(strategy.receive(got.data(), got.size()) == static_cast<long>(got.size()));
  }
  CHECK(strategy.receive(got.data(), got.size()) == -ESRCH);
}

TEST_CASE_TEMPLATE("a sender whose receiver is killed is told so", S, Smc, Smo, Cma) {
  const Watchdog watchdog;
  const SharedChannel shared;
  const CopyTable table = table_for_tests();
  const pid_t self = ::getpid();
  Child child([&](int creator) {
    S strategy = make<S>(shared.link(self, creator), table);
    std::vector<std::byte> got(kCapacity);
    for (int i = 0; i < 20; ++i) strategy.receive(got.data(), got.size());
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  S strategy = make<S>(shared.link(child.pid, child.pidfd), table);
  const std::vector<std::byte> bytes(kCapacity);
  long sent = 0;
  int good = 0;
  while (sent >= 0 && good < 100) {
    sent = strategy.send(bytes.data(), bytes.size());
    if (sent >= 0) ++good;
  }
  CHECK(sent == -ESRCH);
  CHECK(good >= 20);
}

TEST_CASE("a peer that counts wrong is refused, and nothing outside is touched") {
  const Watchdog watchdog;
  const SharedChannel shared;
  const CopyTable table = table_for_tests();
  auto* const channel = static_cast<CopyChannel*>(shared.address);
  std::vector<std::byte> bytes(2 * kCapacity);
  SUBCASE("more in place than the ring holds") {
    channel->in_place.store(kCapacity + 4096);
    CHECK(Smo(shared.link(), table).receive(bytes.data(), bytes.size()) == -EPROTO);
  }
  SUBCASE("more taken than was sent") {
    channel->taken.store(4096);
    CHECK(Smo(shared.link(), table).send(bytes.data(), bytes.size()) == -EPROTO);
  }
  SUBCASE("another size than is sent") {
    channel->wanted_at.store(reinterpret_cast<std::uint64_t>(bytes.data()));
    channel->wanted_bytes.store(4096);
    channel->wanted.store(1);
    CHECK(Cma(shared.link()).send(bytes.data(), bytes.size()) == -EPROTO);
  }
}

TEST_CASE("a receiver takes what comes to be in place in a request buffer") {
  const Watchdog watchdog;
  const CopyTable table = table_for_tests();
  const auto buffer = std::make_unique<RequestBuffer>();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4096},
                                 std::size_t{100'000}, std::size_t{1} << 20U}) {
    const auto bytes = bytes_of(3, size);
    std::vector<std::byte> got(size);
    buffer->progress.store(0);
    std::thread sender([&] {
      const std::size_t chunk = std::max<std::size_t>(table.classes[class_of(size)].chunk_bytes, 1);
      for (std::size_t done = 0; done < size;) {
        const std::size_t part = std::min(chunk, size - done);
        std::memcpy(buffer->data + done, bytes.data() + done, part);
        done += part;
        buffer->progress.store(static_cast<std::uint32_t>(done), std::memory_order_release);
      }
    });
    ChunkReceiver receiver(got.data(), size, buffer->data, table);
    while (receiver.taken() < size) {
      if (!receiver.take_up_to(buffer->progress.load(std::memory_order_acquire))) {
        std::this_thread::yield();
      }
    }
    sender.join();
    CHECK(got == bytes);
    CHECK_FALSE(receiver.take_up_to(UINT32_MAX));
  }
}

TEST_CASE("a receiver takes no more than it has room for") {
  const std::vector<std::byte> data(8192, std::byte{1});
  std::vector<std::byte> into(8192, std::byte{0});
  ChunkReceiver receiver(into.data(), 100, data.data(), CopyTable());
  CHECK(receiver.take_up_to(8192));
  CHECK(receiver.taken() == 100);
  CHECK(into[99] == std::byte{1});
  CHECK(into[100] == std::byte{0});
}

TEST_CASE("CMA refuses ranges that cannot be, and tells of those that are not there") {
  std::vector<std::byte> here(4096);
  const CmaPeer self{::getpid(), -1};
  CHECK(check_cma_range(UINT64_MAX - 10, 11) == -EFAULT);
  CHECK(check_cma_range(UINT64_MAX - 10, 10) == 0);
  CHECK(check_cma_range(0, 1) == -EFAULT);
  CHECK(check_cma_range(4095, 1) == -EFAULT);
  CHECK(check_cma_range(4096, kMostCmaBytes + 1) == -EINVAL);
  CHECK(check_cma_range(4096, kMostCmaBytes) == 0);
  CHECK(cma_read(self, here.data(), UINT64_MAX - 10, 4096) == -EFAULT);
  CHECK(cma_read(self, here.data(), 4096, 4096) == -EFAULT);
  CHECK(cma_write(self, 0, here.data(), 4096) == -EFAULT);
  CHECK(cma_write(self, 1U << 20U, here.data(), SIZE_MAX) == -EINVAL);
}

TEST_CASE("CMA stops at the first page that the peer does not have") {
  std::vector<std::byte> here(8192);
  void* const two =
      ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(::munmap(static_cast<char*>(two) + 4096, 4096) == 0);
  const CmaPeer self{::getpid(), -1};
  CHECK(cma_read(self, here.data(), reinterpret_cast<std::uint64_t>(two), 8192) == -EFAULT);
  CHECK(cma_read(self, here.data(), reinterpret_cast<std::uint64_t>(two), 4096) == 4096);
  ::munmap(two, 4096);
}

TEST_CASE("CMA does not touch a process that has ended") {
  Child child([](int) { return 0; });
  while (!has_ended(child.pidfd)) ::usleep(1000);
  std::vector<std::byte> here(4096);
  const CmaPeer peer{child.pid, child.pidfd};
  CHECK(cma_read(peer, here.data(), 1U << 20U, here.size()) == -ESRCH);
  CHECK(cma_write(peer, 1U << 20U, here.data(), here.size()) == -ESRCH);
}

}  // namespace
}  // namespace libservices::ipc
