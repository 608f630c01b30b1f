// SPDX-License-Identifier: Apache-2.0
#include "src/host/ceph_sessions.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>

namespace libservices::host {
namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Containers may share the machine's number and name, but not what they have mounted there. Of a
// directory that is there before the first service: the run directory's own may not be.
std::uint64_t device_around(std::string_view directory) {
  struct stat seen {};
  const auto go_up = [&] {
    const std::size_t name = directory.find_last_of('/');
    directory = directory.substr(0, name == std::string_view::npos ? 0 : name);
  };
  go_up();
  go_up();
  while (!directory.empty() && ::stat(std::string(directory).c_str(), &seen) != 0) go_up();
  return seen.st_dev;
}

}  // namespace

std::string service_name(std::string_view run_directory) {
  std::array<char, 256> host{};
  (void)::gethostname(host.data(), host.size() - 1);
  return fmt::format("{} {} {:x} {}", first_line("/etc/machine-id"), host.data(),
                     device_around(run_directory), run_directory);
}

void name_ceph_sessions(Spec& spec, const std::string& service) {
  for (Spec& layer : spec.layers) name_ceph_sessions(layer, service);
  const auto names = [](const SpecOption& option) {
    return option.key == "session" || option.key == "service";
  };
  if (spec.name != "ceph" || std::any_of(spec.options.begin(), spec.options.end(), names)) return;
  spec.options.push_back({.key = "service", .value = service, .position = spec.position});
}

}  // namespace libservices::host
