// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/host/status_server.h"

namespace libservices::cli {
namespace {

using nlohmann::json;

std::string duration(std::uint64_t seconds) {
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
}

void print_human(const json& status) {
  const auto number = [](const json& value) { return value.get<std::uint64_t>(); };
  const auto text = [](const json& value) { return value.get<std::string>(); };
  fmt::print("pool {}: process {}, up {}, {} workers, {} MiB\n", text(status["pool"]),
             number(status["pid"]), duration(number(status["uptime_seconds"])),
             number(status["workers"]), number(status["memory_bytes"]) >> 20U);
  fmt::print("run directory {}\n\nmounts\n", text(status["run_directory"]));
  for (const json& mount : status["mounts"]) {
    fmt::print("  {} = {}\n    {} open files, {} known objects, {} cached names, {} locks\n",
               text(mount["path"]), text(mount["spec"]), number(mount["open_files"]),
               number(mount["known_objects"]), number(mount["cached_names"]),
               number(mount["locks"]));
    if (mount.contains("fuse")) {
      const json& fuse = mount["fuse"];
      fmt::print("    {} at the kernel, protocol {} over {}: {} objects, {} open files, {} of them passing "
                 "through, {} notices\n",
                 fuse["mounted"].get<bool>() ? "mounted" : "no longer mounted",
                 text(fuse["protocol"]), text(fuse["transport"]), number(fuse["nodes"]), number(fuse["open_files"]),
                 number(fuse["files_passing_through"]), number(fuse["notices"]));
    }
    if (mount.contains("partial_files")) {
      const json& partial = mount["partial_files"];
      fmt::print("    files with content in lower branches: {}\n",
                 partial.is_null() ? "being counted" : std::to_string(number(partial)));
    }
  }
  fmt::print("\nsessions: {}, of {} since the start\n", status["sessions"].size(),
             number(status["sessions_opened"]));
  for (const json& session : status["sessions"]) {
    fmt::print("  process {}, user {}: {} handles, {} requests\n", number(session["pid"]),
               number(session["uid"]), number(session["handles"]), number(session["requests"]));
  }
  fmt::print("\nopen files {}, placeholders {} given and {} bound, locks {}\n",
             number(status["open_files"]), number(status["placeholders"]["given"]),
             number(status["placeholders"]["bound"]), number(status["locks"]));
  fmt::print("requests {}, answered with an error {}, refused {} as malformed and {} by the "
             "transport\n",
             number(status["requests"]), number(status["errors"]),
             number(status["refused"]["malformed"]), number(status["refused"]["by_transport"]));
  std::vector<std::pair<std::uint64_t, std::string>> operations;
  for (const auto& [name, count] : status["requests_by_operation"].items()) {
    operations.emplace_back(number(count), name);
  }
  std::sort(operations.rbegin(), operations.rend());
  for (const auto& [count, name] : operations) fmt::print("  {:>12} {}\n", count, name);
}

}  // namespace

int status(const std::string& run_directory, StatusForm form) {
  const absl::StatusOr<std::string> answer = host::ask_status(run_directory);
  if (!answer.ok()) {
    complain(answer.status());
    return kOwnFailure;
  }
  try {
    const json status = json::parse(*answer);
    if (form == StatusForm::kJson) {
      fmt::print("{}\n", status.dump(2));
    } else {
      print_human(status);
    }
  } catch (const json::exception& error) {
    complain(fmt::format("status of {}: it cannot be read: {} (use the `libservices` of the "
                         "service)",
                         run_directory, error.what()));
    return kOwnFailure;
  }
  return 0;
}

}  // namespace libservices::cli
