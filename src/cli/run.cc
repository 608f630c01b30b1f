// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "src/cli/launch.h"
#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/host/descriptor.h"
#include "src/host/pool.h"
#include "src/protocol/mount_table.h"

namespace libservices::cli {
namespace {

constexpr int kPatience = 2000;  // ms that `run` waits for a service that is just being started

// Whether all that the service of `run_directory` serves is mounted at the kernel.
bool are_at_kernel(const std::string& run_directory) {
  const host::Descriptor file(::open((run_directory + "/mounts").c_str(), O_RDONLY | O_CLOEXEC));
  const auto table = std::make_unique<protocol::MountTable>();
  if (!file.ok() || ::read(file.get(), table.get(), sizeof *table) != sizeof *table ||
      table->magic != protocol::kMountTableMagic) {
    return false;
  }
  for (const protocol::MountEntry& entry : table->slots) {
    if (entry.hash == 0 || entry.path_bytes > protocol::kMostMountPath) continue;
    struct statfs volume {};
    const std::string path(entry.path, entry.path_bytes);
    if (::statfs(path.c_str(), &volume) != 0 ||
        static_cast<std::uint32_t>(volume.f_type) != FUSE_SUPER_MAGIC) {
      return false;
    }
  }
  return table->count > 0;
}

// "" when programs of this user can use the service of `run_directory`, else why they cannot.
std::string obstacle(const std::string& run_directory) {
  switch (host::obstacle_to(run_directory)) {
    case host::Obstacle::kNone:
      break;
    case host::Obstacle::kNotAllowed:
      return fmt::format(
          "pool in {}: this user may not use it (its service must be started by "
          "this user, or with --clients all)",
          run_directory);
    case host::Obstacle::kNoService:
      return fmt::format(
          "pool in {}: no service runs there (start one with `libservices serve`, "
          "or name its pool)",
          run_directory);
  }
  return "";
}

}  // namespace

void complain(std::string_view message) {
  const std::string line = fmt::format("libservices: {}\n", message);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

void complain(const absl::Status& status) { complain(std::string(status.message())); }

std::string find_preload_library() {
  PathText found;
  if (const char* named = std::getenv("LIBSERVICES_PRELOAD"); named != nullptr) {
    if (real_path(named, found)) return std::string(found.view());
    complain(fmt::format("preload library {}: {} (correct LIBSERVICES_PRELOAD, or unset it)", named,
                         std::strerror(errno)));
    return "";
  }
  PathText directory;
  (void)own_directory(directory);
  if (find_beside(directory.view(), kPreloadPlaces, kPreloadName, found)) {
    return std::string(found.view());
  }
  std::string tried;
  for (const std::string_view place : kPreloadPlaces) {
    tried +=
        fmt::format("{}{}/{}/{}", tried.empty() ? "" : ", ", directory.view(), place, kPreloadName);
  }
  complain(
      fmt::format("preload library: it is at none of {} (install it there, or name it in "
                  "LIBSERVICES_PRELOAD)",
                  tried));
  return "";
}

int become(const std::vector<std::string>& program, const std::string& path,
           const std::string& preload, const std::string& run_directory) {
  if (preload.find_first_of(" :") != std::string::npos) {
    complain(
        fmt::format("preload library {}: the loader takes no path with a space or colon "
                    "(install it elsewhere)",
                    preload));
    return kOwnFailure;
  }
  const char* others = std::getenv("LD_PRELOAD");
  const std::string all = others != nullptr && others[0] != '\0' ? preload + ':' + others : preload;
  ::setenv("LD_PRELOAD", all.c_str(), 1);
  ::setenv("LIBSERVICES_POOL", run_directory.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& word : program) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(path.c_str(), arguments.data());
  const int error = errno;
  complain(fmt::format("{}: {} (check it with `file {}`)", path, std::strerror(error), path));
  return error == ENOENT ? kNotFound : kNotExecutable;
}

int run(const std::string& run_directory, const std::vector<std::string>& program) {
  const Program found = find_program(program.front());
  if (found.exit_status != 0 && !(found.runs_apart && are_at_kernel(run_directory))) {
    complain(found.message);
    return found.exit_status;
  }
  const std::string preload = find_preload_library();
  if (preload.empty()) return kOwnFailure;
  std::string reason = obstacle(run_directory);
  for (int waited = 0; !reason.empty() && waited < kPatience; waited += 20) {
    const timespec pause{0, 20'000'000};
    ::nanosleep(&pause, nullptr);
    reason = obstacle(run_directory);
  }
  if (!reason.empty()) {
    complain(reason);
    return kOwnFailure;
  }
  return become(program, found.path, preload, run_directory);
}

}  // namespace libservices::cli
