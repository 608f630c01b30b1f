// SPDX-License-Identifier: Apache-2.0
#include "services/local/work_directory.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "libservices/access_list.h"

namespace libservices::local_internal {
namespace {

constexpr const char* kLock = "lock";
constexpr const char* kStaging = "staging";
constexpr const char* kKept = "kept";
constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

absl::Status failed(std::string_view path, std::string_view mend, Errno& why) {
  why = last_errno();
  return absl::Status(absl::ErrnoToStatusCode(why.value),
                      fmt::format("local: {}: {} ({})", path, std::strerror(why.value), mend));
}

// Links are removed, never followed.
void remove_all(int directory, const char* name) {
  if (::unlinkat(directory, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) return;
  const int inside = ::openat(directory, name, kDirectory);
  if (inside < 0) return;
  if (DIR* const listing = ::fdopendir(inside)) {
    while (const dirent* const entry = ::readdir(listing)) {
      const std::string_view found = entry->d_name;
      if (found != "." && found != "..") remove_all(inside, entry->d_name);
    }
    ::closedir(listing);
  } else {
    ::close(inside);
  }
  ::unlinkat(directory, name, AT_REMOVEDIR);
}

// What the directory around it would have the host give to all that is made here.
void drop_default_list(int directory) {
  (void)::fremovexattr(directory,
                       std::string(AccessList::name_of(AccessList::Kind::kDefault)).c_str());
}

bool is_in(const std::string& path, const std::string& directory) {
  return path == directory || directory == "/" || path.starts_with(directory + "/");
}

}  // namespace

absl::Status WorkDirectory::open(const std::string& path, const std::string& place,
                                 std::uint64_t device, std::unique_ptr<WorkDirectory>& opened,
                                 Errno& why) {
  constexpr std::string_view kMend =
      "the service needs a directory of its own on the same volume: name one with work=PATH";
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed(path, kMend, why);
  std::unique_ptr<WorkDirectory> work(new WorkDirectory);
  work->directory_ =
      std::make_unique<Descriptor>(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int directory = work->directory_->fd();
  if (directory < 0) return failed(path, kMend, why);

  char* const real = ::realpath(path.c_str(), nullptr);
  const std::string real_path = real != nullptr ? real : path;
  std::free(real);
  if (is_in(real_path, place) || is_in(place, real_path + "/" + kStaging)) {
    why = Errno{EINVAL};
    return absl::InvalidArgumentError(
        fmt::format("local: the work directory {} lies in {}, or the other way round ({})",
                    real_path, place, kMend));
  }
  auto seen = attributes_of(directory, "");
  if (!seen.ok()) {
    errno = seen.error().value;
    return failed(path, kMend, why);
  }
  if (seen->device != device) {
    why = Errno{EXDEV};
    return absl::InvalidArgumentError(fmt::format(
        "local: the work directory {} is not on the volume of {} ({})", real_path, place, kMend));
  }

  work->lock_ = std::make_unique<Descriptor>(
      ::openat(directory, kLock, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  if (work->lock_->fd() < 0) {
    return failed(path + "/" + kLock, "the service must be able to write there", why);
  }
  if (uninterrupted([&] { return ::flock(work->lock_->fd(), LOCK_EX | LOCK_NB); }) != 0) {
    if (errno != EWOULDBLOCK) return failed(path + "/" + kLock, kMend, why);
    work->lock_.reset();  // what is in staging belongs to the other one
    why = Errno{EBUSY};
    return absl::AlreadyExistsError(
        fmt::format("local: {} is in use by another service (stop it, or name another one for {} "
                    "with work=PATH)",
                    real_path, place));
  }
  remove_all(directory, kStaging);
  if (::mkdirat(directory, kStaging, 0700) != 0) {
    return failed(path + "/" + kStaging, "make room, or remove what is there", why);
  }
  auto staging = std::make_shared<Descriptor>(::openat(directory, kStaging, kDirectory));
  if (staging->fd() < 0) return failed(path + "/" + kStaging, kMend, why);
  drop_default_list(staging->fd());
  work->staging_ = std::move(staging);
  opened = std::move(work);
  return absl::OkStatus();
}

Result<DescriptorRef> WorkDirectory::kept() const {
  if (::mkdirat(directory_->fd(), kKept, 0700) != 0 && errno != EEXIST) return last_errno();
  DescriptorRef opened = std::make_shared<Descriptor>(::openat(directory_->fd(), kKept, kDirectory));
  if (opened->fd() < 0) return last_errno();
  drop_default_list(opened->fd());
  return opened;
}

WorkDirectory::~WorkDirectory() {
  if (staging_ != nullptr) remove_all(directory_->fd(), kStaging);
}

}  // namespace libservices::local_internal
