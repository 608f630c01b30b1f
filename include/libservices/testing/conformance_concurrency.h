// SPDX-License-Identifier: Apache-2.0
//
// Conformance of what holds while several threads work on one tree.
#ifndef LIBSERVICES_TESTING_CONFORMANCE_CONCURRENCY_H_
#define LIBSERVICES_TESTING_CONFORMANCE_CONCURRENCY_H_

#include <atomic>
#include <thread>

#include "libservices/testing/instance.h"

namespace libservices::testing {

// Runs `work(thread, round)` in several threads. It must not use assertions that end the case.
template <class Work>
void in_threads(int rounds, Work work) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([=] {
      for (int round = 0; round < rounds; ++round) work(thread, round);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE_TEMPLATE_DEFINE("of threads that create one name, one succeeds", Stack,
                          conform_create_race) {
  Instance<Stack> fs;
  std::atomic<int> made{0};
  std::atomic<int> other{0};
  in_threads(50, [&](int, int round) {
    auto created = fs.service.create(fs.context, fs.root(), "race" + std::to_string(round), kPlain,
                                     {O_WRONLY});
    if (created.ok()) {
      ++made;
      (void)fs.service.close(fs.context, created->file);
    } else if (error_of(created) != EEXIST) {
      ++other;
    }
  });
  CHECK(made == 50);
  CHECK(other == 0);
}

TEST_CASE_TEMPLATE_DEFINE("threads that make, rename and remove leave the tree whole", Stack,
                          conform_tree_race) {
  Instance<Stack> fs;
  std::atomic<int> failed{0};
  in_threads(100, [&](int thread, int round) {
    const std::string name = std::to_string(thread) + "-" + std::to_string(round);
    auto made = fs.service.create(fs.context, fs.root(), name, kPlain, {O_WRONLY});
    if (!made.ok()) {
      ++failed;
      return;
    }
    (void)fs.service.close(fs.context, made->file);
    if (!fs.service.rename(fs.context, fs.root(), name, *fs.root_node, "target",
                           RenameMode::kReplace)
             .ok()) {
      ++failed;
    }
    if (!fs.service.lookup(fs.context, fs.root(), "target").ok()) ++failed;
  });
  CHECK(failed == 0);
  CHECK(fs.names(fs.root()) ==
        std::multiset<std::string>{"directory", "empty", "file", "target"});
}

TEST_CASE_TEMPLATE_DEFINE("writes of threads to their own places all arrive", Stack,
                          conform_write_race) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"), O_RDWR);
  std::atomic<int> failed{0};
  in_threads(200, [&](int thread, int round) {
    const std::string text(100, static_cast<char>('a' + thread));
    const auto offset = static_cast<std::uint64_t>(round * 4 + thread) * 100;
    auto written = fs.service.write(fs.context, file, offset, bytes_of(text));
    if (!written.ok() || *written != text.size()) ++failed;
  });
  CHECK(failed == 0);
  std::string expected;
  for (int i = 0; i < 800; ++i) expected.append(100, static_cast<char>('a' + i % 4));
  CHECK((fs.read_from(file, 0, 100000) == expected));
  fs.close(file);
}

TEST_CASE_TEMPLATE_DEFINE("appends of threads do not overwrite each other", Stack,
                          conform_append_race) {
  Instance<Stack> fs;
  auto file = fs.open(fs.find("file"), O_WRONLY | O_APPEND);
  std::atomic<int> failed{0};
  in_threads(200, [&](int, int) {
    std::size_t written = 0;
    if (!fs.service.append(fs.context, file, bytes_of("0123456789"), written).ok()) ++failed;
  });
  CHECK(failed == 0);
  fs.close(file);
  std::string expected(kSeedText);
  for (int i = 0; i < 800; ++i) expected += "0123456789";
  CHECK((fs.content(fs.find("file")) == expected));
}

TEST_CASE_TEMPLATE_DEFINE("directories moved by threads at once never form a circle", Stack,
                          conform_circle_race) {
  Instance<Stack> fs;
  const auto left = must(fs.service.mkdir(fs.context, fs.root(), "left", kDirectory)).node;
  const auto right = must(fs.service.mkdir(fs.context, fs.root(), "right", kDirectory)).node;
  in_threads(100, [&](int thread, int) {
    const bool first = thread % 2 == 0;
    const auto& into = first ? right : left;
    const char* name = first ? "left" : "right";
    (void)fs.service.rename(fs.context, fs.root(), name, into, name, RenameMode::kReplace);
    (void)fs.service.rename(fs.context, into, name, fs.root(), name, RenameMode::kReplace);
  });
  const bool left_on_top = fs.lookup_error(fs.root(), "left") == 0;
  const bool right_on_top = fs.lookup_error(fs.root(), "right") == 0;
  CHECK((left_on_top || right_on_top));
  if (!left_on_top) CHECK(fs.lookup_error(right, "left") == 0);
  if (!right_on_top) CHECK(fs.lookup_error(left, "right") == 0);
}

}  // namespace libservices::testing

#define LIBSERVICES_CONFORMANCE_CONCURRENCY(Stack)               \
  LIBSERVICES_CASE(conform_create_race, Stack, WritableService); \
  LIBSERVICES_CASE(conform_tree_race, Stack, WritableService);   \
  LIBSERVICES_CASE(conform_write_race, Stack, WritableService);  \
  LIBSERVICES_CASE(conform_append_race, Stack, OffersAppend);    \
  LIBSERVICES_CASE(conform_circle_race, Stack, WritableService);

#endif  // LIBSERVICES_TESTING_CONFORMANCE_CONCURRENCY_H_
