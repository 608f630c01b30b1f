// SPDX-License-Identifier: Apache-2.0
#include "src/host/layer_specs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
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
  std::string error = "EIO";
  Fault fault;
  for (const absl::Status& taken :
       {arguments.take("operation", operation), arguments.take("error", error),
        arguments.take("first_call", fault.first_call), arguments.take("every", fault.every)}) {
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

}  // namespace libservices::host
