// SPDX-License-Identifier: Apache-2.0
#include "ipc/topology.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/support/scratch_directory.h"

namespace libservices::ipc {
namespace {

// A made-up /sys/devices/system/cpu.
class FakeCpus {
 public:
  const std::string& path() const { return scratch_.path(); }

  void cache(int cpu, int index, const char* type, const std::string& shared) {
    write(cpu, "cache/index" + std::to_string(index), "type", type);
    write(cpu, "cache/index" + std::to_string(index), "shared_cpu_list", shared);
  }
  void siblings(int cpu, const std::string& list) {
    write(cpu, "topology", "thread_siblings_list", list);
  }

 private:
  void write(int cpu, const std::string& folder, const char* file, const std::string& text) {
    const std::string where = scratch_.directory("cpu" + std::to_string(cpu) + "/" + folder);
    std::ofstream(where + "/" + file) << text << "\n";
  }

  const testing::ScratchDirectory scratch_;
};

std::vector<int> up_to(int count) {
  std::vector<int> cpus(static_cast<std::size_t>(count));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

TEST_CASE("lists of processors are read as sysfs writes them, and nothing else is") {
  CHECK(parse_cpu_list("0-3,8,10-11\n") == std::vector<int>{0, 1, 2, 3, 8, 10, 11});
  CHECK(parse_cpu_list("5") == std::vector<int>{5});
  CHECK(parse_cpu_list("").empty());
  for (const char* wrong : {"a", "1-", "-1", "3-1", "1,,2", "1,", "1;2", "0-99999999", "1 2"}) {
    CAPTURE(wrong);
    CHECK(parse_cpu_list(wrong).empty());
  }
}

TEST_CASE("cores that share a second-level cache are a group") {
  FakeCpus cpus;
  for (int cpu = 0; cpu < 8; ++cpu) {
    cpus.siblings(cpu, std::to_string(cpu));
    cpus.cache(cpu, 0, "Data", std::to_string(cpu));
    cpus.cache(cpu, 1, "Instruction", "0-7");
    cpus.cache(cpu, 2, "Unified", cpu < 4 ? "0-3" : "4-7");
    cpus.cache(cpu, 3, "Unified", "0-7");
  }
  CHECK(core_groups(up_to(8), cpus.path()) == std::vector<CoreGroup>{{0, 1, 2, 3}, {4, 5, 6, 7}});
}

TEST_CASE("where each core has its second-level cache, the third level groups") {
  FakeCpus cpus;
  for (int cpu = 0; cpu < 4; ++cpu) {
    cpus.siblings(cpu, std::to_string(cpu));
    cpus.cache(cpu, 2, "Unified", std::to_string(cpu));
    cpus.cache(cpu, 3, "Unified", cpu < 2 ? "0-1" : "2-3");
  }
  CHECK(core_groups(up_to(4), cpus.path()) == std::vector<CoreGroup>{{0, 1}, {2, 3}});
}

TEST_CASE("threads of one core are no group by themselves") {
  FakeCpus cpus;
  for (int cpu = 0; cpu < 8; ++cpu) {
    const std::string both = std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4);
    cpus.siblings(cpu, both);
    cpus.cache(cpu, 0, "Data", both);
    cpus.cache(cpu, 2, "Unified", both);
    cpus.cache(cpu, 3, "Unified", "0-7");
  }
  CHECK(core_groups(up_to(8), cpus.path()) == std::vector<CoreGroup>{up_to(8)});
}

TEST_CASE("only allowed processors count") {
  FakeCpus cpus;
  for (int cpu = 0; cpu < 8; ++cpu) {
    cpus.siblings(cpu, std::to_string(cpu));
    cpus.cache(cpu, 2, "Unified", cpu < 4 ? "0-3" : "4-7");
    cpus.cache(cpu, 3, "Unified", "0-7");
  }
  CHECK(core_groups({1, 2, 5, 6}, cpus.path()) == std::vector<CoreGroup>{{1, 2}, {5, 6}});
  CHECK(core_groups({0, 1, 4}, cpus.path()) == std::vector<CoreGroup>{{0, 1}, {4}});
  CHECK(core_groups({3}, cpus.path()) == std::vector<CoreGroup>{{3}});
  CHECK(core_groups({}, cpus.path()).empty());
}

TEST_CASE("a kernel that tells nothing gives one group of all") {
  const FakeCpus cpus;
  CHECK(core_groups({0, 1, 2}, cpus.path()) == std::vector<CoreGroup>{{0, 1, 2}});
}

TEST_CASE("on this machine each allowed processor is in exactly one group") {
  const std::vector<int> allowed = allowed_cpus();
  CHECK_FALSE(allowed.empty());
  std::vector<int> all;
  for (const CoreGroup& group : core_groups(allowed)) {
    all.insert(all.end(), group.begin(), group.end());
  }
  std::sort(all.begin(), all.end());
  CHECK(all == allowed);
}

}  // namespace
}  // namespace libservices::ipc
