// SPDX-License-Identifier: Apache-2.0
//
// fts(3) over directories of ours and of the kernel's: a walk that begins outside may come into a
// mount, so every walk of a process with the library is this one.
//
// An entry has its attributes behind its name, in one piece of memory. All entries share the path
// of the walk, whose room is for the longest that an entry's two bytes of length can tell.
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/preload/directory_stream.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

static_assert(sizeof(FTS) == sizeof(FTS64) && sizeof(FTSENT) == sizeof(FTSENT64) &&
              offsetof(FTSENT, fts_statp) == offsetof(FTSENT64, fts_statp));

constexpr std::size_t kPathRoom = USHRT_MAX + 1;

using Order = int (*)(const void*, const void*);

enum class Purpose : std::uint8_t { kDescend, kChildren, kNames };

bool has(const FTS& walk, int option) { return (walk.fts_options & option) != 0; }

bool is_dots(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

FTSENT* new_entry(const FTS& walk, const char* name, std::size_t length) {
  constexpr std::size_t kAlignment = alignof(struct stat);
  const std::size_t attributes =
      (offsetof(FTSENT, fts_name) + length + kAlignment) & ~(kAlignment - 1);
  auto* const memory = static_cast<char*>(calloc(1, attributes + sizeof(struct stat)));
  if (memory == nullptr) return nullptr;
  auto* const entry = reinterpret_cast<FTSENT*>(memory);
  entry->fts_path = walk.fts_path;
  entry->fts_namelen = static_cast<unsigned short>(length);
  entry->fts_instr = FTS_NOINSTR;
  entry->fts_statp = reinterpret_cast<struct stat*>(memory + attributes);
  memcpy(entry->fts_name, name, length);
  return entry;
}

void free_list(FTSENT* entry) {
  while (entry != nullptr) {
    FTSENT* const next = entry->fts_link;
    free(entry);
    entry = next;
  }
}

// The attributes of an entry, and what it is by them.
unsigned short look_at(const FTS& walk, FTSENT& entry, bool follow) {
  struct stat& attributes = *entry.fts_statp;
  const bool through = has(walk, FTS_LOGICAL) || follow;
  long error =
      calls::fstatat(AT_FDCWD, entry.fts_accpath, &attributes, through ? 0 : AT_SYMLINK_NOFOLLOW);
  if (error != 0 && through &&
      calls::fstatat(AT_FDCWD, entry.fts_accpath, &attributes, AT_SYMLINK_NOFOLLOW) == 0) {
    return FTS_SLNONE;
  }
  if (error != 0) {
    memset(&attributes, 0, sizeof attributes);
    entry.fts_errno = static_cast<int>(-error);
    return FTS_NS;
  }
  entry.fts_dev = attributes.st_dev;
  entry.fts_ino = attributes.st_ino;
  entry.fts_nlink = attributes.st_nlink;
  if (S_ISLNK(attributes.st_mode)) return FTS_SL;
  if (S_ISREG(attributes.st_mode)) return FTS_F;
  if (!S_ISDIR(attributes.st_mode)) return FTS_DEFAULT;
  if (is_dots(entry.fts_name)) return FTS_DOT;
  for (FTSENT* at = entry.fts_parent; at->fts_level >= FTS_ROOTLEVEL; at = at->fts_parent) {
    if (at->fts_dev == entry.fts_dev && at->fts_ino == entry.fts_ino) {
      entry.fts_cycle = at;
      return FTS_DC;
    }
  }
  return FTS_D;
}

// The entries in the order of the walk's comparison; as they are, if there is no memory for that.
FTSENT* sort(FTS& walk, FTSENT* first, std::size_t count) {
  if (walk.fts_compar == nullptr || count < 2) return first;
  auto** const array = static_cast<FTSENT**>(malloc(count * sizeof(FTSENT*)));
  if (array == nullptr) return first;
  std::size_t at = 0;
  for (FTSENT* entry = first; entry != nullptr; entry = entry->fts_link) array[at++] = entry;
  qsort(array, count, sizeof(FTSENT*), reinterpret_cast<Order>(walk.fts_compar));
  for (at = 0; at < count; ++at) array[at]->fts_link = at + 1 < count ? array[at + 1] : nullptr;
  first = array[0];
  free(array);
  return first;
}

long open_here() {
  return calls::open(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK, 0);
}

// --- where the process is, in a walk that changes it --------------------------------------------

// Into `descriptor`, if that is the directory `entry`: ENOENT when something else has its name now.
long change_to(const FTSENT& entry, int descriptor) {
  struct stat attributes;
  if (const long error = calls::fstat(descriptor, &attributes); error != 0) return error;
  if (attributes.st_dev != entry.fts_dev || attributes.st_ino != entry.fts_ino) return -ENOENT;
  return calls::fchdir(descriptor);
}

long change_to(const FTS& walk, const FTSENT& entry, const char* path) {
  if (has(walk, FTS_NOCHDIR)) return 0;
  const long opened = calls::open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (opened < 0) return opened;
  const long error = change_to(entry, static_cast<int>(opened));
  (void)calls::close(static_cast<int>(opened));
  return error;
}

long change_to_start(const FTS& walk) {
  return has(walk, FTS_NOCHDIR) ? 0 : calls::fchdir(walk.fts_rfd);
}

// Out of the directory `entry`.
long change_back(const FTS& walk, const FTSENT& entry) {
  if (entry.fts_level == FTS_ROOTLEVEL) return change_to_start(walk);
  return change_to(walk, *entry.fts_parent, "..");
}

FTSENT* stop(FTS& walk, long error) {
  walk.fts_options |= FTS_STOP;
  errno = static_cast<int>(-error);
  return nullptr;
}

// A link that is followed: the way back is not its parent.
void follow(const FTS& walk, FTSENT& entry) {
  entry.fts_info = look_at(walk, entry, true);
  if (entry.fts_info != FTS_D || has(walk, FTS_NOCHDIR)) return;
  const long here = open_here();
  if (here < 0) {
    entry.fts_errno = static_cast<int>(-here);
    entry.fts_info = FTS_ERR;
  } else {
    entry.fts_symfd = static_cast<int>(here);
    entry.fts_flags |= FTS_SYMFOLLOW;
  }
}

// --- what is in a directory ---------------------------------------------------------------------

// Where a name is put behind an entry's path: one that ends with a slash gets no other.
std::size_t end_of(const FTSENT& entry) {
  return entry.fts_pathlen != 0 && entry.fts_path[entry.fts_pathlen - 1] == '/'
             ? entry.fts_pathlen - 1U
             : entry.fts_pathlen;
}

struct Reading {
  Purpose purpose;
  bool without_attributes;  // of what is no directory
  std::size_t length;       // of the path before the names
};

// What an entry just found is, and by which path it is reached.
void classify(FTS& walk, FTSENT& entry, const Reading& reading, unsigned char type) {
  const bool asked = reading.purpose != Purpose::kNames &&
                     !(reading.without_attributes && type != DT_DIR && type != DT_UNKNOWN);
  entry.fts_accpath = has(walk, FTS_NOCHDIR) ? walk.fts_path : entry.fts_name;
  if (!asked) {
    entry.fts_info = FTS_NSOK;
    return;
  }
  if (has(walk, FTS_NOCHDIR)) {
    memcpy(walk.fts_path + reading.length, entry.fts_name, entry.fts_namelen + 1U);
  }
  entry.fts_info = look_at(walk, entry, false);
}

// The list of what is in the directory where the walk is; null when it is empty or not readable,
// which its entry tells where it is to be descended into.
FTSENT* read_directory(FTS& walk, Purpose purpose) {
  FTSENT& directory = *walk.fts_cur;
  const bool descending = purpose == Purpose::kDescend;
  DIR* const stream = ls_opendir(directory.fts_accpath);
  if (stream == nullptr) {
    if (descending) {
      directory.fts_info = FTS_DNR;
      directory.fts_errno = errno;
    }
    return nullptr;
  }
  const Reading reading{purpose, has(walk, FTS_NOSTAT) && has(walk, FTS_PHYSICAL),
                        end_of(directory) + 1};
  const bool goes = !has(walk, FTS_NOCHDIR) && purpose != Purpose::kNames;
  if (const long closed = goes ? change_to(directory, ls_dirfd(stream)) : 0; closed != 0) {
    // As libc's: nothing in it is told.
    (void)ls_closedir(stream);
    directory.fts_flags |= FTS_DONTCHDIR;
    if (descending) {
      directory.fts_errno = static_cast<int>(-closed);
      directory.fts_info = FTS_DP;
    }
    return nullptr;
  }
  walk.fts_path[reading.length - 1] = '/';
  FTSENT* first = nullptr;
  FTSENT* last = nullptr;
  std::size_t count = 0;
  long error = 0;
  while (const dirent* const found = ls_readdir(stream)) {
    if (!has(walk, FTS_SEEDOT) && is_dots(found->d_name)) continue;
    const std::size_t length = strlen(found->d_name);
    if (reading.length + length >= kPathRoom) {
      error = -ENAMETOOLONG;
      break;
    }
    FTSENT* const entry = new_entry(walk, found->d_name, length);
    if (entry == nullptr) {
      error = -ENOMEM;
      break;
    }
    entry->fts_level = static_cast<short>(directory.fts_level + 1);
    entry->fts_parent = &directory;
    entry->fts_pathlen = static_cast<unsigned short>(reading.length + length);
    classify(walk, *entry, reading, found->d_type);
    (last != nullptr ? last->fts_link : first) = entry;
    last = entry;
    ++count;
  }
  (void)ls_closedir(stream);
  walk.fts_path[directory.fts_pathlen] = '\0';
  if (error == 0 && goes && (!descending || count == 0)) {
    error = change_back(walk, directory);
  }
  if (error != 0) {
    free_list(first);
    directory.fts_info = FTS_ERR;
    return stop(walk, error);
  }
  if (count == 0) {
    if (descending) directory.fts_info = FTS_DP;
    return nullptr;
  }
  return sort(walk, first, count);
}

// --- from entry to entry ------------------------------------------------------------------------

// A root: its path becomes the walk's, and its name the last part of that.
FTSENT* load(FTS& walk, FTSENT& root) {
  root.fts_pathlen = root.fts_namelen;
  memcpy(walk.fts_path, root.fts_name, root.fts_namelen + 1U);
  const char* const slash = strrchr(walk.fts_path, '/');
  if (slash != nullptr && (slash != walk.fts_path || slash[1] != '\0')) {
    root.fts_namelen = static_cast<unsigned short>(strlen(slash + 1));
    memcpy(root.fts_name, slash + 1, root.fts_namelen + 1U);
  }
  root.fts_accpath = root.fts_path = walk.fts_path;
  walk.fts_dev = root.fts_dev;
  return walk.fts_cur = &root;
}

FTSENT* come_to(FTS& walk, FTSENT& entry) {
  char* const end = walk.fts_path + end_of(*entry.fts_parent);
  *end = '/';
  memcpy(end + 1, entry.fts_name, entry.fts_namelen + 1U);
  return walk.fts_cur = &entry;
}

void discard_children(FTS& walk) {
  free_list(walk.fts_child);
  walk.fts_child = nullptr;
  walk.fts_options &= ~FTS_NAMEONLY;
}

// Into the directory where the walk is; the directory itself when there is nothing in it.
FTSENT* descend(FTS& walk, FTSENT& directory) {
  if (has(walk, FTS_NAMEONLY)) discard_children(walk);
  FTSENT* children = walk.fts_child;
  if (children == nullptr) {
    children = read_directory(walk, Purpose::kDescend);
    if (children == nullptr) return has(walk, FTS_STOP) ? nullptr : &directory;
  } else if (const long error = change_to(walk, directory, directory.fts_accpath); error != 0) {
    directory.fts_errno = static_cast<int>(-error);
    directory.fts_flags |= FTS_DONTCHDIR;
    for (FTSENT* at = children; at != nullptr; at = at->fts_link) {
      at->fts_accpath = directory.fts_accpath;
    }
  }
  walk.fts_child = nullptr;
  return come_to(walk, *children);
}

FTSENT* ascend(FTS& walk, FTSENT& from) {
  FTSENT& directory = *from.fts_parent;
  free(&from);
  walk.fts_cur = &directory;
  if (directory.fts_level == FTS_ROOTPARENTLEVEL) {
    free(&directory);
    errno = 0;
    return walk.fts_cur = nullptr;
  }
  walk.fts_path[directory.fts_pathlen] = '\0';
  long error = 0;
  if (directory.fts_level == FTS_ROOTLEVEL) {
    error = change_to_start(walk);
  } else if ((directory.fts_flags & FTS_SYMFOLLOW) != 0) {
    error = calls::fchdir(directory.fts_symfd);
    (void)calls::close(directory.fts_symfd);
    directory.fts_flags &= static_cast<unsigned short>(~FTS_SYMFOLLOW);
  } else if ((directory.fts_flags & FTS_DONTCHDIR) == 0) {
    error = change_to(walk, *directory.fts_parent, "..");
  }
  if (error != 0) return stop(walk, error);
  directory.fts_info = directory.fts_errno != 0 ? FTS_ERR : FTS_DP;
  return &directory;
}

FTSENT* read_next(FTS& walk) {
  FTSENT* entry = walk.fts_cur;
  if (entry == nullptr || has(walk, FTS_STOP)) return nullptr;
  const int instruction = entry->fts_instr;
  entry->fts_instr = FTS_NOINSTR;
  if (instruction == FTS_AGAIN) {
    entry->fts_info = look_at(walk, *entry, false);
    return entry;
  }
  if (instruction == FTS_FOLLOW && (entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE)) {
    follow(walk, *entry);
    return entry;
  }
  if (entry->fts_info == FTS_D) {
    if (instruction != FTS_SKIP && (!has(walk, FTS_XDEV) || entry->fts_dev == walk.fts_dev)) {
      return descend(walk, *entry);
    }
    if ((entry->fts_flags & FTS_SYMFOLLOW) != 0) {
      (void)calls::close(entry->fts_symfd);
      entry->fts_flags &= static_cast<unsigned short>(~FTS_SYMFOLLOW);
    }
    discard_children(walk);
    entry->fts_info = FTS_DP;
    return entry;
  }
  while (entry->fts_link != nullptr) {
    FTSENT* const before = entry;
    entry = entry->fts_link;
    free(before);
    if (entry->fts_level == FTS_ROOTLEVEL) {
      walk.fts_cur = entry;
      if (const long error = change_to_start(walk); error != 0) return stop(walk, error);
      return load(walk, *entry);
    }
    if (entry->fts_instr == FTS_SKIP) continue;
    (void)come_to(walk, *entry);
    if (entry->fts_instr == FTS_FOLLOW) {
      follow(walk, *entry);
      entry->fts_instr = FTS_NOINSTR;
    }
    return entry;
  }
  return ascend(walk, *entry);
}

void free_walk(FTS* walk) {
  for (FTSENT* at = walk->fts_cur; at != nullptr;) {
    FTSENT* const next = at->fts_link != nullptr ? at->fts_link : at->fts_parent;
    if ((at->fts_flags & FTS_SYMFOLLOW) != 0) (void)calls::close(at->fts_symfd);
    free(at);
    at = next;
  }
  free_list(walk->fts_child);
  free(walk->fts_path);
  free(walk);
}

FTS* abandon(FTS* walk, FTSENT* roots, FTSENT* above, int error) {
  free_list(roots);
  free(above);
  free_walk(walk);
  return failure<FTS*>(error);
}

}  // namespace

LIBSERVICES_EXPORT FTS* ls_fts_open(char* const* paths, int options,
                                    int (*order)(const FTSENT**, const FTSENT**)) {
  const Call call(Symbol::fts_open);
  if (!active()) return LIBSERVICES_REAL(fts_open)(paths, options, order);
  if ((options & ~FTS_OPTIONMASK) != 0) return failure<FTS*>(EINVAL);
  auto* const walk = static_cast<FTS*>(calloc(1, sizeof(FTS)));
  if (walk == nullptr) return failure<FTS*>(ENOMEM);
  walk->fts_compar = reinterpret_cast<Order>(order);
  walk->fts_options = options | ((options & FTS_LOGICAL) != 0 ? FTS_NOCHDIR : 0);
  walk->fts_rfd = -1;
  walk->fts_pathlen = static_cast<int>(kPathRoom);
  walk->fts_path = static_cast<char*>(malloc(kPathRoom + NAME_MAX + 2));
  FTSENT* const above = new_entry(*walk, "", 0);
  if (walk->fts_path == nullptr || above == nullptr) {
    return abandon(walk, nullptr, above, ENOMEM);
  }
  above->fts_level = FTS_ROOTPARENTLEVEL;
  FTSENT* first = nullptr;
  FTSENT* last = nullptr;
  std::size_t count = 0;
  for (; paths[count] != nullptr; ++count) {
    const std::size_t length = strlen(paths[count]);
    if (length == 0) return abandon(walk, first, above, ENOENT);
    if (length >= kPathRoom) return abandon(walk, first, above, ENAMETOOLONG);
    FTSENT* const root = new_entry(*walk, paths[count], length);
    if (root == nullptr) return abandon(walk, first, above, ENOMEM);
    root->fts_level = FTS_ROOTLEVEL;
    root->fts_parent = above;
    root->fts_accpath = root->fts_name;
    root->fts_info = look_at(*walk, *root, has(*walk, FTS_COMFOLLOW));
    if (root->fts_info == FTS_DOT) root->fts_info = FTS_D;
    (last != nullptr ? last->fts_link : first) = root;
    last = root;
  }
  first = sort(*walk, first, count);
  // Before the first root, where fts_children is to give the roots.
  FTSENT* const start = new_entry(*walk, "", 0);
  if (start == nullptr) return abandon(walk, first, above, ENOMEM);
  start->fts_link = first;
  start->fts_parent = above;
  start->fts_info = FTS_INIT;
  walk->fts_cur = start;
  if (!has(*walk, FTS_NOCHDIR)) {
    const long here = open_here();
    if (here < 0) {
      walk->fts_options |= FTS_NOCHDIR;
    } else {
      walk->fts_rfd = static_cast<int>(here);
    }
  }
  return walk;
}

LIBSERVICES_EXPORT FTSENT* ls_fts_read(FTS* walk) {
  const Call call(Symbol::fts_read);
  return active() ? read_next(*walk) : LIBSERVICES_REAL(fts_read)(walk);
}

LIBSERVICES_EXPORT FTSENT* ls_fts_children(FTS* walk, int instruction) {
  const Call call(Symbol::fts_children);
  if (!active()) return LIBSERVICES_REAL(fts_children)(walk, instruction);
  if (instruction != 0 && instruction != FTS_NAMEONLY) return failure<FTSENT*>(EINVAL);
  FTSENT* const entry = walk->fts_cur;
  errno = 0;
  if (entry == nullptr || has(*walk, FTS_STOP)) return nullptr;
  if (entry->fts_info == FTS_INIT) return entry->fts_link;
  if (entry->fts_info != FTS_D) return nullptr;
  discard_children(*walk);
  Purpose purpose = Purpose::kChildren;
  if (instruction == FTS_NAMEONLY) {
    walk->fts_options |= FTS_NAMEONLY;
    purpose = Purpose::kNames;
  }
  // What a root is reached from is where the walk began, if the program has not gone elsewhere.
  if (entry->fts_level != FTS_ROOTLEVEL || entry->fts_accpath[0] == '/' ||
      has(*walk, FTS_NOCHDIR)) {
    return walk->fts_child = read_directory(*walk, purpose);
  }
  const long here = open_here();
  if (here < 0) return walk->fts_child = failure<FTSENT*>(static_cast<int>(-here));
  walk->fts_child = read_directory(*walk, purpose);
  const long back = calls::fchdir(static_cast<int>(here));
  (void)calls::close(static_cast<int>(here));
  return back == 0 ? walk->fts_child : failure<FTSENT*>(static_cast<int>(-back));
}

LIBSERVICES_EXPORT int ls_fts_set(FTS* walk, FTSENT* entry, int instruction) {
  const Call call(Symbol::fts_set);
  if (!active()) return LIBSERVICES_REAL(fts_set)(walk, entry, instruction);
  if (instruction < 0 || instruction > FTS_SKIP) {
    errno = EINVAL;
    return 1;
  }
  entry->fts_instr = static_cast<unsigned short>(instruction);
  return 0;
}

LIBSERVICES_EXPORT int ls_fts_close(FTS* walk) {
  const Call call(Symbol::fts_close);
  if (!active()) return LIBSERVICES_REAL(fts_close)(walk);
  long back = 0;
  if (walk->fts_rfd >= 0) {
    back = calls::fchdir(walk->fts_rfd);
    (void)calls::close(walk->fts_rfd);
  }
  free_walk(walk);
  return int_result(back);
}

}  // namespace libservices::preload
