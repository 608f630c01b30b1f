// SPDX-License-Identifier: Apache-2.0
//
// openat2 with every combination of what it may forbid a walk, on paths that stay, leave, come back
// and lead through links; and while directories move about.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/preload/say.h"

// Linux answers EAGAIN when anything is mounted or renamed anywhere while it goes up: again, then.
static long open_how(int directory, const char* path, long flags, long mode, long resolve) {
  const struct open_how how = {.flags = (unsigned long)flags,
                               .mode = (unsigned long)mode,
                               .resolve = (unsigned long)resolve};
  long opened;
  int tries = 1000;
  do {
    opened = syscall(SYS_openat2, directory, path, &how, sizeof how);
  } while (opened < 0 && errno == EAGAIN && (resolve & RESOLVE_CACHED) == 0 && --tries != 0);
  return opened;
}

enum { kTemporary = O_TMPFILE & ~O_DIRECTORY };

static void write_file(const char* name) {
  const int made = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (made < 0 || write(made, name, strlen(name)) < 0) exit(1);
  close(made);
}

// Each file says its own name.
static void make_tree(void) {
  const char* const directories[] = {"root", "root/d", "root/d/e", "beside"};
  const char* const files[] = {"secret", "beside/f", "root/f", "root/d/f", "root/d/e/f"};
  const char* const links[][2] = {
      {"d/e", "root/inner"},
      {"../secret", "root/leaves"},
      {"d/../f", "root/stays"},
      {"/d/e/f", "root/absolute"},
      {"/", "root/slash"},
      {"/secret", "root/d/at_root"},
      {"../../secret", "root/d/up"},
      {"around", "root/around"},
      {"new", "root/dangling"},
      {"../../../../f", "root/d/e/high"},
      {"inner/../f", "root/twice"},
      {"../root/f", "root/out_and_in"},
      {".", "root/here"},
      {"..", "root/above"},
  };
  for (unsigned i = 0; i < sizeof directories / sizeof *directories; ++i) {
    if (mkdir(directories[i], 0755) != 0) exit(1);
  }
  for (unsigned i = 0; i < sizeof files / sizeof *files; ++i) write_file(files[i]);
  for (unsigned i = 0; i < sizeof links / sizeof *links; ++i) {
    if (symlink(links[i][0], links[i][1]) != 0) exit(1);
  }
}

// What was opened, in words that are the same wherever it is.
static void describe(long opened, long flags) {
  char text[64] = "";
  struct stat found;
  if (opened < 0) {
    printf("%s\n", strerror(errno));
    return;
  }
  if (fstat((int)opened, &found) != 0) exit(1);
  if (S_ISREG(found.st_mode) && (flags & (O_PATH | O_ACCMODE)) == O_RDONLY) {
    if (read((int)opened, text, sizeof text - 1) < 0) exit(1);
  } else if (S_ISLNK(found.st_mode)) {
    if (readlinkat((int)opened, "", text, sizeof text - 1) < 0) exit(1);
  } else if (S_ISDIR(found.st_mode)) {
    // "in root", by what is in it.
    strcat(text, faccessat((int)opened, "secret", F_OK, 0) == 0 ? "above " : "");
    strcat(text, faccessat((int)opened, "inner", F_OK, 0) == 0 ? "root " : "");
    strcat(text, faccessat((int)opened, "at_root", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? "d " : "");
    strcat(text, faccessat((int)opened, "high", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? "e " : "");
  }
  printf("%o, %ld bytes, flags %x, '%s', descriptor %ld\n", found.st_mode & S_IFMT,
         S_ISDIR(found.st_mode) ? 0L : (long)found.st_size,
         fcntl((int)opened, F_GETFL), text, opened);
  close((int)opened);
}

static const char* const paths[] = {
    "f",
    "d/f",
    "d/",
    "d/.",
    "f/",
    "f/.",
    ".",
    "..",
    "../",
    "/",
    "/f",
    "/d/e/f",
    "//d//e//f",
    "",
    "d/..",
    "d/../f",
    "d/../../secret",
    "../root/f",
    "../../../../f",
    "d/e/../../f",
    "inner",
    "inner/",
    "inner/f",
    "inner/../f",
    "leaves",
    "stays",
    "absolute",
    "slash",
    "slash/f",
    "slash/../f",
    "d/at_root",
    "d/up",
    "around",
    "around/f",
    "dangling",
    "dangling/",
    "none",
    "none/f",
    "none/",
    "none/../f",
    "f/..",
    "d/e/high",
    "twice",
    "out_and_in",
    "here/here/f",
    "here/",
    "above",
    "above/root/f",
    "here/above",
    "inner/high",
    "slash/inner/../../f",
};

static void walks(int root) {
  const long allowed[] = {0,
                          RESOLVE_NO_XDEV,
                          RESOLVE_NO_MAGICLINKS,
                          RESOLVE_NO_SYMLINKS,
                          RESOLVE_BENEATH,
                          RESOLVE_IN_ROOT,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
                          RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
                          RESOLVE_BENEATH | RESOLVE_NO_XDEV,
                          RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
  const long flags[] = {O_RDONLY,
                        O_RDWR,
                        O_RDONLY | O_NOFOLLOW,
                        O_DIRECTORY,
                        O_PATH,
                        O_PATH | O_NOFOLLOW,
                        O_PATH | O_DIRECTORY | O_NOFOLLOW,
                        O_RDWR | O_CREAT,
                        O_RDWR | O_CREAT | O_EXCL,
                        O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                        O_TMPFILE | O_RDWR};
  for (unsigned way = 0; way < sizeof allowed / sizeof *allowed; ++way) {
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; ++i) {
      const long resolve = allowed[way];
      const int bounded = (resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0;
      // What leaves a mount leaves no mount in a plain directory, and the roots differ.
      const int leaves = paths[i][0] == '/' || strstr(paths[i], "slash") != NULL ||
                         strstr(paths[i], "at_root") != NULL ||
                         strstr(paths[i], "absolute") != NULL || strstr(paths[i], "high") != NULL ||
                         strcmp(paths[i], "../../../../f") == 0;
      if (leaves && !bounded) continue;
      for (unsigned j = 0; j < sizeof flags / sizeof *flags; ++j) {
        const int creates = (flags[j] & (O_CREAT | kTemporary)) != 0;
        printf("%lx %s %lx: ", resolve, paths[i], flags[j]);
        errno = 0;
        describe(open_how(root, paths[i], flags[j], creates ? 0640 : 0, resolve), flags[j]);
        // What it has made goes again.
        (void)unlinkat(root, "new", 0);
        (void)unlinkat(root, "none", 0);
      }
    }
  }
}

static void forms(int root) {
  struct {
    struct open_how how;
    unsigned long more;
  } large = {{.flags = O_RDONLY}, 0};
  const struct open_how* const how = &large.how;
  describe(syscall(SYS_openat2, root, "f", how, sizeof large), 0);
  large.more = 1;
  describe(syscall(SYS_openat2, root, "f", how, sizeof large), 0);
  describe(syscall(SYS_openat2, root, "f", how, sizeof *how), 0);
  describe(syscall(SYS_openat2, root, "f", how, sizeof *how - 1), 0);
  describe(syscall(SYS_openat2, root, "f", how, 0), 0);
  describe(syscall(SYS_openat2, root, "f", how, 5000), 0);
  describe(syscall(SYS_openat2, root, "f", NULL, sizeof *how), 0);
  describe(syscall(SYS_openat2, root, NULL, how, sizeof *how), 0);
  describe(syscall(SYS_openat2, root, NULL, how, 3), 0);
  describe(open_how(root, "f", O_RDONLY, 0644, 0), 0);
  describe(open_how(root, "f", O_RDWR | O_CREAT, 010644, 0), 0);
  describe(open_how(root, "f", O_RDWR | O_CREAT, 04644, 0), O_RDWR);
  describe(open_how(root, "f", 1L << 40, 0, 0), 0);
  describe(open_how(root, "f", 0x40000000, 0, 0), 0);
  describe(open_how(root, "f", O_PATH | O_RDWR, 0, 0), 0);
  describe(open_how(root, "f", O_RDONLY, 0, 0x400), 0);
  describe(open_how(root, "f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), 0);
  describe(open_how(root, "d", O_RDWR | kTemporary, 0600, 0), 0);
  describe(open_how(root, "new", O_RDWR | O_CREAT, 0600, RESOLVE_CACHED), 0);
  describe(open_how(-1, "f", O_RDONLY, 0, RESOLVE_BENEATH), 0);
  describe(open_how(-1, "/f", O_RDONLY, 0, RESOLVE_BENEATH), 0);
  const int file = openat(root, "f", O_RDONLY);
  describe(open_how(file, "f", O_RDONLY, 0, RESOLVE_BENEATH), 0);
  describe(open_how(file, "", O_RDONLY, 0, RESOLVE_IN_ROOT), 0);
  close(file);
  // What is in the kernel's cache nobody knows.
  const long cached = open_how(root, "d/e/f", O_RDONLY, 0, RESOLVE_CACHED);
  printf("cached or not: %d\n", cached >= 0 || errno == EAGAIN);
  if (cached >= 0) close((int)cached);
}

// By names of /proc, and from the working directory.
static void own_names(int root) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d/d/f", root);
  describe(open_how(AT_FDCWD, path, O_RDONLY, 0, 0), 0);
  describe(open_how(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), 0);
  describe(open_how(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_SYMLINKS), 0);
  describe(open_how(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_XDEV), 0);
  describe(open_how(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_BENEATH), 0);
  if (symlinkat(path, root, "magic") != 0) exit(1);
  describe(open_how(root, "magic", O_RDONLY, 0, 0), 0);
  describe(open_how(root, "magic", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), 0);
  describe(open_how(root, "magic", O_RDONLY, 0, RESOLVE_NO_XDEV), 0);
  unlinkat(root, "magic", 0);
  if (fchdir(root) != 0) exit(1);
  describe(open_how(AT_FDCWD, "d/../../secret", O_RDONLY, 0, RESOLVE_BENEATH), 0);
  describe(open_how(AT_FDCWD, "d/e/high", O_RDONLY, 0, RESOLVE_IN_ROOT), 0);
  describe(open_how(AT_FDCWD, "above/secret", O_RDONLY, 0, 0), 0);
  if (chdir("..") != 0) exit(1);
}

// The host's own files, without and with ways to ours.
static void kernels(void) {
  const int host = open("/", O_PATH | O_DIRECTORY);
  describe(open_how(host, "/dev/../dev/null", O_PATH, 0, RESOLVE_IN_ROOT), O_PATH);
  describe(open_how(host, "dev/null", O_PATH, 0, RESOLVE_NO_XDEV | RESOLVE_BENEATH), O_PATH);
  describe(open_how(host, "../x", O_PATH, 0, RESOLVE_BENEATH), O_PATH);
  close(host);
}

static atomic_int moving = 1;
static void* move_about(void* nothing) {
  (void)nothing;
  while (moving) {
    (void)!rename("root/d/e", "beside/e");
    (void)!rename("beside/e", "root/d/e");
    (void)!unlink("root/flips");
    (void)!symlink("/secret", "root/flips");
    (void)!unlink("root/flips");
    (void)!symlink("d/f", "root/flips");
  }
  return NULL;
}
static void while_moving(int root) {
  const char* const out[] = {"d/e/../../../secret", "d/e/../../secret", "flips", "d/e/../up"};
  const long ways[] = {RESOLVE_BENEATH, RESOLVE_IN_ROOT};
  pthread_t mover;
  pthread_create(&mover, NULL, move_about, NULL);
  long escaped = 0, strange = 0, inside = 0;
  for (int i = 0; i < 4000 || inside == 0; ++i) {
    const long opened = open_how(root, out[i % 4], O_RDONLY, 0, ways[i / 4 % 2]);
    char text[64] = "";
    if (opened < 0) {
      strange += errno != ENOENT && errno != EXDEV && errno != EAGAIN;
      continue;
    }
    if (read((int)opened, text, sizeof text - 1) < 0) ++strange;
    escaped += strcmp(text, "secret") == 0;
    inside += strcmp(text, "root/d/f") == 0;
    close((int)opened);
  }
  moving = 0;
  pthread_join(mover, NULL);
  printf("escaped %ld, strange %ld, inside %d\n", escaped, strange, inside > 0);
}

int main(void) {
  make_tree();
  const int root = open("root", O_PATH | O_DIRECTORY);
  walks(root);
  forms(root);
  own_names(root);
  kernels();
  while_moving(root);
  return 0;
}
