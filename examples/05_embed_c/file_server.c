/* SPDX-License-Identifier: Apache-2.0
 *
 * A small file server in C: it composes a filesystem from the spec in its command line, and serves
 * it by lines on standard input, with no service, mount or descriptor behind it.
 *
 *   put PATH TEXT   get PATH   list PATH   remove PATH
 */
#include <fcntl.h>
#include <libservices/libservices.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static libservices_filesystem *fs;
static const libservices_caller server = {.uid = 0, .gid = 0, .umask = 022};

static int put(const char *path, const char *text) {
  libservices_file *file;
  int error = libservices_filesystem_open(fs, &server, path, O_CREAT | O_TRUNC | O_WRONLY, 0666,
                                          &file);
  if (error != 0) return error;
  ssize_t written = libservices_file_write(file, &server, text, strlen(text));
  int closed = libservices_file_close(file, &server);
  return written < 0 ? (int)written : closed;
}

static int get(const char *path) {
  libservices_file *file;
  int error = libservices_filesystem_open(fs, &server, path, O_RDONLY, 0, &file);
  if (error != 0) return error;
  char text[4096];
  ssize_t size;
  while ((size = libservices_file_read(file, &server, text, sizeof text)) > 0)
    printf("%.*s\n", (int)size, text);
  libservices_file_close(file, &server);
  return (int)size;
}

static int list(const char *path) {
  libservices_file *directory;
  int error = libservices_filesystem_open(fs, &server, path, O_RDONLY, 0, &directory);
  if (error != 0) return error;
  libservices_entry entry;
  while ((error = libservices_file_readdir(directory, &server, &entry)) == 1)
    if (entry.name[0] != '.') printf("%s\n", entry.name);
  libservices_file_close(directory, &server);
  return error;
}

int main(int argc, char **argv) {
  char *why = NULL;
  fs = libservices_filesystem_create(argc > 1 ? argv[1] : "memory", &why);
  if (fs == NULL) {
    fprintf(stderr, "file_server: %s\n", why);
    free(why);
    return 1;
  }
  char line[4096], verb[16], path[1024];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    int text = 0, result = -1;
    if (sscanf(line, "%15s %1023s %n", verb, path, &text) < 2) continue;
    if (strcmp(verb, "put") == 0) result = put(path, line + text);
    if (strcmp(verb, "get") == 0) result = get(path);
    if (strcmp(verb, "list") == 0) result = list(path);
    if (strcmp(verb, "remove") == 0) result = libservices_filesystem_unlink(fs, &server, path);
    printf("%s\n", result == 0 ? "ok" : strerror(-result));
  }
  return libservices_filesystem_destroy(fs) == 0 ? 0 : 1;
}
