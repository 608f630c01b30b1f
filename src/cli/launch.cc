// SPDX-License-Identifier: Apache-2.0
#include "src/cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "src/host/descriptor.h"

namespace libservices::cli {
namespace {

// The interpreter that a script's first line names, in place.
const char* interpreter_of(char* line) {
  constexpr const char* kShell = "/bin/sh";
  if (line[0] != '#' || line[1] != '!') return kShell;
  char* from = line + 2;
  while (*from == ' ' || *from == '\t') ++from;
  char* end = from;
  while (*end != '\0' && *end != '\n' && *end != ' ' && *end != '\t') ++end;
  *end = '\0';
  return end == from ? kShell : from;
}

// One file; a script has its first line in `start` afterwards.
Verdict look_at(const char* path, Found& found, char (&start)[client::kScriptBytes]) {
  found.loading = client::Loading::kLoads;
  struct stat status;
  if (::stat(path, &status) != 0) {
    found.error = errno;
    return Verdict::kNotReached;
  }
  if (S_ISDIR(status.st_mode)) return Verdict::kDirectory;
  if (!S_ISREG(status.st_mode) || ::access(path, X_OK) != 0) return Verdict::kNotExecutable;
  if ((status.st_mode & S_ISUID) != 0) return Verdict::kSetUser;
  if ((status.st_mode & S_ISGID) != 0) return Verdict::kSetGroup;
  if (::getxattr(path, "security.capability", nullptr, 0) > 0) return Verdict::kCapabilities;
  const host::Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return Verdict::kStarts;  // executable, but not readable: nothing to be seen
  found.loading = client::loading_of(
      [&](void* into, std::size_t size, std::uint64_t offset) {
        return static_cast<long>(::pread(file.get(), into, size, static_cast<off_t>(offset)));
      },
      start);
  return *client::reason_of(found.loading) != '\0' ? Verdict::kNotEntered : Verdict::kStarts;
}

void check(Found& found) {
  const char* path = found.path.text();
  for (found.interpreters = 0;;) {
    char start[client::kScriptBytes];
    found.verdict = look_at(path, found, start);
    if (!found.path.fits()) {
      found.verdict = Verdict::kNotReached;
      found.error = ENAMETOOLONG;
    }
    if (found.verdict != Verdict::kStarts || found.loading != client::Loading::kScript) return;
    if (found.interpreters == kMostInterpreters) {
      found.verdict = Verdict::kEndless;
      return;
    }
    char* const next = found.interpreter[found.interpreters++];
    const std::string_view name = interpreter_of(start);
    __builtin_memcpy(next, name.data(), name.size() + 1);
    path = next;
  }
}

bool is_there(const Found& found) {
  return found.interpreters != 0 || found.verdict != Verdict::kNotReached ||
         (found.error != ENOENT && found.error != ENOTDIR);
}

}  // namespace

void find(std::string_view name, const char* search, Found& found) {
  if (name.find('/') != std::string_view::npos) {
    found.path.clear();
    found.path += name;
    check(found);
    return;
  }
  Found best;
  best.verdict = Verdict::kNotInPath;
  best.path += name;
  std::string_view rest = search != nullptr ? search : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const std::size_t colon = rest.find(':');
    const std::string_view directory(rest.data(),
                                     colon != std::string_view::npos ? colon : rest.size());
    found.path.clear();
    found.path += directory.empty() ? "." : directory;
    found.path += "/";
    found.path += name;
    check(found);
    if (found.verdict == Verdict::kStarts) return;
    if (is_there(found)) {
      // As execvp does, only what cannot be executed is passed by.
      if (::access(found.path.text(), X_OK) == 0) return;
      if (best.verdict == Verdict::kNotInPath) best = found;
    }
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  found = best;
}

bool real_path(const char* path, PathText& real) {
  const host::Descriptor file(::open(path, O_PATH | O_CLOEXEC));
  if (!file.ok()) return false;
  PathText link;
  link += "/proc/self/fd/";
  link += static_cast<std::uint32_t>(file.get());
  char text[PATH_MAX];
  const ssize_t size = ::readlink(link.text(), text, sizeof text);
  if (size < 0) return false;
  real.clear();
  real += std::string_view(text, static_cast<std::size_t>(size));
  return real.fits();
}

bool own_directory(PathText& into) {
  char text[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", text, sizeof text);
  if (size <= 0) return false;
  const std::string_view self(text, static_cast<std::size_t>(size));
  const std::size_t slash = self.rfind('/');
  if (slash == std::string_view::npos) return false;
  into.clear();
  into += std::string_view(text, slash);
  return true;
}

bool find_beside(std::string_view directory, std::span<const std::string_view> places,
                 std::string_view name, PathText& real) {
  for (const std::string_view place : places) {
    PathText path;
    path += directory;
    path += "/";
    path += place;
    path += "/";
    path += name;
    if (path.fits() && real_path(path.text(), real)) return true;
  }
  return false;
}

}  // namespace libservices::cli
