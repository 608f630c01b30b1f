// SPDX-License-Identifier: Apache-2.0
#include "src/host/mount_services.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "src/host/descriptor.h"
#include "src/host/private_run_directory.h"
#include "src/host/run_directory.h"
#include "src/host/status_server.h"
#include "src/protocol/mount_table.h"

namespace libservices::host {
namespace {

constexpr std::chrono::seconds kMostToDie{2};
constexpr std::chrono::milliseconds kBetweenLooks{5};
constexpr std::size_t kMostOfPath = 48;  // bytes, so that the name is a pool's with the number

// A copy: what others write may end or change under a mapping.
bool has_mount(const std::string& run_directory, const std::string& path) {
  const Descriptor file(
      ::open((run_directory + "/mounts").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const auto table = std::make_unique<protocol::MountTable>();
  if (!file.ok() ||
      ::pread(file.get(), static_cast<void*>(table.get()), sizeof *table, 0) != sizeof *table ||
      table->magic != protocol::kMountTableMagic ||
      table->version != protocol::kMountTableVersion || table->sequence.load() % 2 != 0) {
    return false;
  }
  const auto match = protocol::find_mount(*table, path.data(), static_cast<unsigned>(path.size()));
  return match.found && match.mount_bytes == path.size();
}

// Its descriptors, and so its lock, go a moment after it can answer no more.
pid_t living_service_of(const std::string& run_directory) {
  const auto give_up = std::chrono::steady_clock::now() + kMostToDie;
  pid_t pid = service_of(run_directory);
  while (pid != 0 && !ask_status(run_directory).ok() &&
         std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(kBetweenLooks);
    pid = service_of(run_directory);
  }
  return pid;
}

bool is_of(const std::string& directory, uid_t user) {
  struct stat seen {};
  return ::lstat(directory.c_str(), &seen) == 0 && S_ISDIR(seen.st_mode) &&
         (seen.st_uid == user || seen.st_uid == 0 || seen.st_uid == ::geteuid());
}

void add_directories(const std::string& parent, std::string_view prefix, uid_t user,
                     std::vector<std::string>& all) {
  std::error_code error;
  std::filesystem::directory_iterator entries(parent, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    std::string path = fmt::format("{}/{}", parent, name);
    if (name.starts_with(prefix) && is_of(path, user)) all.push_back(std::move(path));
  }
}

std::vector<std::string> run_directories(uid_t user) {
  std::vector<std::string> parents = private_run_directory_parents();
  parents.push_back("/run");
  parents.push_back(fmt::format("/run/user/{}", user));
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR")) parents.emplace_back(runtime);
  std::sort(parents.begin(), parents.end());
  parents.erase(std::unique(parents.begin(), parents.end()), parents.end());
  std::vector<std::string> all;
  for (const std::string& parent : parents) {
    const std::string pools = parent + "/libservices";
    if (is_of(pools, user)) add_directories(pools, "", user, all);
    add_directories(parent, "libservices-", user, all);  // private ones
  }
  for (const uid_t owner : {user, ::geteuid()}) {
    const std::string pools = fmt::format("/tmp/libservices-{}", owner);
    if (is_of(pools, user)) add_directories(pools, "", user, all);
  }
  return all;
}

}  // namespace

std::string pool_of_mount(const std::string& path) {
  std::string name;
  bool is_unique = path.size() <= kMostOfPath;
  std::uint64_t hash = protocol::kMountHashSeed;
  for (const char byte : path) {
    hash = protocol::mount_hash_step(hash, byte);
    const bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || byte == '_' || byte == '.';
    is_unique = is_unique && (plain || byte == '/');
    name += plain ? byte : '-';
  }
  name.erase(0, 1);
  if (name.empty() || name.front() == '.') {
    is_unique = false;
    name.insert(0, "_");
  }
  if (is_unique) return name;
  return fmt::format("{}-{:08x}", name.substr(0, kMostOfPath), (hash ^ hash >> 32U) & 0xffffffffU);
}

bool has_mount_table(const std::string& run_directory) {
  return ::access((run_directory + "/mounts").c_str(), F_OK) == 0;
}

std::optional<MountService> service_of_mount(const std::string& path, uid_t user) {
  std::optional<MountService> dead;
  for (const std::string& directory : run_directories(user)) {
    if (!has_mount(directory, path)) continue;
    MountService found{directory, living_service_of(directory)};
    if (found.pid != 0) return found;
    dead = std::move(found);
  }
  return dead;
}

}  // namespace libservices::host
