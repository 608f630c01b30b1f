/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks of fts(3) in the working directory, with all of its options and instructions. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/preload/say.h"

static const char* const kinds[] = {"?", "D",    "DC", "DEFAULT", "DNR", "DOT",    "DP", "ERR",
                                    "F", "INIT", "NS", "NSOK",    "SL",  "SLNONE", "W"};

static int forward(const FTSENT** a, const FTSENT** b) {
  return strcmp((*a)->fts_name, (*b)->fts_name);
}
static int backward(const FTSENT** a, const FTSENT** b) { return -forward(a, b); }

static char start[4096];
static int with_attributes;

// Where the process is, as seen from where it was.
static const char* here(void) {
  static char now[4096];
  if (getcwd(now, sizeof now) == NULL) return "nowhere";
  return strncmp(now, start, strlen(start)) == 0 ? now + strlen(start) : "elsewhere";
}

static void show(const FTSENT* entry) {
  struct stat attributes;
  const int there = lstat(entry->fts_accpath, &attributes) == 0;
  printf("%*s%s %s [%s] %d %d/%d @%s %s%s", entry->fts_level * 2, "", kinds[entry->fts_info],
         entry->fts_path, entry->fts_name, entry->fts_level, entry->fts_pathlen, entry->fts_namelen,
         here(), there ? "reached" : "not reached",
         entry->fts_errno != 0 ? strerror(entry->fts_errno) : "");
  if (entry->fts_info == FTS_DC) printf(" of %s", entry->fts_cycle->fts_name);
  if (with_attributes && (entry->fts_info == FTS_F || entry->fts_info == FTS_SL))
    printf(" %ld", (long)entry->fts_statp->st_size);
  if (entry->fts_number != 0) printf(" number %ld", entry->fts_number);
  printf("\n");
}

static void walk(const char* title, int options, int (*order)(const FTSENT**, const FTSENT**),
                 char* const* paths) {
  printf("-- %s\n", title);
  with_attributes = (options & FTS_NOSTAT) == 0;
  FTS* tree = fts_open(paths, options, order);
  if (tree == NULL) {
    printf("%s\n", strerror(errno));
    return;
  }
  FTSENT* entry;
  while (errno = 77, (entry = fts_read(tree)) != NULL) {
    show(entry);
    if (entry->fts_info == FTS_D) entry->fts_number = entry->fts_level + 1;
  }
  printf("end: %d, close %d, at %s\n", errno, fts_close(tree), here());
}

static void make(const char* path, const char* text) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text) || close(file) != 0)
    perror(path);
}

static void list(const char* title, const FTSENT* entry) {
  printf("%s:", title);
  for (; entry != NULL; entry = entry->fts_link)
    printf(" %s=%s", entry->fts_name, kinds[entry->fts_info]);
  printf(" errno %d at %s\n", errno, here());
}

static void instructed(int options) {
  printf("-- instructions, options %x\n", options);
  char* const paths[] = {"tree", "link", NULL};
  FTS* tree = fts_open(paths, options, forward);
  errno = 0;
  list("roots", fts_children(tree, 0));
  int again = 0;
  FTSENT* entry;
  while ((entry = fts_read(tree)) != NULL) {
    show(entry);
    if (strcmp(entry->fts_name, "skipped") == 0 && entry->fts_info == FTS_D)
      SAY(fts_set(tree, entry, FTS_SKIP));
    if (strcmp(entry->fts_name, "empty") == 0 && again++ == 0) SAY(fts_set(tree, entry, FTS_AGAIN));
    if (strcmp(entry->fts_name, "to-sub") == 0 && entry->fts_info == FTS_SL)
      SAY(fts_set(tree, entry, FTS_FOLLOW));
    if (strcmp(entry->fts_name, "to-none") == 0 && entry->fts_info == FTS_SL)
      SAY(fts_set(tree, entry, FTS_FOLLOW));
    if (strcmp(entry->fts_name, "link") == 0 && entry->fts_info == FTS_SL)
      SAY(fts_set(tree, entry, FTS_FOLLOW));
    // libc does not know names from children after such a call, until it reads on.
    if (entry->fts_info == FTS_D && strcmp(entry->fts_name, "sub") == 0) {
      list("names", fts_children(tree, FTS_NAMEONLY));
    } else if (entry->fts_info == FTS_D && entry->fts_level < 2 &&
               strcmp(entry->fts_name, "skipped") != 0) {
      FTSENT* children = fts_children(tree, 0);
      list("children", children);
      for (; children != NULL; children = children->fts_link) {
        children->fts_number = 5;
        if (strcmp(children->fts_name, "b") == 0) SAY(fts_set(tree, children, FTS_SKIP));
        // Without chdir libc looks at another entry's path here.
        if (strcmp(children->fts_name, "to-file") == 0 && options == FTS_PHYSICAL)
          SAY(fts_set(tree, children, FTS_FOLLOW));
      }
    }
    if (entry->fts_info == FTS_F) {
      errno = 0;
      list("of a file", fts_children(tree, 0));
    }
  }
  errno = 0;
  SAY(fts_children(tree, 99) == NULL ? -1 : 0);
  SAY(fts_close(tree));
}

static void early(void) {
  char* const paths[] = {"tree", NULL};
  for (int stop = 0; stop < 8; ++stop) {
    FTS* tree = fts_open(paths, FTS_PHYSICAL, forward);
    for (int i = 0; i < stop; ++i) (void)fts_read(tree);
    SAY(fts_close(tree));
    printf("at %s\n", here());
  }
  FTS* tree = fts_open(paths, FTS_PHYSICAL, forward);
  FTSENT* entry = fts_read(tree);
  SAY(fts_set(tree, entry, 9) == 1 ? -1 : 0);
  // What is found and then gone.
  while ((entry = fts_read(tree)) != NULL) {
    show(entry);
    if (entry->fts_info == FTS_D && strcmp(entry->fts_name, "gone") == 0)
      SAY(rmdir(entry->fts_accpath));
  }
  SAY(fts_close(tree));
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  SAY(mkdir("tree", 0755) + mkdir("tree/sub", 0755) + mkdir("tree/sub/deep", 0755) +
      mkdir("tree/empty", 0755) + mkdir("tree/skipped", 0755));
  SAY(mkdir("tree/shut", 0755) + mkdir("tree/gone", 0700) + mkdir("other", 0700));
  make("tree/a", "a");
  make("tree/b", "bb");
  make("tree/sub/c", "ccc");
  make("tree/sub/deep/d", "dddd");
  make("tree/skipped/e", "e");
  make("tree/shut/f", "f");
  make("file", "file");
  SAY(mkfifo("tree/pipe", 0600));
  SAY(symlink("sub", "tree/to-sub") + symlink("a", "tree/to-file") +
      symlink("none", "tree/to-none") + symlink("../..", "tree/sub/up") +
      symlink("tree/sub", "link"));
  if (getcwd(start, sizeof start) == NULL) return 1;

  char *const tree[] = {"tree", NULL}, *const slash[] = {"./tree//sub/", "tree/", NULL},
              *const several[] = {"file", "link", "none", "tree/sub", NULL},
              *const given[] = {"link", "file", "none", NULL};
  char *const dot[] = {".", NULL}, *const blank[] = {"tree", "", NULL},
              *const up[] = {"tree/..", NULL};
  walk("physical", FTS_PHYSICAL, forward, tree);
  walk("backward", FTS_PHYSICAL, backward, tree);
  walk("physical, no chdir", FTS_PHYSICAL | FTS_NOCHDIR, forward, tree);
  walk("logical", FTS_LOGICAL, forward, tree);
  walk("no stat", FTS_PHYSICAL | FTS_NOSTAT, forward, tree);
  walk("no stat, no chdir", FTS_PHYSICAL | FTS_NOSTAT | FTS_NOCHDIR, forward, tree);
  walk("no stat, logical", FTS_LOGICAL | FTS_NOSTAT, forward, tree);
  walk("dots", FTS_PHYSICAL | FTS_SEEDOT, forward, tree);
  walk("one device", FTS_PHYSICAL | FTS_XDEV, forward, tree);
  walk("slashes", FTS_PHYSICAL, forward, slash);
  walk("slashes, no chdir", FTS_PHYSICAL | FTS_NOCHDIR, forward, slash);
  walk("as given", FTS_PHYSICAL, NULL, given);
  walk("several in order", FTS_PHYSICAL, backward, several);
  walk("several, followed", FTS_PHYSICAL | FTS_COMFOLLOW, forward, several);
  walk("several, logical", FTS_LOGICAL, forward, several);
  walk("here", FTS_PHYSICAL, forward, dot);
  walk("above", FTS_PHYSICAL, forward, up);
  walk("blank", FTS_PHYSICAL, NULL, blank);
  walk("wrong options", 0x1000, NULL, tree);
  instructed(FTS_PHYSICAL);
  instructed(FTS_PHYSICAL | FTS_NOCHDIR);
  instructed(FTS_LOGICAL);

  // A user who may not look into one of them.
  if (geteuid() == 0)
    SAY(chmod(".", 0755) + chmod("tree/shut", 0700) + chmod("tree/skipped", 0744) + seteuid(65534));
  walk("shut", FTS_PHYSICAL, forward, tree);
  walk("shut, no chdir", FTS_PHYSICAL | FTS_NOCHDIR, forward, tree);
  SAY(seteuid(getuid()));
  early();

  FTS64* wide = fts64_open(tree, FTS_PHYSICAL, NULL);
  int count = 0;
  FTSENT64* entry;
  while ((entry = fts64_read(wide)) != NULL) count += entry->fts_info == FTS_F;
  SAY(count);
  SAY(fts64_close(wide));
  return 0;
}
