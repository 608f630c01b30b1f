// SPDX-License-Identifier: Apache-2.0
#include "src/host/kernel_objects.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <vector>

#include "src/host/error_status.h"
#include "src/host/object_files.h"

namespace libservices::host {
namespace {

// While a socket is being bound: its root directory.
constexpr const char* kRoot = "root";
constexpr const char* kAccessList = "system.posix_acl_access";

// The directories that a socket's address leads through, in a root directory of its own, each
// behind its parent; and in the end the name itself.
std::vector<std::string> steps_of(std::string_view address) {
  std::vector<std::string> made;
  std::vector<std::string_view> here;
  const auto path = [&here](std::string_view last) {
    std::string joined;
    for (const std::string_view name : here) joined.append(name).append("/");
    return joined.append(last);
  };
  while (!address.empty()) {
    const std::string_view name = address.substr(0, address.find('/'));
    address.remove_prefix(std::min(address.size(), name.size() + 1));
    if (address.empty()) {
      made.push_back(path(name));
    } else if (name == "..") {
      if (!here.empty()) here.pop_back();
    } else if (!name.empty() && name != ".") {
      made.push_back(path(name));
      here.push_back(name);
    }
  }
  return made;
}

// bind(2) with `directory` as the root, by a process that ends with it. An errno, or 0.
// A superuser may change the root; another user may as the superuser of a new user namespace.
// Where neither may, the address is `instead`, and shows.
int bind_below(int directory, int socket, const sockaddr_un& address, socklen_t size,
               const sockaddr_un& instead) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = ::vfork();  // shares our memory, and has its own root and directory
  if (child == 0) {
    if (::fchdir(directory) != 0) ::_exit(errno);
    if (::chroot(".") == 0 || (::unshare(CLONE_NEWUSER) == 0 && ::chroot(".") == 0)) {
      ::_exit(::chdir("/") == 0 &&
                      ::bind(socket, reinterpret_cast<const sockaddr*>(&address), size) == 0
                  ? 0
                  : errno);
    }
    ::_exit(::bind(socket, reinterpret_cast<const sockaddr*>(&instead), sizeof instead) == 0
                ? 0
                : errno);
  }
  int error = child < 0 ? errno : 0;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  int status = 0;
  while (child > 0 && ::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return EIO;
  }
  if (child > 0) error = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
  return error;
}

}  // namespace

absl::Status KernelObjects::start() {
  any_.store(::mkdir(directory_.c_str(), 0700) != 0);
  opened_ = Descriptor(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (opened_.ok()) return absl::OkStatus();
  return error_status(errno,
                      fmt::format("{}: cannot make the directory: {} (check who may write there)",
                                  directory_, std::strerror(errno)));
}

void KernelObjects::remove() {
  if (!opened_.ok()) return;
  empty_directory(opened_.get());
  ::rmdir(directory_.c_str());
  opened_.reset();
}

Result<Descriptor> KernelObjects::descriptor_of(const std::string& name) const {
  Descriptor found(::openat(opened_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found.ok()) return last_errno();
  return found;
}

Result<Descriptor> KernelObjects::find_socket(const Context& context, std::string_view mount,
                                              const ServiceOpenFile& file) {
  AnyFilesystem& filesystem = file.filesystem();
  LIBSERVICES_CHECK_OK(filesystem.access(context, Location::object_of(file.file()), W_OK));
  LIBSERVICES_TRY(const Attributes object, filesystem.stat(context, Location(file.file())));
  if (!S_ISSOCK(object.mode)) return Errno{ECONNREFUSED};
  Result<Descriptor> found = descriptor_of(object_name(mount, object));
  if (!found.ok() && found.error() == Errno{ENOENT}) return Errno{ECONNREFUSED};
  return found;
}

// A service that may not give files away serves its own user, for whom its check is enough.
void KernelObjects::take_rights(const std::string& name, const Attributes& object,
                                const Context& context, const ServiceOpenFile& file) const {
  const int directory = opened_.get();
  struct stat now {};
  if (::fstatat(directory, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0) return;
  mode_t mode = object.mode & 0777U;
  if ((now.st_uid != object.uid || now.st_gid != object.gid) &&
      ::fchownat(directory, name.c_str(), object.uid, object.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    mode = 0666;
  }
  if ((now.st_mode & 0777U) != mode) (void)!::fchmodat(directory, name.c_str(), mode, 0);
  std::array<std::byte, 4096> list;
  Context all = context;
  all.caller = {};
  const Result<std::size_t> size =
      file.filesystem().getxattr(all, Location::object_of(file.file()), kAccessList, list);
  const std::string path = directory_ + '/' + name;
  if (size.ok() && mode != 0666) {
    ::lsetxattr(path.c_str(), kAccessList, list.data(), *size, 0);
  } else {
    ::lremovexattr(path.c_str(), kAccessList);
  }
}

Result<Descriptor> KernelObjects::find_fifo(const Context& context, std::string_view mount,
                                            const ServiceOpenFile& file, int mode) {
  AnyFilesystem& filesystem = file.filesystem();
  LIBSERVICES_TRY(const Attributes object, filesystem.stat(context, Location(file.file())));
  if (!S_ISFIFO(object.mode)) return Errno{ENXIO};
  LIBSERVICES_CHECK_OK(filesystem.access(context, Location::object_of(file.file()), mode));
  const std::string name = object_name(mount, object);
  any_.store(true);
  if (::mkfifoat(opened_.get(), name.c_str(), 0600) != 0 && errno != EEXIST) return last_errno();
  take_rights(name, object, context, file);
  return descriptor_of(name);
}

Result<void> KernelObjects::bind(const Context& context, std::string_view mount,
                                 const ServiceOpenFile& file, int socket,
                                 std::string_view address) {
  LIBSERVICES_TRY(const Attributes object, file.filesystem().stat(context, Location(file.file())));
  int domain = 0;
  socklen_t domain_bytes = sizeof domain;
  if (::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) != 0) return last_errno();
  sockaddr_un given{};
  given.sun_family = AF_UNIX;
  const std::vector<std::string> steps = steps_of(address);
  if (domain != AF_UNIX || !S_ISSOCK(object.mode) || steps.empty() ||
      address.size() > sizeof given.sun_path || address.find('\0') != std::string_view::npos) {
    return Errno{EINVAL};
  }
  std::memcpy(given.sun_path, address.data(), address.size());
  sockaddr_un instead{};
  instead.sun_family = AF_UNIX;
  std::memcpy(instead.sun_path, "socket", sizeof "socket");

  const int directory = opened_.get();
  if (::mkdirat(directory, kRoot, 0700) != 0 && errno != EEXIST) return last_errno();
  const Descriptor root(
      ::openat(directory, kRoot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root.ok()) return last_errno();
  empty_directory(root.get());  // what a killed service has left
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    if (::mkdirat(root.get(), steps[i].c_str(), 0700) != 0 && errno != EEXIST) return last_errno();
  }
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  int error = bind_below(root.get(), socket, given, size, instead);
  if (error == 0) {
    const std::string name = object_name(mount, object);
    any_.store(true);
    const char* made = steps.back().c_str();
    if (::fchmodat(root.get(), made, 0666, 0) != 0) {
      made = "socket";
      if (::fchmodat(root.get(), made, 0666, 0) != 0) error = errno;
    }
    if (error == 0 && ::renameat(root.get(), made, directory, name.c_str()) != 0) error = errno;
  }
  empty_directory(root.get());
  ::unlinkat(directory, kRoot, AT_REMOVEDIR);
  if (error != 0) return Errno{error};
  return {};
}

KernelObjects::Removal::Removal(KernelObjects& objects, AnyFilesystem& filesystem,
                                std::string_view mount, const Context& context,
                                const Location& location)
    : objects_(objects), filesystem_(filesystem), mount_(mount), context_(context) {
  if (!objects.any_.load(std::memory_order_relaxed)) return;
  Result<OpenFilePtr> opened =
      filesystem.open(context, location, OpenFlags{O_PATH | O_NOFOLLOW}, 0);
  if (!opened.ok()) return;
  file_ = *std::move(opened);
  const Result<Attributes> object = filesystem.stat(context, Location(*file_));
  if (!object.ok() || !(S_ISFIFO(object->mode) || S_ISSOCK(object->mode))) {
    (void)filesystem_.close(context_, std::move(file_));
    file_ = nullptr;
  }
}

KernelObjects::Removal::~Removal() {
  if (file_ != nullptr) (void)filesystem_.close(context_, std::move(file_));
}

void KernelObjects::Removal::done() {
  if (file_ == nullptr) return;
  const Result<Attributes> object = filesystem_.stat(context_, Location(*file_));
  if (!object.ok() || object->links != 0) return;
  ::unlinkat(objects_.opened_.get(), object_name(mount_, *object).c_str(), 0);
}

}  // namespace libservices::host
