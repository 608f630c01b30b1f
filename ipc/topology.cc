// SPDX-License-Identifier: Apache-2.0
#include "ipc/topology.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <map>

namespace libservices::ipc {
namespace {

constexpr int kMostCpus = 1 << 16;
constexpr int kMostCaches = 16;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The smallest set of at least two of `allowed` that share a cache with `cpu`; empty if none do.
std::vector<int> smallest_domain(int cpu, const std::vector<int>& allowed,
                                 const std::string& cpu_directory) {
  std::vector<int> best;
  for (int index = 0; index < kMostCaches; ++index) {
    const std::string cache =
        cpu_directory + "/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(index);
    if (first_line(cache + "/type") == "Instruction") continue;
    const std::vector<int> sharing = parse_cpu_list(first_line(cache + "/shared_cpu_list"));
    std::vector<int> domain;
    std::set_intersection(sharing.begin(), sharing.end(), allowed.begin(), allowed.end(),
                          std::back_inserter(domain));
    if (domain.size() < 2 || !std::binary_search(domain.begin(), domain.end(), cpu)) continue;
    // Threads of one core share its first-level cache, and are one core.
    const std::string siblings =
        cpu_directory + "/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
    const std::vector<int> threads = parse_cpu_list(first_line(siblings));
    if (std::includes(threads.begin(), threads.end(), domain.begin(), domain.end())) continue;
    if (best.empty() || domain.size() < best.size()) best = std::move(domain);
  }
  return best;
}

}  // namespace

std::vector<int> parse_cpu_list(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  std::vector<int> cpus;
  const auto number = [&text](int& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value < 0 || value >= kMostCpus) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
  };
  while (!text.empty()) {
    int first = 0;
    if (!number(first)) return {};
    int last = first;
    if (!text.empty() && text.front() == '-') {
      text.remove_prefix(1);
      if (!number(last) || last < first) return {};
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (text.empty()) break;
    if (text.front() != ',' || text.size() == 1) return {};
    text.remove_prefix(1);
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  for (int most = CPU_SETSIZE; most <= kMostCpus; most *= 2) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(most));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const bool fits = ::sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; fits && cpu < most; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (fits) break;
  }
  return cpus;
}

std::vector<CoreGroup> core_groups(const std::vector<int>& allowed,
                                   const std::string& cpu_directory) {
  std::vector<int> sorted = allowed;
  std::sort(sorted.begin(), sorted.end());
  std::map<std::vector<int>, CoreGroup> groups;  // by domain; the empty one: shares no cache
  for (const int cpu : sorted) {
    groups[smallest_domain(cpu, sorted, cpu_directory)].push_back(cpu);
  }
  std::vector<CoreGroup> result;
  for (auto& [domain, group] : groups) result.push_back(std::move(group));
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace libservices::ipc
