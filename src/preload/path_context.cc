// SPDX-License-Identifier: Apache-2.0
//
// libc's functions on where a process is and where a path leads: chdir to realpath, and limits.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr int kMostLinks = 40;

// Takes one component off the end of an absolute path of `length` bytes.
std::size_t parent(const char* path, std::size_t length) {
  while (length > 0 && path[length - 1] != '/') --length;
  return length > 1 ? length - 1 : length;
}

// The absolute path of `path` without links, `.` and `..` in `resolved`. 0, or -errno.
long resolve_links(const char* path, char (&resolved)[PATH_MAX]) {
  char rest[2 * PATH_MAX];
  std::size_t rest_length = strlen(path);
  if (rest_length == 0) return -ENOENT;
  if (rest_length >= PATH_MAX) return -ENAMETOOLONG;
  memcpy(rest, path, rest_length + 1);
  std::size_t length = 1;
  if (path[0] == '/') {
    resolved[0] = '/';
  } else {
    const long size = calls::getcwd(resolved, sizeof resolved);
    if (size < 0) return size;
    length = static_cast<std::size_t>(size) - 1;
  }
  int links = 0;
  const char* at = rest;
  while (true) {
    while (*at == '/') ++at;
    if (*at == '\0') break;
    const char* const end = strchrnul(at, '/');
    const auto name = static_cast<std::size_t>(end - at);
    if (name == 1 && at[0] == '.') {
      at = end;
      continue;
    }
    if (name == 2 && at[0] == '.' && at[1] == '.') {
      length = parent(resolved, length);
      at = end;
      continue;
    }
    const std::size_t before = length;
    if (length + 1 + name >= sizeof resolved) return -ENAMETOOLONG;
    if (resolved[length - 1] != '/') resolved[length++] = '/';
    memcpy(resolved + length, at, name);
    length += name;
    resolved[length] = '\0';
    struct stat attributes;
    if (const long error = calls::fstatat(AT_FDCWD, resolved, &attributes, AT_SYMLINK_NOFOLLOW);
        error != 0) {
      return error;
    }
    if (S_ISLNK(attributes.st_mode)) {
      if (++links > kMostLinks) return -ELOOP;
      char target[PATH_MAX];
      const long size = calls::readlinkat(AT_FDCWD, resolved, target, sizeof target);
      if (size < 0) return size;
      if (size == 0) return -ENOENT;
      const std::size_t left = strlen(end);
      const auto target_length = static_cast<std::size_t>(size);
      if (target_length + left >= sizeof rest) return -ENAMETOOLONG;
      memmove(rest + target_length, end, left + 1);
      memcpy(rest, target, target_length);
      at = rest;
      length = target[0] == '/' ? 1 : before;
      continue;
    }
    if (*end == '/' && !S_ISDIR(attributes.st_mode)) return -ENOTDIR;
    at = end;
  }
  resolved[length] = '\0';
  return 0;
}

}  // namespace

// --- the working directory ----------------------------------------------------------------------

LIBSERVICES_EXPORT char* ls_getcwd(char* into, std::size_t size) {
  const Call call(Symbol::getcwd);
  if (!active()) return LIBSERVICES_REAL(getcwd)(into, size);
  if (into != nullptr && size == 0) {
    errno = EINVAL;
    return nullptr;
  }
  char path[PATH_MAX];
  const long length = calls::getcwd(path, sizeof path);
  if (length < 0) {
    // Longer than any buffer, or unreachable: libc has ways for the kernel's.
    if (client::state.working_directory.load(std::memory_order_acquire) == nullptr) {
      return LIBSERVICES_REAL(getcwd)(into, size);
    }
    errno = static_cast<int>(-length);
    return nullptr;
  }
  if (path[0] != '/') {
    errno = ENOENT;
    return nullptr;
  }
  const auto bytes = static_cast<std::size_t>(length);
  if (size != 0 && size < bytes) {
    errno = ERANGE;
    return nullptr;
  }
  if (into == nullptr) {
    into = static_cast<char*>(malloc(size != 0 ? size : bytes));
    if (into == nullptr) return nullptr;
  }
  memcpy(into, path, bytes);
  return into;
}

LIBSERVICES_EXPORT char* ls_getcwd_chk(char* into, std::size_t size, std::size_t available) {
  const Call call(Symbol::getcwd_chk);
  if (size > available) abort();
  return ls_getcwd(into, size);
}

LIBSERVICES_EXPORT char* ls_getwd(char* into) {
  const Call call(Symbol::getwd);
  if (into == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  return ls_getcwd(into, PATH_MAX);
}

LIBSERVICES_EXPORT char* ls_getwd_chk(char* into, std::size_t available) {
  const Call call(Symbol::getwd_chk);
  char path[PATH_MAX];
  if (ls_getwd(path) == nullptr) return nullptr;
  if (strlen(path) >= available) abort();
  return strcpy(into, path);
}

LIBSERVICES_EXPORT char* ls_get_current_dir_name() {
  const Call call(Symbol::get_current_dir_name);
  if (!active()) return LIBSERVICES_REAL(get_current_dir_name)();
  const char* const named = getenv("PWD");
  struct stat by_name;
  struct stat here;
  if (named != nullptr && named[0] == '/' && calls::fstatat(AT_FDCWD, named, &by_name, 0) == 0 &&
      calls::fstatat(AT_FDCWD, ".", &here, 0) == 0 && by_name.st_dev == here.st_dev &&
      by_name.st_ino == here.st_ino) {
    return strdup(named);
  }
  return ls_getcwd(nullptr, 0);
}

// --- realpath -----------------------------------------------------------------------------------

LIBSERVICES_EXPORT char* ls_realpath(const char* path, char* into) {
  const Call call(Symbol::realpath);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(realpath)(path, into);
  char resolved[PATH_MAX];
  if (const long error = resolve_links(path, resolved); error != 0) {
    errno = static_cast<int>(-error);
    return nullptr;
  }
  return into != nullptr ? strcpy(into, resolved) : strdup(resolved);
}

LIBSERVICES_EXPORT char* ls_realpath_chk(const char* path, char* into, std::size_t available) {
  const Call call(Symbol::realpath_chk);
  if (available < PATH_MAX) abort();
  return ls_realpath(path, into);
}

LIBSERVICES_EXPORT char* ls_canonicalize_file_name(const char* path) {
  const Call call(Symbol::canonicalize_file_name);
  return ls_realpath(path, nullptr);
}

// --- limits -------------------------------------------------------------------------------------

namespace {

long limit_of(int name, long (*volume)(struct statfs*, const void*), const void* file) {
  switch (name) {
    case _PC_LINK_MAX:
      return INT_MAX;
    case _PC_NAME_MAX:
      return NAME_MAX;
    case _PC_PATH_MAX:
      return PATH_MAX;
    case _PC_PIPE_BUF:
      return PIPE_BUF;
    case _PC_CHOWN_RESTRICTED:
    case _PC_NO_TRUNC:
      return 1;
    case _PC_2_SYMLINKS:
      return 1;
    case _PC_FILESIZEBITS:
      return 64;
    case _PC_SYMLINK_MAX:
      return PATH_MAX - 1;
    case _PC_REC_XFER_ALIGN:
    case _PC_ALLOC_SIZE_MIN:
    case _PC_REC_MIN_XFER_SIZE: {
      struct statfs found {};
      if (const long error = volume(&found, file); error != 0) return result(error);
      return static_cast<long>(found.f_bsize);
    }
    case _PC_MAX_CANON:
    case _PC_MAX_INPUT:
    case _PC_VDISABLE:
    case _PC_SYNC_IO:
    case _PC_ASYNC_IO:
    case _PC_PRIO_IO:
    case _PC_SOCK_MAXBUF:
    case _PC_REC_INCR_XFER_SIZE:
    case _PC_REC_MAX_XFER_SIZE:
      return -1;  // no limit, and errno as it was
    default:
      return result(-EINVAL);
  }
}

}  // namespace

LIBSERVICES_EXPORT long ls_pathconf(const char* path, int name) {
  const Call call(Symbol::pathconf);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(pathconf)(path, name);
  struct stat attributes;
  if (const long error = calls::fstatat(AT_FDCWD, path, &attributes, 0); error != 0) {
    return result(error);
  }
  return limit_of(
      name,
      [](struct statfs* into, const void* file) {
        return calls::statfs(static_cast<const char*>(file), into);
      },
      path);
}

LIBSERVICES_EXPORT long ls_fpathconf(int descriptor, int name) {
  const Call call(Symbol::fpathconf);
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(fpathconf)(descriptor, name);
  return limit_of(
      name,
      [](struct statfs* into, const void* file) {
        return calls::fstatfs(*static_cast<const int*>(file), into);
      },
      &descriptor);
}

}  // namespace libservices::preload
