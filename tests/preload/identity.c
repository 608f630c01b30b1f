// SPDX-License-Identifier: Apache-2.0
//
// Threads use files in the directory argv[1] while the process changes its identity again and
// again: nobody crashes, and every call answers as for one identity or the other.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int done;
static char path[4096];

static void* look(void* unused) {
  long* calls = calloc(1, sizeof *calls);
  (void)unused;
  while (!atomic_load(&done)) {
    struct stat seen;
    if (stat(path, &seen) != 0 && errno != EACCES) {
      printf("stat: %s\n", strerror(errno));
      exit(1);
    }
    ++*calls;
  }
  return calls;
}

int main(int count, char** arguments) {
  pthread_t threads[4];
  long calls = 0;
  if (count != 2) return 2;
  snprintf(path, sizeof path, "%s/d/f", arguments[1]);
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, look, NULL);
  for (int i = 0; i < 300; ++i) {
    if (seteuid(65534) != 0 || seteuid(0) != 0) return 3;
  }
  atomic_store(&done, 1);
  for (int i = 0; i < 4; ++i) {
    void* made = NULL;
    pthread_join(threads[i], &made);
    calls += *(long*)made;
    free(made);
  }
  printf("%s\n", calls > 100 ? "well" : "too few calls");
  return 0;
}
