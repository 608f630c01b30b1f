// SPDX-License-Identifier: Apache-2.0
//
// Copies and transfers by size, with a hot source and with a cold one (a random place in 256 MiB),
// between two processes on two processors:
//
//   "copy 1 MiB cold"  one copy as the tuned table says, beside libc's memcpy and other kernels
//   "1 MiB cold"       a transfer as the tuned table says, beside SMC (in whole through 1 MiB of
//                      shared memory), SMO with fixed chunks, CMA, and pread from tmpfs, where
//                      nobody but the kernel copies
//
// The tuner runs first, as `libservices tune` does. Candidates take turns, figures are medians.
// Prints one JSON object for bench/harness.py (bench/README.md has the form), with the rates in
// GB/s beside the times, and on standard error what became of the goals.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "ipc/copy_kernels.h"
#include "ipc/copy_table_file.h"
#include "ipc/copy_trials.h"
#include "ipc/tuner.h"

namespace {

using libservices::ipc::can_run;
using libservices::ipc::class_of;
using libservices::ipc::CopyClass;
using libservices::ipc::CopyKernel;
using libservices::ipc::CopyRecipe;
using libservices::ipc::CopyTable;
using libservices::ipc::CopyTrials;
using libservices::ipc::SourceState;
using nlohmann::json;

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = kKiB * kKiB;
constexpr std::size_t kSizes[] = {4 * kKiB,   16 * kKiB, 64 * kKiB, 128 * kKiB,
                                  256 * kKiB, kMiB,      4 * kMiB,  64 * kMiB};
constexpr std::size_t kMostHot = 8 * kMiB;  // past the last-level cache nothing is hot

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "libservices: bench: copy: {}\n", what);
  std::exit(1);
}

std::string words(std::size_t size) {
  return size >= kMiB ? fmt::format("{} MiB", size / kMiB) : fmt::format("{} KiB", size / kKiB);
}

// A file of the page cache, read by system call.
class CachedFile {
 public:
  explicit CachedFile(CopyTrials& trials)
      : trials_(trials), file_(::memfd_create("copy-bench", MFD_CLOEXEC)) {
    const std::vector<char> part(kMiB, 'x');
    for (std::size_t done = 0; done < CopyTrials::kSourceBytes; done += part.size()) {
      if (::write(file_, part.data(), part.size()) != static_cast<ssize_t>(part.size())) {
        give_up("no memory for a file");
      }
    }
  }
  ~CachedFile() { ::close(file_); }

  double read(std::size_t size, SourceState source) {
    const std::size_t batch = std::max<std::size_t>(1, 64 * kKiB / size);
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < batch; ++i) {
      const std::size_t offset = source == SourceState::kHot ? 0 : trials_.random_place(size);
      if (::pread(file_, trials_.destination(), size, static_cast<off_t>(offset)) !=
          static_cast<ssize_t>(size)) {
        give_up("a short read");
      }
    }
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    return taken.count() / static_cast<double>(batch);
  }

 private:
  CopyTrials& trials_;
  int file_;
};

struct Candidate {
  std::string name;
  std::function<double()> measure;
  std::vector<double> samples;
};

// Nanoseconds by name.
std::map<std::string, double> medians(std::vector<Candidate> candidates, int rounds) {
  std::minstd_rand random{std::random_device()()};
  for (int round = 0; round <= rounds; ++round) {
    // What one leaves in the caches is found by all others in turn.
    std::shuffle(candidates.begin(), candidates.end(), random);
    for (Candidate& each : candidates) {
      const double taken = each.measure();
      if (round > 0) each.samples.push_back(taken);  // the first round only warms up
    }
  }
  std::map<std::string, double> all;
  for (Candidate& each : candidates) {
    const auto middle = each.samples.begin() + rounds / 2;
    std::nth_element(each.samples.begin(), middle, each.samples.end());
    all[each.name] = *middle;
  }
  return all;
}

constexpr char kChosen[] = "chosen";
// What the two processors pay to hand over a line, at the time: a host may move virtual processors
// from one cache to another, and then all transfers take twice as long.
constexpr char kMessage[] = "message of 64 bytes";

class Bench {
 public:
  Bench(CopyTrials& trials, const CopyTable& table)
      : trials_(trials), table_(table), file_(trials) {
    const CopyRecipe grid[] = {
        // libc and rep movsb first, one that streams last
        {},
        {.kernel = CopyKernel::kRepMovsb},
        {CopyKernel::kSse2, 4, 0, 8},
        {CopyKernel::kAvx2, 4, 0, 0},
        {CopyKernel::kAvx2, 2, 0, 64},
        {CopyKernel::kAvx2, 4, 1, 64},
        {CopyKernel::kAvx512, 4, 0, 0},
        {CopyKernel::kAvx512, 2, 0, 32},
        {CopyKernel::kAvx512, 2, 1, 4},
    };
    for (const CopyRecipe each : grid) {
      if (can_run(each.kernel)) recipes_.push_back(each);
    }
  }

  void run(std::size_t size, SourceState source) {
    const int rounds = size > 4 * kMiB ? 21 : size >= kMiB ? 101 : 301;
    const std::string name = words(size) + (source == SourceState::kHot ? " hot" : " cold");
    const auto copies = measure_copies(size, source, rounds);
    auto transfers = measure_transfers(size, source, rounds);
    const double message = transfers.extract(kMessage).mapped();
    const auto [best_copy, copy_time] = best_of(copies, "");
    const auto [best_smo, smo_time] = best_of(transfers, "SMO ");
    const auto [best, best_time] = best_of(transfers, "");
    const double chosen = transfers.at(kChosen);
    const double pread = transfers.at("pread");
    add_row("copy " + name, size, copies.at(kChosen),
            {{"libc", copies.at("libc")}, {"best copy", copy_time}}, copies);
    add_row(name, size, chosen,
            {{"SMC", transfers.at("SMC")},
             {"best SMO", smo_time},
             {"CMA", transfers.at("CMA")},
             {"pread", pread},
             {"libc", copies.at("libc")},
             {"best copy", copy_time}},
            transfers);
    rows.back()["nanoseconds_for_64_bytes"] = message;

    goal(name, "the chosen copy, of the best (" + best_copy + ")", copy_time / copies.at(kChosen),
         0.95);
    goal(name, "the chosen transfer, of the best (" + best + ")", best_time / chosen, 0.95);
    if (size >= kMiB) goal(name, "the pipeline over CMA", transfers.at("CMA") / chosen, 1.0);
    if (size >= kMiB) {
      goal(name, "the pipeline over SMC", transfers.at("SMC") / chosen, size == kMiB ? 1.4 : 1.0);
    }
    // A hot source is hot for the sender's processor alone, which neither of these two has to
    // leave.
    if (source == SourceState::kHot) return;
    if (size == kMiB) goal(name, "the pipeline over one memcpy", copies.at("libc") / chosen, 1.0);
    goal(name, "the chosen transfer over pread", pread / chosen, 3.0);
  }

  json rows = json::array();
  json goals = json::array();

 private:
  using Times = std::map<std::string, double>;

  Times measure_copies(std::size_t size, SourceState source, int rounds) {
    std::vector<Candidate> all;
    const auto add = [&](const std::string& name, CopyRecipe recipe) {
      all.push_back(
          {name, [this, recipe, size, source] { return trials_.copy(recipe, size, source); }, {}});
    };
    for (const CopyRecipe each : recipes_) add(libservices::ipc::describe(each), each);
    add(kChosen, table_.classes[class_of(size)].whole);
    return medians(std::move(all), rounds);
  }

  Times measure_transfers(std::size_t size, SourceState source, int rounds) {
    std::vector<Candidate> all;
    const auto add = [&](const std::string& name, CopyTrials::Strategy strategy,
                         const CopyClass& way, std::size_t bytes, SourceState state) {
      all.push_back({name,
                     [this, strategy, way, bytes, state] {
                       const auto taken = trials_.transfer(strategy, way, bytes, state);
                       if (!taken) give_up("the sending process has ended");
                       return *taken;
                     },
                     {}});
    };
    add("SMC", CopyTrials::Strategy::kSmc, {}, size, source);
    add("CMA", CopyTrials::Strategy::kCma, {}, size, source);
    const CopyRecipe rep_movsb = recipes_.size() > 1 ? recipes_[1] : CopyRecipe();
    for (std::uint32_t chunk = 8 * kKiB; chunk <= 256 * kKiB && chunk < size; chunk *= 2) {
      for (const CopyRecipe in : {recipes_.front(), rep_movsb, recipes_.back()}) {
        for (const CopyRecipe out : {recipes_.front(), rep_movsb}) {
          add(fmt::format("SMO {}, {} in, {} out", words(chunk), libservices::ipc::describe(in),
                          libservices::ipc::describe(out)),
              CopyTrials::Strategy::kSmo, {{}, in, out, chunk}, size, source);
        }
      }
    }
    add(kChosen, CopyTrials::Strategy::kSmo, table_.classes[class_of(size)], size, source);
    add(kMessage, CopyTrials::Strategy::kSmc, {}, 64, SourceState::kHot);
    all.push_back({"pread", [this, size, source] { return file_.read(size, source); }, {}});
    return medians(std::move(all), rounds);
  }

  // Of those whose names begin so; of all strategies without a beginning.
  static std::pair<std::string, double> best_of(const Times& times, const std::string& beginning) {
    std::pair<std::string, double> best{"-", times.at(kChosen)};
    for (const auto& [name, time] : times) {
      if (name.rfind(beginning, 0) != 0 || name == "pread" || name == kChosen) continue;
      if (best.first == "-" || time < best.second) best = {name, time};
    }
    return best;
  }

  void add_row(const std::string& name, std::size_t size, double ours, json peers,
               const Times& all) {
    json rates;
    for (const auto& [each, time] : all) rates[each] = static_cast<double>(size) / time;
    rows.push_back({{"name", name},
                    {"unit", "ns"},
                    {"ours", ours},
                    {"peers", std::move(peers)},
                    {"bytes", size},
                    {"gigabytes_per_second", std::move(rates)}});
  }

  void goal(const std::string& name, const std::string& what, double value, double least) {
    const bool reached = value >= least;
    goals.push_back(
        {{"row", name}, {"goal", what}, {"value", value}, {"least", least}, {"reached", reached}});
    if (!reached) {
      fmt::print(stderr, "missed: {}: {}: {:.2f} instead of {:.2f}\n", name, what, value, least);
    }
  }

  CopyTrials& trials_;
  const CopyTable& table_;
  CachedFile file_;
  std::vector<CopyRecipe> recipes_;
};

}  // namespace

int main() {
  libservices::ipc::TunerConfig config = libservices::ipc::tuner_config_for_this_machine();
  if (config.there < 0) give_up("it needs two processors that share a cache");
  const auto tuned = libservices::ipc::tune(config);
  if (!tuned.ok()) give_up(std::string(tuned.status().message()));

  CopyTrials trials;
  if (const auto started = trials.start(config.here, config.there); !started.ok()) {
    give_up(std::string(started.message()));
  }
  Bench bench(trials, tuned->table);
  for (const std::size_t size : kSizes) {
    for (const SourceState source : {SourceState::kCold, SourceState::kHot}) {
      if (source == SourceState::kCold || size <= kMostHot) bench.run(size, source);
    }
  }
  const auto reached = std::count_if(bench.goals.begin(), bench.goals.end(),
                                     [](const json& each) { return each["reached"].get<bool>(); });
  fmt::print(stderr, "goals: {} of {} reached\n", reached, bench.goals.size());
  const json document{{"title", "copies, and transfers between two processes on two processors"},
                      {"settings",
                       {{"table", json::parse(libservices::ipc::copy_table_text(tuned->table))},
                        {"goals", bench.goals}}},
                      {"rows", bench.rows}};
  fmt::print("{}\n", document.dump());
  return 0;
}
