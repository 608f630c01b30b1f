/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets with names, in the working directory: the same text is printed on a plain directory and on
 * a mount. The name of the working directory itself is not printed.
 * usage: sockets, as root; sockets peer TYPE ADDRESS TEXT: connects, says TEXT, prints the answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/preload/say.h"

static char here[PATH_MAX];
static const char *program;

static socklen_t address_of(struct sockaddr_un *address, const char *path) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, strlen(path));
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}
static int bind_to(int socket, const char *path) {
  struct sockaddr_un address;
  const socklen_t size = address_of(&address, path);
  return bind(socket, (struct sockaddr *)&address, size);
}
static int connect_to(int socket, const char *path) {
  struct sockaddr_un address;
  const socklen_t size = address_of(&address, path);
  return connect(socket, (struct sockaddr *)&address, size);
}
static int new_socket(int type) { return socket(AF_UNIX, type | SOCK_CLOEXEC, 0); }
static int connect_new(int type, const char *path) {
  const int socket = new_socket(type), result = connect_to(socket, path), error = errno;
  close(socket);
  errno = error;
  return result;
}
/* An address as text, without the name of the working directory. */
static void tell(const char *what, const struct sockaddr_un *address, socklen_t size) {
  if (size <= offsetof(struct sockaddr_un, sun_path)) {
    printf("%s: none, %d\n", what, size == sizeof(sa_family_t));
    return;
  }
  const size_t length = strlen(here);
  if (strncmp(address->sun_path, here, length) == 0) {
    printf("%s: HERE%s, %d\n", what, address->sun_path + length, (int)(size - length));
  } else {
    printf("%s: %s, %d\n", what, address->sun_path, (int)size);
  }
}
static void tell_both(int socket) {
  struct sockaddr_un address;
  socklen_t size = sizeof address;
  memset(&address, 0, sizeof address);
  SAY(getsockname(socket, (struct sockaddr *)&address, &size));
  tell("name", &address, size);
  size = sizeof address;
  memset(&address, 0, sizeof address);
  SAY(getpeername(socket, (struct sockaddr *)&address, &size));
  tell("peer", &address, size);
}
static void mode_of(const char *path) {
  struct stat status;
  if (stat(path, &status) != 0) {
    printf("%s: %s\n", path, strerror(errno));
  } else {
    printf("%s: %o, %ld links, of %u\n", path, status.st_mode, (long)status.st_nlink, status.st_uid);
  }
}

/* Another process, started anew, talks to `listener` by `address`. */
static void converse(int listener, int type, const char *address) {
  char number[12];
  snprintf(number, sizeof number, "%d", type);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("peer.out", O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    execl(program, program, "peer", number, address, "hello", NULL);
    _exit(9);
  }
  struct sockaddr_un from;
  socklen_t size = sizeof from;
  memset(&from, 0, sizeof from);
  struct pollfd ready = {listener, POLLIN, 0};
  if (poll(&ready, 1, 20000) != 1) {
    puts("nobody came");
    waitpid(child, NULL, 0);
    return;
  }
  char text[32] = "";
  if (type == SOCK_DGRAM) {
    SAY(recvfrom(listener, text, sizeof text - 1, 0, (struct sockaddr *)&from, &size));
    tell("from", &from, size);
    puts(text);
    SAY(sendto(listener, "welcome", 7, 0, (struct sockaddr *)&from, size));
  } else {
    const int accepted = accept(listener, (struct sockaddr *)&from, &size);
    tell("from", &from, size);
    SAY(recv(accepted, text, sizeof text - 1, 0));
    puts(text);
    struct ucred other;
    socklen_t other_size = sizeof other;
    SAY(getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &other, &other_size));
    printf("the child: %d\n", other.pid == child);
    tell_both(accepted);
    SAY(send(accepted, "welcome", 7, 0));
    close(accepted);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("child: %d\n", status);
  char said[2048];
  const int output = open("peer.out", O_RDONLY);
  const ssize_t bytes = read(output, said, sizeof said);
  close(output);
  printf("%.*s", (int)bytes, said);
}

static int peer(char **arguments) {
  const int type = atoi(arguments[0]), mine = new_socket(type);
  char text[32] = "";
  if (getcwd(here, sizeof here) == NULL) return 1;
  if (type == SOCK_DGRAM) {
    struct sockaddr_un to;
    const socklen_t size = address_of(&to, arguments[1]);
    SAY(bind_to(mine, "peer.name"));
    SAY(sendto(mine, arguments[2], strlen(arguments[2]), 0, (struct sockaddr *)&to, size));
  } else {
    SAY(connect_to(mine, arguments[1]));
    tell_both(mine);
    SAY(send(mine, arguments[2], strlen(arguments[2]), 0));
  }
  struct pollfd ready = {mine, POLLIN, 0};
  if (poll(&ready, 1, 20000) != 1) return 2;
  struct sockaddr_un from;
  socklen_t size = sizeof from;
  memset(&from, 0, sizeof from);
  SAY(recvfrom(mine, text, sizeof text - 1, 0, (struct sockaddr *)&from, &size));
  tell("answer from", &from, size);
  puts(text);
  if (type == SOCK_DGRAM) SAY(unlink("peer.name"));
  return 0;
}

static void streams(int type) {
  printf("--- type %d\n", type);
  const int listener = new_socket(type);
  char whole[PATH_MAX + 20];
  snprintf(whole, sizeof whole, "%s/d/../s", here);
  SAY(mkdir("d", 0755));
  SAY(bind_to(listener, whole));
  mode_of("s");
  SAY(bind_to(listener, "another"));
  mode_of("another");
  SAY(connect_new(type, "s"));
  if (type != SOCK_DGRAM) SAY(listen(listener, 4));
  SAY(connect_new(type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM, "s"));
  converse(listener, type, "s");
  SAY(rename("s", "d/t"));
  SAY(connect_new(type, "s"));
  converse(listener, type, "d/t");
  SAY(link("d/t", "hard"));
  SAY(unlink("d/t"));
  converse(listener, type, "./d/../hard");
  SAY(symlink("hard", "soft"));
  converse(listener, type, "soft");
  snprintf(whole, sizeof whole, "%s/d/up", here);
  SAY(symlink(here, whole));
  converse(listener, type, "d/up/hard");
  SAY(unlink(whole));
  SAY(close(listener));
  SAY(connect_new(type, "hard"));
  mode_of("hard");
  const int again = new_socket(type);
  SAY(bind_to(again, "hard"));
  SAY(unlink("hard"));
  SAY(bind_to(again, "soft"));
  SAY(unlink("soft"));
  SAY(bind_to(again, "hard"));
  if (type != SOCK_DGRAM) SAY(listen(again, 4));
  converse(again, type, "hard");
  /* A name that is replaced while the socket lives. */
  SAY(rename("hard", "d/old"));
  const int next = new_socket(type);
  SAY(bind_to(next, "hard"));
  if (type != SOCK_DGRAM) SAY(listen(next, 4));
  converse(next, type, "hard");
  converse(again, type, "d/old");
  SAY(rename("d/old", "hard"));
  converse(again, type, "hard");
  SAY(close(again));
  SAY(close(next));
  SAY(unlink("hard"));
  SAY(rmdir("d"));
}

static void names(void) {
  puts("--- names");
  int one = new_socket(SOCK_STREAM);
  SAY(close(open("file", O_CREAT | O_WRONLY, 0666)));
  SAY(bind_to(one, "file"));
  SAY(bind_to(one, "missing/s"));
  SAY(bind_to(one, "file/s"));
  SAY(bind_to(one, "s/"));
  SAY(connect_to(one, "file"));
  SAY(connect_to(one, "missing"));
  SAY(connect_to(one, "missing/s"));
  SAY(connect_to(one, "file/s"));
  SAY(connect_to(one, "."));
  SAY(symlink("loop", "loop"));
  SAY(connect_to(one, "loop"));
  SAY(bind_to(one, "loop"));
  SAY(symlink("nowhere", "dangling"));
  SAY(bind_to(one, "dangling"));
  SAY(mknod("made", S_IFSOCK | 0777, 0));
  mode_of("made");
  SAY(connect_to(one, "made"));
  SAY(bind_to(one, "made"));
  SAY(open("made", O_RDWR));
  umask(027);
  SAY(bind_to(one, "masked"));
  mode_of("masked");
  umask(0);
  tell_both(one);
  close(one);

  /* All 108 bytes, and no NUL. */
  struct sockaddr_un longest = {.sun_family = AF_UNIX};
  memset(longest.sun_path, 'n', sizeof longest.sun_path);
  one = new_socket(SOCK_DGRAM);
  SAY(bind(one, (struct sockaddr *)&longest, sizeof longest));
  SAY(bind(one, (struct sockaddr *)&longest, sizeof longest + 1));
  struct sockaddr_storage name;
  socklen_t size = sizeof name;
  SAY(getsockname(one, (struct sockaddr *)&name, &size));
  printf("%d\n", (int)size);
  int two = new_socket(SOCK_DGRAM);
  SAY(connect(two, (struct sockaddr *)&longest, sizeof longest));
  SAY(send(two, "x", 1, 0));
  SAY(recv(one, &name, 1, MSG_DONTWAIT));
  close(one);
  close(two);

  /* What is no path, and what is no such socket. */
  one = new_socket(SOCK_STREAM);
  struct sockaddr_un none = {.sun_family = AF_UNIX};
  SAY(connect(one, (struct sockaddr *)&none, sizeof none));
  SAY(bind(one, (struct sockaddr *)&none, sizeof(sa_family_t)));
  SAY(bind(one, (struct sockaddr *)0xdead, sizeof none));
  SAY(connect(one, (struct sockaddr *)0xdead, sizeof none));
  SAY(bind_to(-1, "nobody"));
  SAY(connect_to(-1, "made"));
  SAY(bind_to(0, "nobody"));
  close(one);
  one = socket(AF_INET, SOCK_STREAM, 0);
  SAY(bind_to(one, "nobody"));
  SAY(connect_to(one, "made"));
  mode_of("nobody");
  close(one);
  one = new_socket(SOCK_STREAM);
  SAY(bind_to(one, "/"));
  close(one);
}

/* sendto, sendmsg and sendmmsg by name. */
static void messages(void) {
  puts("--- messages");
  const int one = new_socket(SOCK_DGRAM), two = new_socket(SOCK_DGRAM);
  SAY(bind_to(one, "m"));
  struct sockaddr_un to;
  const socklen_t size = address_of(&to, "m");
  struct iovec part = {"text", 4};
  struct mmsghdr both[2];
  memset(both, 0, sizeof both);
  for (int i = 0; i < 2; ++i) {
    both[i].msg_hdr.msg_name = &to;
    both[i].msg_hdr.msg_namelen = size;
    both[i].msg_hdr.msg_iov = &part;
    both[i].msg_hdr.msg_iovlen = 1;
  }
  char text[8];
  SAY(sendmsg(two, &both[0].msg_hdr, 0));
  SAY(sendmmsg(two, both, 2, 0));
  printf("%u %u\n", both[0].msg_len, both[1].msg_len);
  SAY(syscall(SYS_sendto, two, "text", 4, 0, &to, size));
  SAY(unlink("m"));
  SAY(sendmsg(two, &both[0].msg_hdr, 0));
  SAY(sendto(two, "text", 4, 0, (struct sockaddr *)&to, size));
  for (int i = 0; i < 5; ++i) SAY(recv(one, text, sizeof text, MSG_DONTWAIT));
  close(one);
  close(two);
}

/* Who may connect: the mode is the object's as it is now. */
static void rights(void) {
  puts("--- rights");
  SAY(chmod(".", 0777));
  const int one = new_socket(SOCK_STREAM);
  SAY(bind_to(one, "r"));
  SAY(listen(one, 10));
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(1);
    SAY(connect_new(SOCK_STREAM, "r"));
    const int mine = new_socket(SOCK_STREAM);
    SAY(bind_to(mine, "mine"));
    SAY(listen(mine, 10));
    mode_of("mine");
    SAY(connect_new(SOCK_STREAM, "mine"));
    SAY(mkdir("closed", 0700));
    SAY(chmod("mine", 0));
    SAY(connect_new(SOCK_STREAM, "mine"));
    SAY(unlink("mine"));
    SAY(rmdir("closed"));
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  SAY(chmod("r", 0755));
  SAY(mkdir("closed", 0700));
  fflush(stdout);
  const pid_t other = fork();
  if (other == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(1);
    SAY(connect_new(SOCK_STREAM, "r"));
    SAY(connect_new(SOCK_STREAM, "closed/s"));
    SAY(bind_to(new_socket(SOCK_STREAM), "closed/s"));
    SAY(connect_new(SOCK_STREAM, "file"));
    fflush(stdout);
    _exit(0);
  }
  waitpid(other, NULL, 0);
  SAY(connect_new(SOCK_STREAM, "r"));
  /* From another network namespace. */
  fflush(stdout);
  const pid_t away = fork();
  if (away == 0) {
    SAY(unshare(CLONE_NEWNET));
    SAY(connect_new(SOCK_STREAM, "r"));
    fflush(stdout);
    _exit(0);
  }
  waitpid(away, NULL, 0);
  SAY(unlink("r"));
  SAY(rmdir("closed"));
  close(one);
}

/* Many, at once: each thread meets its own. */
static void *meet(void *argument) {
  char name[32];
  long failures = 0;
  for (int i = 0; i < 40; ++i) {
    const int one = new_socket(SOCK_STREAM), two = new_socket(SOCK_STREAM);
    snprintf(name, sizeof name, "many.%ld", (long)argument);
    char text[32] = "";
    if (bind_to(one, name) != 0 || listen(one, 1) != 0 || connect_to(two, name) != 0) {
      ++failures;
    } else {
      const int three = accept(one, NULL, NULL);
      if (send(two, name, strlen(name), 0) < 0 || recv(three, text, sizeof text, 0) < 0 || strcmp(text, name) != 0) {
        ++failures;
      }
      close(three);
    }
    /* The name goes before the socket: the next one may have the same number. */
    failures += unlink(name) != 0;
    failures += connect_to(two, name) == 0;
    if (i % 2 == 0) close(one);
    close(two);
  }
  return (void *)failures;
}

int main(int count, char **arguments) {
  program = "/proc/self/exe";
  if (count > 2) return peer(arguments + 2);
  char itself[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", itself, sizeof itself - 1);
  itself[length > 0 ? length : 0] = '\0';
  program = itself;
  if (getcwd(here, sizeof here) == NULL) return 1;
  umask(0);
  streams(SOCK_STREAM);
  streams(SOCK_SEQPACKET);
  streams(SOCK_DGRAM);
  names();
  messages();
  rights();
  pthread_t threads[4];
  for (long i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, meet, (void *)i);
  for (int i = 0; i < 4; ++i) {
    void *failures = NULL;
    pthread_join(threads[i], &failures);
    printf("failures: %ld\n", (long)failures);
  }
  return 0;
}
