// SPDX-License-Identifier: Apache-2.0
//
// Makes trees, and times changes and lookups in them: a command on each line of standard input,
// answered by one line of nanoseconds, or `failed`, a reason. bench/union_rows.py starts one inside
// each filesystem for each round. It is plain C and libc, as calls.c.
//
//   make DIRECTORY PREFIX COUNT          empty files: links of a few, so that a million fit
//   append PATH BYTES ends|syncs         open, write, fsync if it syncs, close
//   read PATH COUNT BYTES onwards|random and the average of so many reads
//   write PATH COUNT                     a new file of so many MiB, each a write, and fsync
//   move FROM TO                         rename, and mv(1) where that fails with EXDEV
//   list DIRECTORY COUNT                 of names alone
//   stat DIRECTORY PREFIX COUNT ERRNO    the first pass over the names, and the median of 20 more
//   run COMMAND                          a line of sh
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  kWordBytes = 1024,
  kPathBytes = 3 * kWordBytes,
  kLineBytes = 3 * kPathBytes,
  kAppendedBytes = 1 << 20,
  kLinksEach = 30000,  // ext4 allows 65,000
  kPasses = 20,
};

extern char** environ;
static char appended[kAppendedBytes];

static unsigned long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static void answer(unsigned long long nanoseconds) { printf("%llu\n", nanoseconds); }

static void failed(const char* what) { printf("failed %s: %s\n", what, strerror(errno)); }

static int run(char* const* command) {
  pid_t child;
  int status;
  errno = posix_spawnp(&child, command[0], NULL, NULL, command, environ);
  if (errno != 0) return -1;
  if (waitpid(child, &status, 0) < 0) return -1;
  if (status == 0) return 0;
  errno = ECHILD;
  return -1;
}

static void make(const char* directory, const char* prefix, int count) {
  char first[kPathBytes];
  char path[kPathBytes];
  for (int i = 0; i < count; ++i) {
    char* to = i % kLinksEach == 0 ? first : path;
    snprintf(to, kPathBytes, "%s/%s%d", directory, prefix, i);
    if (to == path) {
      if (link(first, path) != 0) return failed(path);
      continue;
    }
    const int fd = open(first, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0 || close(fd) != 0) return failed(first);
  }
  answer(0);
}

static void append(const char* path, long long bytes, int syncs) {
  const unsigned long long start = now();
  const int fd = open(path, O_WRONLY | O_APPEND);
  if (fd < 0) return failed(path);
  if (write(fd, appended, kAppendedBytes) != kAppendedBytes) return failed("write");
  if (syncs && fsync(fd) != 0) return failed("fsync");
  if (close(fd) != 0) return failed("close");
  const unsigned long long taken = now() - start;
  struct stat s;
  if (stat(path, &s) != 0) return failed(path);
  errno = ENODATA;
  if (s.st_size != bytes + kAppendedBytes) return failed("the file's size");
  answer(taken);
}

static void read_some(const char* path, int count, int bytes, int anywhere) {
  static char into[kAppendedBytes];
  struct stat s;
  const int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &s) != 0) return failed(path);
  unsigned random_state = 1;
  const unsigned long long start = now();
  for (int i = 0; i < count; ++i) {
    random_state = random_state * 1664525u + 1013904223u;
    const off_t place = anywhere ? (off_t)(random_state >> 8) % (s.st_size / bytes) : i;
    if (bytes > kAppendedBytes || pread(fd, into, (size_t)bytes, place * bytes) != bytes) {
      return failed("read");
    }
  }
  const unsigned long long taken = now() - start;
  close(fd);
  answer(taken / (unsigned)count);
}

static void write_new(const char* path, int count) {
  const unsigned long long start = now();
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (fd < 0) return failed(path);
  for (int i = 0; i < count; ++i) {
    if (write(fd, appended, kAppendedBytes) != kAppendedBytes) return failed("write");
  }
  if (fsync(fd) != 0) return failed("fsync");
  if (close(fd) != 0) return failed("close");
  answer(now() - start);
}

static void move(char* from, char* to) {
  char* const command[] = {"mv", from, to, NULL};
  const unsigned long long start = now();
  if (rename(from, to) != 0) {
    if (errno != EXDEV) return failed("rename");
    if (run(command) != 0) return failed("mv");
  }
  const unsigned long long taken = now() - start;
  struct stat s;
  if (stat(to, &s) != 0 || (stat(from, &s), errno != ENOENT)) return failed(from);
  answer(taken);
}

static void list(const char* path, int count) {
  const unsigned long long start = now();
  DIR* directory = opendir(path);
  if (directory == NULL) return failed(path);
  int entries = 0;
  for (const struct dirent* e; (e = readdir(directory)) != NULL;) entries += e->d_name[0] != '.';
  closedir(directory);
  const unsigned long long taken = now() - start;
  errno = ENODATA;
  if (entries != count) return failed("the listing");
  answer(taken);
}

static int ascending(const void* a, const void* b) {
  const unsigned long long x = *(const unsigned long long*)a;
  const unsigned long long y = *(const unsigned long long*)b;
  return (x > y) - (x < y);
}

static void stat_all(const char* directory, const char* prefix, int count, int expected) {
  static unsigned long long passes[kPasses + 1];
  char path[kPathBytes];
  const int length = snprintf(path, sizeof path, "%s/%s", directory, prefix);
  for (int pass = 0; pass <= kPasses; ++pass) {
    const unsigned long long start = now();
    for (int i = 0; i < count; ++i) {
      struct stat s;
      snprintf(path + length, sizeof path - (size_t)length, "%d", i);
      const int error = stat(path, &s) == 0 ? 0 : errno;
      if (error != expected) return failed(path);
    }
    passes[pass] = (now() - start) / (unsigned)count;
  }
  qsort(passes + 1, kPasses, sizeof passes[0], ascending);
  printf("%llu %llu\n", passes[0], passes[1 + kPasses / 2]);
}

static void run_line(char* line) {
  char* const command[] = {"sh", "-c", line, NULL};
  const unsigned long long start = now();
  if (run(command) != 0) return failed(line);
  answer(now() - start);
}

static int obey(char* line) {
  static char one[kWordBytes];
  static char two[kWordBytes];
  long long number;
  int other;
  int bytes;
  if (sscanf(line, "make %1023s %1023s %d", one, two, &other) == 3) {
    make(one, two, other);
  } else if (sscanf(line, "append %1023s %lld %1023s", one, &number, two) == 3) {
    append(one, number, strcmp(two, "syncs") == 0);
  } else if (sscanf(line, "read %1023s %d %d %1023s", one, &other, &bytes, two) == 4) {
    read_some(one, other, bytes, strcmp(two, "random") == 0);
  } else if (sscanf(line, "write %1023s %d", one, &other) == 2) {
    write_new(one, other);
  } else if (sscanf(line, "move %1023s %1023s", one, two) == 2) {
    move(one, two);
  } else if (sscanf(line, "list %1023s %d", one, &other) == 2) {
    list(one, other);
  } else if (sscanf(line, "stat %1023s %1023s %lld %d", one, two, &number, &other) == 4) {
    stat_all(one, two, (int)number, other);
  } else if (strncmp(line, "run ", 4) == 0) {
    run_line(line + 4);
  } else {
    return 0;
  }
  return fflush(stdout) == 0;
}

int main(int argc, char** argv) {
  struct stat s;
  if (argc != 2 || stat(argv[1], &s) != 0) {  // a session of the preload library begins here
    fprintf(stderr, "usage: trees DIRECTORY <COMMANDS\n");
    return 2;
  }
  memset(appended, 'x', sizeof appended);
  static char line[kLineBytes];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (!obey(line)) {
      fprintf(stderr, "trees: what is '%s'?\n", line);
      return 2;
    }
  }
  return 0;
}
