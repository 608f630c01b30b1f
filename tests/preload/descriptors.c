/* SPDX-License-Identifier: Apache-2.0
 *
 * What POSIX promises of descriptors, run in the working directory: the same text is printed on a
 * plain directory and on a mount. With `placeholder FILE`: a call that slips past the library fails. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <wchar.h>

#include "tests/preload/say.h"

// A system call that no library sees.
static long kernel(long number, long a, long b, long c) {
  long result = number;
  __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  if (result >= 0) return result;
  errno = (int)-result;
  return -1;
}

static int run_child(void (*work)(int), int argument) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    work(argument);
    fflush(stdout);
    _exit(7);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

static void numbers(void) {
  const int a = open("a", O_RDWR | O_CREAT | O_TRUNC, 0644), b = open("b", O_RDWR | O_CREAT, 0600);
  SAY(b - a);
  SAY(close(a));
  SAY(open("a", O_RDWR) - a);
  SAY(write(a, "0123456789", 10));
  const int d = dup(a);
  SAY(lseek(d, 3, SEEK_SET));
  char text[16] = "";
  SAY(read(a, text, 2));
  puts(text);
  SAY(lseek(d, 0, SEEK_CUR));
  SAY(dup2(a, 50));
  SAY(close(a));
  SAY(read(50, text, 1));
  SAY(fcntl(50, F_GETFD));
  SAY(fcntl(50, F_DUPFD_CLOEXEC, 60));
  SAY(fcntl(60, F_GETFD));
  SAY(fcntl(60, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
  SAY(fcntl(60, F_SETFL, O_APPEND));
  SAY(fcntl(50, F_GETFL) & O_APPEND);
  SAY(dup3(50, 50, 0));
  SAY(dup2(50, 50));
  SAY(dup2(999, 51));
  SAY(close(51));
  SAY(close_range(50, 60, 0));
  SAY(read(50, text, 1));
  SAY(read(d, text, 1));
  SAY(close(d));
  SAY(close(d));
  SAY(close(b));
}

static void errors(void) {
  char byte = 0;
  const int r = open("a", O_RDONLY), w = open("a", O_WRONLY), d = open(".", O_RDONLY);
  const int p = open("a", O_PATH);
  SAY(read(p, &byte, 1));
  SAY(write(p, &byte, 1));
  SAY(fallocate(p, 0, 0, 0));
  SAY(fallocate(w, 0, 0, 0));
  SAY(fallocate(r, 0, 0, 1));
  SAY(ftruncate(p, -1));
  SAY(ftruncate(p, 0));
  SAY(lseek(p, 0, 99));
  SAY(fsync(p));
  SAY(copy_file_range(p, NULL, w, NULL, 1, 0));
  SAY(close(p));
  SAY(write(r, &byte, 1));
  SAY(read(w, &byte, 1));
  SAY(read(d, &byte, 1));
  SAY(lseek(r, -1, SEEK_SET));
  SAY(lseek(r, 0, 99));
  SAY(pread(r, &byte, 1, -1));
  SAY(ftruncate(r, 0));
  SAY(open("a", O_RDONLY | O_DIRECTORY));
  SAY(open("a", O_CREAT | O_EXCL | O_RDWR, 0600));
  SAY(open("none/x", O_RDONLY));
  SAY(open("a/x", O_RDONLY));
  SAY(open(".", O_WRONLY));
  SAY(open("", O_RDONLY));
  SAY(openat(r, "x", O_RDONLY));
  SAY(openat(999, "x", O_RDONLY));
  SAY(isatty(r));
  SAY(fchdir(r));
  SAY(symlink("loop", "loop"));
  SAY(open("loop", O_RDONLY));
  SAY(unlink("loop"));
  SAY(rename("a", "/dev/shm/libservices-other"));
  SAY(mkdir("a", 0700));
  SAY(close(r) + close(w) + close(d));
}

static void move_and_write(int descriptor) {
  SAY(lseek(descriptor, 5, SEEK_SET));
  SAY(write(descriptor, "child", 5));
}
static void append(int descriptor) {
  (void)descriptor;
  const int mine = open("log", O_WRONLY | O_APPEND);
  for (int i = 0; i < 200; ++i) {
    if (write(mine, "line\n", 5) != 5) _exit(1);
  }
}
static void run_shell(int descriptor) {
  dup2(descriptor, 0);
  execlp("sh", "sh", "-c", "read line; echo \"sh: $line\"; test -e /proc/self/fd/70 && echo open || echo shut", NULL);
}

static void processes(void) {
  int f = open("a", O_RDWR | O_TRUNC);
  SAY(run_child(move_and_write, f) >> 8);
  SAY(lseek(f, 0, SEEK_CUR));
  SAY(pwrite(f, "first\nsecond\n", 13, 0));
  SAY(lseek(f, 0, SEEK_SET));
  SAY(fcntl(f, F_DUPFD_CLOEXEC, 70));
  SAY(run_child(run_shell, f));
  SAY(close(70));
  const int log = open("log", O_CREAT | O_RDWR | O_TRUNC | O_APPEND, 0644);
  fflush(stdout);
  if (fork() == 0) append(log), _exit(0);
  append(log);
  wait(NULL);
  SAY(lseek(log, 0, SEEK_END));

  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } space;
  char byte = 'x';
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space.bytes,
                           .msg_controllen = sizeof space.bytes};
  struct cmsghdr *head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &f, sizeof f);
  lseek(f, 6, SEEK_SET);
  SAY(sendmsg(pair[0], &message, 0));
  SAY(close(f));
  message.msg_controllen = sizeof space.bytes;
  SAY(recvmsg(pair[1], &message, 0));
  memcpy(&f, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof f);
  char text[8] = "";
  SAY(read(f, text, 6));
  puts(text);
  SAY(close(f) + close(log) + close(pair[0]) + close(pair[1]));
}

static void streams(void) {
  FILE *s = fopen("stream", "w+e");
  SAY(fprintf(s, "alpha\nbeta\n"));
  SAY(fseek(s, 6, SEEK_SET));
  char line[32] = "";
  SAY(fgets(line, sizeof line, s) != NULL);
  printf("%s", line);
  SAY(fileno(s) > 2);
  SAY(fcntl(fileno(s), F_GETFD));
  SAY(fclose(s));
  s = fdopen(open("stream", O_RDWR), "a+");
  SAY(fputs("gamma\n", s) >= 0);
  rewind(s);
  int lines = 0;
  while (fgets(line, sizeof line, s) != NULL) ++lines;
  SAY(lines);
  SAY(fclose(s));
  SAY(fopen("stream", "wx") == NULL ? -1 : 0);
  SAY(fopen("none", "r") == NULL ? -1 : 0);
  char *map = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("stream", O_RDONLY), 0);
  printf("%.5s %d\n", map, map[1000]);
  SAY(munmap(map, 10000));
}

static void directories(void) {
  mkdir("d", 0755);
  char name[32];
  for (int i = 0; i < 50; ++i) {
    snprintf(name, sizeof name, "d/e%d", i);
    close(open(name, O_CREAT | O_WRONLY, 0644));
  }
  DIR *d = opendir("d");
  int count = 0;
  char tenth[256] = "";
  long place = 0;
  for (struct dirent *e; (e = readdir(d)) != NULL; ++count) {
    if (count == 9) place = telldir(d);
    if (count == 10) strcpy(tenth, e->d_name);
  }
  SAY(count);
  seekdir(d, place);
  SAY(strcmp(readdir(d)->d_name, tenth));
  rewinddir(d);
  for (count = 0; readdir(d) != NULL; ++count) {}
  SAY(count);
  struct stat status;
  SAY(fstatat(dirfd(d), "e7", &status, 0));
  SAY(unlinkat(dirfd(d), "e7", 0));
  SAY(fchdir(dirfd(d)));
  SAY(access("e8", F_OK));
  SAY(access("../a", R_OK));
  char *where = getcwd(NULL, 0);
  puts(strrchr(where, '/'));
  SAY(system("ls | wc -l; basename \"$(pwd)\"; cd .. && ls d | head -1"));
  SAY(chdir(".."));
  SAY(closedir(d));
  SAY(rmdir("d"));
}

static void vectors(void) {
  const int f = open("v", O_RDWR | O_CREAT | O_TRUNC, 0644);
  static char large[3 << 20];
  memset(large, 'l', sizeof large);
  char a[5] = "", b[1] = "", c[9] = "";
  const struct iovec three[] = {{"0123", 4}, {"", 0}, {"456789", 6}};
  const struct iovec into[] = {{a, 4}, {NULL, 0}, {b, 1}, {c, 8}};
  SAY(writev(f, three, 3));
  SAY(lseek(f, 0, SEEK_SET));
  SAY(readv(f, into, 4));
  printf("%s %c %s\n", a, b[0], c);
  SAY(readv(f, into, 4));
  SAY(preadv(f, into, 4, 7));
  printf("%s %c %s\n", a, b[0], c);
  SAY(lseek(f, 0, SEEK_CUR));
  const struct iovec much[] = {{large, sizeof large}, {c, 4}, {large, 70000}};
  SAY(pwritev(f, much, 3, 5));
  SAY(preadv(f, much, 3, 0));
  printf("%.10s %c\n", large, large[sizeof large - 1]);
  const struct iovec parts[] = {{large, 300000}, {a, 3}, {large + 300000, 200000}};
  SAY(preadv(f, parts, 3, 3));
  printf("%.3s %.3s\n", large, a);
  const struct iovec wrong[] = {{a, SIZE_MAX - 2}, {b, 8}};
  SAY(readv(f, wrong, 2));
  SAY(writev(f, wrong, 2));
  const volatile int negative = -1;
  SAY(readv(f, into, negative));
  SAY(readv(f, into, 0));
  SAY(close(f));
  SAY(unlink("v"));
}

// The same objects by names that lead through the kernel: /proc/self, and from the root, directory
// by directory.
static void other_names(void) {
  char name[64], text[PATH_MAX] = "", more[PATH_MAX + 16];
  struct stat by_name, itself;
  const int f = open("n", O_RDWR | O_CREAT | O_TRUNC, 0644), d = open(".", O_RDONLY | O_DIRECTORY);
  SAY(write(f, "0123456789", 10));
  snprintf(name, sizeof name, "/proc/self/fd/%d", f);
  SAY(stat(name, &by_name) | fstat(f, &itself));
  SAY(by_name.st_ino == itself.st_ino && by_name.st_size == 10);
  SAY(lstat(name, &by_name));
  SAY(S_ISLNK(by_name.st_mode));
  SAY(access(name, R_OK));
  SAY(truncate(name, 7));
  SAY(chmod(name, 0600));
  SAY(setxattr(name, "user.a", "b", 1, 0));
  SAY(fgetxattr(f, "user.a", text, 4));
  SAY(fstat(f, &itself));
  SAY(itself.st_size * 10000 + (itself.st_mode & 0777));
  SAY(open(name, O_RDONLY | O_NOFOLLOW));
  SAY(unlink(name));
  SAY(mkdir(name, 0755));
  SAY(stat("/proc/self/cwd/n", &by_name));
  SAY(by_name.st_ino == itself.st_ino);
  snprintf(name, sizeof name, "/proc/%d/fd/%d/n", (int)getpid(), d);
  SAY(stat(name, &by_name));
  SAY(by_name.st_ino == itself.st_ino);
  SAY(mkdir("below", 0755));
  SAY(chdir("/proc/self/cwd/below"));
  SAY(getcwd(text, sizeof text) != NULL);
  SAY(readlink("/proc/self/cwd", more, sizeof more) - (long)strlen(text));
  SAY(strncmp(text, more, strlen(text)));
  int at = open("/", O_PATH | O_DIRECTORY);
  for (char* part = strtok(text, "/"); part != NULL; part = strtok(NULL, "/")) {
    if (fstatat(at, part, &by_name, AT_SYMLINK_NOFOLLOW) != 0) puts("not found");
    const int next = openat(at, part, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    close(at);
    at = next;
  }
  SAY(mkdirat(at, "made", 0700));
  SAY(fstatat(at, "../n", &by_name, 0));
  SAY(by_name.st_ino == itself.st_ino);
  SAY(fchdir(at));
  SAY(rmdir("made"));
  SAY(chdir(".."));
  SAY(rmdir("below"));
  SAY(unlink("n"));
  SAY(close(at) | close(d) | close(f));
}

// RLIMIT_FSIZE, which each call that makes a file longer keeps.
static void limited(void) {
  const struct rlimit limit = {1000, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
  static char large[2000];
  const struct iovec two[] = {{large, 10}, {large, 1500}};
  const int f = open("limited", O_RDWR | O_CREAT | O_TRUNC, 0644);
  const int g = open("source", O_RDWR | O_CREAT, 0644);
  SAY(write(g, large, sizeof large));
  signal(SIGXFSZ, SIG_IGN);
  SAY(setrlimit(RLIMIT_FSIZE, &limit));
  SAY(write(f, large, 900));
  SAY(write(f, large, 200));
  SAY(write(f, large, 1));
  SAY(write(f, large, 0));
  SAY(pwrite(f, large, 10, 995));
  SAY(pwritev(f, two, 2, 0));
  SAY(ftruncate(f, 1001));
  SAY(truncate("limited", 1001));
  SAY(ftruncate(f, 500));
  SAY(fallocate(f, 0, 0, 1001));
  SAY(fcntl(f, F_SETFL, O_APPEND));
  SAY(write(f, large, 600));
  SAY(lseek(f, 0, SEEK_END));
  SAY(ftruncate(g, 1500));
  SAY(setrlimit(RLIMIT_FSIZE, &none));
  SAY(write(f, large, 200));
  SAY(close(f) | close(g) | unlink("limited") | unlink("source"));
}

// Wide characters of a stream, and what they are in bytes.
static void wide(void) {
  setlocale(LC_ALL, "C.UTF-8");
  wchar_t line[64];
  char bytes[64] = "";
  FILE *f = fopen("wide", "w");
  SAY(fputws(L"one \u20ac\n", f) >= 0);
  SAY(fputwc(L'\u00e9', f));
  SAY(fwprintf(f, L"%d %ls\n", 42, L"\U0001f600"));
  SAY(fclose(f));
  const int d = open("wide", O_RDWR);
  SAY(read(d, bytes, sizeof bytes));
  for (const char *b = bytes; *b != 0; ++b) printf("%02x", *b & 0xff);
  puts("");
  f = fopen("wide", "r");
  SAY(fgetws(line, 64, f) == line);
  SAY(wcslen(line));
  SAY(line[4]);
  SAY(getwc(f));
  SAY(ungetwc(L'\u00e9', f));
  SAY(fgetwc(f));
  SAY(fgetws(line, 3, f) == line);
  SAY(wcslen(line));
  while (fgetwc(f) != L'\n') continue;
  SAY(fgetwc(f) == WEOF);
  SAY(feof(f) != 0);
  SAY(fgetws(line, 64, f) == NULL);
  SAY(fclose(f));
  SAY(pwrite(d, "\xff\n", 2, 0));
  f = fopen("wide", "r");
  SAY(fgetwc(f) == WEOF);
  SAY(ferror(f) != 0);
  SAY(fclose(f));
  SAY(close(d));
  SAY(unlink("wide"));
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "placeholder") == 0) {
    char byte = 'x';
    const int f = open(argv[2], O_RDWR);
    SAY(write(f, &byte, 1));
    SAY(kernel(SYS_read, f, (long)&byte, 1));
    SAY(kernel(SYS_write, f, (long)&byte, 1));
    SAY(kernel(SYS_lseek, f, 0, SEEK_SET));
    SAY(kernel(SYS_ftruncate, f, 0, 0));
    SAY(kernel(SYS_fsync, f, 0, 0));
    return 0;
  }
  numbers();
  errors();
  processes();
  streams();
  directories();
  vectors();
  other_names();
  limited();
  wide();
  return 0;
}
