/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints the events of a directory, a line each, until its standard input ends; says "watching"
 * first. With a second argument it does so in a child, and ends itself. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static void print_event(const struct inotify_event *event) {
  static const struct {
    uint32_t bit;
    const char *name;
  } names[] = {
      {IN_MODIFY, "MODIFY"},         {IN_ATTRIB, "ATTRIB"},         {IN_CLOSE_WRITE, "CLOSE_WRITE"},
      {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},     {IN_CREATE, "CREATE"},
      {IN_DELETE, "DELETE"},         {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
      {IN_IGNORED, "IGNORED"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if ((event->mask & names[i].bit) != 0) printf("%s ", names[i].name);
  }
  printf("%s\n", event->len != 0 ? event->name : ".");
  fflush(stdout);
}

int main(int argc, char **argv) {
  const uint32_t wanted = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE | IN_CREATE | IN_DELETE |
                          IN_DELETE_SELF | IN_MOVE_SELF;
  const int notifier = inotify_init1(IN_CLOEXEC);
  if (argc < 2 || inotify_add_watch(notifier, argv[1], wanted) < 0) {
    perror("watch");
    return 1;
  }
  if (argc > 2 && fork() != 0) _exit(0);
  printf("watching\n");
  fflush(stdout);
  struct pollfd waited[2] = {{notifier, POLLIN, 0}, {0, POLLIN, 0}};
  while (poll(waited, 2, -1) > 0) {
    if (waited[0].revents != 0) {
      _Alignas(struct inotify_event) char buffer[65536];
      const ssize_t bytes = read(notifier, buffer, sizeof buffer);
      for (ssize_t at = 0; at < bytes;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        print_event(event);
        at += (ssize_t)(sizeof *event + event->len);
      }
      continue;
    }
    char byte;
    if (waited[1].revents != 0 && read(0, &byte, 1) <= 0) break;
  }
  return 0;
}
