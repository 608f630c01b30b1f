// SPDX-License-Identifier: Apache-2.0
//
// Starts copies of lighttpd and prints the nanoseconds until all of them have answered a request:
// usage `start FIRST_PORT ROOT...`, a copy for each ROOT, in which it is chrooted, with the ports from
// FIRST_PORT on in $PORT. bench/start_rows.py makes the roots. It is plain C and libc, as calls.c.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMostCopies = 1024, kBetweenTriesMicroseconds = 200 };
static const unsigned long long kMostNanoseconds = 60ull * 1000000000ull;

static unsigned long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static void fail(const char* what) {
  fprintf(stderr, "start: %s: %s\n", what, strerror(errno));
  exit(1);
}

static pid_t begin(const char* root, int port) {
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child > 0) return child;
  char text[16];
  snprintf(text, sizeof text, "%d", port);
  if (chroot(root) != 0 || chdir("/") != 0 || setenv("PORT", text, 1) != 0) fail(root);
  execl("/usr/sbin/lighttpd", "lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf", (char*)NULL);
  fail("lighttpd");
  return -1;
}

// 1: it has answered 200.
static int answers(int port) {
  static const char kRequest[] = "GET /index.html HTTP/1.0\r\n\r\n";
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) fail("socket");
  char answer[64] = "";
  const int right = connect(connection, (struct sockaddr*)&address, sizeof address) == 0 &&
                    write(connection, kRequest, sizeof kRequest - 1) > 0 &&
                    read(connection, answer, sizeof answer - 1) > 12 &&
                    strncmp(answer + 9, "200", 3) == 0;
  close(connection);
  return right;
}

int main(int argc, char** argv) {
  const int copies = argc - 2;
  if (copies < 1 || copies > kMostCopies) {
    fprintf(stderr, "usage: start FIRST_PORT ROOT... (at most %d)\n", kMostCopies);
    return 2;
  }
  const int first = atoi(argv[1]);
  static pid_t children[kMostCopies];
  const unsigned long long start = now();
  for (int i = 0; i < copies; ++i) children[i] = begin(argv[i + 2], first + i);
  int answered = 0;
  while (answered < copies) {
    if (answers(first + answered)) {
      ++answered;
      continue;
    }
    if (waitpid(-1, NULL, WNOHANG) > 0 || now() - start > kMostNanoseconds) {
      fprintf(stderr, "start: copy %d does not answer\n", answered);
      break;
    }
    usleep(kBetweenTriesMicroseconds);
  }
  const unsigned long long taken = now() - start;
  for (int i = 0; i < copies; ++i) kill(children[i], SIGKILL);
  while (wait(NULL) > 0) {
  }
  if (answered < copies) return 1;
  printf("%llu\n", taken);
  return 0;
}
