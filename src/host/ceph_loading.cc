// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "src/host/ceph_plugin.h"

namespace libservices::host {
namespace {

constexpr std::string_view kName = "libservices-ceph.so";

std::string directory_of(const char* path) {
  char* const real = ::realpath(path, nullptr);
  const std::string text = real != nullptr ? real : "";
  std::free(real);
  return text.substr(0, text.find_last_of('/') + 1);
}

// Where it is installed, or built, beside the command or the library that this is a part of.
std::string find_plugin(std::string& tried) {
  if (const char* const named = std::getenv("LIBSERVICES_CEPH"); named != nullptr) return named;
  Dl_info self{};
  static const char here = '\0';
  const std::string library =
      ::dladdr(&here, &self) != 0 && self.dli_fname != nullptr ? directory_of(self.dli_fname) : "";
  for (const std::string& directory : {directory_of("/proc/self/exe"), library}) {
    for (const char* place : {"../lib/libservices", "libservices", "../host", "../src/host", "."}) {
      const std::string path = fmt::format("{}{}/{}", directory, place, kName);
      if (::access(path.c_str(), R_OK) == 0) return path;
      tried += (tried.empty() ? "" : ", ") + path;
    }
  }
  return "";
}

absl::StatusOr<const CephPlugin*> load() {
  std::string tried;
  const std::string path = find_plugin(tried);
  if (path.empty()) {
    return absl::NotFoundError(fmt::format(
        "ceph: {}: it is at none of {} (install it there, or name it in LIBSERVICES_CEPH)", kName,
        tried));
  }
  // Never unloaded: its threads outlive their filesystems.
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return absl::FailedPreconditionError(
        fmt::format("ceph: {} (install Debian's libcephfs2)", why != nullptr ? why : path));
  }
  const auto* const plugin = static_cast<const CephPlugin*>(::dlsym(library, kCephPluginSymbol));
  if (plugin == nullptr || std::strcmp(plugin->version, kCephPluginVersion) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("ceph: {}: it is of another version (install both from one build)", path));
  }
  return plugin;
}

}  // namespace

absl::StatusOr<const CephPlugin*> ceph_plugin() {
  static const absl::StatusOr<const CephPlugin*>* const plugin =
      new absl::StatusOr<const CephPlugin*>(load());
  return *plugin;
}

}  // namespace libservices::host
