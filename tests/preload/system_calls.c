// SPDX-License-Identifier: Apache-2.0
//
// Prints what calls give that differ in kind from plain reads and writes: splice, terminal and
// socket calls on a file, clone, system calls by number, the kernel's asynchronous writes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pty.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/preload/say.h"

static char big[200000];

static void show(int file, long from, unsigned count) {
  char text[65];
  const long got = pread(file, text, count < 64 ? count : 64, from);
  text[got > 0 ? got : 0] = '\0';
  printf("at %ld: '%s'\n", from, text);
}

static void splices(void) {
  int ends[2];
  if (pipe(ends) != 0) exit(1);
  const int file = open("spliced", O_RDWR | O_CREAT | O_TRUNC, 0644);
  SAY(write(file, "0123456789abcdef", 16));
  SAY(lseek(file, 4, SEEK_SET));
  SAY(splice(file, NULL, ends[1], NULL, 5, 0));
  SAY(lseek(file, 0, SEEK_CUR));
  loff_t offset = 10;
  SAY(splice(file, &offset, ends[1], NULL, 100, 0));
  printf("offset %ld\n", (long)offset);
  SAY(splice(file, &offset, ends[1], NULL, 100, 0));
  char text[64] = "";
  SAY(read(ends[0], text, sizeof text));
  printf("'%s'\n", text);
  SAY(splice(ends[0], NULL, file, NULL, 100, SPLICE_F_NONBLOCK));
  SAY(write(ends[1], "PIPED", 5));
  offset = 2;
  SAY(splice(ends[0], NULL, file, &offset, 3, 0));
  printf("offset %ld\n", (long)offset);
  SAY(lseek(file, 0, SEEK_END));
  SAY(splice(ends[0], NULL, file, NULL, 100, 0));
  show(file, 0, 64);
  SAY(splice(ends[0], &offset, file, NULL, 1, 0));
  SAY(splice(file, NULL, file, NULL, 1, 0));
  SAY(splice(file, NULL, 0, NULL, 1, 0x100));
  SAY(tee(file, ends[1], 5, 0));
  struct iovec part = {text, 5};
  SAY(vmsplice(file, &part, 1, 0));
  // A pipe that fills up takes what it has room for, and the offset tells how much.
  memset(big, 'x', sizeof big);
  SAY(pwrite(file, big, sizeof big, 0));
  SAY(lseek(file, 0, SEEK_SET));
  long sum = 0;
  long some;
  while ((some = splice(file, NULL, ends[1], NULL, 50000, SPLICE_F_NONBLOCK)) > 0) sum += some;
  printf("a full pipe: %ld %s\n", some, strerror(errno));
  printf("all that left the file is in the pipe: %d\n", lseek(file, 0, SEEK_CUR) == sum);
  while (sum > 0 && (some = read(ends[0], big, sizeof big)) > 0) sum -= some;
  printf("left %ld\n", sum);
  const int appending = open("spliced", O_WRONLY | O_APPEND);
  SAY(write(ends[1], "more", 4));
  SAY(splice(ends[0], NULL, appending, NULL, 4, 0));
  const int reading = open("spliced", O_RDONLY);
  SAY(splice(ends[0], NULL, reading, NULL, 4, 0));
  SAY(read(ends[0], text, sizeof text));
  close(ends[0]);
  close(ends[1]);
  close(appending);
  close(reading);
  close(file);
}

static void other_kinds(void) {
  const int file = open("plain", O_RDWR | O_CREAT | O_TRUNC, 0644);
  char text[64];
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  int value = 0;
  struct termios attributes;
  memset(&attributes, 0, sizeof attributes);
  SAY(isatty(file));
  SAY(tcgetattr(file, &attributes));
  SAY(tcsetattr(file, TCSANOW, &attributes));
  SAY(tcdrain(file));
  SAY(tcflush(file, TCIFLUSH));
  SAY(tcgetpgrp(file));
  SAY(ttyname_r(file, text, sizeof text));
  SAY(ttyname(file) != NULL);
  SAY(ptsname_r(file, text, sizeof text));
  SAY(recv(file, text, 1, 0));
  SAY(send(file, text, 1, 0));
  SAY(listen(file, 1));
  SAY(accept(file, NULL, NULL));
  SAY(shutdown(file, SHUT_RD));
  SAY(getsockopt(file, SOL_SOCKET, SO_TYPE, &value, &size));
  size = sizeof address;
  SAY(getsockname(file, (struct sockaddr*)&address, &size));
  struct epoll_event event;
  SAY(epoll_wait(file, &event, 1, 0));
  close(file);
}

static int file_of_clone;
static int in_clone(void* text) {
  const long put = write(file_of_clone, text, strlen(text));
  close(file_of_clone);
  return put == (long)strlen(text) ? 0 : 1;
}

static void clones(void) {
  static char stack[262144];
  file_of_clone = open("cloned", O_RDWR | O_CREAT | O_TRUNC, 0644);
  int status = 0;
  int child = clone(in_clone, stack + sizeof stack, SIGCHLD, "one ");
  waitpid(child, &status, 0);
  printf("clone: %d\n", status);
  child = clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, "two ");
  waitpid(child, &status, 0);
  printf("clone with our memory: %d\n", status);
  child = (int)syscall(SYS_fork);
  if (child == 0) _exit(in_clone("three "));
  waitpid(child, &status, 0);
  printf("fork by number: %d\n", status);
  child = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(in_clone("four "));
  waitpid(child, &status, 0);
  printf("clone by number: %d\n", status);
  SAY(write(file_of_clone, "mine", 4));
  show(file_of_clone, 0, 64);
  close(file_of_clone);
}

static void numbers(void) {
  const long file = syscall(SYS_openat, AT_FDCWD, "by-number", O_RDWR | O_CREAT | O_TRUNC, 0644);
  SAY(syscall(SYS_write, file, "12345", 5));
  SAY(syscall(SYS_mknod, "fifo", S_IFIFO | 0644, 0));
  SAY(syscall(SYS_lchown, "fifo", getuid(), getgid()));
  SAY(syscall(SYS_utime, "by-number", NULL));
  SAY(syscall(SYS_syncfs, file));
  SAY(syscall(SYS_fadvise64, file, 0, 0, POSIX_FADV_DONTNEED));
  SAY(syscall(SYS_fadvise64, file, 0, 0, 77));
  int set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  SAY(syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, file, &event));
  close(set);
  close((int)file);
}

static void asynchronous(void) {
  aio_context_t context = 0;
  SAY(syscall(SYS_io_setup, 8, &context));
  const int file = open("asynchronous", O_RDWR | O_CREAT | O_TRUNC, 0644);
  const int reading = open("asynchronous", O_RDONLY);
  const int outside = open("/dev/zero", O_RDWR);
  const int signalled = eventfd(0, 0);
  char text[16] = "";
  struct iocb write_one = {.aio_fildes = (unsigned)file,
                           .aio_lio_opcode = IOCB_CMD_PWRITE,
                           .aio_buf = (unsigned long)"written",
                           .aio_nbytes = 7,
                           .aio_data = 1,
                           .aio_flags = IOCB_FLAG_RESFD,
                           .aio_resfd = (unsigned)signalled};
  struct iocb sync_one = {
      .aio_fildes = (unsigned)file, .aio_lio_opcode = IOCB_CMD_FSYNC, .aio_data = 2};
  struct iocb zero = {.aio_fildes = (unsigned)outside,
                      .aio_lio_opcode = IOCB_CMD_PREAD,
                      .aio_buf = (unsigned long)text,
                      .aio_nbytes = 4,
                      .aio_data = 3};
  struct iocb read_one = {.aio_fildes = (unsigned)reading,
                          .aio_lio_opcode = IOCB_CMD_PREAD,
                          .aio_buf = (unsigned long)text,
                          .aio_nbytes = 15,
                          .aio_offset = 1,
                          .aio_data = 4};
  struct iocb beyond = {.aio_fildes = (unsigned)file,
                        .aio_lio_opcode = IOCB_CMD_PWRITE,
                        .aio_buf = (unsigned long)"x",
                        .aio_nbytes = 1,
                        .aio_offset = -1,
                        .aio_data = 5};
  struct iocb* all[] = {&write_one, &zero, &read_one};
  struct io_event events[8];
  SAY(syscall(SYS_io_submit, context, 3, all));
  long got = syscall(SYS_io_getevents, context, 3, 8, events, NULL);
  printf("events %ld\n", got);
  long sums[8] = {0};
  for (long i = 0; i < got; ++i) sums[events[i].data] = (long)events[i].res;
  for (int i = 1; i < 6; ++i) printf("%d: %ld\n", i, sums[i]);
  printf("'%s', the block is as it was: %d\n", text, write_one.aio_fildes == (unsigned)file);
  unsigned long long count = 0;
  SAY(read(signalled, &count, sizeof count));
  printf("signalled %llu\n", count);
  struct iocb* bad[] = {&beyond};
  SAY(syscall(SYS_io_submit, context, 1, bad));
  SAY(syscall(SYS_io_submit, context, 1, (struct iocb*[]){&sync_one}));
  SAY(syscall(SYS_io_getevents, context, 1, 8, events, NULL));
  printf("%d: %ld\n", (int)events[0].data, (long)events[0].res);
  SAY(syscall(SYS_io_destroy, context));
  close(file);
  close(reading);
  close(outside);
  close(signalled);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  splices();
  other_kinds();
  clones();
  numbers();
  asynchronous();
  return 0;
}
