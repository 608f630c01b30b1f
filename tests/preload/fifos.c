/* SPDX-License-Identifier: Apache-2.0
 *
 * Fifos in the working directory, between processes: the same text is printed on a plain directory
 * and on a mount. Run as root. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/preload/say.h"

/* An open: whether, not which number. */
#define OPENED(file, expression) (errno = 0, file = (expression), say(#expression, file < 0 ? -1 : 0))

static void short_while(void) {
  const struct timespec pause = {0, 50000000};
  nanosleep(&pause, NULL);
}
static void on_alarm(int number) { (void)number; }

static pid_t start(void (*work)(const char *), const char *path) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    work(path);
    fflush(stdout);
    _exit(0);
  }
  return child;
}
static void await(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  printf("child: %d\n", status);
}

static void write_to(const char *path) {
  const int file = open(path, O_WRONLY);
  if (file < 0 || write(file, "through a fifo", 14) != 14) _exit(1);
}
static void read_from(const char *path) {
  char text[32] = "";
  const int file = open(path, O_RDONLY);
  if (file < 0 || read(file, text, sizeof text) != 14 || strcmp(text, "through a fifo") != 0) _exit(1);
  if (read(file, text, sizeof text) != 0) _exit(2);
}
static void write_by_shell(const char *path) {
  execlp("sh", "sh", "-c", "echo one >\"$0\"; echo two >\"$0\"", path, NULL);
}

static void meet(const char *mine, const char *its) {
  char text[32] = "";
  int file;
  pid_t child = start(write_to, its);
  OPENED(file, open(mine, O_RDONLY));
  SAY(read(file, text, sizeof text));
  puts(text);
  SAY(read(file, text, sizeof text));
  await(child);
  close(file);
  child = start(read_from, its);
  OPENED(file, open(mine, O_WRONLY));
  SAY(write(file, "through a fifo", 14));
  close(file);
  await(child);
}

static void rules(void) {
  int file, other;
  char byte;
  struct stat status;
  struct pollfd ready = {0};
  puts("--- rules");
  SAY(mkfifo("f", 0640));
  OPENED(file, open("f", O_WRONLY | O_NONBLOCK));
  OPENED(file, open("f", O_RDONLY | O_NONBLOCK));
  SAY(read(file, &byte, 1));
  OPENED(other, open("f", O_WRONLY | O_NONBLOCK));
  SAY(read(file, &byte, 1));
  ready.fd = file;
  ready.events = POLLIN;
  SAY(poll(&ready, 1, 0));
  SAY(write(other, "ab", 2));
  SAY(poll(&ready, 1, 0));
  SAY(read(file, &byte, 1));
  SAY(fcntl(file, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  SAY(fcntl(other, F_GETFD));
  SAY(lseek(file, 0, SEEK_SET));
  SAY(write(file, "x", 1));
  SAY(read(other, &byte, 1));
  SAY(fstat(file, &status));
  printf("%o %u %u\n", status.st_mode, status.st_uid, status.st_gid);
  close(other);
  SAY(read(file, &byte, 1));
  SAY(read(file, &byte, 1));
  close(file);
  OPENED(file, open("f", O_RDWR));
  SAY(write(file, "self", 4));
  SAY(read(file, &byte, 1));
  close(file);
  /* What was in it is gone with the last descriptor. */
  OPENED(file, open("f", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  SAY(read(file, &byte, 1));
  SAY(fcntl(file, F_GETFD));
  close(file);
  OPENED(file, open("f", O_CREAT | O_EXCL | O_RDWR, 0600));
  OPENED(file, open("f", O_CREAT | O_TRUNC | O_RDWR, 0600));
  close(file);
  OPENED(file, open("f", O_DIRECTORY | O_RDONLY));
  OPENED(file, open("f/", O_RDONLY));
  SAY(symlink("f", "l"));
  OPENED(file, open("l", O_RDWR | O_NOFOLLOW));
  OPENED(file, open("l", O_RDWR));
  OPENED(other, open("f", O_WRONLY | O_NONBLOCK));
  close(file);
  close(other);
  OPENED(file, open("f", O_PATH));
  SAY(read(file, &byte, 1));
  SAY(fstat(file, &status));
  printf("%o\n", status.st_mode);
  close(file);
  SAY(truncate("f", 0));
  SAY(stat("f", &status));
  printf("%o %ld %ld\n", status.st_mode, (long)status.st_size, (long)status.st_nlink);

  /* A wait ends with a signal. */
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, NULL);
  alarm(1);
  OPENED(file, open("f", O_RDONLY));
}

static void names(void) {
  int file, other;
  puts("--- names");
  meet("f", "f");
  meet("l", "f");
  SAY(link("f", "hard"));
  meet("hard", "f");
  SAY(mkdir("d", 0755));
  SAY(rename("f", "d/g"));
  meet("d/g", "hard");
  /* While one waits. */
  pid_t child = start(write_to, "hard");
  short_while();
  SAY(rename("hard", "other"));
  OPENED(file, open("other", O_RDONLY));
  char text[32] = "";
  SAY(read(file, text, sizeof text));
  close(file);
  await(child);
  /* Descriptors outlive the name; a new fifo of that name is another one. */
  OPENED(file, open("other", O_RDWR | O_NONBLOCK));
  SAY(unlink("other"));
  SAY(unlink("d/g"));
  SAY(mkfifo("other", 0600));
  OPENED(other, open("other", O_RDWR | O_NONBLOCK));
  SAY(write(file, "old", 3));
  SAY(read(other, text, 3));
  SAY(read(file, text, 3));
  SAY(mkfifo("d/new", 0600));
  SAY(rename("d/new", "other"));
  SAY(write(other, "old", 3));
  close(file);
  OPENED(file, open("other", O_RDWR | O_NONBLOCK));
  SAY(read(file, text, 3));
  close(file);
  close(other);
  child = start(write_by_shell, "other");
  FILE *const stream = fopen("other", "r");
  char line[32] = "";
  if (stream == NULL || fgets(line, sizeof line, stream) == NULL) puts("nothing");
  fputs(line, stdout);
  for (int tries = 0; tries < 100 && fgets(line, sizeof line, stream) == NULL; ++tries) {
    clearerr(stream);
    short_while();
  }
  fputs(line, stdout);
  fclose(stream);
  await(child);
  SAY(unlink("other"));
  SAY(unlink("l"));
  SAY(rmdir("d"));
}

/* Who may read may not write. */
static void as_other(const char *path) {
  int file;
  if (setgid(65534) != 0 || setuid(65534) != 0) _exit(1);
  OPENED(file, open(path, O_RDONLY | O_NONBLOCK));
  char again[64];
  snprintf(again, sizeof again, "/proc/self/fd/%d", file);
  const int writing = open(again, O_WRONLY);
  printf("writing: %d %s\n", writing < 0 ? -1 : 0, writing < 0 ? strerror(errno) : "");
  close(file);
  OPENED(file, open(path, O_WRONLY | O_NONBLOCK));
  OPENED(file, open(path, O_RDWR));
  OPENED(file, open(path, O_RDONLY | O_TRUNC));
  SAY(mkfifo("own", 0600));
  OPENED(file, open("own", O_RDWR));
  SAY(unlink("own"));
}
static void rights(void) {
  puts("--- rights");
  SAY(chmod(".", 0777));
  SAY(mkfifo("r", 0644));
  await(start(as_other, "r"));
  SAY(chmod("r", 0600));
  await(start(as_other, "r"));
  SAY(chown("r", 65534, 65534));
  await(start(as_other, "r"));
  SAY(unlink("r"));
}

/* Many pairs at once. */
static void *write_many(void *path) {
  for (long i = 0; i < 20; ++i) {
    const int file = open(path, O_WRONLY);
    if (file < 0 || write(file, &i, sizeof i) != sizeof i) return path;
    close(file);
    /* The reader has seen the end before the next one comes. */
    const int turn = open("turn", O_RDONLY);
    char byte;
    if (turn < 0 || read(turn, &byte, 1) != 1) return path;
    close(turn);
  }
  return NULL;
}
static void many(void) {
  puts("--- many");
  SAY(mkfifo("m", 0600));
  SAY(mkfifo("turn", 0600));
  pthread_t writer;
  char path[] = "m";
  pthread_create(&writer, NULL, write_many, path);
  long sum = 0;
  for (int i = 0; i < 20; ++i) {
    long value = -1000, end = 0;
    const int file = open("m", O_RDONLY);
    if (read(file, &value, sizeof value) != sizeof value || read(file, &end, sizeof end) != 0) puts("wrong");
    close(file);
    sum += value;
    const int turn = open("turn", O_WRONLY);
    if (write(turn, "t", 1) != 1) puts("wrong");
    close(turn);
  }
  void *failed = NULL;
  pthread_join(writer, &failed);
  printf("%ld %d\n", sum, failed != NULL);
  SAY(unlink("m"));
  SAY(unlink("turn"));
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  umask(0);
  rules();
  names();
  rights();
  many();
  return 0;
}
