// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/layers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "libservices/spec.h"
#include "src/host/error_status.h"
#include "src/host/mountinfo.h"
#include "src/host/standard_catalog.h"

namespace libservices::overlay {
namespace {

absl::Status find_directory(std::string_view what, std::string& path, std::string_view mend) {
  char* const real = ::realpath(path.c_str(), nullptr);
  struct stat status {};
  int error = errno;
  if (real != nullptr) {
    error = ::stat(real, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
  }
  if (error != 0) {
    std::free(real);
    return host::error_status(
        error, fmt::format("{} {}: {} ({})", what, path, std::strerror(error), mend));
  }
  path = real;
  std::free(real);
  return absl::OkStatus();
}

Spec directory(const std::string& path) {
  Spec spec;
  spec.name = "local";
  spec.path = path;
  return spec;
}

void set(Spec& spec, std::string key, std::string value) {
  spec.options.push_back({std::move(key), std::move(value), 0});
}

void set_owners(Spec& map, const std::string& kind, const std::vector<IdRange>& ranges,
                const std::optional<std::uint32_t>& squash) {
  if (squash) return set(map, "squash_" + kind, std::to_string(*squash));
  std::string text;
  for (const IdRange& range : ranges) {
    text +=
        fmt::format("{}{}:{}:{}", text.empty() ? "" : ":", range.stored, range.shown, range.count);
  }
  if (!text.empty()) set(map, kind, text);
}

const char* on_or_off(bool on) { return on ? "on" : "off"; }

}  // namespace

absl::Status find_directories(Options& options) {
  absl::Status found = find_directory("mount point", options.mountpoint, "make it first");
  for (std::string& lower : options.lowers) {
    if (found.ok()) found = find_directory("lowerdir", lower, "look at its name");
  }
  if (options.upper.empty()) return found;
  if (found.ok()) found = find_directory("upperdir", options.upper, "make it first");
  if (found.ok()) found = find_directory("workdir", options.work, "make it first");
  return found;
}

bool is_on_idmapped_mount(const std::string& directory) {
  const std::optional<host::MountInfo> mount = host::mount_of(directory);
  return mount && ("," + mount->options + ",").find(",idmapped,") != std::string::npos;
}

void leave_owners_to_mounts(Options& options) {
  if (options.uids.empty() && options.gids.empty()) return;
  if (std::none_of(options.lowers.begin(), options.lowers.end(), is_on_idmapped_mount)) return;
  options.uids.clear();
  options.gids.clear();
}

Marks marks_for(const std::string& work) {
  // Not the name of anything that anybody else may be using.
  const std::string probe = fmt::format("{}/whiteout-{}", work, ::getpid());
  if (::mknod(probe.c_str(), S_IFCHR, makedev(0, 0)) != 0) return Marks::kFiles;
  ::unlink(probe.c_str());
  return Marks::kOverlay;
}

std::string spec_of(const Options& options, Marks marks) {
  Spec layers;
  layers.name = "union";
  if (options.upper.empty()) {
    set(layers, "upper", "none");
  } else {
    Spec upper = directory(options.upper);
    set(upper, "work", options.work);
    layers.layers.push_back(std::move(upper));
    set(layers, "range", options.range);
    set(layers, "metacopy", on_or_off(options.metacopy));
    set(layers, "redirect", on_or_off(options.redirect));
    set(layers, "index", on_or_off(options.index));
    set(layers, "volatile", on_or_off(options.is_volatile));
    set(layers, "marks", marks == Marks::kOverlay ? "overlay" : "files");
  }
  for (const std::string& lower : options.lowers) layers.layers.push_back(directory(lower));

  Spec map;
  map.name = "idmap";
  set_owners(map, "uid", options.uids, options.squash_uid);
  set_owners(map, "gid", options.gids, options.squash_gid);
  if (map.options.empty()) return to_string(layers);
  map.layers.push_back(std::move(layers));
  return to_string(map);
}

Catalog catalog() {
  Catalog catalog;
  host::add_unions(catalog);
  host::add_idmap_unions(catalog);
  return catalog;
}

}  // namespace libservices::overlay
