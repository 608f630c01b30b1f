// SPDX-License-Identifier: Apache-2.0
#include "src/daemon/unmount.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "src/host/descriptor.h"
#include "src/host/error_status.h"
#include "src/host/mount_services.h"
#include "src/host/mountinfo.h"
#include "src/host/run_directory.h"
#include "src/host/status_server.h"

namespace libservices::daemon {
namespace {

using fuse::Detach;
using host::Descriptor;
using host::MountInfo;
using host::MountService;

constexpr std::chrono::milliseconds kBetweenLooks{5};
constexpr int kMostToExit = 5000;  // ms from giving up the run directory to the process's end

// Of the mounts at the kernel that it still has, whether this one is the last, and it ends with it.
bool ends_with(const MountService& service, const std::string& path) {
  const absl::StatusOr<std::string> answer = host::ask_status(service.run_directory);
  if (!answer.ok()) return false;
  const nlohmann::json status = nlohmann::json::parse(*answer, nullptr, false);
  if (!status.is_object() || !status.contains("mounts")) return false;
  bool ends = false;
  for (const nlohmann::json& mount : status["mounts"]) {
    const nlohmann::json fuse = mount.value("fuse", nlohmann::json());
    if (!fuse.is_object() || !fuse.value("mounted", false)) continue;
    if (mount.value("path", "") != path) return false;
    ends = fuse.value("service_ends_with_it", false);
  }
  return ends;
}

// Without allow_other the kernel lets nobody else in, who then cannot see that its service is dead.
bool is_others(const std::string& path) {
  return ::access(path.c_str(), F_OK) != 0 && errno == EACCES;
}

bool is_own(const std::string& directory) {
  struct stat seen {};
  return ::lstat(directory.c_str(), &seen) == 0 && seen.st_uid == ::geteuid();
}

void wait_for_end(const MountService& service, const Descriptor& process) {
  while (host::service_of(service.run_directory) == service.pid) {
    std::this_thread::sleep_for(kBetweenLooks);
  }
  pollfd event{process.get(), POLLIN, 0};
  if (process.ok()) (void)::poll(&event, 1, kMostToExit);
}

absl::Status failure(int error, const std::string& path, const MountInfo& mount) {
  if (error == EBUSY) {
    return absl::FailedPreconditionError(
        fmt::format("{}: it is in use (end the programs that use it, `fuser -vm {}` shows them, or "
                    "let them go on until they end: --lazy)",
                    path, path));
  }
  if (error == EPERM) {
    return absl::PermissionDeniedError(
        fmt::format("{}: this user may not unmount it (be the user who has mounted it{}, or root)",
                    path, fmt::format(", number {}", mount.number_of("user_id").value_or(0))));
  }
  return host::error_status(error, fmt::format("{}: cannot be unmounted: {} (see /proc/mounts)",
                                               path, std::strerror(error)));
}

}  // namespace

absl::Status unmount(const std::string& path, Detach detach) {
  const std::optional<MountInfo> mount = host::mount_on(path);
  if (!mount) {
    return absl::NotFoundError(
        fmt::format("{}: nothing is mounted there (see `grep libservices /proc/mounts`)", path));
  }
  if (mount->type != "fuse.libservices") {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is mounted there, which is no mount of libservices (unmount it with "
                    "umount)",
                    path, mount->type));
  }
  const uid_t user = mount->number_of("user_id").value_or(::geteuid());
  const std::optional<MountService> service = host::service_of_mount(path, user);
  const bool lives = service && service->pid != 0;
  const bool is_stale = !lives && (fuse::is_stale(path) || (service && is_others(path)));
  const bool waits = lives && detach == Detach::kWhenUnused && ends_with(*service, path);
  const Descriptor process = waits ? host::open_pidfd(service->pid) : Descriptor();
  if (!fuse::unmount(path, is_stale ? Detach::kLazily : detach)) {
    const int error = errno;
    return failure(error == EPERM && user == ::geteuid() ? EBUSY : error, path, *mount);
  }
  if (waits) wait_for_end(*service, process);
  // Not in another user's place, who may put links there.
  if (is_stale && service && is_own(service->run_directory)) {
    host::RunDirectory::clear(service->run_directory);
  }
  return absl::OkStatus();
}

}  // namespace libservices::daemon
