// SPDX-License-Identifier: Apache-2.0
//
// Functions of libc that walk directories by themselves: glob, ftw, nftw, wordexp.
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wordexp.h>

#include "src/preload/directory_stream.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

using Plain = int (*)(const char*, const struct stat*, int);
using Full = int (*)(const char*, const struct stat*, int, FTW*);

// The names of a directory, one after another, so that no descriptor is kept while it is walked.
struct Names {
  char* text = nullptr;
  std::size_t bytes = 0;
  std::size_t space = 0;

  ~Names() { free(text); }
  bool add(const char* name) {
    const std::size_t length = strlen(name) + 1;
    if (bytes + length > space) {
      const std::size_t more = (space + length) * 2 + 512;
      auto* const grown = static_cast<char*>(realloc(text, more));
      if (grown == nullptr) return false;
      text = grown;
      space = more;
    }
    memcpy(text + bytes, name, length);
    bytes += length;
    return true;
  }
};

struct Ancestor {
  const Ancestor* above;
  dev_t device;
  ino_t inode;
};

class Walk {
 public:
  Walk(Plain plain, Full full, int flags) : plain_(plain), full_(full), flags_(flags) {}

  int run(const char* root) {
    const std::size_t length = strlen(root);
    if (length == 0) return int_result(-ENOENT);
    if (length >= sizeof path_) return int_result(-ENAMETOOLONG);
    memcpy(path_, root, length + 1);
    std::size_t end = length;
    while (end > 1 && path_[end - 1] == '/') path_[--end] = '\0';
    const char* const slash = strrchr(path_, '/');
    const int base = slash != nullptr && slash[1] != '\0' ? static_cast<int>(slash + 1 - path_) : 0;
    int start = -1;
    if ((flags_ & FTW_CHDIR) != 0) {
      start = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (start < 0) return -1;
    }
    const int outcome = visit(end, base, 0, nullptr);
    if (start >= 0) {
      const int error = errno;
      (void)calls::fchdir(start);
      (void)calls::close(start);
      errno = error;
    }
    return (flags_ & FTW_ACTIONRETVAL) != 0 &&
                   (outcome == FTW_SKIP_SUBTREE || outcome == FTW_SKIP_SIBLINGS)
               ? 0
               : outcome;
  }

 private:
  int tell(const struct stat& attributes, int kind, int base, int level) {
    if (full_ != nullptr) {
      FTW place{base, level};
      return full_(path_, &attributes, kind, &place);
    }
    if (kind == FTW_SLN) kind = FTW_NS;
    return plain_(path_, &attributes, kind);
  }

  int visit(std::size_t length, int base, int level, const Ancestor* above) {
    struct stat attributes {};
    const bool physical = (flags_ & FTW_PHYS) != 0;
    const char* const name = (flags_ & FTW_CHDIR) != 0 && level > 0 ? path_ + base : path_;
    long error = calls::fstatat(AT_FDCWD, name, &attributes, physical ? AT_SYMLINK_NOFOLLOW : 0);
    int kind = FTW_F;
    if (error != 0 && !physical &&
        calls::fstatat(AT_FDCWD, name, &attributes, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(attributes.st_mode)) {
      kind = FTW_SLN;
    } else if (error != 0) {
      if (level == 0 || (error != -EACCES && error != -ENOENT)) return int_result(error);
      kind = FTW_NS;
    } else if (S_ISLNK(attributes.st_mode)) {
      kind = FTW_SL;
    } else if (S_ISDIR(attributes.st_mode)) {
      return visit_directory(name, length, base, level, above, attributes);
    }
    if ((flags_ & FTW_MOUNT) != 0 && kind == FTW_F && level > 0 && attributes.st_dev != device_) {
      return 0;
    }
    return tell(attributes, kind, base, level);
  }

  int visit_directory(const char* name, std::size_t length, int base, int level,
                      const Ancestor* above, const struct stat& attributes) {
    if (level == 0) device_ = attributes.st_dev;
    if ((flags_ & FTW_MOUNT) != 0 && attributes.st_dev != device_) return 0;
    for (const Ancestor* at = above; at != nullptr; at = at->above) {
      if (at->device == attributes.st_dev && at->inode == attributes.st_ino) return 0;
    }
    Names names;
    DIR* const stream = ls_opendir(name);
    if (stream == nullptr) {
      return errno == EACCES ? tell(attributes, FTW_DNR, base, level) : -1;
    }
    bool whole = true;
    while (const dirent* const entry = ls_readdir(stream)) {
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      whole = whole && names.add(entry->d_name);
    }
    (void)ls_closedir(stream);
    if (!whole) return int_result(-ENOMEM);
    if ((flags_ & FTW_DEPTH) == 0) {
      const int told = tell(attributes, FTW_D, base, level);
      if (told == FTW_SKIP_SUBTREE && (flags_ & FTW_ACTIONRETVAL) != 0) return 0;
      if (told != 0) return told;
    }
    if ((flags_ & FTW_CHDIR) != 0) {
      if (const long error = calls::chdir(name); error != 0) return int_result(error);
    }
    const Ancestor self{above, attributes.st_dev, attributes.st_ino};
    int outcome = 0;
    for (std::size_t at = 0; at < names.bytes && outcome == 0;) {
      const std::size_t bytes = strlen(names.text + at);
      std::size_t end = length;
      if (end + 1 + bytes >= sizeof path_) {
        outcome = int_result(-ENAMETOOLONG);
        break;
      }
      if (path_[end - 1] != '/') path_[end++] = '/';
      memcpy(path_ + end, names.text + at, bytes + 1);
      outcome = visit(end + bytes, static_cast<int>(end), level + 1, &self);
      at += bytes + 1;
    }
    path_[length] = '\0';
    if (outcome == FTW_SKIP_SIBLINGS && (flags_ & FTW_ACTIONRETVAL) != 0) outcome = 0;
    if ((flags_ & FTW_CHDIR) != 0) {
      // Back to where this directory is.
      (void)calls::chdir("..");
    }
    if (outcome == 0 && (flags_ & FTW_DEPTH) != 0) {
      outcome = tell(attributes, FTW_DP, base, level);
    }
    return outcome;
  }

  Plain plain_;
  Full full_;
  int flags_;
  dev_t device_ = 0;
  char path_[PATH_MAX];
};

// How many characters make a pattern of it.
std::size_t count_pattern(const char* text) {
  std::size_t count = 0;
  for (; *text != '\0'; ++text) count += *text == '*' || *text == '?' || *text == '[' ? 1 : 0;
  return count;
}

// Puts all that was found, at least one, in the place of the word `at`.
bool put_words(wordexp_t& words, std::size_t at, const glob_t& found) {
  const std::size_t slots = words.we_offs + words.we_wordc + 1;
  const std::size_t count = found.gl_pathc;
  auto** const grown =
      static_cast<char**>(realloc(words.we_wordv, (slots + count - 1) * sizeof(char*)));
  if (grown == nullptr) return false;
  words.we_wordv = grown;
  for (std::size_t i = 0; i < count; ++i) {
    char* const copy = strdup(found.gl_pathv[i]);
    if (copy == nullptr) return false;
    if (i == 0) {
      free(grown[at]);
    } else {
      memmove(grown + at + i + 1, grown + at + i, (slots - at - 1) * sizeof(char*));
      ++words.we_wordc;
    }
    grown[at + i] = copy;
  }
  return true;
}

}  // namespace

LIBSERVICES_EXPORT int ls_ftw(const char* root, Plain function, int most_open) {
  const Call call(Symbol::ftw);
  if (!leads_to_ours(AT_FDCWD, root)) return LIBSERVICES_REAL(ftw)(root, function, most_open);
  Walk walk(function, nullptr, 0);
  return walk.run(root);
}

LIBSERVICES_EXPORT int ls_nftw(const char* root, Full function, int most_open, int flags) {
  const Call call(Symbol::nftw);
  if (!leads_to_ours(AT_FDCWD, root)) {
    return LIBSERVICES_REAL(nftw)(root, function, most_open, flags);
  }
  Walk walk(nullptr, function, flags);
  return walk.run(root);
}

// --- glob ---------------------------------------------------------------------------------------

// libc's glob does its walking with the functions it is given. They are ours on any pattern: one
// that begins in the kernel's tree may match names in a mount.
LIBSERVICES_EXPORT int ls_glob(const char* pattern, int flags, int (*failed)(const char*, int),
                               glob_t* found) {
  const Call call(Symbol::glob);
  const auto real = LIBSERVICES_REAL(glob);
  if (!active() || (flags & GLOB_ALTDIRFUNC) != 0) return real(pattern, flags, failed, found);
  found->gl_opendir = [](const char* path) -> void* { return ls_opendir(path); };
  found->gl_readdir = [](void* stream) { return ls_readdir(static_cast<DIR*>(stream)); };
  found->gl_closedir = [](void* stream) { (void)ls_closedir(static_cast<DIR*>(stream)); };
  found->gl_stat = [](const char* path, struct stat* into) {
    return int_result(calls::fstatat(AT_FDCWD, path, into, 0));
  };
  found->gl_lstat = [](const char* path, struct stat* into) {
    return int_result(calls::fstatat(AT_FDCWD, path, into, AT_SYMLINK_NOFOLLOW));
  };
  const int outcome = real(pattern, flags | GLOB_ALTDIRFUNC, failed, found);
  found->gl_flags &= ~GLOB_ALTDIRFUNC;
  return outcome;
}

// --- wordexp ------------------------------------------------------------------------------------

// libc's own, whose glob sees the kernel's files alone, and then ours on the words that it gave. A
// word does not tell which of its characters were quoted or came from a variable, which makes no
// pattern: where the text quotes anything, or any may have come so, the words stay as they are.
LIBSERVICES_EXPORT int ls_wordexp(const char* text, wordexp_t* words, int flags) {
  const Call call(Symbol::wordexp);
  const auto real = LIBSERVICES_REAL(wordexp);
  if (!active()) return real(text, words, flags);
  client::share_all();  // for the commands that it may run
  const std::size_t before = (flags & WRDE_APPEND) != 0 ? words->we_wordc : 0;
  const int outcome = real(text, words, flags);
  if (outcome != 0 || strpbrk(text, "\\'\"") != nullptr) return outcome;
  if (strpbrk(text, "$`") != nullptr) {
    std::size_t patterns = 0;
    for (std::size_t i = before; i < words->we_wordc; ++i) {
      patterns += count_pattern(words->we_wordv[words->we_offs + i]);
    }
    if (patterns != count_pattern(text)) return 0;
  }
  for (std::size_t i = before; i < words->we_wordc;) {
    const char* const word = words->we_wordv[words->we_offs + i];
    glob_t found{};
    if (count_pattern(word) == 0 || ls_glob(word, 0, nullptr, &found) != 0) {
      ++i;
      continue;
    }
    if (!put_words(*words, words->we_offs + i, found)) {
      globfree(&found);
      return WRDE_NOSPACE;
    }
    i += found.gl_pathc;
    globfree(&found);
  }
  return 0;
}

}  // namespace libservices::preload
