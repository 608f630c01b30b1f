// SPDX-License-Identifier: Apache-2.0
#include "src/cli/fuse_words.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string_view>

#include "src/fuse/mount_options.h"

namespace libservices::cli {
namespace {

bool take(std::string_view option, FuseWords& words) {
  const std::size_t equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  const bool has_value = equals != std::string_view::npos;
  const std::string value =
      has_value ? fuse::without_backslashes(option.substr(equals + 1)) : std::string();
  HostConfig::Fuse& fuse = words.fuse;
  if (option == "ro" || option == "rw") {
    fuse.read_only = option == "ro";
  } else if (option == "allow_other" || option == "allow_self") {
    fuse.allow_other = option == "allow_other";
  } else if (option == "writeback" || option == "nowriteback") {
    fuse.writeback = option == "writeback";
  } else if (option == "io_uring" || option == "noio_uring") {
    fuse.io_uring = option == "io_uring";
  } else if (option == "passthrough" || option == "nopassthrough") {
    fuse.passthrough = option == "passthrough";
  } else if (option == "supervise") {
    words.supervise = true;
  } else if (key == "pool" && !value.empty()) {
    words.pool = value;
  } else if (key == "fsname" && !value.empty()) {
    fuse.source = value;
  } else {
    // They are so in any case.
    return option == "default_permissions" || option == "subtype=libservices";
  }
  return true;
}

}  // namespace

absl::StatusOr<FuseWords> fuse_words(std::span<const std::string> lists, Unknown unknown) {
  FuseWords words;
  words.fuse.allow_other = ::geteuid() == 0;
  for (const std::string& list : lists) {
    for (const std::string_view option : fuse::split_options(list)) {
      if (option.empty() || take(option, words)) continue;
      const bool is_known = fuse::kind_of(option) != fuse::OptionKind::kUnknown;
      if (is_known || unknown == Unknown::kRefuse) words.fuse.mount_options.emplace_back(option);
    }
  }
  const auto checked = fuse::kernel_options(words.fuse.mount_options);
  if (!checked.ok()) return checked.status();
  return words;
}

}  // namespace libservices::cli
