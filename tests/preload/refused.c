// SPDX-License-Identifier: Apache-2.0
//
// Asks for what the library refuses on files of ours: a handle of a file, a signal when a directory
// changes, a lease, or a walk into a mount that is to stay in a directory of the kernel's. Status 3
// when it is refused.
// usage: refused handle|notify|lease|bounds PATH
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int handle(const char* path) {
  union {
    struct file_handle handle;
    char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  } room;
  int mount;
  room.handle.handle_bytes = MAX_HANDLE_SZ;
  if (name_to_handle_at(AT_FDCWD, path, &room.handle, &mount, 0) == 0) return 0;
  return errno == EOPNOTSUPP ? 3 : 1;
}

static int notify(const char* path) {
  const int directory = open(path, O_RDONLY | O_DIRECTORY),
            file = open("/proc/self/maps", O_RDONLY);
  signal(SIGIO, SIG_IGN);
  // Nothing to be told any more: nobody has to do anything for it.
  if (fcntl(directory, F_NOTIFY, 0) != 0 && errno != EINVAL) return 1;
  if (fcntl(file, F_NOTIFY, DN_CREATE) == 0) return 1;
  if (fcntl(directory, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0) return 0;
  return errno == EINVAL ? 3 : 1;
}

static int lease(const char* path) {
  const int file = open(path, O_RDONLY);
  if (fcntl(file, F_GETLEASE) != F_UNLCK) return 1;
  if (fcntl(file, F_SETLEASE, F_UNLCK) == 0 || errno != EAGAIN) return 1;
  if (fcntl(file, F_SETLEASE, F_RDLCK) == 0) return fcntl(file, F_GETLEASE) == F_RDLCK ? 0 : 1;
  return errno == EINVAL ? 3 : 1;
}

static long open_by(int directory, const char* path, unsigned long resolve) {
  const struct open_how how = {.flags = O_RDONLY, .resolve = resolve};
  return syscall(SYS_openat2, directory, path, &how, sizeof how);
}
static int bounds(const char* path) {
  const int root = open("/", O_PATH | O_DIRECTORY);
  if (open_by(root, path, RESOLVE_BENEATH) >= 0 || errno != EXDEV) return 1;
  if (open_by(root, path + 1, RESOLVE_NO_SYMLINKS) < 0) return 1;
  if (open_by(AT_FDCWD, path, RESOLVE_NO_MAGICLINKS) < 0) return 1;
  const int same = open_by(root, path + 1, RESOLVE_NO_XDEV) >= 0;
  if (!same && errno != EXDEV) return 1;
  if (open_by(root, path, RESOLVE_IN_ROOT) >= 0) return 0;
  if (errno != ENOSYS) return 1;
  return open_by(root, path + 1, RESOLVE_BENEATH) < 0 && errno == ENOSYS ? 3 : 1;
}

int main(int count, char** words) {
  if (count != 3) return 2;
  if (strcmp(words[1], "notify") == 0) return notify(words[2]);
  if (strcmp(words[1], "bounds") == 0) return bounds(words[2]);
  return strcmp(words[1], "lease") == 0 ? lease(words[2]) : handle(words[2]);
}
