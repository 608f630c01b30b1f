// SPDX-License-Identifier: Apache-2.0
// Proof that the workspace builds: the language, the test framework and the system's libraries.
#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <liburing.h>

#include <string>

TEST_CASE("the system's libraries compile and link") {
  absl::flat_hash_map<std::string, int> sizes{{"fmt", 3}, {"absl", 4}};
  CHECK(sizes.at("absl") == 4);
  CHECK(absl::NotFoundError("no such layer").message() == "no such layer");
  CHECK(fmt::format("{}:{}", "local", 7) == "local:7");
}

TEST_CASE("liburing answers, whether or not the kernel lets us have a ring") {
  io_uring ring{};
  const int result = io_uring_queue_init(8, &ring, 0);
  if (result == 0) io_uring_queue_exit(&ring);
  CHECK(result <= 0);
}
