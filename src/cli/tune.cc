// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "ipc/copy_kernels.h"
#include "ipc/copy_table_file.h"
#include "ipc/tuner.h"
#include "src/cli/program.h"
#include "src/cli/verbs.h"

namespace libservices::cli {
namespace {

using ipc::CopyClass;
using ipc::CopyTable;
using ipc::Tuned;
using ipc::TunedSize;
using nlohmann::json;

std::string bytes(std::size_t size) {
  if (size >= std::size_t{1} << 20U) return fmt::format("{} MiB", size >> 20U);
  return fmt::format("{} KiB", size >> 10U);
}

double gain(double before, double after) { return after > 0 ? before / after : 0; }

void print_classes(const CopyTable& table) {
  for (unsigned i = 0; i < ipc::kCopyClasses; ++i) {
    const CopyClass& way = table.classes[i];
    fmt::print("  from {:>7}  {}\n", bytes(ipc::kSmallestTuned << i), ipc::describe(way.whole));
    fmt::print("      pipeline  in: {}; out: {}; {}\n", ipc::describe(way.in),
               ipc::describe(way.out),
               way.chunk_bytes == 0 ? "whole" : "chunks of " + bytes(way.chunk_bytes));
  }
}

void print_gain(const char* what, std::size_t size, const char* source, double before,
                double after) {
  if (after <= 0) return;
  fmt::print("  {:>7} {:4}  {:8} {:7.1f} GB/s -> {:6.1f} GB/s, x{:.2f}\n", bytes(size), source,
             what, static_cast<double>(size) / before, static_cast<double>(size) / after,
             gain(before, after));
}

void print_human(const Tuned& tuned) {
  fmt::print("processor {}\n\ncopies\n", tuned.table.cpu);
  print_classes(tuned.table);
  fmt::print("\ngained over libc's memcpy, and over a transfer that is copied in and out whole\n");
  for (const TunedSize& each : tuned.sizes) {
    print_gain("copy", each.size, "hot", each.libc.hot, each.whole.hot);
    print_gain("copy", each.size, "cold", each.libc.cold, each.whole.cold);
    print_gain("transfer", each.size, "hot", each.shared_whole.hot, each.pipeline.hot);
    print_gain("transfer", each.size, "cold", each.shared_whole.cold, each.pipeline.cold);
  }
}

json to_json(const TunedSize::Times& times) {
  return {{"hot_ns", times.hot}, {"cold_ns", times.cold}};
}

json to_json(const Tuned& tuned) {
  json sizes = json::array();
  for (const TunedSize& each : tuned.sizes) {
    sizes.push_back({{"bytes", each.size},
                     {"libc", to_json(each.libc)},
                     {"whole", to_json(each.whole)},
                     {"shared_whole", to_json(each.shared_whole)},
                     {"pipeline", to_json(each.pipeline)}});
  }
  return {{"table", json::parse(ipc::copy_table_text(tuned.table))}, {"measured", sizes}};
}

int fail(const absl::Status& status) {
  complain(status);
  return kOwnFailure;
}

int show(const TuneWords& words) {
  const absl::StatusOr<CopyTable> loaded = ipc::load_copy_table(words.file);
  if (!loaded.ok() && !absl::IsNotFound(loaded.status())) return fail(loaded.status());
  const CopyTable table = loaded.ok() ? *loaded : ipc::default_copy_table();
  if (words.form == StatusForm::kJson) {
    fmt::print("{}", ipc::copy_table_text(table));
    return 0;
  }
  if (loaded.ok()) {
    fmt::print("copy table {}, processor {}\n", words.file, table.cpu);
  } else {
    fmt::print("no copy table {}; this one is built in (run libservices tune)\n", words.file);
  }
  print_classes(table);
  return 0;
}

}  // namespace

int tune(const TuneWords& words) {
  if (words.action == TuneWords::Action::kShow) return show(words);
  if (absl::Status can = ipc::can_store_copy_table(words.file); !can.ok()) return fail(can);
  ipc::TunerConfig config = ipc::tuner_config_for_this_machine();
  config.budget = std::chrono::milliseconds(static_cast<long>(words.seconds * 1000));
  const absl::StatusOr<Tuned> tuned = ipc::tune(config);
  if (!tuned.ok()) {
    return fail(
        absl::Status(tuned.status().code(), fmt::format("tune: {} (mend that and run it again)",
                                                        std::string(tuned.status().message()))));
  }
  if (absl::Status stored = ipc::store_copy_table(tuned->table, words.file); !stored.ok()) {
    return fail(stored);
  }
  if (words.form == StatusForm::kJson) {
    fmt::print("{}\n", to_json(*tuned).dump(2));
    return 0;
  }
  print_human(*tuned);
  if (config.there < 0) {
    fmt::print("\none processor only: transfers were not measured and are copied whole\n");
  }
  fmt::print("\nwritten: {}; services use it from their next start on\n", words.file);
  return 0;
}

}  // namespace libservices::cli
