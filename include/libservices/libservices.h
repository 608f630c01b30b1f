/* SPDX-License-Identifier: Apache-2.0
 *
 * A composed filesystem inside a C program: paths, permissions and open files over a stack of
 * libservices, without a service, a mount or a descriptor.
 *
 * Use it in a daemon that serves files itself. To use the files of a running service, use the
 * client library; in C++ use Filesystem<Stack>, which costs no virtual call.
 *
 *   char *error = NULL;
 *   libservices_filesystem *fs = libservices_filesystem_create("local:/srv/data", &error);
 *   if (fs == NULL) { fprintf(stderr, "%s\n", error); free(error); exit(1); }
 *
 * Every call takes the identity it is made for, and means what POSIX's call of that name means for
 * it. A path is absolute in the filesystem ("/" is its root), and never leads out of it.
 *
 * ERRORS: a negative errno is returned; errno itself is left alone.
 * THREADS: all calls may run at once, on one file too, but for libservices_filesystem_destroy and
 *   libservices_file_close, which end what they are given.
 * Nothing here throws, writes to standard error, or ends the process.
 */
#ifndef LIBSERVICES_LIBSERVICES_H_
#define LIBSERVICES_LIBSERVICES_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct libservices_filesystem libservices_filesystem;
typedef struct libservices_file libservices_file;

/* On whose account a call is made. User 0 may do everything. */
typedef struct libservices_caller {
  uid_t uid;
  gid_t gid;
  const gid_t *groups; /* supplementary */
  size_t group_count;
  mode_t umask;
  uint64_t process; /* owner of record locks; 0 if there are none */
} libservices_caller;

/* A filesystem of the standard catalog, started. `spec` is what `libservices with --mount
 * PATH=SPEC` takes: "memory", "union(local:/upper, local:/lower)". NULL on failure; then *error,
 * unless `error` is NULL, is a text for a person, which the caller gives to free(). */
libservices_filesystem *libservices_filesystem_create(const char *spec, char **error);

/* Stops and frees it. All its files must have been closed. 0, or a negative errno: what could not
 * be written at the end. */
int libservices_filesystem_destroy(libservices_filesystem *fs);

/* --- by path. `caller` NULL: the process's own effective identity, umask 022. --- */

int libservices_filesystem_open(libservices_filesystem *fs, const libservices_caller *caller,
                                const char *path, int flags, mode_t mode, libservices_file **file);
int libservices_filesystem_stat(libservices_filesystem *fs, const libservices_caller *caller,
                                const char *path, struct stat *status);
int libservices_filesystem_lstat(libservices_filesystem *fs, const libservices_caller *caller,
                                 const char *path, struct stat *status);
int libservices_filesystem_access(libservices_filesystem *fs, const libservices_caller *caller,
                                  const char *path, int mode);
int libservices_filesystem_statvfs(libservices_filesystem *fs, const libservices_caller *caller,
                                   const char *path, struct statvfs *volume);
int libservices_filesystem_mkdir(libservices_filesystem *fs, const libservices_caller *caller,
                                 const char *path, mode_t mode);
int libservices_filesystem_rmdir(libservices_filesystem *fs, const libservices_caller *caller,
                                 const char *path);
int libservices_filesystem_unlink(libservices_filesystem *fs, const libservices_caller *caller,
                                  const char *path);
int libservices_filesystem_rename(libservices_filesystem *fs, const libservices_caller *caller,
                                  const char *from, const char *to);
int libservices_filesystem_link(libservices_filesystem *fs, const libservices_caller *caller,
                                const char *from, const char *to);
int libservices_filesystem_symlink(libservices_filesystem *fs, const libservices_caller *caller,
                                   const char *target, const char *path);
/* The length of the link's text; no NUL is written. */
ssize_t libservices_filesystem_readlink(libservices_filesystem *fs,
                                        const libservices_caller *caller, const char *path,
                                        char *into, size_t size);
int libservices_filesystem_chmod(libservices_filesystem *fs, const libservices_caller *caller,
                                 const char *path, mode_t mode);
/* (uid_t)-1 and (gid_t)-1 leave the owner and the group as they are. */
int libservices_filesystem_chown(libservices_filesystem *fs, const libservices_caller *caller,
                                 const char *path, uid_t uid, gid_t gid);
int libservices_filesystem_truncate(libservices_filesystem *fs, const libservices_caller *caller,
                                    const char *path, uint64_t size);
/* Access and modification time; tv_nsec may be UTIME_NOW or UTIME_OMIT. */
int libservices_filesystem_utimens(libservices_filesystem *fs, const libservices_caller *caller,
                                   const char *path, const struct timespec times[2]);

/* --- by open file --- */

/* Frees `file` always. A negative errno: a delayed write failed. */
int libservices_file_close(libservices_file *file, const libservices_caller *caller);
ssize_t libservices_file_read(libservices_file *file, const libservices_caller *caller, void *into,
                              size_t size);
ssize_t libservices_file_pread(libservices_file *file, const libservices_caller *caller,
                               void *into, size_t size, uint64_t offset);
ssize_t libservices_file_write(libservices_file *file, const libservices_caller *caller,
                               const void *from, size_t size);
ssize_t libservices_file_pwrite(libservices_file *file, const libservices_caller *caller,
                                const void *from, size_t size, uint64_t offset);
/* The new offset. */
int64_t libservices_file_seek(libservices_file *file, const libservices_caller *caller,
                              int64_t offset, int whence);
int libservices_file_stat(libservices_file *file, const libservices_caller *caller,
                          struct stat *status);
int libservices_file_truncate(libservices_file *file, const libservices_caller *caller,
                              uint64_t size);
int libservices_file_sync(libservices_file *file, const libservices_caller *caller);

typedef struct libservices_entry {
  uint64_t inode;
  unsigned char type; /* DT_REG, DT_DIR, … of <dirent.h> */
  char name[256];
} libservices_entry;

/* The next entry of an open directory: 1, or 0 at the end. */
int libservices_file_readdir(libservices_file *file, const libservices_caller *caller,
                             libservices_entry *entry);

#ifdef __cplusplus
}
#endif

#endif /* LIBSERVICES_LIBSERVICES_H_ */
