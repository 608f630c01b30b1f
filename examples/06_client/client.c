/* SPDX-License-Identifier: Apache-2.0
 *
 * A client compiled against the filesystem library: it names its service itself, so nothing is
 * preloaded, and works in the directory that it is given.
 * usage: client RUN_DIRECTORY DIRECTORY */
#include <libservices/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int holds, const char *what) {
  if (holds) return;
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s RUN_DIRECTORY DIRECTORY\n", argv[0]);
    return 2;
  }
  check(libservices_attach(argv[1]) == 0, argv[1]);
  char path[4096];
  snprintf(path, sizeof path, "%s/notes", argv[2]);

  /* A file is written, read from its middle, and described. */
  const int file = libservices_open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
  check(file >= 0, path);
  check(libservices_write(file, "hello from a client\n", 20) == 20, "write");
  char text[32] = {0};
  check(libservices_pread(file, text, sizeof text - 1, 6) == 14, "read");
  printf("read: %s", text);
  struct stat status;
  check(libservices_fstat(file, &status) == 0, "stat");
  printf("%ld bytes, mode %o\n", (long)status.st_size, (unsigned)status.st_mode & 07777);

  /* To the kernel its number is taken and the file is none: a call that passes the library by fails. */
  printf("libc's read: %s\n", read(file, text, 1) < 0 ? strerror(errno) : "succeeded?");
  check(libservices_close(file) == 0, "close");

  /* Names. */
  char other[4100];
  snprintf(other, sizeof other, "%s.old", path);
  check(libservices_rename(path, other) == 0, "rename");
  printf("the old name: %s\n", libservices_access(path, F_OK) < 0 ? strerror(errno) : "there?");
  libservices_directory *directory = libservices_opendir(argv[2]);
  check(directory != NULL, argv[2]);
  for (const struct dirent *entry; (entry = libservices_readdir(directory)) != NULL;) {
    if (entry->d_name[0] != '.') printf("entry: %s\n", entry->d_name);
  }
  check(libservices_closedir(directory) == 0, "closedir");
  check(libservices_unlink(other) == 0, "unlink");
  return 0;
}
