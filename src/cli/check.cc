// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <cstring>

#include "src/cli/program.h"
#include "src/cli/verbs.h"

namespace libservices::cli {
namespace {

int fail(const std::string& spec, std::string_view why, std::string_view mend) {
  complain(fmt::format("check: {}: {} ({})", spec, why, mend));
  return kOwnFailure;
}

// What was found in one instance, and 0, or an exit status.
int look(AnyFilesystem& filesystem, const std::string& spec, CheckAction action) {
  constexpr const char* kMend = "see that all branches are there and can be read";
  const Context context;
  if (action == CheckAction::kComplete) {
    std::uint64_t completed = 0;
    const Result<void> done = filesystem.complete(context, completed);
    fmt::print("{}: {} files made whole\n", spec, completed);
    if (!done.ok()) {
      return fail(spec, fmt::format("the next could not be: {}", std::strerror(done.error().value)),
                  "mend that and run it again; nothing is lost");
    }
    return 0;
  }
  const Result<std::uint64_t> count = filesystem.partial_files(context, {});
  if (!count.ok()) return fail(spec, std::strerror(count.error().value), kMend);
  fmt::print("{}: {} files have content in lower branches\n", spec, *count);
  return 0;
}

}  // namespace

int check(const Catalog& catalog, const std::vector<std::string>& specs, CheckAction action) {
  int status = 0;
  for (const std::string& spec : specs) {
    auto filesystem = catalog.build(spec);
    if (!filesystem.ok()) {
      complain(filesystem.status());
      return kOwnFailure;
    }
    if (!(*filesystem)->keeps_partial_files()) {
      fmt::print("{}: every file is whole, as in each composition without a union\n", spec);
      continue;
    }
    if (absl::Status started = (*filesystem)->start(); !started.ok()) {
      complain(started);
      return kOwnFailure;
    }
    const int looked = look(**filesystem, spec, action);
    if (absl::Status stopped = (*filesystem)->stop(); !stopped.ok()) complain(stopped);
    if (status == 0) status = looked;
  }
  return status;
}

}  // namespace libservices::cli
