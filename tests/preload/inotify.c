/* SPDX-License-Identifier: Apache-2.0
 *
 * inotify on files and directories of the working directory, by this process and by others: the same
 * events are printed on a plain directory and on a mount. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/preload/say.h"

enum { QUIET = 10, LONG = 400 }; /* milliseconds until no event is expected any more */

static int notifier = -1;

static void print_event(const struct inotify_event *event, const uint32_t *cookies, int cookie_count) {
  static const struct {
    uint32_t bit;
    const char *name;
  } names[] = {
      {IN_ACCESS, "ACCESS"},           {IN_MODIFY, "MODIFY"},
      {IN_ATTRIB, "ATTRIB"},           {IN_CLOSE_WRITE, "CLOSE_WRITE"},
      {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"},
      {IN_MOVED_FROM, "MOVED_FROM"},   {IN_MOVED_TO, "MOVED_TO"},
      {IN_CREATE, "CREATE"},           {IN_DELETE, "DELETE"},
      {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
      {IN_IGNORED, "IGNORED"},         {IN_ISDIR, "ISDIR"},
      {IN_Q_OVERFLOW, "Q_OVERFLOW"},   {IN_UNMOUNT, "UNMOUNT"},
  };
  printf("  %d", event->wd);
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if ((event->mask & names[i].bit) != 0) printf(" %s", names[i].name);
  }
  if (event->len != 0) printf(" '%s'", event->name);
  for (int i = 0; i < cookie_count; ++i) {
    if (event->cookie != 0 && cookies[i] == event->cookie) printf(" cookie %d", i);
  }
  printf("\n");
}

/* Prints what has come, until nothing comes for so long. */
static void events(const char *after, int quiet) {
  static uint32_t cookies[64];
  _Alignas(struct inotify_event) char buffer[65536];
  int cookie_count = 0;
  printf("%s:\n", after);
  struct pollfd waited = {notifier, POLLIN, 0};
  while (poll(&waited, 1, quiet) == 1) {
    const ssize_t bytes = read(notifier, buffer, sizeof buffer);
    if (bytes <= 0) break;
    for (ssize_t at = 0; at < bytes;) {
      const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
      int known = event->cookie == 0;
      for (int i = 0; i < cookie_count; ++i) known |= cookies[i] == event->cookie;
      if (!known && cookie_count < 64) cookies[cookie_count++] = event->cookie;
      print_event(event, cookies, cookie_count);
      at += (ssize_t)(sizeof *event + event->len);
    }
  }
  fflush(stdout);
}

#define DO(expression) \
  do {                 \
    SAY(expression);   \
    events("events", QUIET); \
  } while (0)

static int make(const char *path, const char *text) {
  const int file = open(path, O_CREAT | O_WRONLY, 0644);
  const ssize_t written = write(file, text, strlen(text));
  close(file);
  return written == (ssize_t)strlen(text) ? 0 : -1;
}

static int run(const char *command) {
  const int status = system(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void on_entries(void) {
  int file = -1;
  char bytes[16];
  DO(make("d/old", "changed"));
  DO(make("d/new", "text"));
  DO((file = open("d/new", O_RDWR | O_TRUNC)) >= 0);
  DO(write(file, "abc", 3));
  DO(pwrite(file, "abc", 3, 10));
  DO(pread(file, bytes, 3, 0));
  DO(pread(file, bytes, 3, 1000));
  DO(ftruncate(file, 2));
  DO(fchmod(file, 0600));
  DO(fsetxattr(file, "user.a", "v", 1, 0));
  DO(fremovexattr(file, "user.a"));
  DO(fallocate(file, 0, 0, 100));
  DO(futimens(file, NULL));
  const struct timespec only_mtime[2] = {{0, UTIME_OMIT}, {5, 0}};
  DO(futimens(file, only_mtime));
  DO(close(file));
  DO(truncate("d/new", 1));
  DO(chmod("d/new", 0644));
  DO((file = open("d/new", O_RDONLY)) >= 0);
  DO(close(file));
  DO((file = open("d/new", O_PATH)) >= 0);
  DO(close(file));
  DO(link("d/new", "d/linked"));
  DO(symlink("new", "d/symbolic"));
  DO(mkfifo("d/fifo", 0644));
  DO(mkdir("d/sub", 0755));
  DO(chmod("d/sub", 0700));
  DO(make("d/sub/inside", "x"));
  DO(rename("d/new", "d/newer"));
  DO(rename("d/newer", "d/linked2"));
  DO(rename("d/linked2", "d/old"));
  DO(rename("d/old", "outside"));
  DO(rename("outside", "d/back"));
  DO(rename("d/sub", "sub"));
  DO(rename("sub", "d/sub"));
  DO(syscall(SYS_renameat2, AT_FDCWD, "d/back", AT_FDCWD, "d/linked", 2));
  DO(syscall(SYS_renameat2, AT_FDCWD, "d/back", AT_FDCWD, "other", 2));
  DO(unlink("d/linked"));
  DO(unlink("d/symbolic"));
  DO(unlink("d/fifo"));
  DO(unlink("d/sub/inside"));
  DO(rmdir("d/sub"));
  DO(unlink("d/none"));
  DO(open("d/back", O_CREAT | O_EXCL | O_WRONLY, 0644));
}

static void on_open_file(void) {
  /* Open while its name moves and goes. */
  int file = open("d/moving", O_CREAT | O_RDWR, 0644);
  events("made", QUIET);
  DO(rename("d/moving", "d/moved"));
  DO(write(file, "x", 1));
  DO(dup2(file, 100));
  DO(close(file));
  DO(close(100));
  file = open("d/moved", O_RDWR);
  events("opened", QUIET);
  DO(unlink("d/moved"));
  close(file);
  events("closed", QUIET);
}

static void by_others(void) {
  SAY(run("echo text >d/by_shell; cat d/by_shell >/dev/null; mv d/by_shell d/moved; rm d/moved"));
  events("by a shell", LONG);
  const pid_t child = fork();
  if (child == 0) {
    const int file = open("d/of_child", O_CREAT | O_WRONLY, 0644);
    (void)!write(file, "x", 1);
    _exit(0); /* which closes it */
  }
  waitpid(child, NULL, 0);
  events("by a child that exits", LONG);
  SAY(unlink("d/of_child"));
  events("unlinked", QUIET);
}

static void on_itself(void) {
  int file = -1;
  SAY(make("alone", "text"));
  SAY(inotify_add_watch(notifier, "alone", IN_ALL_EVENTS) > 0);
  events("added", QUIET);
  DO((file = open("alone", O_RDWR)) >= 0);
  DO(write(file, "y", 1));
  DO(close(file));
  DO(chmod("alone", 0600));
  DO(link("alone", "alone2"));
  DO(unlink("alone2"));
  DO(rename("alone", "alone3"));
  DO(rename("alone3", "alone"));
  file = open("alone", O_RDONLY);
  events("opened", QUIET);
  DO(unlink("alone"));
  close(file);
  events("closed", QUIET);
  SAY(make("replaced", "1"));
  SAY(make("replacing", "2"));
  SAY(inotify_add_watch(notifier, "replaced", IN_ALL_EVENTS) > 0);
  DO(rename("replacing", "replaced"));
  SAY(mkdir("dir", 0755));
  SAY(inotify_add_watch(notifier, "dir", IN_ALL_EVENTS | IN_ONLYDIR) > 0);
  DO(mkdir("dir/sub", 0755));
  DO(rename("dir", "dir2"));
  DO(mkdir("dir2/sub2", 0755));
  DO(rmdir("dir2/sub"));
  DO(rmdir("dir2/sub2"));
  DIR *listing = opendir("dir2");
  while (readdir(listing) != NULL) {
  }
  closedir(listing);
  events("listed", QUIET);
  DO(rmdir("dir2"));
}

/* The same file by its directory, by itself and by two names. */
static void twice(void) {
  SAY(mkdir("both", 0755));
  SAY(make("both/file", "text"));
  const int directory = inotify_add_watch(notifier, "both", IN_ALL_EVENTS);
  const int file = inotify_add_watch(notifier, "both/file", IN_MODIFY | IN_CLOSE_WRITE);
  SAY(symlink("both/file", "link"));
  SAY(inotify_add_watch(notifier, "link", IN_MODIFY | IN_ATTRIB) == file);
  SAY(inotify_add_watch(notifier, "link", IN_ATTRIB | IN_DONT_FOLLOW) != file);
  SAY(inotify_add_watch(notifier, "both/../both", IN_MODIFY | IN_MASK_ADD) == directory);
  SAY(inotify_add_watch(notifier, "both", IN_MODIFY | IN_MASK_CREATE));
  DO(make("both/file", "more"));
  DO(chmod("both/file", 0600));
  SAY(inotify_rm_watch(notifier, file));
  DO(make("both/file", "again"));
  SAY(inotify_rm_watch(notifier, directory));
  DO(make("both/file", "last"));
  SAY(inotify_rm_watch(notifier, directory));
}

static void errors(void) {
  SAY(inotify_add_watch(notifier, "none", IN_MODIFY));
  SAY(inotify_add_watch(notifier, "d/old/x", IN_MODIFY));
  SAY(inotify_add_watch(notifier, "other", IN_MODIFY | IN_ONLYDIR));
  SAY(inotify_add_watch(notifier, "other", 0));
  SAY(inotify_add_watch(-1, "other", IN_MODIFY));
  SAY(inotify_add_watch(0, "other", IN_MODIFY));
  SAY(inotify_add_watch(notifier, (const char *)8, IN_MODIFY));
  SAY(inotify_add_watch(notifier, "", IN_MODIFY));
  const int file = open("other", O_RDONLY);
  SAY(inotify_add_watch(file, "other", IN_MODIFY));
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  SAY(inotify_add_watch(notifier, path, IN_ATTRIB) > 0);
  close(file);
  DO(chmod("other", 0600));
}

int main(void) {
  notifier = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  setvbuf(stdout, NULL, _IOLBF, 0);
  SAY(mkdir("d", 0755));
  SAY(make("d/old", "old"));
  SAY(make("other", "other"));
  /* Open before the watch. */
  const int before = open("d/old", O_RDONLY);
  char bytes[4];
  SAY(inotify_add_watch(notifier, "d", IN_ALL_EVENTS & ~(uint32_t)IN_OPEN));
  DO(read(before, bytes, 2));
  DO(close(before));
  SAY(inotify_add_watch(notifier, "d", IN_ALL_EVENTS));
  on_entries();
  on_open_file();
  by_others();
  errors();
  on_itself();
  twice();
  SAY(run("rm -r d both"));
  events("all gone", LONG);
  return 0;
}
