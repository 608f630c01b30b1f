/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls with addresses that cannot be used, in the working directory: the same text is printed on a
 * plain directory and on a mount. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/preload/say.h"

enum { kPage = 4096, kMany = 40 };

/* Pages that can be used, and behind them one that cannot. */
static char *pages(int count) {
  char *at = mmap(NULL, (size_t)(count + 1) * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED || mprotect(at + count * kPage, kPage, PROT_NONE) != 0) abort();
  return at;
}

static void paths(const char *bad, const char *name) {
  struct stat status;
  struct statfs volume;
  const struct timespec times[2] = {{1, 2}, {3, 4}};
  printf("paths: %s\n", name);
  SAY(open(bad, O_RDONLY));
  SAY(open(bad, O_RDWR | O_CREAT, 0600));
  SAY(openat(AT_FDCWD, bad, O_RDONLY));
  SAY(syscall(SYS_stat, bad, &status));
  SAY(fstatat(AT_FDCWD, bad, &status, AT_SYMLINK_NOFOLLOW));
  SAY(statx(AT_FDCWD, bad, 0, STATX_ALL, (struct statx *)(void *)pages(1)));
  SAY(statfs(bad, &volume));
  SAY(access(bad, R_OK));
  SAY(chmod(bad, 0600));
  SAY(chown(bad, 0, 0));
  SAY(lchown(bad, 0, 0));
  SAY(truncate(bad, 0));
  SAY(mkdir(bad, 0700));
  SAY(mkfifo(bad, 0600));
  SAY(mknod(bad, S_IFREG | 0600, 0));
  SAY(rmdir(bad));
  SAY(unlink(bad));
  SAY(chdir(bad));
  SAY(symlink(bad, "new"));
  SAY(symlink("target", bad));
  SAY(link(bad, "new"));
  SAY(link("file", bad));
  SAY(rename(bad, "new"));
  SAY(rename("file", bad));
  SAY(readlink(bad, (char *)&status, 10));
  SAY(getxattr(bad, "user.a", NULL, 0));
  SAY(getxattr("file", bad, NULL, 0));
  SAY(setxattr(bad, "user.a", "b", 1, 0));
  SAY(setxattr("file", bad, "b", 1, 0));
  SAY(removexattr("file", bad));
  SAY(listxattr(bad, NULL, 0));
  if (strcmp(name, "NULL") != 0) SAY(utimensat(AT_FDCWD, bad, times, 0));
  SAY(execl(bad, "x", NULL));
}

static void buffers(char *bad, const char *name) {
  const int file = open("file", O_RDWR), directory = open(".", O_RDONLY);
  char text[16] = "";
  struct iovec part = {bad, 10}, both[2] = {{text, 4}, {bad, 4}};
  printf("buffers: %s\n", name);
  SAY(read(file, bad, 10));
  SAY(lseek(file, 0, SEEK_CUR));
  SAY(read(directory, bad, 10));
  SAY(pread(file, bad, 10, 2));
  SAY(readv(file, &part, 1));
  SAY(readv(file, both, 2));
  SAY(readv(file, (const struct iovec *)bad, 1));
  SAY(pwrite(file, bad, 10, 0));
  SAY(pwritev(file, &part, 1, 0));
  SAY(pwritev(file, both, 2, 0));
  SAY(pwritev(file, (const struct iovec *)bad, 2, 0));
  SAY(pread(file, text, 10, 0));
  SAY(syscall(SYS_getdents64, directory, bad, 1000));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, "file", bad, 0));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, "missing", bad, 0));
  SAY(syscall(SYS_fstat, file, bad));
  SAY(statx(AT_FDCWD, "file", 0, STATX_ALL, (struct statx *)bad));
  SAY(statfs("file", (struct statfs *)bad));
  SAY(fstatfs(file, (struct statfs *)bad));
  SAY(readlink("link", bad, 10));
  SAY(readlink("missing", bad, 10));
  SAY(getxattr("file", "user.a", bad, 10));
  SAY(setxattr("file", "user.a", bad, 10, 0));
  SAY(listxattr("file", bad, 100));
  SAY(fgetxattr(file, "user.a", bad, 10));
  SAY(syscall(SYS_getcwd, bad, 4096));
  SAY(fcntl(file, F_GETLK, bad));
  SAY(fcntl(file, F_SETLK, bad));
  SAY(ioctl(file, FIONREAD, bad));
  SAY(copy_file_range(file, (off_t *)bad, file, NULL, 4, 0));
  SAY(sendfile(1, file, (off_t *)bad, 4));
  if (strcmp(name, "NULL") != 0) {  /* which is a choice of its own there */
    SAY(utimensat(AT_FDCWD, "file", (const struct timespec *)bad, 0));
    SAY(futimens(file, (const struct timespec *)bad));
  }
  close(file);
  close(directory);
}

/* A text that ends with the page, and one that does not end. */
static void edges(void) {
  char *const page = pages(1), *const last = page + kPage - 5;
  struct stat status;
  puts("edges");
  memcpy(last, "file", 5);
  SAY(stat(last, &status));
  memcpy(last, "filex", 5);
  SAY(stat(last, &status));
  SAY(open(last, O_RDONLY));
  memset(page, 'x', kPage);
  SAY(stat(page, &status));
  char *const two = pages(2);
  memset(two, 'x', 2 * kPage);
  SAY(stat(two, &status));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, "file", last - sizeof status, 0));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, "file", last - 8, 0));

  /* Of a buffer that ends too early, the part is used. */
  const int file = open("file", O_RDWR);
  SAY(read(file, last, 10));
  SAY(lseek(file, 0, SEEK_CUR));
  SAY(pread(file, last, 60000, 7));
  char *const many = pages(kMany);
  const int big = open("big", O_RDWR | O_CREAT | O_TRUNC, 0600);
  SAY(write(big, many, kMany * kPage));
  SAY(pread(big, many, kMany * kPage, 0));
  SAY(pread(big, many + 4 * kPage, kMany * kPage, 0));
  SAY(munmap(many + 20 * kPage, kPage));
  SAY(pread(big, many, kMany * kPage, 0));
  SAY(pwrite(big, many + 2 * kPage, kMany * kPage, 0));
  close(big);
  close(file);
}

/* What was good is not good for ever. */
static void changes(void) {
  struct stat status;
  puts("changes");
  char *page = pages(1);
  strcpy(page, "file");
  SAY(stat(page, &status));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, page, page + 100, 0));
  strcpy(page, "file");
  SAY(mprotect(page, kPage, PROT_READ));
  SAY(stat(page, &status));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, page, page + 100, 0));
  SAY(mprotect(page, kPage, PROT_NONE));
  SAY(stat(page, &status));
  SAY(mprotect(page, kPage, PROT_READ | PROT_WRITE));
  SAY(syscall(SYS_newfstatat, AT_FDCWD, page, page + 100, 0));
  SAY(munmap(page, kPage));
  SAY(stat(page, &status));
  SAY(mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page);
  strcpy(page, "file");
  SAY(stat(page, &status));
  SAY(mmap(page, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page);
  SAY(stat(page, &status));
  page = pages(1);
  strcpy(page, "file");
  SAY(stat(page, &status));
  char *const moved = mremap(page, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, pages(1));
  SAY(stat(page, &status));
  SAY(stat(moved, &status));
  SAY(syscall(SYS_munmap, moved, kPage));
  SAY(stat(moved, &status));
}

int main(void) {
  const int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
  SAY(write(file, "0123456789abcdef", 16));
  SAY(close(file));
  SAY(symlink("file", "link"));
  SAY(setxattr("file", "user.a", "value", 5, 0));
  char *const wild = (char *)(uintptr_t)0xdeadc0de;
  char *const high = (char *)UINTPTR_MAX - 100;
  paths(NULL, "NULL");
  paths(wild, "wild");
  paths(high, "high");
  paths(pages(1) + kPage, "protected");
  buffers(NULL, "NULL");
  buffers(wild, "wild");
  buffers(high, "high");
  buffers(pages(1) + kPage, "protected");
  edges();
  changes();
  return 0;
}
