// SPDX-License-Identifier: Apache-2.0
#include "ipc/copy_trials.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <string_view>

#include "ipc/copy_channel.h"
#include "ipc/copy_cma.h"
#include "ipc/copy_shared.h"

namespace libservices::ipc {
namespace {

constexpr unsigned kMostTransfers = 6;
constexpr std::size_t kMostWarmed = std::size_t{8} << 20U;  // more does not stay in a cache

absl::Status failure(int error, std::string_view what) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      fmt::format("{}: {}", what, std::strerror(error)));
}

double nanoseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

void* map(std::size_t bytes, int flags) {
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

bool pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

int pidfd_of(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// The first one warms up, where there is time for it.
unsigned transfers_for(std::size_t size) {
  return size >= std::size_t{16} << 20U ? 1 : size >= std::size_t{1} << 20U ? 4 : kMostTransfers;
}

template <class Function>
long with_strategy(CopyTrials::Strategy strategy, CopyLink link, const CopyTable& table,
                   Function&& function) {
  switch (strategy) {
    case CopyTrials::Strategy::kSmc: {
      Smc smc(link);
      return function(smc);
    }
    case CopyTrials::Strategy::kSmo: {
      Smo smo(link, table);
      return function(smo);
    }
    case CopyTrials::Strategy::kCma: {
      Cma cma(link);
      return function(cma);
    }
  }
  return -EINVAL;
}

CopyTable table_of(const CopyClass& way) {
  CopyTable table;
  std::fill(std::begin(table.classes), std::end(table.classes), way);
  return table;
}

}  // namespace

// What is asked of the sender. Its own lines for each direction.
struct CopyTrials::Control {
  alignas(128) std::atomic<std::uint32_t> asked;  // counts; what follows belongs to it
  Strategy strategy;
  CopyClass way;
  std::size_t size;
  SourceState source;
  unsigned transfers;
  alignas(128) std::atomic<std::uint32_t> ready;    // the sender has taken that many
  alignas(128) std::atomic<std::uint32_t> started;  // transfers of this trial that may begin
  CopyChannel channel;

  static std::size_t bytes() {
    return offsetof(Control, channel) + CopyChannel::bytes(kTrialRingBytes);
  }
};

CopyTrials::~CopyTrials() {
  if (sender_ > 0) {
    ::kill(sender_, SIGKILL);
    ::waitpid(sender_, nullptr, 0);
  }
  if (sender_pidfd_ >= 0) ::close(sender_pidfd_);
  if (source_ != nullptr) ::munmap(source_, kSourceBytes);
  if (destination_ != nullptr) ::munmap(destination_, kMostTrialBytes);
  if (control_ != nullptr) ::munmap(control_, Control::bytes());
  if (affinity_) ::sched_setaffinity(0, sizeof *affinity_, &*affinity_);
}

absl::Status CopyTrials::start(int here, int there) {
  cpu_set_t before;
  if (::sched_getaffinity(0, sizeof before, &before) == 0) affinity_ = before;
  if (!pin(here)) return failure(errno, fmt::format("cannot run on processor {}", here));
  source_ = static_cast<std::byte*>(map(kSourceBytes, MAP_PRIVATE));
  destination_ = static_cast<std::byte*>(map(kMostTrialBytes, MAP_PRIVATE));
  control_ = static_cast<Control*>(map(Control::bytes(), MAP_SHARED));
  if (source_ == nullptr || destination_ == nullptr || control_ == nullptr) {
    return failure(errno, "no memory to copy");
  }
  std::memset(source_, 0x5a, kSourceBytes);  // pages of its own, not the one page of zeros
  if (there < 0) {
    std::memset(destination_, 1, kMostTrialBytes);
    return absl::OkStatus();
  }

  const int self = pidfd_of(::getpid());
  if (self < 0) return failure(errno, "pidfd_open");
  const pid_t child = ::fork();
  if (child == 0) serve(there, self);
  const int error = errno;
  ::close(self);
  if (child < 0) return failure(error, "cannot start a second process");
  sender_ = child;
  std::memset(destination_, 1, kMostTrialBytes);  // now: the fork has shared what was written
  sender_pidfd_ = pidfd_of(child);
  if (sender_pidfd_ < 0) return failure(errno, "pidfd_open");
  if (!transfer(Strategy::kSmc, {}, kSmallestTuned, SourceState::kHot)) {
    return absl::UnavailableError(fmt::format("the process on processor {} has ended", there));
  }
  return absl::OkStatus();
}

std::size_t CopyTrials::random_place(std::size_t size) {
  constexpr std::size_t kPage = 4096;
  return random_() % ((kSourceBytes - size) / kPage + 1) * kPage;
}

double CopyTrials::copy(CopyRecipe recipe, std::size_t size, SourceState source) {
  constexpr std::size_t kBytesInBatch = std::size_t{64} << 10U;
  const std::size_t batch = std::max<std::size_t>(1, kBytesInBatch / size);
  if (size <= kMostWarmed) {
    // The candidate before may have stored past the caches.
    for (std::size_t i = 0; i < size; i += 64) destination_[i] ^= std::byte{1};
  }
  if (source == SourceState::kHot) copy_by(recipe, destination_, source_, size);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < batch; ++i) {
    copy_by(recipe, destination_, place(size, source), size);
  }
  return nanoseconds_since(start) / static_cast<double>(batch);
}

void CopyTrials::serve(int cpu, int creator_pidfd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!pin(cpu)) ::_exit(1);
  Control& control = *control_;
  const CopyLink link{&control.channel, kTrialRingBytes, ::getppid(), creator_pidfd};
  for (std::uint32_t taken = 0;;) {
    // Pairs with the store in transfer().
    const auto asked = [&] { return control.asked.load(std::memory_order_acquire) != taken; };
    if (!wait_for_peer(link, asked)) ::_exit(0);
    // From `ready` on, the next trial may be written there as soon as this one's bytes are sent.
    const CopyTable table = table_of(control.way);
    const std::size_t size = control.size;
    const SourceState source = control.source;
    const unsigned transfers = control.transfers;
    const long sent = with_strategy(control.strategy, link, table, [&](auto& strategy) -> long {
      control.ready.store(++taken, std::memory_order_release);  // pairs with transfer()
      for (unsigned i = 0; i < transfers; ++i) {
        const std::byte* const from = place(size, source);
        // Pairs with the store in transfer().
        const auto go = [&] { return control.started.load(std::memory_order_acquire) > i; };
        if (!wait_for_peer(link, go)) return -ESRCH;
        if (const long error = strategy.send(from, size); error < 0) return error;
      }
      return 0;
    });
    if (sent < 0) ::_exit(1);
  }
}

std::optional<double> CopyTrials::transfer(Strategy strategy, const CopyClass& way,
                                           std::size_t size, SourceState source) {
  if (sender_ <= 0) return std::nullopt;
  Control& control = *control_;
  const CopyLink link{&control.channel, kTrialRingBytes, sender_, sender_pidfd_};
  const unsigned transfers = transfers_for(size);
  control.strategy = strategy;
  control.way = way;
  control.size = size;
  control.source = source;
  control.transfers = transfers;
  control.started.store(0, std::memory_order_relaxed);
  // Until `asked` says otherwise the sender leaves the channel alone.
  for (auto* counter : {&control.channel.in_place, &control.channel.taken, &control.channel.wanted,
                        &control.channel.answered}) {
    counter->store(0, std::memory_order_relaxed);
  }
  control.asked.store(++asked_, std::memory_order_release);  // pairs with serve()
  // Pairs with the store in serve().
  const auto ready = [&] { return control.ready.load(std::memory_order_acquire) == asked_; };
  if (!wait_for_peer(link, ready)) return std::nullopt;

  std::array<double, kMostTransfers> taken{};
  const CopyTable table = table_of(way);
  const long received = with_strategy(strategy, link, table, [&](auto& strategy) -> long {
    for (unsigned i = 0; i < transfers; ++i) {
      const auto start = std::chrono::steady_clock::now();
      control.started.store(i + 1, std::memory_order_release);  // pairs with serve()
      if (const long error = strategy.receive(destination_, size); error < 0) return error;
      taken[i] = nanoseconds_since(start);
    }
    return 0;
  });
  if (received < 0) return std::nullopt;
  auto* const first = taken.begin() + (transfers > 1 ? 1 : 0);
  auto* const middle = first + (taken.begin() + transfers - first) / 2;
  std::nth_element(first, middle, taken.begin() + transfers);
  return *middle;
}

}  // namespace libservices::ipc
