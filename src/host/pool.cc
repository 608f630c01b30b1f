// SPDX-License-Identifier: Apache-2.0
#include "src/host/pool.h"

#include <errno.h>
#include <unistd.h>

#include "src/host/descriptor.h"

namespace libservices::host {
namespace {

bool is_name(std::string_view pool) {
  if (pool.empty() || pool.size() > kMostPoolName || pool.front() == '.') return false;
  for (const char byte : pool) {
    const bool good = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                      (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte == '.';
    if (!good) return false;
  }
  return true;
}

}  // namespace

bool pool_directory(std::string_view pool, const char* runtime, PathText& into) {
  if (!is_name(pool)) return false;
  const uid_t user = ::geteuid();
  // The superuser of a user namespace may not write in /run.
  if (user == 0 && (::access("/run/libservices", W_OK) == 0 ||
                    (errno == ENOENT && ::access("/run", W_OK) == 0))) {
    into += "/run/libservices/";
    into += pool;
    return true;
  }
  if (runtime != nullptr && runtime[0] == '/' && (user != 0 || ::access(runtime, W_OK) == 0)) {
    into += runtime;
    into += "/libservices";
  } else {
    into += kOfUser;
    into += user;
  }
  into += "/";
  into += pool;
  return true;
}

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

pid_t pid_in(int lock) {
  char text[24];
  const ssize_t bytes = ::pread(lock, text, sizeof text, 0);
  pid_t pid = 0;
  for (ssize_t i = 0; i < bytes && text[i] >= '0' && text[i] <= '9'; ++i) {
    pid = pid * 10 + (text[i] - '0');
  }
  return pid;
}

pid_t service_of(std::string_view run_directory) {
  PathText path;
  path += run_directory;
  path += "/lock";
  if (!path.fits()) return 0;
  const Descriptor lock(::open(path.text(), O_RDONLY | O_CLOEXEC));
  if (!lock.ok()) return 0;
  struct flock held = whole_file();
  if (::fcntl(lock.get(), F_OFD_GETLK, &held) != 0 || held.l_type == F_UNLCK) return 0;
  return pid_in(lock.get());
}

Obstacle obstacle_to(std::string_view run_directory) {
  PathText socket;
  socket += run_directory;
  socket += "/socket";
  if (!socket.fits()) return Obstacle::kNoService;
  if (::access(socket.text(), W_OK) != 0) {
    return errno == EACCES ? Obstacle::kNotAllowed : Obstacle::kNoService;
  }
  return service_of(run_directory) == 0 ? Obstacle::kNoService : Obstacle::kNone;
}

}  // namespace libservices::host
