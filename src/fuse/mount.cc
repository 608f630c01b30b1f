// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "src/fuse/mount_options.h"
#include "src/host/descriptor_message.h"
#include "src/host/error_status.h"

extern char** environ;

namespace libservices::fuse {
namespace {

using host::Descriptor;

// For the list of fusermount3.
std::string with_backslashes(std::string_view text) {
  std::string escaped;
  for (const char byte : text) {
    if (byte == ',' || byte == '\\') escaped += '\\';
    escaped += byte;
  }
  return escaped;
}

// Runs it to its end: its exit status, -1 when it is not there.
int run_helper(const std::vector<std::string>& arguments, int socket) {
  std::vector<char*> words;
  for (const std::string& argument : arguments)
    words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  std::vector<char*> environment;
  std::string descriptor = fmt::format("_FUSE_COMMFD={}", socket);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    environment.push_back(*variable);
  }
  if (socket >= 0) environment.push_back(descriptor.data());
  environment.push_back(nullptr);
  pid_t child = -1;
  if (::posix_spawnp(&child, words.front(), nullptr, nullptr, words.data(), environment.data()) !=
      0) {
    return -1;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 0;  // somebody else waits for our children
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

absl::StatusOr<Descriptor> mount_with_helper(const MountWords& words,
                                             const KernelOptions& options) {
  absl::StatusOr<std::vector<std::string>> all = helper_options(options);
  if (!all.ok()) return all.status();
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
    return host::error_status(
        errno, fmt::format("socketpair: {} (raise the limit of open files)", std::strerror(errno)));
  }
  const Descriptor ours(sockets[0]);
  Descriptor theirs(sockets[1]);
  ::fcntl(ours.get(), F_SETFD, FD_CLOEXEC);
  all->push_back(fmt::format("fsname={}", with_backslashes(words.source)));
  all->push_back("subtype=libservices");
  if (words.allow_other) all->push_back("allow_other");
  all->push_back("default_permissions");
  const int status =
      run_helper({"fusermount3", "-o", fmt::format("{}", fmt::join(*all, ",")), "--", words.path},
                 theirs.get());
  theirs.reset();
  if (status < 0) {
    return absl::FailedPreconditionError(
        fmt::format("mount of {}: this user may not, and there is no fusermount3 that might "
                    "(install fuse3, or run the service as root)",
                    words.path));
  }
  Descriptor device = status == 0 ? host::receive_descriptor(ours.get()) : Descriptor();
  if (!device.ok()) {
    return absl::PermissionDeniedError(fmt::format(
        "mount of {}: fusermount3 has refused it (see what it wrote{})", words.path,
        words.allow_other ? "; allow_other needs user_allow_other in /etc/fuse.conf" : ""));
  }
  return device;
}

}  // namespace

bool is_stale(const std::string& path) {
  // What the kernel has kept would be told even then.
  struct statx seen {};
  return ::statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC | AT_NO_AUTOMOUNT, STATX_MODE,
                 &seen) != 0 &&
         (errno == ENOTCONN || errno == ECONNABORTED);  // that one while it is just dying
}

bool unmount(const std::string& path, Detach detach) {
  const bool lazily = detach == Detach::kLazily;
  if (::umount2(path.c_str(), UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0) return true;
  if (errno != EPERM) return false;
  std::vector<std::string> words = {"fusermount3", "-u", "-q", "--", path};
  if (lazily) words.insert(words.begin() + 1, "-z");
  if (run_helper(words, -1) == 0) return true;
  errno = EPERM;
  return false;
}

void unmount_own(const std::string& path, std::chrono::milliseconds most) {
  const char* const at = path.c_str();
  const pid_t child = ::fork();
  if (child == 0) {  // only what may be called between fork and exec
    // Without our end of the connection, whose end it must see should we be killed.
    ::close_range(0, ~0U, 0);
    if (::umount2(at, UMOUNT_NOFOLLOW) == 0) ::_exit(0);
    const int root = ::open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0) (void)::syncfs(root);
    ::close(root);
    ::_exit(::umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : 1);
  }
  int status = 1;
  const auto begun = std::chrono::steady_clock::now();
  const bool bounded = most != std::chrono::milliseconds::max();
  for (pid_t ended = 0; child > 0 && ended == 0;) {
    ended = ::waitpid(child, &status, bounded ? WNOHANG : 0);
    if (ended < 0 && errno == EINTR) ended = 0;
    if (ended != 0 || !bounded) continue;
    if (std::chrono::steady_clock::now() - begun > most) {
      ::kill(child, SIGKILL);  // it goes when the connection does
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (status != 0) (void)unmount(path);
}

std::uint64_t device_at(const std::string& path) {
  struct statx seen {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &seen) != 0)
    return 0;
  return ::makedev(seen.stx_dev_major, seen.stx_dev_minor);
}

absl::StatusOr<Descriptor> mount(const MountWords& words) {
  std::vector<std::string> wanted = words.options;
  if (words.read_only) wanted.emplace_back("ro");
  const absl::StatusOr<KernelOptions> options = kernel_options(wanted);
  if (!options.ok()) return options.status();
  while (is_stale(words.path)) {  // one upon the other, perhaps
    if (unmount(words.path)) continue;
    return host::error_status(
        errno, fmt::format("{}: the mount of a service that has died cannot be taken away: {} "
                           "(unmount it: umount -l {})",
                           words.path, std::strerror(errno), words.path));
  }
  struct stat seen {};
  if (::stat(words.path.c_str(), &seen) != 0 || !S_ISDIR(seen.st_mode)) {
    const int why = errno;
    return absl::FailedPreconditionError(fmt::format(
        "{}: {} (make the directory that the filesystem shall be mounted on)", words.path,
        S_ISDIR(seen.st_mode) || seen.st_mode == 0 ? std::strerror(why) : "no directory"));
  }
  Descriptor device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device.ok()) {
    return host::error_status(errno,
                              fmt::format("/dev/fuse: {} ({})", std::strerror(errno),
                                          errno == ENOENT || errno == ENODEV
                                              ? "load the kernel's module: modprobe fuse"
                                              : "the service must be able to read and write it"));
  }
  unsigned long flags = options->flags;
  std::string data = fmt::format("fd={},rootmode={:o},user_id={},group_id={},default_permissions",
                                 device.get(), S_IFDIR, ::geteuid(), ::getegid());
  if (words.allow_other) data += ",allow_other";
  // Without privilege the kernel takes no devices and no set-id programs from us.
  if (::geteuid() != 0) flags |= MS_NODEV | MS_NOSUID;
  for (const std::string& word : options->words) data += "," + word;
  if (::mount(words.source.c_str(), words.path.c_str(), "fuse.libservices", flags, data.c_str()) ==
      0) {
    return device;
  }
  if (errno == EPERM) return mount_with_helper(words, *options);
  return host::error_status(
      errno, fmt::format("mount of {}: {} ({})", words.path, std::strerror(errno),
                         errno == EINVAL ? "see in the kernel's log which option it does not take"
                                         : "see the kernel's log"));
}

}  // namespace libservices::fuse
