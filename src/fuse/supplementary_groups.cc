// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/supplementary_groups.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>
#include <string>

namespace libservices::fuse {
namespace {

// Of a thread. None when it is gone, or is in no process namespace that we see.
std::vector<gid_t> groups_of(std::uint32_t thread) {
  std::vector<gid_t> groups;
  if (thread == 0) return groups;
  std::ifstream status(fmt::format("/proc/{}/status", thread));
  constexpr std::string_view kLine = "Groups:";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(kLine)) continue;
    std::istringstream numbers(line.substr(kLine.size()));
    for (gid_t group = 0; numbers >> group;) groups.push_back(group);
    break;
  }
  return groups;
}

}  // namespace

bool SupplementaryGroups::has(gid_t group) const {
  // With a creation the kernel names the one that counts.
  for (std::size_t at = 0; at + sizeof group <= message_.groups.size(); at += sizeof group) {
    gid_t named = 0;
    std::memcpy(&named, message_.groups.data() + at, sizeof named);
    if (named == group) return true;
  }
  if (!of_process_) of_process_ = groups_of(message_.header.pid);
  return std::find(of_process_->begin(), of_process_->end(), group) != of_process_->end();
}

}  // namespace libservices::fuse
