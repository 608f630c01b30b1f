/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls on files of the working directory that signals come into: handlers that make such calls
 * themselves, that jump out, and threads that are cancelled. The same text is printed on a plain
 * directory and on a mount. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/preload/say.h"

static void every(long microseconds) {
  const struct itimerval time = {{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &time, NULL);
}
static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static volatile sig_atomic_t handled;
static sigjmp_buf back;

static int all_calls(int number) {
  char name[32];
  char bytes[64];
  struct stat status;
  snprintf(name, sizeof name, "w%d", number % 7);
  const int file = open(name, O_CREAT | O_RDWR, 0644);
  if (file < 0) return 1;
  if (pwrite(file, "0123456789", 10, 0) != 10) return 2;
  if (pread(file, bytes, sizeof bytes, 0) != 10 || memcmp(bytes, "0123456789", 10) != 0) return 3;
  if (fstat(file, &status) != 0 || status.st_size != 10) return 4;
  if (stat(name, &status) != 0) return 5;
  const int copy = dup(file);
  if (copy < 0 || lseek(copy, 5, SEEK_SET) != 5) return 6;
  if (read(file, bytes, 5) != 5 || memcmp(bytes, "56789", 5) != 0) return 7;
  close(copy);
  close(file);
  if (mkdir("sub", 0755) != 0 && errno != EEXIST) return 8;
  if (rename(name, "renamed") != 0) return 9;
  if (unlink("renamed") != 0) return 10;
  return 0;
}

/* A handler whose file is its own. */
static void on_alarm_write(int number) {
  (void)number;
  const int error = errno;
  const int file = open("log", O_CREAT | O_WRONLY | O_APPEND, 0644);
  if (file < 0 || write(file, "tick\n", 5) != 5) abort();
  close(file);
  ++handled;
  errno = error;
}

static void handlers(void) {
  signal(SIGALRM, on_alarm_write);
  every(700);
  int wrong = 0;
  const double end = seconds() + 1.5;
  for (int i = 0; seconds() < end; ++i) wrong |= all_calls(i);
  every(0);
  signal(SIGALRM, SIG_DFL);
  struct stat status;
  SAY(wrong);
  SAY(handled > 20);
  SAY(stat("log", &status));
  SAY(status.st_size == 5L * handled);
}

static void on_alarm_jump(int number) {
  (void)number;
  siglongjmp(back, 1);
}

/* The calls that are jumped out of leave nothing behind that those after them would wait for. */
static void jumps(void) {
  static volatile int jumped;
  static volatile int whole;
  static volatile int wrong;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm_jump;
  sigaction(SIGALRM, &action, NULL);
  const double end = seconds() + 2;
  static volatile int i;
  every(900);
  for (i = 0;; ++i) {
    if (sigsetjmp(back, 1) != 0) {
      ++jumped;
      for (int file = 3; file < 40; ++file) close(file);
      unlink("renamed");
    }
    if (seconds() > end) break;
    const int result = all_calls(i);
    /* Who was jumped out of may have made the directory's state another one. */
    if (result == 0) ++whole;
    if (result != 0) wrong = result;
  }
  every(0);
  signal(SIGALRM, SIG_DFL);
  SAY(jumped > 100);
  SAY(whole > 100);
  SAY(wrong);
  SAY(all_calls(1));
}

static int held;
static void *wait_for_lock(void *nothing) {
  (void)nothing;
  const int file = open("locked", O_RDWR);
  flock(file, LOCK_EX);
  return (void *)1;
}
static void *read_without_end(void *nothing) {
  (void)nothing;
  const int file = open("locked", O_RDWR);
  char byte;
  for (;;) (void)!pread(file, &byte, 1, 0);
  return NULL;
}

static void cancelled(void) {
  held = open("locked", O_CREAT | O_RDWR, 0644);
  SAY(flock(held, LOCK_EX));
  pthread_t thread;
  void *result = NULL;
  const struct timespec pause = {0, 50000000};
  SAY(pthread_create(&thread, NULL, read_without_end, NULL));
  nanosleep(&pause, NULL);
  SAY(pthread_cancel(thread));
  SAY(pthread_join(thread, &result));
  SAY(result == PTHREAD_CANCELED);
  /* Many, whenever it meets them. */
  int wrong = 0;
  for (int i = 0; i < 200; ++i) {
    const struct timespec moment = {0, (long)(i % 20) * 20000};
    pthread_create(&thread, NULL, read_without_end, NULL);
    nanosleep(&moment, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    wrong |= result != PTHREAD_CANCELED;
  }
  SAY(wrong);
  /* flock is no point of cancellation: the thread has its lock first. */
  SAY(pthread_create(&thread, NULL, wait_for_lock, NULL));
  nanosleep(&pause, NULL);
  SAY(flock(held, LOCK_UN));
  SAY(pthread_join(thread, &result));
  SAY(result == (void *)1);
  close(held);
  SAY(all_calls(1));
}

static void on_nothing(int number) { (void)number; }
static void *let_go_soon(void *nothing) {
  const struct timespec pause = {0, 300000000};
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  nanosleep(&pause, NULL);
  flock(held, LOCK_UN);
  return nothing;
}

/* What was installed is what is shown. */
static void on_information(int number, siginfo_t *information, void *context) {
  (void)context;
  handled = information->si_signo == number && information->si_pid == getpid() ? 2 : 1;
}
static void actions(void) {
  struct sigaction action;
  struct sigaction old;
  memset(&action, 0, sizeof action);
  SAY(signal(SIGUSR1, on_nothing) == SIG_DFL);
  SAY(signal(SIGUSR1, on_alarm_write) == on_nothing);
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_handler == on_alarm_write);
  SAY(old.sa_flags & (SA_SIGINFO | SA_RESTART));
  action.sa_sigaction = on_information;
  action.sa_flags = SA_SIGINFO | SA_RESETHAND;
  SAY(sigaction(SIGUSR1, &action, &old));
  SAY(old.sa_handler == on_alarm_write);
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_sigaction == on_information);
  SAY((old.sa_flags & SA_SIGINFO) != 0);
  SAY((old.sa_flags & (int)SA_RESETHAND) != 0);
  SAY(raise(SIGUSR1));
  SAY(handled);
  SAY(signal(SIGUSR1, SIG_IGN) == SIG_DFL);
  SAY(raise(SIGUSR1));
  SAY(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  SAY(sigaction(SIGKILL, &action, NULL));
  SAY(sigaction(1000, &action, NULL));
  SAY(signal(0, on_nothing) == SIG_ERR);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  SAY(siginterrupt(SIGUSR1, 1));
#pragma GCC diagnostic pop
  SAY(signal(SIGUSR1, on_nothing) == SIG_DFL);
  SAY(sigaction(SIGUSR1, NULL, &old));
  SAY(old.sa_flags & SA_RESTART);
  /* What is sent comes with what was sent. */
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGRTMIN, &action, NULL);
  handled = 0;
  const union sigval value = {.sival_int = 7};
  SAY(sigqueue(getpid(), SIGRTMIN, value));
  SAY(handled);
}

/* A wait that a signal ends. */
static void waits(void) {
  held = open("waited", O_CREAT | O_RDWR, 0644);
  const int other = open("waited", O_RDWR);
  SAY(flock(held, LOCK_EX));
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_nothing;
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval once = {{0, 0}, {0, 100000}};
  setitimer(ITIMER_REAL, &once, NULL);
  SAY(flock(other, LOCK_EX));
  setitimer(ITIMER_REAL, &once, NULL);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  SAY(fcntl(held, F_OFD_SETLK, &lock));
  SAY(fcntl(other, F_OFD_SETLKW, &lock));
  /* One that goes on. */
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &once, NULL);
  pthread_t thread;
  SAY(flock(other, LOCK_UN));
  SAY(pthread_create(&thread, NULL, let_go_soon, NULL));
  SAY(flock(other, LOCK_EX));
  SAY(pthread_join(thread, NULL));
  close(other);
  close(held);
}

int main(void) {
  handlers();
  jumps();
  cancelled();
  waits();
  actions();
  return 0;
}
