// SPDX-License-Identifier: Apache-2.0
//
// Why `Local` makes plain system calls: the batches that it has, made one call after the other,
// beside the same batch as one submission to io_uring.
//
//   statx x 1000   attributes of a directory's entries (a listing with attributes)
//   pread x 64     4 KiB each from a file in the page cache (a scattered read)
//
// Prints one JSON object for bench/harness.py (bench/README.md has the form). Medians over rounds
// in which both take turns.
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr unsigned kNames = 1000;
constexpr unsigned kReads = 64;
constexpr std::size_t kReadBytes = 4096;
constexpr int kRounds = 101;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

// A directory of files, one of them large enough to read from.
struct Files {
  Files() {
    if (::mkdtemp(path.data()) == nullptr) give_up("mkdtemp");
    directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY);
    for (unsigned i = 0; i < kNames; ++i) {
      names.push_back("file-" + std::to_string(i));
      const int made = ::openat(directory, names.back().c_str(), O_CREAT | O_WRONLY, 0644);
      if (made < 0) give_up("open");
      ::close(made);
    }
    large = ::openat(directory, "large", O_CREAT | O_RDWR, 0644);
    const std::string bytes(kReads * kReadBytes, 'x');
    if (::write(large, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      give_up("write");
    }
  }
  ~Files() {
    ::close(large);
    ::close(directory);
    std::filesystem::remove_all(path);
  }

  std::string path = "/tmp/libservices-batches-XXXXXX";
  std::vector<std::string> names;
  int directory = -1;
  int large = -1;
};

struct Ring {
  Ring() {
    if (::io_uring_queue_init(1024, &ring, 0) < 0) {
      std::fprintf(stderr, "io_uring: not available here (sysctl kernel.io_uring_disabled)\n");
      std::exit(1);
    }
  }
  ~Ring() { ::io_uring_queue_exit(&ring); }

  void run(unsigned count, const std::function<void(io_uring_sqe*, unsigned)>& prepare) {
    for (unsigned i = 0; i < count; ++i) prepare(::io_uring_get_sqe(&ring), i);
    if (::io_uring_submit_and_wait(&ring, count) < 0) give_up("io_uring");
    for (unsigned i = 0; i < count; ++i) {
      io_uring_cqe* done = nullptr;
      if (::io_uring_wait_cqe(&ring, &done) != 0 || done->res < 0) give_up("a call of the batch");
      ::io_uring_cqe_seen(&ring, done);
    }
  }
  io_uring ring{};
};

double nanoseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

std::string row(const char* name, const std::function<void()>& calls,
                const std::function<void()>& ring) {
  std::vector<double> ours;
  std::vector<double> theirs;
  for (int round = 0; round < kRounds; ++round) {
    ours.push_back(nanoseconds(calls));
    theirs.push_back(nanoseconds(ring));
  }
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
    return values[kRounds / 2];
  };
  return fmt::format(
      R"({{"name": "{}", "unit": "ns", "ours": {:.0f}, "peers": {{"io_uring": {:.0f}}}}})", name,
      median(ours), median(theirs));
}

}  // namespace

int main() {
  const Files files;
  Ring ring;
  std::vector<struct statx> seen(kNames);
  std::vector<char> bytes(kReads * kReadBytes);
  const std::string rows =
      row(
          "statx x 1000",
          [&] {
            for (unsigned i = 0; i < kNames; ++i) {
              if (::statx(files.directory, files.names[i].c_str(), AT_SYMLINK_NOFOLLOW,
                          STATX_BASIC_STATS | STATX_BTIME, &seen[i]) != 0) {
                give_up("statx");
              }
            }
          },
          [&] {
            ring.run(kNames, [&](io_uring_sqe* call, unsigned i) {
              ::io_uring_prep_statx(call, files.directory, files.names[i].c_str(),
                                    AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &seen[i]);
            });
          }) +
      ",\n " +
      row(
          "pread x 64",
          [&] {
            for (unsigned i = 0; i < kReads; ++i) {
              if (::pread(files.large, &bytes[i * kReadBytes], kReadBytes,
                          static_cast<off_t>(i * kReadBytes)) < 0) {
                give_up("pread");
              }
            }
          },
          [&] {
            ring.run(kReads, [&](io_uring_sqe* call, unsigned i) {
              ::io_uring_prep_read(call, files.large, &bytes[i * kReadBytes], kReadBytes,
                                   i * kReadBytes);
            });
          });
  fmt::print(
      "{{\"title\": \"batches on a host directory: system calls, and io_uring\",\n"
      " \"settings\": {{\"rounds\": {}}},\n \"rows\": [{}]}}\n",
      kRounds, rows);
  return 0;
}
