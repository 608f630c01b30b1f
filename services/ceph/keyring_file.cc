// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/keyring_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "libservices/result.h"
#include "services/ceph/tenant_errors.h"

namespace libservices::ceph_internal {
namespace {

absl::Status failed(const std::string& path, int error, std::string_view mend) {
  return tenant_failure(Errno{error}, "keyring " + path, mend);
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

// Whether a file is there that has the text and is its owner's alone.
Result<bool> has(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return last_errno();
  struct stat seen {};
  std::string got(text.size() + 1, '\0');
  std::optional<Errno> failure;
  std::size_t size = 0;
  if (::fstat(fd, &seen) != 0) failure = last_errno();
  while (!failure && S_ISREG(seen.st_mode) && size < got.size()) {
    const ssize_t more = ::read(fd, got.data() + size, got.size() - size);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) failure = last_errno();
    if (more <= 0) break;
    size += static_cast<std::size_t>(more);
  }
  ::close(fd);
  if (failure) return *failure;
  got.resize(size);
  return S_ISREG(seen.st_mode) && (seen.st_mode & 077U) == 0 && got == text;
}

absl::Status fill(int fd, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(path, errno, "make room, and do it again");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd) != 0) return failed(path, errno, "make room, and do it again");
  return absl::OkStatus();
}

}  // namespace

std::string keyring_text(std::string_view client, std::string_view key) {
  return fmt::format("[client.{}]\n\tkey = {}\n", client, key);
}

absl::Status check_keyring_file(const std::string& path, std::string_view text) {
  struct stat seen {};
  if (::lstat(path.c_str(), &seen) != 0) {
    if (errno != ENOENT) return failed(path, errno, "name another file");
    if (::access(directory_of(path).c_str(), W_OK | X_OK) != 0) {
      return failed(path, errno, "name a file in a directory that can be written");
    }
    return absl::OkStatus();
  }
  const Result<bool> same = has(path, text);
  if (same.ok() && *same && !text.empty()) return absl::OkStatus();
  return tenant_failure(absl::StatusCode::kAlreadyExists, "keyring " + path,
                        "it is there already, and is not a file with this key for its owner alone",
                        "name a file that is not there yet");
}

absl::Status write_keyring_file(const std::string& path, std::string_view text) {
  if (const Result<bool> same = has(path, text); same.ok() && *same) return absl::OkStatus();
  std::string draft = directory_of(path) + ".keyring.XXXXXX";
  const int fd = ::mkostemp(draft.data(), O_CLOEXEC);  // with mode 0600
  if (fd < 0) return failed(path, errno, "name a file in a directory that can be written");
  absl::Status written = fill(fd, path, text);
  ::close(fd);
  if (written.ok() && ::link(draft.c_str(), path.c_str()) != 0) {
    written = failed(path, errno, "name a file that is not there yet");
  }
  (void)::unlink(draft.c_str());
  return written;
}

}  // namespace libservices::ceph_internal
