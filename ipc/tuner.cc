// SPDX-License-Identifier: Apache-2.0
#include "ipc/tuner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <random>

#include "ipc/copy_kernels.h"
#include "ipc/copy_trials.h"
#include "ipc/topology.h"

namespace libservices::ipc {
namespace {

using Clock = std::chrono::steady_clock;

// A class between two of these goes the smaller one's way. Large copies need more of the time.
struct Measured {
  std::size_t size;
  int weight;
};
constexpr Measured kSizes[] = {
    {std::size_t{4} << 10U, 2},  {std::size_t{8} << 10U, 2},   {std::size_t{16} << 10U, 2},
    {std::size_t{64} << 10U, 2}, {std::size_t{128} << 10U, 2}, {std::size_t{256} << 10U, 2},
    {std::size_t{1} << 20U, 4},  {std::size_t{4} << 20U, 7},   {std::size_t{16} << 20U, 6},
    {std::size_t{64} << 20U, 6},
};
// More does not stay in a cache: nothing is hot.
constexpr std::size_t kMostHot = std::size_t{8} << 20U;
// From here on a copy takes too long to try all: the best of the size before are tried again.
constexpr std::size_t kSeeded = std::size_t{16} << 20U;
constexpr std::size_t kSeeds = 6;

// A challenger must be better by this factor: than libc copying in whole, than what won before it.
constexpr double kMargin = 1.03;
constexpr double kFineMargin = 1.01;
constexpr double kShareOfCopies = 0.35;  // of each size's time; the pipeline has the rest

constexpr std::uint8_t kPrefetchLines[] = {0, 4, 8, 16, 32, 64};
constexpr std::uint8_t kUnrolls[] = {1, 2, 4, 8};
constexpr std::uint32_t kChunks[] = {0,          4U << 10U,  8U << 10U,   16U << 10U,
                                     32U << 10U, 64U << 10U, 128U << 10U, 256U << 10U};

// Candidates 0 to count - 1 take turns; 0 is the incumbent.
class Contest {
 public:
  // Nanoseconds of one candidate; nothing when it cannot be measured any more.
  using Measure = std::function<std::optional<double>(std::size_t candidate, SourceState source)>;

  struct Entry {
    std::size_t candidate = 0;
    std::vector<double> hot;
    std::vector<double> cold;
    TunedSize::Times median;
    double behind = 0;  // the factor to the best one, where it is further behind
  };

  Contest(std::size_t count, bool hot_too, Measure measure)
      : entries_(count), running_(count), hot_too_(hot_too), measure_(std::move(measure)) {
    for (std::size_t i = 0; i < count; ++i) entries_[i].candidate = i;
  }

  // Each stage has the same share of the time and leaves a third of the candidates.
  // False: not even each was measured once.
  bool run(Clock::time_point start, Clock::time_point end) {
    constexpr std::size_t kFinalists = 5;
    unsigned stages = 1;
    for (std::size_t left = running_; left > kFinalists; left /= 3) ++stages;
    for (unsigned stage = 1; stage <= stages; ++stage) {
      const auto until = start + (end - start) * stage / stages;
      // One figure decides nothing, if there is time for a second.
      for (unsigned rounds = 0; rounds == 0 || Clock::now() < (rounds == 1 ? end : until);
           ++rounds) {
        if (!round(end)) return false;
      }
      rank();
      if (stage < stages) running_ = std::min(running_, std::max(kFinalists, running_ / 3));
    }
    return true;
  }

  // Best first, and behind those the ones that dropped out. The incumbent is among them.
  const std::vector<Entry>& ranked() const { return entries_; }
  const Entry& incumbent() const {
    return *std::find_if(entries_.begin(), entries_.end(),
                         [](const Entry& each) { return each.candidate == 0; });
  }
  // The best one, or the incumbent where nobody beat it by the margin.
  const Entry& winner(double margin) const {
    const Entry& best = entries_.front();
    const Entry& old = incumbent();
    const double cold = old.median.cold / best.median.cold;
    const double hot = hot_too_ ? old.median.hot / best.median.hot : cold;
    return std::sqrt(hot * cold) >= margin ? best : old;
  }

 private:
  // In another order each time: what one leaves in the caches is found by all others in turn.
  bool round(Clock::time_point end) {
    std::vector<Entry*> turns;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      // The incumbent stays to the end, so that it is compared within the same rounds.
      if (i < running_ || entries_[i].candidate == 0) turns.push_back(&entries_[i]);
    }
    std::shuffle(turns.begin(), turns.end(), random_);
    for (Entry* each : turns) {
      if (!measure(*each)) return false;
      if (!measured_once_ && Clock::now() > end) return false;
    }
    measured_once_ = true;
    return true;
  }

  bool measure(Entry& entry) {
    const std::optional<double> cold = measure_(entry.candidate, SourceState::kCold);
    if (!cold) return false;
    entry.cold.push_back(*cold);
    if (!hot_too_) return true;
    const std::optional<double> hot = measure_(entry.candidate, SourceState::kHot);
    if (hot) entry.hot.push_back(*hot);
    return hot.has_value();
  }

  static double median(std::vector<double>& values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }

  void rank() {
    TunedSize::Times best{1e300, 1e300};
    for (Entry& each : entries_) {
      each.median = {median(each.hot), median(each.cold)};
      best = {std::min(best.hot, each.median.hot), std::min(best.cold, each.median.cold)};
    }
    for (Entry& each : entries_) {
      each.behind =
          std::max(each.median.cold / best.cold, hot_too_ ? each.median.hot / best.hot : 0.0);
    }
    std::stable_sort(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(running_),
                     [](const Entry& a, const Entry& b) { return a.behind < b.behind; });
  }

  std::vector<Entry> entries_;
  std::size_t running_;  // the first so many still take part
  bool hot_too_;
  bool measured_once_ = false;
  Measure measure_;
  std::minstd_rand random_{std::random_device()()};
};

// libc first; nothing twice, nothing that this processor does not run.
void add(std::vector<CopyRecipe>& recipes, CopyRecipe recipe) {
  if (can_run(recipe.kernel) &&
      std::find(recipes.begin(), recipes.end(), recipe) == recipes.end()) {
    recipes.push_back(recipe);
  }
}

constexpr CopyRecipe kLibc{};
constexpr CopyRecipe kRepMovsb{.kernel = CopyKernel::kRepMovsb};

std::vector<CopyRecipe> all_recipes() {
  std::vector<CopyRecipe> recipes{kLibc};
  add(recipes, kRepMovsb);
  for (const CopyKernel kernel : {CopyKernel::kSse2, CopyKernel::kAvx2, CopyKernel::kAvx512}) {
    for (const std::uint8_t unroll : kUnrolls) {
      for (const std::uint8_t streaming : {std::uint8_t{0}, std::uint8_t{1}}) {
        for (const std::uint8_t lines : kPrefetchLines) {
          add(recipes, {kernel, unroll, streaming, lines});
        }
      }
    }
  }
  return recipes;
}

class Search {
 public:
  Search(CopyTrials& trials, const TunerConfig& config)
      : trials_(trials), end_(Clock::now() + config.budget) {}

  Tuned run() {
    Tuned tuned;
    int left = 0;
    for (const Measured& each : kSizes) left += each.weight;
    for (const auto& [size, weight] : kSizes) {
      const auto start = Clock::now();
      TunedSize result;
      result.size = size;
      if (!tuned.sizes.empty()) result.way = tuned.sizes.back().way;  // until it is measured
      const auto share = end_ > start ? (end_ - start) * weight / left : Clock::duration{};
      left -= weight;
      const double copies = trials_.has_sender() ? kShareOfCopies : 1.0;
      const auto middle = start + std::chrono::duration_cast<Clock::duration>(share * copies);
      search_copies(result, start, middle);
      if (trials_.has_sender()) search_pipelines(result, middle, start + share);
      tuned.sizes.push_back(result);
    }
    fill(tuned);
    return tuned;
  }

 private:
  void search_copies(TunedSize& result, Clock::time_point start, Clock::time_point end) {
    if (result.size < kSeeded || ranked_.empty()) {
      recipes_ = all_recipes();
    } else {
      recipes_ = seeds();
    }
    Contest contest(recipes_.size(), result.size <= kMostHot,
                    [&](std::size_t candidate, SourceState source) -> std::optional<double> {
                      return trials_.copy(recipes_[candidate], result.size, source);
                    });
    if (!contest.run(start, end)) return;
    ranked_.clear();
    for (const Contest::Entry& each : contest.ranked()) ranked_.push_back(recipes_[each.candidate]);
    result.way.whole = recipes_[contest.winner(kMargin).candidate];
    result.whole = contest.winner(kMargin).median;
    result.libc = contest.incumbent().median;
    if (result.size <= std::size_t{16} << 10U) best_of_small_ = result.way.whole;
  }

  // The best of the last size, and the best of those that go past the caches.
  std::vector<CopyRecipe> seeds() const {
    std::vector<CopyRecipe> recipes{kLibc};
    add(recipes, kRepMovsb);
    std::size_t any = 0;
    std::size_t streaming = 0;
    for (const CopyRecipe& each : ranked_) {
      if (any++ < kSeeds || (each.streaming != 0 && streaming++ < kSeeds)) add(recipes, each);
    }
    return recipes;
  }

  // First every chunk with the recipes that are good alone, then every recipe on either side of
  // what was best, then every chunk again.
  //
  // No stores past the caches but into a destination that is too large for them. They were a
  // quarter faster where two processors turned out to share no cache after all, and took nearly
  // twice as long where they did; a virtual processor can be moved from the one to the other.
  void search_pipelines(TunedSize& result, Clock::time_point start, Clock::time_point end) {
    const auto at = [&](int percent) { return start + (end - start) * percent / 100; };
    const CopyRecipe whole = result.way.whole;
    if (result.size < kMostTrialBytes || ranked_ways_.empty()) {
      const std::vector<CopyRecipe> outs = all_recipes();
      std::vector<CopyRecipe> ins = outs;
      std::erase_if(ins, [](CopyRecipe each) { return each.streaming != 0; });
      const std::vector<std::uint32_t> chunks(std::begin(kChunks), std::end(kChunks));
      result.way = default_copy_table().classes[class_of(result.size)];  // without time for more
      improve(result, some_ways(whole), kMargin, start, at(40));
      improve(result, variants(result.way, &CopyClass::in, ins), kFineMargin, at(40), at(65));
      improve(result, variants(result.way, &CopyClass::out, result.size > kMostHot ? outs : ins),
              kFineMargin, at(65), at(90));
      improve(result, variants(result.way, &CopyClass::chunk_bytes, chunks), kFineMargin, at(90),
              end);
    } else {
      std::vector<CopyClass> ways{CopyClass()};
      ranked_ways_.resize(std::min(ranked_ways_.size(), 4 * kSeeds));
      ways.insert(ways.end(), ranked_ways_.begin(), ranked_ways_.end());
      improve(result, std::move(ways), kMargin, start, end);
    }
    result.way.whole = whole;
  }

  // Lets `ways` contest, of which the first is the incumbent, and takes the winner.
  bool improve(TunedSize& result, std::vector<CopyClass> ways, double margin,
               Clock::time_point start, Clock::time_point end) {
    std::erase_if(ways, [&](const CopyClass& way) { return way.chunk_bytes >= result.size; });
    Contest contest(
        ways.size(), result.size <= kMostHot, [&](std::size_t candidate, SourceState source) {
          return trials_.transfer(CopyTrials::Strategy::kSmo, ways[candidate], result.size, source);
        });
    if (!contest.run(start, end)) return false;
    result.way = ways[contest.winner(margin).candidate];
    result.pipeline = contest.winner(margin).median;
    if (ways.front() == CopyClass()) result.shared_whole = contest.incumbent().median;
    const auto& ranked = contest.ranked();
    std::vector<CopyClass> best;
    for (std::size_t i = 0; i < std::min(kSeeds, ranked.size()); ++i) {
      best.push_back(ways[ranked[i].candidate]);
    }
    ranked_ways_.insert(ranked_ways_.begin(), best.begin(), best.end());
    return true;
  }

  std::vector<CopyClass> some_ways(CopyRecipe whole) const {
    std::vector<CopyRecipe> recipes{kLibc};
    add(recipes, kRepMovsb);
    if (whole.streaming == 0) add(recipes, whole);
    if (best_of_small_.streaming == 0) add(recipes, best_of_small_);
    std::vector<CopyClass> ways;
    for (const std::uint32_t chunk : kChunks) {
      for (const CopyRecipe& in : recipes) {
        for (const CopyRecipe& out : recipes) ways.push_back({{}, in, out, chunk});
      }
    }
    return ways;
  }

  // `way`, and the same with another value of one field.
  template <class T>
  static std::vector<CopyClass> variants(const CopyClass& way, T CopyClass::*field,
                                         const std::vector<T>& values) {
    std::vector<CopyClass> ways{way};
    for (const T& value : values) {
      if (value == way.*field) continue;
      ways.push_back(way);
      ways.back().*field = value;
    }
    return ways;
  }

  static void fill(Tuned& tuned) {
    unsigned next = 0;
    for (unsigned i = 0; i < kCopyClasses; ++i) {
      while (next < tuned.sizes.size() && class_of(tuned.sizes[next].size) <= i) ++next;
      tuned.table.classes[i] = tuned.sizes[next - 1].way;
    }
    cpu_model(tuned.table.cpu);
    tuned.table.checksum = sum_of(tuned.table);
  }

  CopyTrials& trials_;
  Clock::time_point end_;
  std::vector<CopyRecipe> recipes_;
  std::vector<CopyRecipe> ranked_;      // of the last size that was measured
  CopyRecipe best_of_small_;            // of 16 KiB: what a pipeline moves at once
  std::vector<CopyClass> ranked_ways_;  // the best of all contests, the last contest's first
};

}  // namespace

TunerConfig tuner_config_for_this_machine() {
  TunerConfig config;
  const std::vector<int> allowed = allowed_cpus();
  if (!allowed.empty()) config.here = allowed.front();
  for (const CoreGroup& group : core_groups(allowed)) {
    if (group.size() < 2) continue;
    config.here = group[0];
    config.there = group[1];
    break;
  }
  return config;
}

absl::StatusOr<Tuned> tune(const TunerConfig& config) {
  CopyTrials trials;
  if (absl::Status started = trials.start(config.here, config.there); !started.ok()) {
    return started;
  }
  return Search(trials, config).run();
}

}  // namespace libservices::ipc
