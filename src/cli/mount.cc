// SPDX-License-Identifier: Apache-2.0
#include "src/cli/mount.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "src/cli/program.h"
#include "src/cli/verbs.h"
#include "src/daemon/mounts.h"
#include "src/daemon/unmount.h"
#include "src/host/mount_services.h"
#include "src/host/mountinfo.h"
#include "src/host/run_directory.h"

namespace libservices::cli {
namespace {

// SOURCE: mount(8), "exit status".
constexpr int kWrongUse = 1;
constexpr int kMountFailure = 32;

// What lives there is left alone. A service that is just ending has no mount any more, and perhaps no
// table of them, and is waited for later; one that is dead is followed.
absl::Status check_that_free(const std::string& path, const std::string& run_directory) {
  const std::optional<host::MountService> service = host::service_of_mount(path, ::geteuid());
  const bool lives = service && service->pid != 0;
  const std::optional<host::MountInfo> mount = host::mount_on(path);
  if (mount && mount->type == "fuse.libservices" && (lives || !fuse::is_stale(path))) {
    return absl::AlreadyExistsError(fmt::format(
        "{}: {} is mounted there already{} (unmount it first: libservices umount {})", path,
        mount->source, lives ? fmt::format(", by process {}", service->pid) : "", path));
  }
  const pid_t other = host::service_of(run_directory);
  if (other != 0 && host::has_mount_table(run_directory) &&
      (!service || service->run_directory != run_directory)) {
    return absl::AlreadyExistsError(
        fmt::format("run directory {}: a service with other mounts runs there already, as process "
                    "{} (choose another pool)",
                    run_directory, other));
  }
  return absl::OkStatus();
}

absl::StatusOr<HostConfig> config_of(MountWords words, HostConfig config) {
  const std::string path = host::real_mount_path(words.path);
  config.pool = words.pool.empty() ? host::pool_of_mount(path) : words.pool;
  absl::StatusOr<std::string> directory = host::run_directory_of(config.pool);
  if (!directory.ok()) return directory.status();
  config.run_directory = *std::move(directory);
  if (absl::Status free = check_that_free(path, config.run_directory); !free.ok()) return free;
  config.mounts = {{path, std::move(words.spec), std::move(words.fuse)}};
  return config;
}

int mount_or(int failure, MountWords words, HostConfig limits, const Catalog& catalog) {
  daemon::Process process{
      .program = "libservices",
      .subject = words.path,
      .place = words.place,
      .failure = failure,
      .supervised = limits.most_stuck_calls != 0};
  const absl::StatusOr<HostConfig> config = config_of(std::move(words), std::move(limits));
  if (!config.ok()) {
    complain(config.status());
    return failure;
  }
  daemon::keep_standard_descriptors();
  return daemon::run(process, [&](const sigset_t& ends, const std::function<void()>& live) {
    return daemon::serve_mounts(*config, catalog, ends, live);
  });
}

bool is_mount_program(const char* name) {
  const std::string_view path = name;
  return path.substr(path.rfind('/') + 1).starts_with("mount.");
}

}  // namespace

int mount(MountWords words, HostConfig limits, const Catalog& catalog) {
  return mount_or(kOwnFailure, std::move(words), std::move(limits), catalog);
}

int umount(const std::vector<std::string>& paths, fuse::Detach detach) {
  int status = 0;
  for (const std::string& path : paths) {
    const absl::Status ended = daemon::unmount(host::real_mount_path(path), detach);
    if (ended.ok()) continue;
    complain(ended);
    status = kOwnFailure;
  }
  return status;
}

std::optional<int> mount_program(int argc, char** argv, std::span<const std::string_view> verbs,
                                 const Catalog& catalog) {
  if (argc < 1) return std::nullopt;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (!is_mount_program(argv[0])) {
    const bool is_form = words.size() >= 2 && !words[0].starts_with('-') &&
                         std::find(verbs.begin(), verbs.end(), words[0]) == verbs.end() &&
                         (!words[1].starts_with('-') || words[1].starts_with("-o"));
    if (!is_form) return std::nullopt;
  }
  std::vector<std::string> places;
  std::vector<std::string> lists;
  Unknown unknown = Unknown::kRefuse;
  bool fake = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if ((word == "-o" || word == "-t") && i + 1 < words.size()) {
      ++i;
      if (word == "-o") lists.push_back(words[i]);
    } else if (word.starts_with("-o") && word.size() > 2) {
      lists.push_back(word.substr(2));
    } else if (word == "-s") {
      unknown = Unknown::kIgnore;
    } else if (word == "-f") {
      fake = true;
    } else if (word == "-n" || word == "-v") {
      // There is no /etc/mtab to write, and nothing to tell.
    } else if (word.starts_with('-') || places.size() == 2) {
      complain(
          fmt::format("command line: '{}' is neither a verb nor of mount(8)'s form SPEC PATH "
                      "[-o OPTION,...] (see libservices --help)",
                      places.size() == 2 ? places[0] : word));
      return kWrongUse;
    } else {
      places.push_back(word);
    }
  }
  if (places.size() != 2) {
    complain("command line: mount(8)'s form has a SPEC and a PATH (see libservices --help)");
    return kWrongUse;
  }
  absl::StatusOr<FuseWords> fuse = fuse_words(lists, unknown);
  if (!fuse.ok()) {
    complain(fuse.status());
    return kMountFailure;
  }
  if (fake) return 0;
  HostConfig limits;
  limits.stop_grace = kStopGrace;
  if (fuse->supervise) limits.most_stuck_calls = kMostStuckCalls;
  if (::geteuid() == 0) limits.clients = HostConfig::Clients::kAllUsers;
  return mount_or(kMountFailure,
                  {.spec = places[0],
                   .path = places[1],
                   .pool = std::move(fuse->pool),
                   .fuse = std::move(fuse->fuse)},
                  std::move(limits), catalog);
}

}  // namespace libservices::cli
