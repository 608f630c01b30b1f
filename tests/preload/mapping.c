/* SPDX-License-Identifier: Apache-2.0
 *
 * What mmap(2) promises of regular files, in the working directory: mapping WORD [ARGUMENT]...
 *
 * all                     everything
 * copied                  where mappings are of copies, and none can be written through
 * reads FILE              what a file that cannot be written is mapped for
 * stale FILE              a file that is written to after it was mapped to be read
 * loads (LIBRARY NUMBER)  each has a function `answer` that returns its number
 * peer FILE               the other process of `two_processes` */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kPage = 4096 };
static int passed, failed;

#define CHECK(condition) check(condition, #condition, __LINE__)
static int check(int holds, const char* what, int line) {
  if (holds) {
    ++passed;
  } else {
    ++failed;
    printf("line %d: %s does not hold (%s)\n", line, what, strerror(errno));
  }
  return holds;
}
#define MUST(condition)             \
  do {                              \
    if (!CHECK(condition)) exit(1); \
  } while (0)
#define FAILS(error, ...) (errno = 0, CHECK((__VA_ARGS__) == MAP_FAILED && errno == (error)))

static int made(const char* name, const char* text, off_t size) {
  const int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
  MUST(file >= 0 && ftruncate(file, size) == 0);
  MUST(pwrite(file, text, strlen(text), 0) == (ssize_t)strlen(text));
  return file;
}
static char* map(int file, size_t size, int protection, int flags, off_t offset) {
  char* const at = mmap(NULL, size, protection, flags, file, offset);
  MUST(at != MAP_FAILED);
  return at;
}
static int is_text(int file, off_t at, const char* text) {
  char found[64] = "";
  const size_t length = strlen(text);
  return pread(file, found, length, at) == (ssize_t)length && memcmp(found, text, length) == 0;
}
// The signal that ends a process that reads there; 0: none.
static int signal_of_read(volatile const char* at) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    _exit(*at == 'x' ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}
static int descriptors(void) {
  DIR* const list = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(list) != NULL) ++count;
  closedir(list);
  return count;
}

static void errors(int copied) {
  const int file = made("errors", "text", 3 * kPage);
  const int reads = open("errors", O_RDONLY), writes = open("errors", O_WRONLY);
  const int path = open("errors", O_PATH), directory = open(".", O_RDONLY | O_DIRECTORY);
  MUST(reads >= 0 && writes >= 0 && path >= 0 && directory >= 0);
  FAILS(EINVAL, mmap(NULL, 0, PROT_READ, MAP_PRIVATE, reads, 0));
  FAILS(EINVAL, mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, reads, 1));
  FAILS(EINVAL, mmap(NULL, kPage, PROT_READ, 0, reads, 0));
  FAILS(EACCES, mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, writes, 0));
  FAILS(EACCES, mmap(NULL, kPage, PROT_READ, MAP_SHARED, writes, 0));
  FAILS(EACCES, mmap(NULL, kPage, PROT_WRITE, MAP_SHARED, writes, 0));
  FAILS(EACCES, mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, reads, 0));
  FAILS(EBADF, mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, path, 0));
  FAILS(ENODEV, mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, directory, 0));
  FAILS(EOPNOTSUPP, mmap(NULL, kPage, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, reads, 0));
  FAILS(EOPNOTSUPP, mmap(NULL, kPage, PROT_READ, MAP_SHARED_VALIDATE | (1 << 24), reads, 0));
  FAILS(EINVAL, mmap((void*)(uintptr_t)1, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, reads, 0));
  if (copied) FAILS(ENODEV, mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  close(path);
  FAILS(EBADF, mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, path, 0));

  char* const shared = map(reads, kPage, PROT_READ, MAP_SHARED, 0);
  errno = 0;
  CHECK(mprotect(shared, kPage, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
  CHECK(munmap(shared, kPage) == 0);
  const int before = descriptors();
  for (int i = 0; i < 100; ++i) munmap(map(reads, kPage, PROT_READ, MAP_PRIVATE, 0), kPage);
  CHECK(descriptors() == before);
  const int next = open("errors", O_RDONLY);
  CHECK(next == path);
  close(next);
  close(directory);
  close(writes);
  close(reads);
  close(file);
}

static void private_mappings(int copied) {
  const int file = made("private", "one", 3 * kPage);
  CHECK(pwrite(file, "three", 5, 2 * kPage) == 5);
  char* const at = map(file, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  CHECK(strcmp(at, "one") == 0 && strcmp(at + 2 * kPage, "three") == 0);
  memcpy(at, "own", 3);
  CHECK(is_text(file, 0, "one"));
  char* const third = map(file, 100, PROT_READ, MAP_PRIVATE | MAP_POPULATE, 2 * kPage);
  CHECK(strcmp(third, "three") == 0);
  CHECK(munmap(third, 100) == 0);
  if (!copied) {
    CHECK(pwrite(file, "later", 5, kPage) == 5);
    CHECK(memcmp(at + kPage, "later", 5) == 0);  // as Linux has it, of pages not yet written to
  }
  close(file);
  CHECK(strcmp(at, "own") == 0);
  CHECK(unlink("private") == 0);
  CHECK(strcmp(at + 2 * kPage, "three") == 0);
  CHECK(munmap(at, 3 * kPage) == 0);

  char* const place = mmap(NULL, 3 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int other = made("private", "fixed", kPage);
  CHECK(mmap(place + kPage, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, other, 0) == place + kPage);
  CHECK(place[0] == 0 && strcmp(place + kPage, "fixed") == 0 && place[2 * kPage] == 0);
  FAILS(EEXIST, mmap(place, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, other, 0));
  CHECK(munmap(place, kPage) == 0 && munmap(place + 2 * kPage, kPage) == 0);
  CHECK(strcmp(place + kPage, "fixed") == 0);
  CHECK(signal_of_read(place) == SIGSEGV);
  char* const by_number = (char*)syscall(SYS_mmap, NULL, kPage, PROT_READ, MAP_PRIVATE, other, 0);
  CHECK(by_number != MAP_FAILED && strcmp(by_number, "fixed") == 0);
  close(other);
}

static void executed(void) {
#ifdef __x86_64__
  const int file = made("code", "\xb8\x2a", 100);  // mov $42, %eax; ret
  MUST(pwrite(file, "\0\0\0\xc3", 4, 2) == 4);
  close(file);
  const int reads = open("code", O_RDONLY);
  for (int shared = 0; shared < 2; ++shared) {
    void* const at = map(reads, 100, PROT_READ | PROT_EXEC, shared ? MAP_SHARED : MAP_PRIVATE, 0);
    int (*code)(void);
    memcpy(&code, &at, sizeof code);
    CHECK(code() == 42);
    CHECK(munmap(at, 100) == 0);
  }
  close(reads);
#endif
}

static void ends(void) {
  const int file = made("ends", "end", 100);
  char* const at = map(file, 3 * kPage, PROT_READ, MAP_PRIVATE, 0);
  CHECK(at[100] == 0 && at[kPage - 1] == 0);
  CHECK(signal_of_read(at) == 0);
  CHECK(signal_of_read(at + kPage) == SIGBUS);
  close(file);
}

static void large(void) {
  const off_t size = (off_t)64 << 30;
  const int file = made("large", "first", size);
  MUST(pwrite(file, "last", 4, size - kPage) == 4);
  for (int shared = 0; shared < 2; ++shared) {
    char* const at = map(file, (size_t)size, PROT_READ | PROT_WRITE,
                         (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE, 0);
    CHECK(strcmp(at, "first") == 0 && strcmp(at + size - kPage, "last") == 0);
    CHECK(munmap(at, (size_t)size) == 0);
  }
  close(file);
  unlink("large");
}

static void shared_mappings(void) {
  const int file = made("shared", "one", 2 * kPage), other = open("shared", O_RDWR);
  char* const at = map(file, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  char* const second = map(other, kPage, PROT_READ, MAP_SHARED, kPage);
  memcpy(at, "two", 3);
  CHECK(is_text(file, 0, "two") && is_text(other, 0, "two"));
  CHECK(pwrite(other, "three", 5, 0) == 5);
  CHECK(strcmp(at, "three") == 0);
  memcpy(at + kPage, "four", 4);
  CHECK(strcmp(second, "four") == 0);
  CHECK(mprotect(second, kPage, PROT_READ | PROT_WRITE) == 0);
  memcpy(second, "five", 4);
  CHECK(memcmp(at + kPage, "five", 4) == 0);
  CHECK(msync(at, 2 * kPage, MS_SYNC) == 0 && fsync(file) == 0);
  FILE* const stream = fopen("shared", "r");
  char text[8] = "";
  CHECK(stream != NULL && fread(text, 1, 5, stream) == 5 && strcmp(text, "three") == 0);
  fclose(stream);

  // It grows and shrinks under the mapping.
  CHECK(signal_of_read(at + kPage) == 0);
  CHECK(ftruncate(other, kPage) == 0);
  CHECK(signal_of_read(at + kPage) == SIGBUS);
  CHECK(ftruncate(other, 4 * kPage) == 0);
  CHECK(at[kPage] == 0);
  char* const grown = mremap(at, 2 * kPage, 4 * kPage, MREMAP_MAYMOVE);
  MUST(grown != MAP_FAILED);
  memcpy(grown + 3 * kPage, "grown", 5);
  CHECK(is_text(other, 3 * kPage, "grown"));
  CHECK(munmap(grown + kPage, kPage) == 0);
  memcpy(grown + 2 * kPage, "kept", 4);
  CHECK(is_text(other, 2 * kPage, "kept"));

  // Children have it, and it outlives descriptors and the name.
  close(file);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    memcpy(grown, "child", 5);
    _exit(is_text(other, 0, "child") ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0 && memcmp(grown, "child", 5) == 0 && is_text(other, 0, "child"));
  CHECK(unlink("shared") == 0);
  memcpy(grown, "nameless", 8);
  CHECK(is_text(other, 0, "nameless"));
  close(other);
  CHECK(memcmp(grown, "nameless", 8) == 0);
  munmap(grown, 4 * kPage);
}

// What is opened anew finds what was written through a mapping whose descriptor is closed, and
// attributes that are true.
static void after_close(void) {
  const int file = made("closed", "before", kPage);
  char* const at = map(file, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  close(file);
  struct stat before, after;
  MUST(stat("closed", &before) == 0);
  const struct timespec pause = {0, 20000000};
  nanosleep(&pause, NULL);
  memcpy(at, "behind", 6);
  const int again = open("closed", O_RDONLY);
  CHECK(is_text(again, 0, "behind"));
  MUST(stat("closed", &after) == 0 && after.st_size == kPage);
  struct stat open_one;
  CHECK(fstat(again, &open_one) == 0 &&
        memcmp(&open_one.st_mtim, &after.st_mtim, sizeof after.st_mtim) == 0);
  if (getenv("TIMES_MOVE") != NULL) {
    CHECK(after.st_mtim.tv_sec != before.st_mtim.tv_sec ||
          after.st_mtim.tv_nsec != before.st_mtim.tv_nsec);
  }
  close(again);
  munmap(at, kPage);
}

struct Ball {
  atomic_int turn;
  atomic_int count;
};
enum { kRounds = 2000 };
static void play(struct Ball* ball, int me) {
  for (int round = 0; round < kRounds; ++round) {
    while (atomic_load(&ball->turn) != me) sched_yield();
    atomic_fetch_add(&ball->count, 1);
    atomic_store(&ball->turn, 1 - me);
  }
}
static int peer(const char* name) {
  const int file = open(name, O_RDWR);
  if (file < 0) return 1;
  play((struct Ball*)map(file, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0), 1);
  return pwrite(file, "said by the peer", 16, 2048) == 16 ? 0 : 1;
}
static void two_processes(void) {
  const int file = made("ball", "", kPage);
  struct Ball* const ball = (struct Ball*)map(file, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", "mapping", "peer", "ball", (char*)NULL);
    _exit(9);
  }
  alarm(60);
  play(ball, 0);
  int status = 0;
  waitpid(child, &status, 0);
  alarm(0);
  CHECK(status == 0);
  CHECK(atomic_load(&ball->count) == 2 * kRounds);
  CHECK(strcmp((char*)ball + 2048, "said by the peer") == 0);
  struct Ball seen;
  CHECK(pread(file, &seen, sizeof seen, 0) == sizeof seen && seen.count == 2 * kRounds);
  close(file);
}

// Threads and processes store at places of their own: none is lost.
static void many_writers(void) {
  enum { kWriters = 4, kPages = 64 };
  const int file = made("many", "", kPages * kPage);
  fflush(stdout);
  for (int writer = 0; writer < kWriters; ++writer) {
    if (fork() != 0) continue;
    const int own = open("many", O_RDWR);
    char* const at = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
    if (own < 0 || at == MAP_FAILED) _exit(1);
    for (int i = writer; i < kPages * kPage; i += kWriters) {
      if (i / kPage % 2 == 0) {
        at[i] = (char)(1 + writer);
      } else if (pwrite(own, &(char){(char)(1 + writer)}, 1, i) != 1) {
        _exit(1);
      }
    }
    _exit(0);
  }
  int wrong = 0;
  for (int writer = 0; writer < kWriters; ++writer) {
    int status = 0;
    wait(&status);
    wrong += status != 0;
  }
  CHECK(wrong == 0);
  char* const at = map(file, kPages * kPage, PROT_READ, MAP_SHARED, 0);
  for (int i = 0; i < kPages * kPage; ++i) wrong += at[i] != 1 + i % kWriters;
  CHECK(wrong == 0);
  close(file);
}

static void read_only(const char* name) {
  const int file = open(name, O_RDONLY);
  MUST(file >= 0);
  for (int shared = 0; shared < 2; ++shared) {
    char* const at = map(file, kPage, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, 0);
    CHECK(memcmp(at, "lower text", 10) == 0);
    errno = 0;
    const int changed = mprotect(at, kPage, PROT_READ | PROT_WRITE);
    CHECK(shared ? changed == -1 && errno == EACCES : changed == 0);
    if (!shared) memcpy(at, "mine", 4);
    CHECK(is_text(file, 0, "lower text"));
  }
  FAILS(EACCES, mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
}

// Of a union's lower: the mapping goes on with what the file was, and everything else is new.
static void stale(const char* name) {
  const int file = open(name, O_RDONLY);
  MUST(file >= 0);
  char* const before = map(file, kPage, PROT_READ, MAP_SHARED, 0);
  CHECK(memcmp(before, "lower text", 10) == 0);
  const int writer = open(name, O_RDWR);
  MUST(writer >= 0 && pwrite(writer, "UPPER", 5, 0) == 5);
  CHECK(memcmp(before, "lower text", 10) == 0 || memcmp(before, "UPPER text", 10) == 0);
  CHECK(is_text(file, 0, "UPPER text"));
  char* const after = map(file, kPage, PROT_READ, MAP_SHARED, 0);
  CHECK(memcmp(after, "UPPER text", 10) == 0);
  char* const writes = map(writer, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  memcpy(writes + 6, "TEXT", 4);
  CHECK(memcmp(after, "UPPER TEXT", 10) == 0 && is_text(file, 0, "UPPER TEXT"));
}

// What is loaded twice is one library.
static void loads(const char* path, int number) {
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) printf("%s\n", dlerror());
  MUST(library != NULL);
  int (*answer)(void);
  void* const symbol = dlsym(library, "answer");
  MUST(symbol != NULL);
  memcpy(&answer, &symbol, sizeof answer);
  if (!CHECK(answer() == number)) printf("%s: %d instead of %d\n", path, answer(), number);
  void* const same = dlopen(path, RTLD_NOW);
  CHECK(same == library);
  CHECK(dlclose(same) == 0);
}

int main(int argc, char** argv) {
  const char* const what = argc > 1 ? argv[1] : "all";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(what, "peer") == 0) return peer(argv[2]);
  if (strcmp(what, "reads") == 0) {
    read_only(argv[2]);
  } else if (strcmp(what, "loads") == 0) {
    close(open(argv[2], O_RDONLY));  // the session has descriptors, too
    const int before = descriptors();
    for (int i = 2; i + 1 < argc; i += 2)
      loads(argv[i], atoi(argv[i + 1]));
    if (getenv("COPIED") == NULL) CHECK(descriptors() == before);
    CHECK(dlopen("./not-there.so", RTLD_NOW) == NULL &&
          strstr(dlerror(), "./not-there.so: ") != NULL);
  } else if (strcmp(what, "stale") == 0) {
    stale(argv[2]);
  } else {
    const int copied = strcmp(what, "copied") == 0;
    errors(copied);
    private_mappings(copied);
    executed();
    ends();
    if (!copied) {
      large();
      shared_mappings();
      after_close();
      two_processes();
      many_writers();
    }
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
