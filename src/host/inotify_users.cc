// SPDX-License-Identifier: Apache-2.0
#include "src/host/inotify_users.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "src/host/descriptor.h"

namespace libservices::host {
namespace {

using Listing = std::unique_ptr<DIR, int (*)(DIR*)>;

Listing list(int directory, const char* path) {
  const int opened = ::openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const listing = opened < 0 ? nullptr : ::fdopendir(opened);
  if (listing == nullptr && opened >= 0) ::close(opened);
  return {listing, &::closedir};
}

// The hexadecimal number behind `label`; 0 without one.
std::uint64_t number_after(std::string_view line, std::string_view label) {
  const std::size_t at = line.find(label);
  if (at == std::string_view::npos) return 0;
  std::uint64_t number = 0;
  const std::string_view digits = line.substr(at + label.size());
  std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  return number;
}

// As the kernel writes it.
std::uint64_t kernel_device(dev_t device) {
  return (std::uint64_t{major(device)} << 20U) | minor(device);
}

}  // namespace

InotifyUsers::InotifyUsers(bool all_users) {
  const Listing processes = list(AT_FDCWD, "/proc");
  if (processes == nullptr) {
    some_unknown_ = true;
    return;
  }
  while (const dirent* entry = ::readdir(processes.get())) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) == 0) continue;
    const Descriptor process(
        ::openat(::dirfd(processes.get()), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat status {};
    if (!process.ok() || ::fstat(process.get(), &status) != 0) continue;  // it has ended
    if (!all_users && status.st_uid != ::geteuid() && ::geteuid() != 0) continue;
    look_at(process.get());
  }
}

void InotifyUsers::look_at(int process) {
  constexpr std::string_view kKind = "anon_inode:inotify";
  const Listing descriptors = list(process, "fd");
  if (descriptors == nullptr) {
    some_unknown_ = some_unknown_ || errno == EACCES || errno == EPERM || errno == EMFILE;
    return;
  }
  while (const dirent* entry = ::readdir(descriptors.get())) {
    char target[kKind.size() + 1];
    const ssize_t bytes =
        ::readlinkat(::dirfd(descriptors.get()), entry->d_name, target, sizeof target);
    if (bytes < 0 || std::string_view(target, static_cast<std::size_t>(bytes)) != kKind) continue;
    const std::string path = "fdinfo/" + std::string(entry->d_name);
    const Descriptor info(::openat(process, path.c_str(), O_RDONLY | O_CLOEXEC));
    std::ifstream lines("/proc/self/fd/" + std::to_string(info.get()));
    if (!info.ok() || !lines) {
      some_unknown_ = true;
      continue;
    }
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("inotify ")) continue;
      watched_.emplace(number_after(line, " sdev:"), number_after(line, " ino:"));
    }
  }
}

bool InotifyUsers::may_watch(const struct stat& file) const {
  return some_unknown_ || watched_.contains({kernel_device(file.st_dev), file.st_ino});
}

}  // namespace libservices::host
