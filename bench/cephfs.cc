// SPDX-License-Identifier: Apache-2.0
//
// libcephfs without any service: the bound of `tools/bench ceph`.
//
//   cephfs DIRECTORY MILLISECONDS     answers `round` as calls.c does, `read` and `write` as
//   trees.c
//                                     does, and `untar DIRECTORY COUNT BYTES`; all by the path
//                                     calls
//   cephfs threads UPPER LOWER FILE... MILLISECONDS
//                                     stat and reads of 4 KiB of FILEs, which are in LOWER, by 1, 2
//                                     and 4 threads: a Filesystem over a union, and libcephfs
#include <cephfs/libcephfs.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "libservices/filesystem.h"
#include "services/ceph/ceph.h"
#include "services/union/union.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDirectories = 10;
constexpr int kFilesEach = 100;
constexpr int kSmall = 4096;
constexpr int kLarge = 1 << 20;
constexpr std::int64_t kBigBytes = 64 << 20;

[[noreturn]] void fail(const std::string& what, std::int64_t answer) {
  fmt::print(stderr, "cephfs: {}: {}\n", what, std::strerror(static_cast<int>(-answer)));
  std::_Exit(1);
}

std::int64_t must(std::int64_t answer, const std::string& what) {
  if (answer < 0) fail(what, answer);
  return answer;
}

std::uint64_t nanoseconds_since(Clock::time_point start) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - start).count());
}

class Random {
 public:
  explicit Random(unsigned seed) : state_(seed) {}
  unsigned next() {
    state_ = state_ * 1664525U + 1013904223U;
    return state_ >> 8U;
  }

 private:
  unsigned state_;
};

ceph_mount_info* mounted() {
  ceph_mount_info* mount = nullptr;
  must(ceph_create(&mount, "admin"), "ceph_create");
  must(ceph_conf_read_file(mount, nullptr), "ceph.conf");
  must(ceph_conf_set(mount, "client_mount_timeout", "5"), "client_mount_timeout");
  // As in ours: the client's log in memory costs as much as a cached call.
  for (const char* const log : {"debug_client", "debug_objectcacher", "debug_objecter"}) {
    must(ceph_conf_set(mount, log, "0/0"), log);
  }
  must(ceph_mount(mount, "/"), "ceph_mount");
  return mount;
}

class Raw {
 public:
  Raw(std::string directory, std::chrono::milliseconds time)
      : mount_(mounted()), directory_(std::move(directory)), time_(time), buffer_(kLarge, 'x') {
    for (int d = 0; d < kDirectories; ++d) {
      for (int f = 0; f < kFilesEach; ++f) {
        files_.push_back(fmt::format("{}/d/{}/{}", directory_, d, f));
      }
    }
  }

  void round() {
    if (big_ < 0) warm_up();
    time("stat", [this] {
      struct ceph_statx seen;
      must(ceph_statx(mount_, some_file(), &seen, CEPH_STATX_BASIC_STATS, 0), "ceph_statx");
    });
    time("open+close", [this] { ceph_close(mount_, open(some_file(), O_RDONLY)); });
    time("read4K", [this] { read_at(big_, kSmall, random_.next() % (kBigBytes / kSmall)); });
    time("read1M", [this] { read_at(big_, kLarge, random_.next() % (kBigBytes / kLarge)); });
    time("create+unlink", [this] {
      const std::string name = fmt::format("{}/d/5/fresh-{}", directory_, ++counter_);
      ceph_close(mount_, open(name, O_CREAT | O_EXCL | O_WRONLY));
      must(ceph_unlink(mount_, name.c_str()), name);
    });
    fmt::print("end\n");
  }

  void read(const std::string& path, int count, int bytes, bool anywhere) {
    const int file = open(path, O_RDONLY);
    struct ceph_statx seen;
    must(ceph_fstatx(mount_, file, &seen, CEPH_STATX_SIZE, 0), path);
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < count; ++i) {
      read_at(file, bytes,
              anywhere ? random_.next() % (static_cast<std::int64_t>(seen.stx_size) / bytes) : i);
    }
    fmt::print("{}\n", nanoseconds_since(start) / static_cast<unsigned>(count));
    ceph_close(mount_, file);
  }

  void write(const std::string& path, int count) {
    const Clock::time_point start = Clock::now();
    const int file = open(path, O_CREAT | O_EXCL | O_WRONLY);
    for (int i = 0; i < count; ++i) {
      must(ceph_write(mount_, file, buffer_.data(), kLarge, std::int64_t{i} * kLarge), path);
    }
    must(ceph_fsync(mount_, file, 0), path);
    ceph_close(mount_, file);
    fmt::print("{}\n", nanoseconds_since(start));
  }

  // What tar does for each file.
  void untar(const std::string& directory, int count, int bytes) {
    const Clock::time_point start = Clock::now();
    must(ceph_mkdir(mount_, directory.c_str(), 0755), directory);
    for (int i = 0; i < count; ++i) {
      if (i % kFilesEach == 0) {
        const std::string below = fmt::format("{}/{}", directory, i / kFilesEach);
        must(ceph_mkdir(mount_, below.c_str(), 0755), below);
      }
      const std::string path = fmt::format("{}/{}/{}", directory, i / kFilesEach, i);
      const int file = open(path, O_CREAT | O_EXCL | O_WRONLY);
      must(ceph_write(mount_, file, buffer_.data(), bytes, 0), path);
      struct timespec times[2] = {{1, 0}, {1, 0}};
      must(ceph_futimens(mount_, file, times), path);
      must(ceph_fchmod(mount_, file, 0644), path);
      ceph_close(mount_, file);
    }
    fmt::print("{}\n", nanoseconds_since(start));
  }

 private:
  void warm_up() {
    big_ = open(directory_ + "/big", O_RDONLY);
    for (std::int64_t place = 0; place < kBigBytes / kLarge; ++place) read_at(big_, kLarge, place);
    for (const std::string& path : files_) ceph_close(mount_, open(path, O_RDONLY));
  }
  const char* some_file() {
    next_file_ = (next_file_ + 7) % files_.size();
    return files_[next_file_].c_str();
  }
  int open(const std::string& path, int flags) {
    return static_cast<int>(must(ceph_open(mount_, path.c_str(), flags, 0644), path));
  }
  void read_at(int file, int bytes, std::int64_t place) {
    const int count = ceph_read(mount_, file, buffer_.data(), bytes, place * bytes);
    if (count != bytes) fail("ceph_read", count < 0 ? count : -EIO);
  }

  // The median of batches of 20 us.
  void time(const char* name, const std::function<void()>& call) {
    constexpr std::uint64_t kBatch = 20'000;
    call();
    Clock::time_point start = Clock::now();
    call();
    call();
    const std::uint64_t batch =
        std::max<std::uint64_t>(kBatch / (nanoseconds_since(start) / 2 + 1), 1);
    std::vector<double> samples;
    const Clock::time_point end = Clock::now() + time_;
    do {
      start = Clock::now();
      for (std::uint64_t i = 0; i < batch; ++i) call();
      samples.push_back(static_cast<double>(nanoseconds_since(start)) / static_cast<double>(batch));
    } while (Clock::now() < end || samples.size() < 5);
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
    std::nth_element(samples.begin(), middle, samples.end());
    fmt::print("{} {:.1f}\n", name, *middle);
  }

  ceph_mount_info* const mount_;
  const std::string directory_;
  const std::chrono::milliseconds time_;
  std::string buffer_;
  std::vector<std::string> files_;
  std::size_t next_file_ = 0;
  std::uint64_t counter_ = 0;
  int big_ = -1;
  Random random_{1};
};

int answer_lines(const std::string& directory, std::chrono::milliseconds time) {
  Raw raw(directory, time);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command, path, order;
    int count = 0;
    int bytes = 0;
    words >> command;
    if (command == "round") {
      raw.round();
    } else if (command == "read" && words >> path >> count >> bytes >> order) {
      raw.read(path, count, bytes, order == "random");
    } else if (command == "untar" && words >> path >> count >> bytes) {
      raw.untar(path, count, bytes);
    } else if (command == "write" && words >> path >> count) {
      raw.write(path, count);
    } else {
      fmt::print(stderr, "cephfs: what is '{}'?\n", line);
      return 2;
    }
    std::fflush(stdout);
  }
  return 0;
}

// ---- threads

// Calls that all of `threads` got done in a second.
double rate(int threads, std::chrono::milliseconds time, const std::function<void(Random&)>& call) {
  std::atomic<bool> begun{false};
  std::atomic<bool> ended{false};
  std::atomic<std::uint64_t> calls{0};
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([&, seed = static_cast<unsigned>(i + 1)] {
      Random random(seed);
      std::uint64_t done = 0;
      while (!begun) std::this_thread::yield();
      while (!ended.load(std::memory_order_relaxed)) {
        call(random);
        ++done;
      }
      calls += done;
    });
  }
  const Clock::time_point start = Clock::now();
  begun = true;
  std::this_thread::sleep_for(time);
  ended = true;
  for (std::thread& one : all) one.join();
  return static_cast<double>(calls) * 1e9 / static_cast<double>(nanoseconds_since(start));
}

int threads(const std::string& upper, const std::string& lower,
            const std::vector<std::string>& names, std::chrono::milliseconds time) {
  using Stack = libservices::Union<libservices::Ceph, libservices::Ceph>;
  using libservices::Context;
  Stack::Config config;
  config.upper.directory = upper;
  config.upper.exclusive = true;
  config.lowers.emplace_back().directory = lower;
  config.lowers.back().unchanging = true;
  libservices::Filesystem<Stack> filesystem(config);
  if (const auto started = filesystem.start(); !started.ok()) {
    fmt::print(stderr, "cephfs: {}\n", std::string(started.ToString()));
    return 1;
  }
  ceph_mount_info* const mount = mounted();
  const Context me;
  const auto big = filesystem.open(me, "/big", {O_RDONLY});
  if (!big.ok()) fail("/big", -big.error().value);
  const int raw_big =
      static_cast<int>(must(ceph_open(mount, (lower + "/big").c_str(), O_RDONLY, 0), "big"));
  struct Row {
    const char* name;
    std::function<void(Random&)> ours, raw;
  };
  const auto stat = [&](Random& random) {
    const auto seen = filesystem.stat(me, "/" + names[random.next() % names.size()]);
    if (!seen.ok()) fail("stat", -seen.error().value);
  };
  const auto raw_stat = [&](Random& random) {
    struct ceph_statx seen;
    must(ceph_statx(mount, (lower + "/" + names[random.next() % names.size()]).c_str(), &seen,
                    CEPH_STATX_BASIC_STATS, 0),
         "ceph_statx");
  };
  const auto read = [&](Random& random) {
    static thread_local std::vector<std::byte> into(kSmall);
    const std::uint64_t place = random.next() % (kBigBytes / kSmall);
    const auto count = filesystem.pread(me, **big, place * kSmall, into);
    if (!count.ok() || *count != kSmall) fail("read", -EIO);
  };
  const auto raw_read = [&](Random& random) {
    static thread_local std::vector<char> into(kSmall);
    const auto place = static_cast<std::int64_t>(random.next() % (kBigBytes / kSmall));
    if (ceph_read(mount, raw_big, into.data(), kSmall, place * kSmall) != kSmall)
      fail("read", -EIO);
  };
  const auto open = [&](Random& random) {
    auto file = filesystem.open(me, "/" + names[random.next() % names.size()], {O_RDONLY});
    if (!file.ok() || !filesystem.close(me, *std::move(file)).ok()) fail("open and close", -EIO);
  };
  const auto raw_open = [&](Random& random) {
    const std::string path = lower + "/" + names[random.next() % names.size()];
    ceph_close(mount, static_cast<int>(must(ceph_open(mount, path.c_str(), O_RDONLY, 0), path)));
  };
  for (std::uint64_t place = 0; place < kBigBytes; place += kLarge) {  // then it is cached
    std::vector<std::byte> into(kLarge);
    (void)filesystem.pread(me, **big, place, into);
    (void)ceph_read(mount, raw_big, reinterpret_cast<char*>(into.data()), kLarge,
                    static_cast<std::int64_t>(place));
  }
  for (const Row& row : {Row{"stat", stat, raw_stat}, Row{"open+close", open, raw_open},
                         Row{"read4K", read, raw_read}}) {
    for (int count : {1, 2, 4}) {
      // The first turn warms up; then the faster of three each, in turn.
      double ours = 0;
      double raw = 0;
      for (int turn = 0; turn < 4; ++turn) {
        const double one = rate(count, time, row.ours);
        const double other = rate(count, time, row.raw);
        if (turn == 0) continue;
        ours = std::max(ours, one);
        raw = std::max(raw, other);
      }
      fmt::print("{} {} {:.0f} {:.0f}\n", row.name, count, ours, raw);
      std::fflush(stdout);
    }
  }
  std::_Exit(0);  // nothing was written; an unmount may take a second
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto time = std::chrono::milliseconds(words.empty() ? 0 : std::atoi(words.back().c_str()));
  if (words.size() > 4 && words[0] == "threads") {
    return threads(words[1], words[2], {words.begin() + 3, words.end() - 1}, time);
  }
  if (words.size() == 2) return answer_lines(words[0], time);
  fmt::print(stderr,
             "usage: cephfs DIRECTORY MILLISECONDS\n"
             "       cephfs threads UPPER LOWER FILE... MILLISECONDS\n");
  return 2;
}
