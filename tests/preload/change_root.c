// SPDX-License-Identifier: Apache-2.0
//
// usage: change_root NEW_ROOT by-path|by-directory|twice PATH...
// Opens NEW_ROOT/data/file, takes the new root, and prints what is in that file and in each PATH.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void show(const char* name, int file) {
  char text[64] = "";
  const long got = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (got < 0) {
    printf("%s: %s\n", name, strerror(errno));
  } else {
    printf("%s: %s", name, text);
  }
}

int main(int count, char** words) {
  char path[4096];
  if (count < 4) return 2;
  snprintf(path, sizeof path, "%s/data/file", words[1]);
  const int kept = open(path, O_RDONLY);
  const int by_directory = strcmp(words[2], "by-directory") == 0;
  if (by_directory && chdir(words[1]) != 0) return 1;
  if (chroot(by_directory ? "." : words[1]) != 0) {
    printf("chroot: %s\n", strerror(errno));
    return 0;
  }
  if (chdir("/") != 0) return 1;
  const int twice = strcmp(words[2], "twice") == 0;
  if (twice && chroot("empty") != 0) return 1;
  show("kept", kept);
  for (int i = 3; i < count; ++i) show(words[i], open(words[i], O_RDONLY));
  if (twice) return 0;
  if (chdir("/data") != 0 || getcwd(path, sizeof path) == NULL) return 1;
  printf("at %s\n", path);
  return 0;
}
