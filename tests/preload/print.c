/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions of libc that write to a descriptor, open a file, name one, or take over descriptors, in
 * the working directory. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <fcntl.h>
#include <mntent.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>
#include <wordexp.h>

#include "tests/preload/say.h"

int __dprintf_chk(int, int, const char*, ...);
int __vdprintf_chk(int, int, const char*, va_list);

static void show(const char* path) {
  char text[4096];
  const int file = open(path, O_RDONLY);
  const ssize_t bytes = read(file, text, sizeof text - 1);
  text[bytes > 0 ? bytes : 0] = '\0';
  printf("%s: %zd bytes\n%s\n", path, bytes, bytes < 600 ? text : "");
  close(file);
}

static int vprint(int checked, int descriptor, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = checked ? __vdprintf_chk(descriptor, 1, format, arguments)
                             : vdprintf(descriptor, format, arguments);
  va_end(arguments);
  return length;
}

static void print(void) {
  const int file = open("text", O_RDWR | O_CREAT | O_TRUNC, 0644);
  SAY(dprintf(file, "%s %d\n", "dprintf", 1));
  SAY(__dprintf_chk(file, 1, "%s %d\n", "checked", 2));
  SAY(vprint(0, file, "%5.2f|%-6s|\n", 3.14159, "v"));
  SAY(vprint(1, file, "%x\n", 255));
  SAY(dprintf(file, "%1500d\n", 7));
  SAY(dprintf(file, "%s", ""));
  SAY(lseek(file, 0, SEEK_CUR));
  SAY(lseek(file, 3, SEEK_SET));
  SAY(dprintf(file, "%s", "123"));
  SAY(ftruncate(file, 60));
  SAY(close(file));
  show("text");
  const int append = open("text", O_WRONLY | O_APPEND);
  SAY(dprintf(append, "the end\n"));
  SAY(close(append));
  const int reads = open("text", O_RDONLY);
  SAY(dprintf(reads, "no"));
  SAY(close(reads));
  SAY(dprintf(reads, "no"));
  const int path = open("text", O_PATH);
  SAY(dprintf(path, "no"));
  SAY(close(path));
  show("text");

  void* frames[4];
  const int depth = backtrace(frames, 4);
  const int trace = open("trace", O_RDWR | O_CREAT | O_TRUNC, 0644);
  backtrace_symbols_fd(frames, depth, trace);
  char text[2048] = "";
  const ssize_t bytes = pread(trace, text, sizeof text - 1, 0);
  int lines = 0;
  for (ssize_t i = 0; i < bytes; ++i) lines += text[i] == '\n';
  SAY(lines == depth && depth > 0);
  SAY(strstr(text, "print") != NULL);
  SAY(close(trace));
}

static void mounts(void) {
  FILE* table = setmntent("table", "w");
  struct mntent entry = {"device", "/a place", "type", "ro,x=1", 1, 2};
  SAY(addmntent(table, &entry));
  SAY(endmntent(table));
  show("table");
  table = setmntent("table", "r");
  SAY(fcntl(fileno(table), F_GETFD));
  struct mntent* found = getmntent(table);
  printf("%s %s %s %s %d %d\n", found->mnt_fsname, found->mnt_dir, found->mnt_type, found->mnt_opts,
         found->mnt_freq, found->mnt_passno);
  SAY(hasmntopt(found, "x") != NULL);
  SAY(getmntent(table) == NULL);
  SAY(endmntent(table));
  SAY(setmntent("none", "r") == NULL ? -1 : 0);
}

static void names(void) {
  struct stat attributes;
  SAY(stat("text", &attributes));
  const key_t key = ftok("text", 'x');
  SAY((key & 0xffff) == (key_t)(attributes.st_ino & 0xffff));
  SAY((key >> 16 & 0xff) == (key_t)(attributes.st_dev & 0xff));
  SAY(key >> 24);
  SAY(ftok("none", 1));
  const int file = open("text", O_RDWR), here = open(".", O_RDONLY);
  SAY(syncfs(file));
  SAY(syncfs(here));
  SAY(syscall(SYS_syncfs, file));
  SAY(syncfs(999));
  sync();
  SAY(close(file) + close(here));
}

static void words(const char* text, int flags) {
  wordexp_t found = {0};
  found.we_offs = 2;
  const int outcome = wordexp(text, &found, flags | WRDE_DOOFFS);
  printf("%s -> %d, %zu:", text, outcome, outcome == 0 ? found.we_wordc : 0);
  if (outcome == 0) {
    for (size_t i = 0; i < found.we_wordc; ++i) printf(" [%s]", found.we_wordv[2 + i]);
    printf(" %s\n", found.we_wordv[0] == NULL && found.we_wordv[2 + found.we_wordc] == NULL
                        ? "whole"
                        : "not whole");
    if (wordexp("again t*", &found, flags | WRDE_DOOFFS | WRDE_APPEND) == 0) {
      printf("  then");
      for (size_t i = 0; i < found.we_wordc; ++i) printf(" [%s]", found.we_wordv[2 + i]);
      printf("\n");
    }
    wordfree(&found);
  } else {
    printf("\n");
  }
}

static void expansions(void) {
  setenv("PATTERN", "t[ae]*", 1);
  setenv("TWO", "one two", 1);
  words("a t* b", 0);
  words("$PATTERN $TWO", 0);
  setenv("HERE", ".", 1);
  words("$HERE/t* $(echo x)?", 0);
  words("none*", 0);
  words("*t*e", 0);
  words("\"t*\"", 0);
  words("$(cat text | head -c 3) x", 0);
  words("a & b", 0);
  words("$(true)", WRDE_NOCMD);
}

static int terminal_child(int file) {
  printf("%d%d%d %d\n", isatty(0), isatty(1), isatty(2), tcgetsid(0) == getpid());
  fflush(stdout);
  SAY(dprintf(file, "by the child\n"));
  return 3;
}

static void read_terminal(int leader) {
  char text[4096];
  ssize_t all = 0, some;
  while (all < (ssize_t)sizeof text - 1 &&
         (some = read(leader, text + all, sizeof text - 1 - all)) > 0)
    all += some;
  text[all > 0 ? all : 0] = '\0';
  fputs(text, stdout);
  fflush(stdout);
}

static void terminals(void) {
  // Standard output in the directory, so that it is one of ours that the terminal replaces.
  const int kept = dup(1), file = open("out", O_RDWR | O_CREAT | O_TRUNC, 0644),
            input = open("text", O_RDONLY);
  const int saved_input = dup(0);
  fflush(stdout);
  dup2(file, 1);
  dup2(input, 0);
  int leader = -1, status = 0;
  pid_t child = forkpty(&leader, NULL, NULL, NULL);
  if (child == 0) _exit(terminal_child(file));
  fflush(stdout);
  dup2(kept, 1);
  read_terminal(leader);
  waitpid(child, &status, 0);
  SAY(WEXITSTATUS(status));
  close(leader);
  SAY(isatty(0));
  SAY(lseek(0, 0, SEEK_CUR));

  int terminal = -1;
  SAY(openpty(&leader, &terminal, NULL, NULL, NULL));
  fflush(stdout);
  dup2(file, 1);
  child = fork();
  if (child == 0) {
    close(leader);
    if (login_tty(terminal) != 0) _exit(9);
    _exit(terminal_child(file) + (fcntl(terminal, F_GETFD) >= 0));
  }
  dup2(kept, 1);
  close(terminal);
  read_terminal(leader);
  waitpid(child, &status, 0);
  SAY(WEXITSTATUS(status));
  child = fork();
  if (child == 0) {
    SAY(login_tty(file));
    _exit(0);
  }
  waitpid(child, &status, 0);
  dup2(saved_input, 0);
  close(file), close(input), close(kept), close(saved_input), close(leader);
  show("out");
}

static void taken(void) {
  const int file = open("text", O_RDWR);
  SAY(lseek(file, 4, SEEK_SET));
  const int self = pidfd_open(getpid(), 0);
  const int same = pidfd_getfd(self, file, 0);
  SAY(same > file);
  SAY(lseek(same, 0, SEEK_CUR));
  SAY(fcntl(same, F_GETFD));
  SAY(lseek(same, 7, SEEK_SET));
  SAY(close(file));
  SAY(lseek(same, 0, SEEK_CUR));
  SAY(dprintf(same, "taken"));
  SAY(close(same));
  SAY(pidfd_getfd(self, 999, 0));
  const int wrong = open("text", O_RDONLY);
  SAY(pidfd_getfd(wrong, 0, 0));
  close(wrong);
  close(self);

  int ready[2], done[2], status;
  char byte = 0;
  SAY(pipe(ready) + pipe(done));
  const pid_t child = fork();
  if (child == 0) {
    const int own = open("text", O_RDWR);
    lseek(own, 11, SEEK_SET);
    if (dup2(own, 77) != 77 || write(ready[1], "r", 1) != 1 || read(done[0], &byte, 1) != 1)
      _exit(1);
    _exit(lseek(own, 0, SEEK_CUR) == 16 ? 5 : 6);
  }
  SAY(read(ready[0], &byte, 1));
  const int other = pidfd_open(child, 0);
  const int got = pidfd_getfd(other, 77, 0);
  SAY(lseek(got, 0, SEEK_CUR));
  SAY(dprintf(got, "other"));
  SAY(write(done[1], "d", 1));
  waitpid(child, &status, 0);
  SAY(WEXITSTATUS(status));
  close(got), close(other);
  show("text");
}

// The other process closes its own, which it believes to be the only one, and goes on.
static void taken_and_closed(void) {
  int ready[2], done[2], status;
  char byte = 0;
  SAY(pipe(ready) + pipe(done));
  const pid_t child = fork();
  if (child == 0) {
    const int own = open("one", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(own, "12345", 5) != 5 || dup2(own, 77) != 77 || close(own) != 0) _exit(1);
    if (write(ready[1], "r", 1) != 1 || read(done[0], &byte, 1) != 1) _exit(2);
    if (close(77) != 0) _exit(3);
    for (int i = 0; i < 100; ++i) {
      const int file = open("two", O_RDWR | O_CREAT | O_TRUNC, 0644);
      if (file < 0 || write(file, "abcde", 5) != 5) _exit(4);
      if (i == 99 && (write(ready[1], "r", 1) != 1 || read(done[0], &byte, 1) != 1)) _exit(5);
      if (close(file) != 0) _exit(6);
    }
    _exit(7);
  }
  SAY(read(ready[0], &byte, 1));
  const int other = pidfd_open(child, 0), got = pidfd_getfd(other, 77, 0);
  SAY(write(done[1], "d", 1));
  SAY(read(ready[0], &byte, 1));
  SAY(lseek(got, 0, SEEK_CUR));
  SAY(write(got, "taken", 5));
  SAY(write(done[1], "d", 1));
  waitpid(child, &status, 0);
  SAY(WEXITSTATUS(status));
  SAY(pwrite(got, "x", 1, 0));
  SAY(close(got) + close(other));
  show("one");
  show("two");
}

// Names in /tmp, where a mount may be: new ones, of files that can be made.
static void temporary(const char* name) {
  struct stat attributes;
  SAY(strncmp(name, "/tmp/file", 9) == 0 && strlen(name) == 15);
  SAY(lstat(name, &attributes));
  const int file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
  SAY(dprintf(file, "text"));
  SAY(close(file));
  SAY(stat(name, &attributes));
  SAY(unlink(name));
}
static void temporaries(void) {
  char first[L_tmpnam], second[L_tmpnam];
  temporary(tmpnam(first));
  temporary(tmpnam(NULL));
  temporary(tmpnam_r(second));
  SAY(strcmp(first, second) != 0);
  SAY(tmpnam_r(NULL) == NULL);
}

int main(void) {
  temporaries();
  print();
  mounts();
  names();
  expansions();
  terminals();
  taken();
  taken_and_closed();
  return 0;
}
