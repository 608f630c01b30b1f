// SPDX-License-Identifier: Apache-2.0
//
// Times single file calls in a directory: usage `calls DIRECTORY MILLISECONDS [CALL...]`.
//
// For each line on standard input it runs one round: every call for MILLISECONDS, in batches of
// about 20 us so that reading the clock costs nothing, and prints `CALL MEDIAN MEAN` (nanoseconds
// of the median batch, and over all of the time) and at last `end`. bench/harness.py starts one for
// each filesystem and gives rounds in turn, so all of them see the same machine.
//
// DIRECTORY holds what bench/harness.py makes: d/D/F (10 x 100 files of 4 KiB), r1000/ with 1,000
// files, and big of 64 MiB, all in the lower layer. It is plain C and libc: what is measured is the
// system under it, be that the kernel or the preload library.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  kPathBytes = 512,
  kDirectories = 10,
  kFilesEach = 100,
  kListed = 1000,
  kSmall = 4096,
  kLarge = 1 << 20,
  kBigBytes = 64 << 20,
  kWrittenBytes = 16 << 20,
  kBatchNanoseconds = 20000,
  kMaxSamples = 1 << 16,
};

static char files[kDirectories * kFilesEach][kPathBytes];
static char listed[kPathBytes];
static char missing[kPathBytes];
static char fresh[kPathBytes];
static char* missing_digits;
static char* fresh_digits;
static unsigned long long counter;
static unsigned next_file;
static unsigned random_state = 1;
static int big = -1;
static int written = -1;
static long long written_at;
static char buffer[kLarge];

static unsigned long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static unsigned next_random(void) {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 8;
}

static void fail(const char* what) {
  fprintf(stderr, "calls: %s: %s\n", what, strerror(errno));
  exit(1);
}

// A name that was not used before. No printf: it takes longer than some of the calls.
static void set_counter(char* digits) {
  unsigned long long value = ++counter;
  for (int i = 15; i >= 0; --i) {
    digits[i] = (char)('a' + (value & 15));
    value >>= 4;
  }
}

static const char* some_file(void) {
  next_file = (next_file + 7) % (kDirectories * kFilesEach);
  return files[next_file];
}

static void call_stat(void) {
  struct stat s;
  if (stat(some_file(), &s) != 0 || s.st_size != kSmall) fail("stat");
}

static void call_stat_missing(void) {
  struct stat s;
  set_counter(missing_digits);
  if (stat(missing, &s) == 0 || errno != ENOENT) fail("stat of a missing name");
}

static void call_open_close(void) {
  const int fd = open(some_file(), O_RDONLY);
  if (fd < 0 || close(fd) != 0) fail("open and close");
}

static void call_open_read_close(void) {
  const int fd = open(some_file(), O_RDONLY);
  if (fd < 0 || read(fd, buffer, kSmall) != kSmall || close(fd) != 0) fail("open, read and close");
}

static void call_readdir(void) {
  DIR* directory = opendir(listed);
  if (directory == NULL) fail("opendir");
  int entries = 0;
  for (const struct dirent* e; (e = readdir(directory)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    struct stat s;
    if (fstatat(dirfd(directory), e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0) fail("fstatat");
    ++entries;
  }
  closedir(directory);
  if (entries != kListed) {
    errno = ENODATA;
    fail("readdir of 1,000 files");
  }
}

static void call_read_small(void) {
  const off_t offset = (off_t)(next_random() % (kBigBytes / kSmall)) * kSmall;
  if (pread(big, buffer, kSmall, offset) != kSmall) fail("read of 4 KiB");
}

static void call_read_large(void) {
  const off_t offset = (off_t)(next_random() % (kBigBytes / kLarge)) * kLarge;
  if (pread(big, buffer, kLarge, offset) != kLarge) fail("read of 1 MiB");
}

static void call_map(void) {
  const off_t offset = (off_t)(next_random() % (kBigBytes / kLarge)) * kLarge;
  char* const mapped = mmap(NULL, kLarge, PROT_READ, MAP_PRIVATE, big, offset);
  if (mapped == MAP_FAILED) fail("mmap of 1 MiB");
  unsigned sum = 0;
  for (int i = 0; i < kLarge; i += kSmall) sum += (unsigned char)mapped[i];
  if (sum == ~0u || munmap(mapped, kLarge) != 0) fail("munmap");
}

static void call_write_small(void) {
  if (written_at == kWrittenBytes) {
    if (lseek(written, 0, SEEK_SET) != 0) fail("lseek");
    written_at = 0;
  }
  if (write(written, buffer, kSmall) != kSmall) fail("write of 4 KiB");
  written_at += kSmall;
}

static void call_create_unlink(void) {
  set_counter(fresh_digits);
  const int fd = open(fresh, O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (fd < 0 || close(fd) != 0 || unlink(fresh) != 0) fail("create and unlink");
}

static const struct Call {
  const char* name;
  void (*run)(void);
} kCalls[] = {
    {"stat", call_stat},
    {"stat-missing-new", call_stat_missing},
    {"open+close", call_open_close},
    {"open+read4K+close", call_open_read_close},
    {"readdir1000+stat", call_readdir},
    {"read4K", call_read_small},
    {"read1M", call_read_large},
    {"mmap1M", call_map},
    {"write4K", call_write_small},
    {"create+unlink", call_create_unlink},
};

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a;
  const double y = *(const double*)b;
  return (x > y) - (x < y);
}

static double measure(const struct Call* call, unsigned milliseconds, double* mean) {
  static double samples[kMaxSamples];
  call->run();
  unsigned long long start = now();
  call->run();
  call->run();
  const unsigned long long once = (now() - start) / 2 + 1;
  const unsigned batch = once < kBatchNanoseconds ? (unsigned)(kBatchNanoseconds / once) : 1;
  int count = 0;
  const unsigned long long begin = now();
  const unsigned long long end = begin + milliseconds * 1000000ull;
  do {
    start = now();
    for (unsigned i = 0; i < batch; ++i) call->run();
    samples[count++] = (double)(now() - start) / batch;
  } while (count < kMaxSamples && (now() < end || count < 5));
  *mean = (double)(now() - begin) / ((double)count * batch);
  qsort(samples, (size_t)count, sizeof samples[0], by_value);
  return samples[count / 2];
}

static void prepare(const char* directory) {
  for (int d = 0; d < kDirectories; ++d) {
    for (int f = 0; f < kFilesEach; ++f) {
      snprintf(files[d * kFilesEach + f], kPathBytes, "%s/d/%d/%d", directory, d, f);
    }
  }
  snprintf(listed, sizeof listed, "%s/r1000", directory);
  missing_digits = missing + snprintf(missing, sizeof missing, "%s/d/3/missing-", directory);
  fresh_digits = fresh + snprintf(fresh, sizeof fresh, "%s/d/5/fresh-", directory);
  char path[kPathBytes];
  snprintf(path, sizeof path, "%s/big", directory);
  if ((big = open(path, O_RDONLY)) < 0) fail(path);
  snprintf(path, sizeof path, "%s/written", directory);
  if ((written = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644)) < 0) fail(path);
  memset(buffer, 'x', sizeof buffer);
  for (int i = 0; i < kWrittenBytes / kLarge; ++i) {
    if (write(written, buffer, kLarge) != kLarge) fail(path);
  }
  written_at = kWrittenBytes;
}

static int wanted(const char* name, int count, char** names) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(name, names[i]) == 0) return 1;
  }
  return count == 0;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: calls DIRECTORY MILLISECONDS [CALL...]\n");
    return 2;
  }
  const unsigned milliseconds = (unsigned)atoi(argv[2]);
  prepare(argv[1]);
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    for (size_t i = 0; i < sizeof kCalls / sizeof kCalls[0]; ++i) {
      if (!wanted(kCalls[i].name, argc - 3, argv + 3)) continue;
      double mean;
      const double median = measure(&kCalls[i], milliseconds, &mean);
      printf("%s %.1f %.1f\n", kCalls[i].name, median, mean);
    }
    printf("end\n");
    fflush(stdout);
  }
  return 0;
}
