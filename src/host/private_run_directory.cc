// SPDX-License-Identifier: Apache-2.0
#include "src/host/private_run_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "src/host/error_status.h"
#include "src/host/run_directory.h"

namespace libservices::host {
namespace {

constexpr std::size_t kLetters = 6;
constexpr int kMostTries = 100;

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// The directory with its lock; nothing: somebody has it, or it is not ours, or no longer there.
Descriptor hold(const std::string& path) {
  Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat held {};
  struct stat named {};
  if (!directory.ok() || ::fstat(directory.get(), &held) != 0 || held.st_uid != ::geteuid() ||
      ::flock(directory.get(), LOCK_EX | LOCK_NB) != 0 || ::lstat(path.c_str(), &named) != 0 ||
      named.st_ino != held.st_ino || named.st_dev != held.st_dev) {
    return Descriptor();
  }
  return directory;
}

// What is left in `parent`, whose others may be in use.
void sweep(const std::string& parent, std::string_view name) {
  const std::string prefix = fmt::format("{}.", name);
  std::error_code error;
  std::filesystem::directory_iterator entries(parent, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string entry = entries->path().filename().string();
    if (!entry.starts_with(prefix) || entry.size() != prefix.size() + kLetters) continue;
    const std::string path = fmt::format("{}/{}", parent, entry);
    const Descriptor held = hold(path);
    if (held.ok() && service_of(path) == 0) remove_tree(path);
  }
}

}  // namespace

std::vector<std::string> private_run_directory_parents() {
  const char* const runtime = ::geteuid() == 0 ? "/run" : std::getenv("XDG_RUNTIME_DIR");
  std::vector<std::string> parents;
  // The superuser of a user namespace may not write everywhere.
  for (const char* parent :
       {runtime, "/dev/shm", static_cast<const char*>(std::getenv("TMPDIR")), "/tmp"}) {
    if (parent != nullptr && parent[0] == '/') parents.emplace_back(parent);
  }
  return parents;
}

absl::StatusOr<PrivateRunDirectory> PrivateRunDirectory::make(std::string_view name) {
  const std::vector<std::string> parents = private_run_directory_parents();
  for (const std::string& parent : parents) sweep(parent, name);
  int error = ENOENT;
  for (const std::string& parent : parents) {
    // Who sweeps may come between the two steps.
    for (int tries = 0; tries < kMostTries; ++tries) {
      PrivateRunDirectory made;
      std::string path = fmt::format("{}/{}.XXXXXX", parent, name);
      if (::mkdtemp(path.data()) == nullptr) {
        error = errno;
        break;
      }
      made.hold_ = hold(path);
      error = errno;
      made.path_ = std::move(path);
      if (made.hold_.ok()) return made;
    }
  }
  return error_status(
      error, fmt::format("run directory: cannot make one in /tmp: {} (see who may write there)",
                         std::strerror(error)));
}

PrivateRunDirectory::~PrivateRunDirectory() {
  if (!path_.empty()) remove_tree(path_);
}

}  // namespace libservices::host
