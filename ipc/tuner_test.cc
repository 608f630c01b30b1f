// SPDX-License-Identifier: Apache-2.0
#include "ipc/tuner.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "ipc/copy_kernels.h"
#include "ipc/copy_table_file.h"
#include "ipc/copy_trials.h"
#include "tests/support/scratch_directory.h"

namespace libservices::ipc {
namespace {

CopyTable table_of_this_processor() {
  CopyTable table;
  cpu_model(table.cpu);
  table.classes[2].whole.kernel =
      can_run(CopyKernel::kSse2) ? CopyKernel::kSse2 : CopyKernel::kLibc;
  table.classes[2].chunk_bytes = 8192;
  table.checksum = sum_of(table);
  return table;
}

bool equal(const CopyTable& a, const CopyTable& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

TEST_CASE("a tuner without time gives a sound table, and leaves the processors as they were") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  TunerConfig config = tuner_config_for_this_machine();
  for (const int milliseconds : {0, 200}) {
    config.budget = std::chrono::milliseconds(milliseconds);
    const auto tuned = tune(config);
    REQUIRE(tuned.ok());
    CHECK(is_sound(tuned->table));
    CHECK(equal(adopt_table(tuned->table), tuned->table));
    CHECK_FALSE(tuned->sizes.empty());
    if (milliseconds == 0 && config.there >= 0) {
      CHECK(tuned->table.classes[8].chunk_bytes == default_copy_table().classes[8].chunk_bytes);
    }
  }
  cpu_set_t after;
  REQUIRE(::sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after) != 0);
}

TEST_CASE("on one processor the tuner leaves pipelines alone") {
  TunerConfig config = tuner_config_for_this_machine();
  config.there = -1;
  config.budget = std::chrono::milliseconds(100);
  const auto tuned = tune(config);
  REQUIRE(tuned.ok());
  for (const CopyClass& each : tuned->table.classes) CHECK(each.chunk_bytes == 0);
}

TEST_CASE("a processor that is not there is named") {
  TunerConfig config;
  config.here = 1023;
  const auto tuned = tune(config);
  REQUIRE_FALSE(tuned.ok());
  CHECK(std::string(tuned.status().message()).find("processor 1023") != std::string::npos);
}

TEST_CASE("a table comes back from its file as it was, with no other file beside it") {
  const testing::ScratchDirectory scratch;
  const std::string directory = scratch.directory("a") + "/made";
  const std::string path = directory + "/table";
  const CopyTable table = table_of_this_processor();
  REQUIRE(can_store_copy_table(path).ok());
  for (int i = 0; i < 2; ++i) REQUIRE(store_copy_table(table, path).ok());
  const auto loaded = load_copy_table(path);
  REQUIRE(loaded.ok());
  CHECK(equal(*loaded, table));
  std::size_t files = 0;
  for (const auto& each : std::filesystem::directory_iterator(directory)) files += each.exists();
  CHECK(files == 1);
}

TEST_CASE("a file that is missing, empty, of another processor or a directory says so") {
  const testing::ScratchDirectory scratch;
  const std::string path = scratch.directory("a") + "/table";
  const auto message = [&] { return std::string(load_copy_table(path).status().message()); };
  CHECK(absl::IsNotFound(load_copy_table(path).status()));
  std::ofstream(path).close();
  CHECK(message().find("it is no copy table") != std::string::npos);
  CHECK(message().find("(run libservices tune, or remove the file)") != std::string::npos);
  CHECK(message().find(path) != std::string::npos);
  CopyTable other = table_of_this_processor();
  std::strcpy(other.cpu, "Elsewhere 1");
  REQUIRE(store_copy_table(other, path).ok());
  CHECK(message().find("another processor, 'Elsewhere 1'") != std::string::npos);
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  CHECK_FALSE(load_copy_table(path).ok());
  CHECK_FALSE(can_store_copy_table(path).ok());
  CHECK_FALSE(store_copy_table(other, path).ok());
  CHECK_FALSE(can_store_copy_table("/proc/no/table").ok());
}

TEST_CASE("text with one field out of its bounds is refused") {
  const std::string good = copy_table_text(table_of_this_processor());
  REQUIRE(parse_copy_table(good).ok());
  const auto with = [&](const std::string& old, const std::string& now) {
    std::string text = good;
    const std::size_t at = text.find(old);
    REQUIRE(at != std::string::npos);
    return text.replace(at, old.size(), now);
  };
  struct Change {
    const char* old;
    const char* now;
  };
  for (const Change& each : {Change{"\"chunk_bytes\": 8192", "\"chunk_bytes\": 8193"},
                             {"\"chunk_bytes\": 8192", "\"chunk_bytes\": -1"},
                             {"\"chunk_bytes\": 8192", "\"chunk_bytes\": 1e99"},
                             {"\"chunk_bytes\": 8192", "\"chunk_bytes\": {}"},
                             {"\"kernel\": \"libc\"", "\"kernel\": \"mmx\""},
                             {"\"kernel\": \"libc\"", "\"kernel\": 0"},
                             {"\"from_bytes\": 4096", "\"from_bytes\": 1"},
                             {"\"version\": 1", "\"version\": 2"},
                             {"\"classes\": [", "\"classes\": [0, "}}) {
    CHECK_MESSAGE(!parse_copy_table(with(each.old, each.now)).ok(), each.now);
  }
}

TEST_CASE("a damaged file never gives an unsound table") {
  const std::string good = copy_table_text(table_of_this_processor());
  const unsigned seed = std::random_device()();
  MESSAGE("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 1000; ++round) {
    std::string text = good;
    if (round % 4 == 0) text.resize(random() % text.size());
    for (unsigned i = 0; i < 1 + round % 8U && !text.empty(); ++i) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const auto table = parse_copy_table(text);
    if (table.ok()) CHECK(is_sound(*table));
  }
}

TEST_CASE("trials have an end when their sender is killed") {
  const TunerConfig config = tuner_config_for_this_machine();
  if (config.there < 0) {
    std::puts("SKIPPED: there is one processor, and a transfer needs two");
    return;
  }
  ::alarm(120);
  CopyTrials trials;
  REQUIRE(trials.start(config.here, config.there).ok());
  for (const auto strategy :
       {CopyTrials::Strategy::kSmc, CopyTrials::Strategy::kSmo, CopyTrials::Strategy::kCma}) {
    CHECK(trials.transfer(strategy, {}, 65536, SourceState::kCold).value_or(0) > 0);
  }
  REQUIRE(::kill(trials.sender(), SIGKILL) == 0);
  CHECK_FALSE(trials.transfer(CopyTrials::Strategy::kSmo, {}, 65536, SourceState::kHot));
  ::alarm(0);
}

}  // namespace
}  // namespace libservices::ipc
