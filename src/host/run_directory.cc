// SPDX-License-Identifier: Apache-2.0
#include "src/host/run_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "libservices/result.h"
#include "src/host/error_status.h"
#include "src/host/kernel_objects.h"
#include "src/host/watches.h"

namespace libservices::host {
namespace {

constexpr int kMostTries = 100;
constexpr std::string_view kFiles[] = {"socket", "status", "mounts", "mounts.new"};

absl::Status failure(int error, const std::string& path, std::string_view what,
                     std::string_view mend) {
  return error_status(
      error, fmt::format("run directory {}: {}: {} ({})", path, what, std::strerror(error), mend));
}

// The directory and its parents.
absl::Status make_directories(const std::string& path, mode_t mode) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    const std::string parent = path.substr(0, at);
    if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) {
      return failure(errno, path, fmt::format("cannot make {}", parent),
                     "check who may write there, or choose another with --run-directory");
    }
  }
  if (::mkdir(path.c_str(), mode) == 0) {
    // Whatever the umask is.
    if (::chmod(path.c_str(), mode) == 0) return absl::OkStatus();
  } else if (errno == EEXIST) {
    return absl::OkStatus();
  }
  return failure(errno, path, "cannot make it",
                 "check who may write there, or choose another with --run-directory");
}

void empty(const std::string& path) {
  for (const std::string_view name : kFiles) ::unlink(fmt::format("{}/{}", path, name).c_str());
  const std::string placeholders = path + "/placeholders";
  if (DIR* directory = ::opendir(placeholders.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (entry->d_name[0] != 'p') continue;
      const int flag = entry->d_type == DT_DIR ? AT_REMOVEDIR : 0;
      ::unlinkat(::dirfd(directory), entry->d_name, flag);
    }
    ::closedir(directory);
    ::rmdir(placeholders.c_str());
  }
}

// The lock file, locked. ERRORS: EAGAIN with the pid of its holder in `holder`.
Result<Descriptor> take_lock(const std::string& path, pid_t& holder) {
  for (;;) {
    Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file.ok()) return last_errno();
    struct flock lock = whole_file();
    if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
      const Errno error = last_errno();
      holder = pid_in(file.get());
      return error == Errno{EACCES} ? Errno{EAGAIN} : error;
    }
    struct stat mine {};
    struct stat named {};
    if (::fstat(file.get(), &mine) == 0 && ::stat(path.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
      return file;
    }
    // Its last holder was removing it.
  }
}

}  // namespace

absl::StatusOr<std::string> run_directory_of(std::string_view pool) {
  PathText path;
  if (!pool_directory(pool, std::getenv("XDG_RUNTIME_DIR"), path)) {
    return absl::InvalidArgumentError(
        fmt::format("pool '{}': it is no name (use up to {} letters, digits, '-', '_' and '.')",
                    pool, kMostPoolName));
  }
  if (!path.fits()) {
    return absl::InvalidArgumentError(
        fmt::format("pool '{}': $XDG_RUNTIME_DIR is longer than a path may be (shorten it)", pool));
  }
  return std::string(path.view());
}

std::string socket_path(std::string_view run_directory) {
  return fmt::format("{}/socket", run_directory);
}
std::string status_path(std::string_view run_directory) {
  return fmt::format("{}/status", run_directory);
}

absl::StatusOr<RunDirectory> RunDirectory::claim(const std::string& path, mode_t mode) {
  if (!path.starts_with('/')) {
    return absl::InvalidArgumentError(
        fmt::format("run directory '{}': it is not absolute (write it from '/')", path));
  }
  constexpr std::size_t kMostSocketPath = sizeof(sockaddr_un::sun_path) - 1;
  if (socket_path(path).size() > kMostSocketPath) {
    return absl::InvalidArgumentError(
        fmt::format("run directory {}: its path is too long for a socket's, which has at most {} "
                    "bytes (choose a shorter one with --run-directory)",
                    path, kMostSocketPath));
  }
  if (absl::Status made = make_directories(path, mode); !made.ok()) return made;
  struct stat status {};
  const std::string parent = path.substr(0, path.rfind('/'));
  if (parent.starts_with(kOfUser) &&
      (::lstat(parent.c_str(), &status) != 0 || status.st_uid != ::geteuid())) {
    return absl::PermissionDeniedError(
        fmt::format("run directory {}: {} belongs to another user (set XDG_RUNTIME_DIR, or choose "
                    "another with --run-directory)",
                    path, parent));
  }
  if (::lstat(path.c_str(), &status) != 0) {
    return failure(errno, path, "cannot look at it", "check who may search its parents");
  }
  // Others could put their own socket in it.
  if (!S_ISDIR(status.st_mode) || (status.st_uid != ::geteuid() && ::geteuid() != 0) ||
      (status.st_mode & 022) != 0) {
    return absl::PermissionDeniedError(
        fmt::format("run directory {}: it must be a directory that only this user may write "
                    "(remove it, or choose another with --run-directory)",
                    path));
  }
  RunDirectory claimed;
  const std::string lock = path + "/lock";
  pid_t holder = 0;
  Result<Descriptor> locked = take_lock(lock, holder);
  // The service that ends there may take the directory away under us.
  for (int tries = 0; !locked.ok() && locked.error() == Errno{ENOENT} && tries < kMostTries;
       ++tries) {
    if (absl::Status made = make_directories(path, mode); !made.ok()) return made;
    locked = take_lock(lock, holder);
  }
  if (!locked.ok() && locked.error() == Errno{EAGAIN}) {
    return absl::AlreadyExistsError(fmt::format(
        "run directory {}: a service runs there already, as process {} (use it with `libservices "
        "run`, stop it, or choose another pool)",
        path, holder));
  }
  if (!locked.ok()) {
    return failure(locked.error().value, path, "cannot make its lock",
                   "check who may write there, or choose another with --run-directory");
  }
  claimed.lock_ = *std::move(locked);
  empty(path);
  if (::chmod(path.c_str(), mode) != 0) {
    return failure(errno, path, "cannot set its mode", "remove it");
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(claimed.lock_.get(), 0) != 0 ||
      ::pwrite(claimed.lock_.get(), pid.data(), pid.size(), 0) !=
          static_cast<ssize_t>(pid.size())) {
    return failure(errno, path, "cannot write its lock", "make room on that file system");
  }
  claimed.path_ = path;
  return claimed;
}

void RunDirectory::clear(const std::string& path) {
  absl::StatusOr<RunDirectory> claimed = claim(path, 0700);
  if (!claimed.ok()) return;
  ::unlink((path + "/open_files").c_str());
  KernelObjects objects(path + "/objects");
  if (objects.start().ok()) objects.remove();
  const FilesystemTable none;
  Watches(none, path + "/watched", {.all_users = true}).remove();
}

void RunDirectory::remove() {
  if (path_.empty()) return;
  empty(path_);
  ::unlink((path_ + "/lock").c_str());
  ::rmdir(path_.c_str());
  lock_.reset();
  path_.clear();
}

}  // namespace libservices::host
