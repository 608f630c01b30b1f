// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>

#include "libservices/operations.h"

namespace libservices::host {
namespace {

constexpr int kMostErrno = 133;

std::string_view error_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name == nullptr ? "" : name;
}

// False: the text is no list of triples.
bool parse_ranges(std::string_view text, std::vector<IdRange>& into) {
  std::vector<std::uint32_t> numbers;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data();; ++at) {
    const auto [behind, error] = std::from_chars(at, end, numbers.emplace_back());
    if (error != std::errc{}) return false;
    at = behind;
    if (at == end) break;
    if (*at != ':') return false;
  }
  if (numbers.size() % 3 != 0) return false;
  for (std::size_t i = 0; i < numbers.size(); i += 3) {
    into.push_back({numbers[i], numbers[i + 1], numbers[i + 2]});
  }
  return true;
}

}  // namespace

TraceSink trace_to_standard_error() {
  return [](const TraceRecord& record) {
    const std::string line =
        fmt::format("libservices: {} {} {:.1f} us, request {}\n", name_of(record.operation),
                    record.error.value == 0 ? "ok" : error_name(record.error.value),
                    static_cast<double>(record.duration.count()) / 1000, record.request);
    (void)!::write(STDERR_FILENO, line.data(), line.size());
  };
}

absl::StatusOr<std::shared_ptr<FaultPlan>> fault_plan(SpecArguments& arguments) {
  std::string operation;
  std::string error;
  Fault fault;
  for (const absl::Status& taken :
       {arguments.take("operation", operation), arguments.take("error", error),
        arguments.take("first_call", fault.first_call), arguments.take("every", fault.every),
        arguments.take("delay", fault.delay)}) {
    if (!taken.ok()) return taken;
  }
  auto plan = std::make_shared<FaultPlan>();
  if (operation.empty()) return plan;  // nothing fails yet
  const auto known = std::find(std::begin(kOperationNames), std::end(kOperationNames), operation);
  if (known == std::end(kOperationNames)) {
    return arguments.error(fmt::format("there is no operation '{}'", operation),
                           fmt::format("there are: {}", fmt::join(kOperationNames, ", ")));
  }
  fault.operation = static_cast<Operation>(known - std::begin(kOperationNames));
  if (error.empty() && fault.delay.count() != 0) {
    fault.error = Errno{0};
    plan->add(fault);
    return plan;
  }
  if (error.empty()) error = "EIO";
  fault.error = Errno{1};
  while (fault.error.value <= kMostErrno && error_name(fault.error.value) != error) {
    ++fault.error.value;
  }
  if (fault.error.value > kMostErrno) {
    return arguments.error(fmt::format("there is no error '{}'", error),
                           "write a name of <errno.h>, as EIO or ENOSPC");
  }
  plan->add(fault);
  return plan;
}

absl::Status take_id_ranges(SpecArguments& arguments, std::string_view key,
                            std::vector<IdRange>& into) {
  std::string text;
  if (absl::Status taken = arguments.take(key, text); !taken.ok()) return taken;
  if (!arguments.has(key) || parse_ranges(text, into)) return absl::OkStatus();
  return arguments.value_error(
      key, "write STORED:SHOWN:COUNT, as 0:300000:65536, and more ranges behind another ':'");
}

absl::Status take_squash(SpecArguments& arguments, std::optional<std::uint32_t>& uid,
                         std::optional<std::uint32_t>& gid) {
  bool to_root = false;
  if (absl::Status taken = arguments.take_switch("squash_to_root", to_root); !taken.ok()) {
    return taken;
  }
  for (const auto& [key, into] : {std::pair("squash_uid", &uid), std::pair("squash_gid", &gid)}) {
    std::uint32_t id = 0;
    if (absl::Status taken = arguments.take(key, id); !taken.ok()) return taken;
    if (to_root || arguments.has(key)) *into = id;
  }
  return absl::OkStatus();
}

}  // namespace libservices::host
