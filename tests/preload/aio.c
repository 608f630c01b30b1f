/* SPDX-License-Identifier: Apache-2.0
 *
 * Asynchronous requests on files of the working directory. */
#define _GNU_SOURCE
#include <aio.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/preload/say.h"

static char memory[64];

static struct aiocb request(int descriptor, void* buffer, size_t size, off_t offset) {
  struct aiocb made;
  memset(&made, 0, sizeof made);
  made.aio_fildes = descriptor;
  made.aio_buf = buffer;
  made.aio_nbytes = size;
  made.aio_offset = offset;
  made.aio_sigevent.sigev_notify = SIGEV_NONE;
  return made;
}

// Waits for it: its result, or the error below 0.
static long outcome(struct aiocb* of) {
  const struct aiocb* list[] = {of};
  while (aio_suspend(list, 1, NULL) != 0 && errno == EINTR) {
  }
  const int error = aio_error(of);
  const long result = aio_return(of);
  errno = error;
  return error == 0 ? result : -1;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int told;
static void tell(union sigval value) {
  pthread_mutex_lock(&lock);
  told = value.sival_int;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
}
static int wait_told(void) {
  pthread_mutex_lock(&lock);
  while (told == 0) pthread_cond_wait(&changed, &lock);
  const int value = told;
  told = 0;
  pthread_mutex_unlock(&lock);
  return value;
}

static void wait_signal(void) {
  sigset_t set;
  siginfo_t about;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  SAY(sigwaitinfo(&set, &about) == SIGUSR1);
  SAY(about.si_code == SI_ASYNCIO);
  SAY(about.si_value.sival_int);
  SAY(about.si_pid == getpid());
}

static void single(void) {
  const int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
  struct aiocb one = request(file, "0123456789", 10, 5);
  SAY(aio_write(&one));
  SAY(outcome(&one));
  SAY(lseek(file, 0, SEEK_END));
  one = request(file, memory, 4, 7);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  puts(memory);
  one = request(file, memory, 4, 100);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  one = request(file, memory, 4, -1);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  one = request(file, memory, 0, 0);
  SAY(aio_fsync(O_SYNC, &one));
  SAY(outcome(&one));
  SAY(aio_fsync(O_DSYNC, &one));
  SAY(outcome(&one));
  SAY(aio_fsync(77, &one));
  one = request(file, memory, 4, 0);
  one.aio_reqprio = -1;
  SAY(aio_read(&one));
  SAY(aio_error(&one));
  SAY(aio_cancel(file, NULL) == AIO_ALLDONE);
  one = request(file, "x", 1, 0);
  SAY(aio_write(&one));
  SAY(outcome(&one));
  SAY(aio_cancel(file, &one) == AIO_ALLDONE);
  const int append = open("file", O_WRONLY | O_APPEND), reads = open("file", O_RDONLY),
            here = open(".", O_RDONLY);
  SAY(aio_cancel(append, &one));
  one = request(append, "end", 3, 0);
  SAY(aio_write(&one));
  SAY(outcome(&one));
  SAY(lseek(file, 0, SEEK_END));
  one = request(append, memory, 3, 0);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  one = request(reads, "end", 3, 0);
  SAY(aio_write(&one));
  SAY(outcome(&one));
  one = request(reads, NULL, 0, 0);
  SAY(aio_fsync(O_SYNC, &one));
  SAY(outcome(&one));
  one = request(here, memory, 3, 0);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  one = request(999, memory, 3, 0);
  SAY(aio_read(&one));
  SAY(outcome(&one));
  struct aiocb64 wide;
  memset(&wide, 0, sizeof wide);
  wide.aio_fildes = reads;
  wide.aio_buf = memory;
  wide.aio_nbytes = 6;
  wide.aio_sigevent.sigev_notify = SIGEV_NONE;
  SAY(aio_read64(&wide));
  while (aio_error64(&wide) == EINPROGRESS) usleep(1000);
  SAY(aio_return64(&wide));
  SAY(close(append) + close(reads) + close(here) + close(file));
}

static void told_of(void) {
  const int file = open("file", O_RDWR);
  struct aiocb one = request(file, memory, 3, 0);
  one.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
  one.aio_sigevent.sigev_signo = SIGUSR1;
  one.aio_sigevent.sigev_value.sival_int = 41;
  SAY(aio_read(&one));
  wait_signal();
  SAY(outcome(&one));
  one = request(file, memory, 3, 0);
  one.aio_sigevent.sigev_notify = SIGEV_THREAD;
  one.aio_sigevent.sigev_notify_function = tell;
  one.aio_sigevent.sigev_value.sival_int = 42;
  SAY(aio_read(&one));
  SAY(wait_told());
  SAY(outcome(&one));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  one.aio_sigevent.sigev_notify_attributes = &attributes;
  SAY(aio_write(&one));
  SAY(wait_told());
  SAY(outcome(&one));
  SAY(close(file));
}

static void lists(void) {
  const int file = open("file", O_RDWR | O_TRUNC), kernels = open("/dev/zero", O_RDWR);
  char zeros[8] = "1234567";
  struct aiocb a = request(file, "first", 5, 0), b = request(kernels, zeros, 8, 0),
               c = request(file, "second", 6, 5), nothing = a;
  a.aio_lio_opcode = c.aio_lio_opcode = LIO_WRITE;
  b.aio_lio_opcode = LIO_READ;
  nothing.aio_lio_opcode = LIO_NOP;
  struct aiocb* list[] = {&a, NULL, &b, &nothing, &c};
  SAY(lio_listio(LIO_WAIT, list, 5, NULL));
  SAY(aio_return(&a));
  SAY(aio_return(&b));
  SAY(aio_return(&c));
  SAY(zeros[0] + zeros[7]);
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  event.sigev_value.sival_int = 43;
  a = request(file, memory, 11, 0);
  a.aio_lio_opcode = LIO_READ;
  SAY(lio_listio(LIO_NOWAIT, list, 5, &event));
  wait_signal();
  SAY(aio_error(&a) + aio_error(&b) + aio_error(&c));
  SAY(aio_return(&a));
  puts(memory);
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = tell;
  event.sigev_value.sival_int = 44;
  struct aiocb* few[] = {&a, &c};
  SAY(lio_listio(LIO_NOWAIT, few, 2, &event));
  SAY(wait_told());
  SAY(outcome(&a) + outcome(&c));
  SAY(lio_listio(LIO_NOWAIT, few, 2, NULL));
  SAY(outcome(&a) + outcome(&c));
  SAY(lio_listio(99, few, 2, NULL));
  const int reads = open("file", O_RDONLY);
  c.aio_fildes = reads;
  SAY(lio_listio(LIO_WAIT, few, 2, NULL));
  SAY(outcome(&a));
  SAY(outcome(&c));
  c.aio_lio_opcode = 77;
  SAY(lio_listio(LIO_WAIT, few, 2, NULL));
  SAY(outcome(&c));
  SAY(close(reads) + close(file) + close(kernels));
}

int main(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  single();
  told_of();
  lists();
  return 0;
}
