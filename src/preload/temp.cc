// SPDX-License-Identifier: Apache-2.0
//
// Temporary names in a mount.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/client/addresses.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr int kMostTries = 1000;

// The six X before a suffix, or null and EINVAL.
char* find_letters(char* pattern, int suffix) {
  const std::size_t length = strlen(pattern);
  if (suffix < 0 || length < 6 + static_cast<std::size_t>(suffix) ||
      memcmp(pattern + length - static_cast<std::size_t>(suffix) - 6, "XXXXXX", 6) != 0) {
    errno = EINVAL;
    return nullptr;
  }
  return pattern + length - static_cast<std::size_t>(suffix) - 6;
}

// Tries names until `make` has another result than "exists".
template <class Make>
long with_new_name(char* letters, Make&& make) {
  for (int tries = 0; tries < kMostTries; ++tries) {
    if (!fill_template(letters)) return -errno;
    const long made = make();
    if (made != -EEXIST) return made;
  }
  return -EEXIST;
}

int make_file(char* pattern, int suffix, int flags) {
  char* const letters = find_letters(pattern, suffix);
  if (letters == nullptr) return -1;
  return int_result(with_new_name(letters, [&] {
    return calls::open(AT_FDCWD, pattern, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
  }));
}

}  // namespace

bool fill_template(char* letters) {
  constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::uint64_t random = 0;
  const long bytes = raw::syscall(SYS_getrandom, &random, sizeof random, 0);
  if (bytes < 0) {
    errno = static_cast<int>(-bytes);
    return false;
  }
  for (int i = 0; i < 6; ++i) {
    letters[i] = kLetters[random % 62];
    random /= 62;
  }
  return true;
}

LIBSERVICES_EXPORT int ls_mkostemps(char* pattern, int suffix, int flags) {
  const Call call(Symbol::mkostemps);
  if (!leads_to_ours(AT_FDCWD, pattern)) {
    return LIBSERVICES_REAL(mkostemps)(pattern, suffix, flags);
  }
  return make_file(pattern, suffix, flags);
}

LIBSERVICES_EXPORT int ls_mkostemp(char* pattern, int flags) {
  const Call call(Symbol::mkostemp);
  if (!leads_to_ours(AT_FDCWD, pattern)) return LIBSERVICES_REAL(mkostemp)(pattern, flags);
  return make_file(pattern, 0, flags);
}

LIBSERVICES_EXPORT int ls_mkstemps(char* pattern, int suffix) {
  const Call call(Symbol::mkstemps);
  if (!leads_to_ours(AT_FDCWD, pattern)) return LIBSERVICES_REAL(mkstemps)(pattern, suffix);
  return make_file(pattern, suffix, 0);
}

LIBSERVICES_EXPORT int ls_mkstemp(char* pattern) {
  const Call call(Symbol::mkstemp);
  if (!leads_to_ours(AT_FDCWD, pattern)) return LIBSERVICES_REAL(mkstemp)(pattern);
  return make_file(pattern, 0, 0);
}

LIBSERVICES_EXPORT char* ls_mkdtemp(char* pattern) {
  const Call call(Symbol::mkdtemp);
  if (!leads_to_ours(AT_FDCWD, pattern)) return LIBSERVICES_REAL(mkdtemp)(pattern);
  char* const letters = find_letters(pattern, 0);
  if (letters == nullptr) return nullptr;
  const long made = with_new_name(letters, [&] { return calls::mkdirat(AT_FDCWD, pattern, 0700); });
  return int_result(made) == 0 ? pattern : nullptr;
}

LIBSERVICES_EXPORT char* ls_mktemp(char* pattern) {
  const Call call(Symbol::mktemp);
  if (!leads_to_ours(AT_FDCWD, pattern)) {
    return LIBSERVICES_REAL_AS(char* (*)(char*), "mktemp")(pattern);
  }
  char* const letters = find_letters(pattern, 0);
  const long made = letters == nullptr ? -EINVAL : with_new_name(letters, [&]() -> long {
    struct stat attributes;
    const long found = calls::fstatat(AT_FDCWD, pattern, &attributes, AT_SYMLINK_NOFOLLOW);
    if (found == -ENOENT) return 0;
    return found == 0 ? -EEXIST : found;
  });
  if (int_result(made) != 0) pattern[0] = '\0';
  return pattern;
}

LIBSERVICES_EXPORT char* ls_tempnam(const char* directory, const char* prefix) {
  const Call call(Symbol::tempnam);
  const char* const named = getenv("TMPDIR");
  const char* const place = named != nullptr && *named != '\0' ? named
                            : directory != nullptr             ? directory
                                                               : P_tmpdir;
  char path[PATH_MAX];
  const int length = snprintf(path, sizeof path, "%s/%.5sXXXXXX", place,
                              prefix != nullptr && *prefix != '\0' ? prefix : "file");
  if (!leads_to_ours(AT_FDCWD, path) || length >= PATH_MAX) {
    return LIBSERVICES_REAL_AS(char* (*)(const char*, const char*), "tempnam")(directory, prefix);
  }
  return *ls_mktemp(path) != '\0' ? strdup(path) : nullptr;
}

// Null where the argument is null; the name, or an empty one.
LIBSERVICES_EXPORT char* ls_tmpnam_r(char* into) {
  const Call call(Symbol::tmpnam_r);
  if (!leads_to_ours(AT_FDCWD, P_tmpdir "/x")) {
    return LIBSERVICES_REAL_AS(char* (*)(char*), "tmpnam_r")(into);
  }
  if (into == nullptr) return nullptr;
  static_assert(sizeof P_tmpdir "/fileXXXXXX" <= L_tmpnam);
  memcpy(into, P_tmpdir "/fileXXXXXX", sizeof P_tmpdir "/fileXXXXXX");
  return *ls_mktemp(into) != '\0' ? into : nullptr;
}

LIBSERVICES_EXPORT char* ls_tmpnam(char* into) {
  const Call call(Symbol::tmpnam);
  if (!leads_to_ours(AT_FDCWD, P_tmpdir "/x")) {
    return LIBSERVICES_REAL_AS(char* (*)(char*), "tmpnam")(into);
  }
  static char last[L_tmpnam];
  return ls_tmpnam_r(into != nullptr ? into : last);
}

}  // namespace libservices::preload
