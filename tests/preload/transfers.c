// SPDX-License-Identifier: Apache-2.0
//
// preadv2 and pwritev2 with every flag, by name, by number and through the kernel's asynchronous
// requests: what each gives, where the offset is then, and what the file holds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/preload/say.h"

enum { kNoAppend = 0x20, kAtomic = 0x40, kNoSuchFlag = 0x40000000 };

static const struct {
  const char* name;
  int flags;
} kinds[] = {
    {"none", 0},
    {"HIPRI", RWF_HIPRI},
    {"DSYNC", RWF_DSYNC},
    {"SYNC", RWF_SYNC},
    {"APPEND", RWF_APPEND},
    {"APPEND and SYNC", RWF_APPEND | RWF_SYNC},
    {"ATOMIC", kAtomic},
    {"no such flag", kNoSuchFlag},
    {"APPEND and no such flag", RWF_APPEND | kNoSuchFlag},
    // Linux 6.9.
    {"NOAPPEND", kNoAppend},
    {"NOAPPEND and DSYNC", kNoAppend | RWF_DSYNC},
    {"APPEND and NOAPPEND", RWF_APPEND | kNoAppend},
};
enum { kKinds = sizeof kinds / sizeof *kinds };
static int kinds_here = kKinds;

static int file;  // "file", to be read and written, without O_APPEND

static void begin_anew(int descriptor) {
  if (ftruncate(file, 0) != 0 || pwrite(file, "0123456789", 10, 0) != 10) exit(1);
  lseek(descriptor, 1, SEEK_SET);
}

static void after(int descriptor, const char* read) {
  char text[64] = "";
  if (pread(file, text, sizeof text - 1, 0) < 0) exit(1);
  printf("  the offset is %ld, '%s', read '%s'\n", (long)lseek(descriptor, 0, SEEK_CUR), text,
         read);
}

static void transfers(const char* name, int descriptor) {
  const long offsets[] = {-2, -1, 0, 3, 12};
  for (int kind = 0; kind < kinds_here; ++kind) {
    for (unsigned i = 0; i < sizeof offsets / sizeof *offsets; ++i) {
      const int flags = kinds[kind].flags;
      printf("%s, %s, at %ld:\n", name, kinds[kind].name, offsets[i]);
      char one[4] = "", two[4] = "", none[1];
      const struct iovec put[] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
      const struct iovec into[] = {{one, 3}, {two, 3}};
      const struct iovec nothing[] = {{none, 0}};
      begin_anew(descriptor);
      SAY(pwritev2(descriptor, put, 3, offsets[i], flags));
      after(descriptor, "");
      begin_anew(descriptor);
      SAY(syscall(SYS_pwritev2, descriptor, put, 1, offsets[i], 0L, flags));
      after(descriptor, "");
      begin_anew(descriptor);
      SAY(preadv2(descriptor, into, 2, offsets[i], flags));
      SAY(syscall(SYS_preadv2, descriptor, into, 1, offsets[i], 0L, flags));
      after(descriptor, strcat(one, two));
      SAY(pwritev2(descriptor, nothing, 1, offsets[i], flags));
      SAY(preadv2(descriptor, nothing, 0, offsets[i], flags));
    }
  }
}

static void asynchronous(const char* name, int descriptor) {
  aio_context_t context = 0;
  SAY(syscall(SYS_io_setup, 8, &context));
  for (int kind = 0; kind < kinds_here; ++kind) {
    printf("asynchronous, %s, %s:\n", name, kinds[kind].name);
    begin_anew(descriptor);
    const struct iovec parts[] = {{"ab", 2}, {"cde", 3}};
    struct iocb blocks[2] = {{.aio_fildes = (unsigned)descriptor,
                              .aio_lio_opcode = IOCB_CMD_PWRITE,
                              .aio_buf = (unsigned long)"wxyz",
                              .aio_nbytes = 4,
                              .aio_offset = 2,
                              .aio_rw_flags = kinds[kind].flags},
                             {.aio_fildes = (unsigned)descriptor,
                              .aio_lio_opcode = IOCB_CMD_PWRITEV,
                              .aio_buf = (unsigned long)parts,
                              .aio_nbytes = 2,
                              .aio_offset = 5,
                              .aio_rw_flags = kinds[kind].flags}};
    for (int i = 0; i < 2; ++i) {
      struct iocb* list[] = {&blocks[i]};
      struct io_event event;
      const long taken = SAY(syscall(SYS_io_submit, context, 1, list));
      if (taken == 1 && SAY(syscall(SYS_io_getevents, context, 1, 1, &event, NULL)) == 1) {
        printf("  %ld\n", (long)event.res);
      }
    }
    after(descriptor, "");
  }
  SAY(syscall(SYS_io_destroy, context));
}

// Appends of several threads, some of many bytes: each is whole, and none is lost.
enum { kThreads = 4, kAppends = 300, kRecord = 97 };
static void* append_much(void* mark) {
  char record[kRecord];
  memset(record, *(const char*)mark, sizeof record);
  record[kRecord - 1] = '\n';
  const struct iovec parts[] = {{record, 40}, {record + 40, kRecord - 40}};
  for (int i = 0; i < kAppends; ++i) {
    if (pwritev2(file, parts, 2, i % 2 == 0 ? -1 : 0, RWF_APPEND) != kRecord) exit(1);
  }
  return NULL;
}
static void appends(void) {
  SAY(ftruncate(file, 0));
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) pthread_create(&threads[i], NULL, append_much, &"abcd"[i]);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  SAY(lseek(file, 0, SEEK_END));
  char record[kRecord];
  int whole = 0;
  for (long at = 0; pread(file, record, kRecord, at) == kRecord; at += kRecord) {
    int same = record[kRecord - 1] == '\n';
    for (int i = 1; i < kRecord - 1; ++i) same = same && record[i] == record[0];
    whole += same;
  }
  SAY(whole);
  // More than goes in one request.
  const size_t much = 3 * 1048576 + 5;
  char* const bytes = malloc(much);
  memset(bytes, 'm', much);
  const struct iovec part = {bytes, much};
  SAY(ftruncate(file, 7));
  SAY(lseek(file, 3, SEEK_SET));
  SAY(pwritev2(file, &part, 1, 0, RWF_APPEND));
  SAY(lseek(file, 0, SEEK_CUR));
  SAY(lseek(file, 0, SEEK_END));
  free(bytes);
}

// Where files may end counts from where the bytes go.
static void limits(int appending) {
  const struct rlimit small = {12, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
  const struct iovec part = {"abcde", 5};
  signal(SIGXFSZ, SIG_IGN);
  SAY(setrlimit(RLIMIT_FSIZE, &small));
  begin_anew(file);
  SAY(pwritev2(file, &part, 1, 0, RWF_APPEND));
  SAY(pwritev2(file, &part, 1, 0, RWF_APPEND));
  after(file, "");
  if (kinds_here == kKinds) {
    SAY(pwritev2(appending, &part, 1, 0, kNoAppend));
    SAY(pwritev2(appending, &part, 1, 10, kNoAppend));
    SAY(pwritev2(appending, &part, 1, 12, kNoAppend));
    after(appending, "");
  }
  SAY(setrlimit(RLIMIT_FSIZE, &none));
}

// What another program image was given.
static int inherited(void) {
  char text[8] = "";
  const struct iovec put = {"abc", 3}, into = {text, 4};
  SAY(pwritev2(10, &put, 1, 0, RWF_APPEND));
  SAY(preadv2(11, &into, 1, 0, RWF_HIPRI));
  SAY(preadv2(10, &into, 1, 0, 0));
  SAY(pwritev2(11, &put, 1, 0, RWF_APPEND));
  puts(text);
  return 0;
}

int main(int count, char** arguments) {
  if (count > 1) return inherited();
  // A kernel that knows no NOAPPEND says so of its memory, too; the library has it everywhere.
  const int memory = memfd_create("memory", 0);
  const struct iovec byte = {"x", 1};
  if (pwritev2(memory, &byte, 1, 0, kNoAppend) != 1) kinds_here -= 3;
  file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
  const int appending = open("file", O_RDWR | O_APPEND), reading = open("file", O_RDONLY),
            writing = open("file", O_WRONLY), path = open("file", O_PATH);
  transfers("read and write", file);
  transfers("O_APPEND", appending);
  transfers("O_RDONLY", reading);
  transfers("O_WRONLY", writing);
  transfers("O_PATH", path);
  const struct iovec parts[] = {{"", (size_t)-1}, {"", 2}};
  SAY(pwritev2(file, parts, 1, 0, kNoSuchFlag));
  SAY(pwritev2(file, parts, -1, 0, kNoSuchFlag));
  SAY(pwritev2(file, parts, 1025, 0, 0));
  SAY(pwritev2(file, &byte, 1, 0, RWF_NOWAIT));  // neither tmpfs nor ext4 writes so
  asynchronous("read and write", file);
  asynchronous("O_APPEND", appending);
  appends();
  limits(appending);
  begin_anew(file);
  dup2(writing, 10);
  dup2(reading, 11);
  execl(arguments[0], arguments[0], "inherited", NULL);
  return 1;
}
