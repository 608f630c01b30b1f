// SPDX-License-Identifier: Apache-2.0
//
// The exec functions. The kernel cannot read a program of ours: it runs from a copy in memory. A
// script of ours is given to its interpreter by name.
#include "src/preload/execute.h"

#include <alloca.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/client/addresses.h"
#include "src/client/hand_over.h"
#include "src/client/loading.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr int kMostInterpreters = 5;

char own_library[PATH_MAX];  // as LD_PRELOAD named it; empty if it came in another way

// Whether a list with spaces or colons between has this library in it.
bool lists_own_library(const char* list) {
  const std::size_t own = strlen(own_library);
  for (const char* at = list; *at != '\0';) {
    const std::size_t length = strcspn(at, ": ");
    if (length == own && strncmp(at, own_library, own) == 0) return true;
    at += length;
    if (*at != '\0') ++at;
  }
  return false;
}

// The first line of a script: `#! interpreter argument`.
struct Script {
  char line[256];
  char* interpreter;
  char* argument;  // or null
};

bool parse_script(Script& script, long bytes) {
  if (bytes < 3 || script.line[0] != '#' || script.line[1] != '!') return false;
  script.line[bytes < 255 ? bytes : 255] = '\0';
  char* const end = script.line + strcspn(script.line, "\n");
  *end = '\0';
  char* last = end;
  while (last > script.line + 2 && (last[-1] == ' ' || last[-1] == '\t')) *--last = '\0';
  script.interpreter = script.line + 2 + strspn(script.line + 2, " \t");
  if (*script.interpreter == '\0') return false;
  script.argument = script.interpreter + strcspn(script.interpreter, " \t");
  if (*script.argument == '\0') {
    script.argument = nullptr;
  } else {
    *script.argument++ = '\0';
    script.argument += strspn(script.argument, " \t");
    if (*script.argument == '\0') script.argument = nullptr;
  }
  return true;
}

long run(int directory, const char* path, char* const* arguments, char* const* environment,
         int flags, int depth);

// The system call, after what has to be told before this program is gone.
long run_kernel(long directory, const char* path, char* const* arguments, char* const* environment,
                int flags) {
  if (client::state.watched) {
    // A search along PATH tries many that are not there.
    const bool itself = path != nullptr && client::check_text(path) == 0 && path[0] == '\0';
    if (itself || raw::syscall(SYS_faccessat, directory, path, X_OK) == 0) write_report();
  }
  return flags == 0 && directory == AT_FDCWD
             ? raw::syscall(SYS_execve, path, arguments, environment)
             : raw::syscall(SYS_execveat, directory, path, arguments, environment, flags);
}

long run_script(const Script& script, const char* path, char* const* arguments,
                char* const* environment, int depth) {
  const int count = count_strings(arguments);
  auto** const all =
      static_cast<char**>(alloca(sizeof(char*) * (static_cast<std::size_t>(count) + 4)));
  int at = 0;
  all[at++] = script.interpreter;
  if (script.argument != nullptr) all[at++] = script.argument;
  all[at++] = const_cast<char*>(path);
  for (int i = 1; i < count; ++i) all[at++] = arguments[i];
  all[at] = nullptr;
  return run(AT_FDCWD, script.interpreter, all, environment, 0, depth + 1);
}

// A descriptor with a copy of the program, which ends with the process if it is not run.
long copy_program(int from, const char* path) {
  constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, since Linux 6.3
  const char* const slash = strrchr(path, '/');
  const char* const name = slash != nullptr && slash[1] != '\0' ? slash + 1 : "program";
  long copy = raw::syscall(SYS_memfd_create, name, MFD_CLOEXEC | kExecutable);
  if (copy == -EINVAL) copy = raw::syscall(SYS_memfd_create, name, MFD_CLOEXEC);
  if (copy < 0) return copy;
  while (true) {
    const long some = calls::sendfile(static_cast<int>(copy), from, nullptr, 1U << 30U);
    if (some == 0) return copy;
    if (some < 0) {
      raw::syscall(SYS_close, copy);
      return some;
    }
  }
}

// Why the loader does not bring this library into what `file` (ours or the kernel's) is; null: it
// does, or nobody can tell.
const char* obstacle_in(int file, int depth = 0) {
  struct stat status;
  if (calls::fstat(file, &status) != 0) return nullptr;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid()) {
    return "it is set-user-id: the loader ignores preload libraries in such programs";
  }
  if ((status.st_mode & S_ISGID) != 0 && status.st_gid != getegid()) {
    return "it is set-group-id: the loader ignores preload libraries in such programs";
  }
  Script script;
  static_assert(sizeof script.line == client::kScriptBytes);
  const client::Loading loading = client::loading_of(
      [&](void* into, std::size_t size, std::uint64_t offset) {
        return calls::pread(file, into, size, static_cast<off_t>(offset));
      },
      script.line);
  if (loading != client::Loading::kScript) {
    const char* const reason = client::reason_of(loading);
    return *reason != '\0' ? reason : nullptr;
  }
  if (depth == kMostInterpreters || !parse_script(script, static_cast<long>(strlen(script.line)))) {
    return nullptr;
  }
  const long interpreter = calls::open(AT_FDCWD, script.interpreter, O_RDONLY | O_CLOEXEC, 0);
  if (interpreter < 0) return nullptr;
  const char* const reason = obstacle_in(static_cast<int>(interpreter), depth + 1);
  (void)calls::close(static_cast<int>(interpreter));
  return reason;
}

// The same of a program of the kernel's.
const char* obstacle_at(int directory, const char* path, int flags) {
  if (client::check_text(path) != 0) return nullptr;
  const bool itself = (flags & AT_EMPTY_PATH) != 0 && path[0] == '\0';
  const long file = itself ? calls::dup(directory)
                           : raw::syscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return nullptr;
  const char* const reason = obstacle_in(static_cast<int>(file));
  (void)calls::close(static_cast<int>(file));
  return reason;
}

// A program that sees no more than the kernel: what it inherits of ours becomes the mount's.
long run_apart(const char* reason, int directory, const char* path, char* const* arguments,
               char* const* environment, int flags) {
  client::HandOver files;
  long error = files.begin();
  if (error != 0) {
    char text[PATH_MAX + 512];
    const int bytes = snprintf(
        text, sizeof text, "libservices: %s: %s, and %s (%s)\n", *path != '\0' ? path : "a program",
        reason,
        error == -EOPNOTSUPP ? "what it inherits lies in a mount that is not at the kernel"
                             : "what it inherits cannot be opened by the mount at the kernel",
        error == -EOPNOTSUPP ? "serve the mount with --fuse, or use a dynamically linked build"
                             : strerrordesc_np(static_cast<int>(-error)));
    if (bytes > 0) (void)calls::write(STDERR_FILENO, text, static_cast<std::size_t>(bytes));
    return -EACCES;
  }
  error = run_kernel(directory, path, arguments, environment, flags);
  files.take_back();
  return error;
}

// The path by which the kernel has a file of ours, if its mount is there.
bool find_at_kernel(int file, char (&path)[PATH_MAX]) {
  constexpr std::uint32_t kFuse = 0x65735546;  // FUSE_SUPER_MAGIC
  client::OpenRecord* const record = client::find(file);
  struct stat ours;
  if (record == nullptr || calls::fstat(file, &ours) != 0) return false;
  const long bytes = calls::path_of(*record, file, path, sizeof path - 1);
  if (bytes < 0) return false;
  path[bytes] = '\0';
  const long there = raw::syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
  if (there < 0) return false;
  struct statfs volume {};
  struct stat theirs {};
  const bool same = raw::syscall(SYS_fstatfs, there, &volume) == 0 &&
                    static_cast<std::uint32_t>(volume.f_type) == kFuse &&
                    raw::syscall(SYS_fstat, there, &theirs) == 0 && theirs.st_ino == ours.st_ino;
  raw::syscall(SYS_close, there);
  return same;
}

// A program or script of ours, open as `file`.
long run_ours(int file, const char* path, char* const* arguments, char* const* environment,
              int depth) {
  Script script;
  const long bytes = calls::pread(file, script.line, sizeof script.line - 1, 0);
  if (bytes < 0) return bytes;
  if (parse_script(script, bytes)) {
    return run_script(script, path, arguments, environment, depth);
  }
  if (bytes < 4 || memcmp(script.line, "\177ELF", 4) != 0) return -ENOEXEC;
  const char* const reason = obstacle_in(file);
  char at_kernel[PATH_MAX];
  if (find_at_kernel(file, at_kernel)) {
    return reason != nullptr ? run_apart(reason, AT_FDCWD, at_kernel, arguments, environment, 0)
                             : run_kernel(AT_FDCWD, at_kernel, arguments, environment, 0);
  }
  const long copy = copy_program(file, path);
  if (copy < 0) return copy;
  const long error =
      reason != nullptr
          ? run_apart(reason, static_cast<int>(copy), "", arguments, environment, AT_EMPTY_PATH)
          : run_kernel(copy, "", arguments, environment, AT_EMPTY_PATH);
  raw::syscall(SYS_close, copy);
  return error;
}

// A script outside whose interpreter is ours: the kernel did not find it.
long run_interpreter_of(int directory, const char* path, char* const* arguments,
                        char* const* environment, int depth, long error) {
  const long file = raw::syscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return error;
  Script script;
  const long bytes = raw::syscall(SYS_read, file, script.line, sizeof script.line - 1);
  raw::syscall(SYS_close, file);
  if (!parse_script(script, bytes) || !leads_to_ours(AT_FDCWD, script.interpreter)) return error;
  return run_script(script, path, arguments, environment, depth);
}

long run(int directory, const char* path, char* const* arguments, char* const* environment,
         int flags, int depth) {
  if (depth > kMostInterpreters) return -ELOOP;
  const bool itself =
      (flags & AT_EMPTY_PATH) != 0 && client::check_text(path) == 0 && path[0] == '\0';
  const bool ours = itself ? calls::is_ours(directory) : leads_to_ours(directory, path);
  if (!ours) {
    const char* const reason =
        client::has_open_files() ? obstacle_at(directory, path, flags) : nullptr;
    const long error = reason != nullptr
                           ? run_apart(reason, directory, path, arguments, environment, flags)
                           : run_kernel(directory, path, arguments, environment, flags);
    if ((error != -ENOENT && error != -EACCES) || itself) return error;
    return run_interpreter_of(directory, path, arguments, environment, depth, error);
  }
  char by_number[32];
  struct stat attributes;
  long error = itself ? calls::fstat(directory, &attributes)
                      : calls::fstatat(directory, path, &attributes, flags & AT_SYMLINK_NOFOLLOW);
  if (error != 0) return error;
  if (S_ISLNK(attributes.st_mode)) return -ELOOP;
  if (!S_ISREG(attributes.st_mode)) return -EACCES;
  if (itself) {
    snprintf(by_number, sizeof by_number, "/dev/fd/%d", directory);
    path = by_number;
    directory = AT_FDCWD;
    // Root may read all, but execute only what someone may.
    error = (attributes.st_mode & 0111U) != 0 ? 0 : -EACCES;
  } else {
    error = calls::faccessat(directory, path, X_OK, AT_EACCESS);
  }
  if (error != 0) return error;
  const long file = calls::open(directory, path, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return file;
  if (path != by_number && directory != AT_FDCWD && path[0] != '/') {
    // A script needs a name that its interpreter can open; this one must outlive exec then.
    snprintf(by_number, sizeof by_number, "/dev/fd/%d", directory);
    char whole[PATH_MAX];
    if (snprintf(whole, sizeof whole, "%s/%s", by_number, path) < PATH_MAX) {
      error = run_ours(static_cast<int>(file), whole, arguments, environment, depth);
      (void)calls::close(static_cast<int>(file));
      return error;
    }
  }
  error = run_ours(static_cast<int>(file), path, arguments, environment, depth);
  (void)calls::close(static_cast<int>(file));
  return error;
}

// /bin/sh, as execvp does for a file that is no program.
long run_by_shell(const char* path, char* const* arguments, char* const* environment) {
  const int count = count_strings(arguments);
  auto** const all =
      static_cast<char**>(alloca(sizeof(char*) * (static_cast<std::size_t>(count) + 3)));
  int at = 0;
  all[at++] = const_cast<char*>(_PATH_BSHELL);
  all[at++] = const_cast<char*>(path);
  for (int i = 1; i < count; ++i) all[at++] = arguments[i];
  all[at] = nullptr;
  return execute(AT_FDCWD, _PATH_BSHELL, all, environment, 0);
}

const char* search_path() {
  const char* const path = getenv("PATH");
  return path != nullptr ? path : "/bin:/usr/bin";
}

// The next directory of a search path with `file` behind it. False when it is too long.
bool next_candidate(const char*& at, const char* file, char (&candidate)[PATH_MAX]) {
  const auto length = static_cast<std::size_t>(strchrnul(at, ':') - at);
  const std::size_t name = strlen(file);
  const bool fits = length + 1 + name < sizeof candidate;
  if (fits) {
    memcpy(candidate, at, length);
    std::size_t end = length;
    if (length != 0) candidate[end++] = '/';
    memcpy(candidate + end, file, name + 1);
  }
  at += length;
  return fits;
}

}  // namespace

int count_strings(char* const* strings) {
  int count = 0;
  while (strings != nullptr && strings[count] != nullptr) ++count;
  return count;
}

void remember_environment(char* const* environment) {
  Dl_info self;
  const char* const list = value_of(environment, kPreloadVariable);
  if (list == nullptr || dladdr(reinterpret_cast<void*>(&remember_environment), &self) == 0 ||
      self.dli_fname == nullptr || strlen(self.dli_fname) >= sizeof own_library) {
    return;
  }
  strcpy(own_library, self.dli_fname);
  if (!lists_own_library(list)) own_library[0] = '\0';
}

char* const* complete_environment(char* const* environment, char** space, EnvironmentText& text) {
  if (!active()) return environment;
  const char* const list = value_of(environment, kPreloadVariable);
  const bool needs_pool = value_of(environment, kPoolVariable) == nullptr;
  const bool needs_preload =
      own_library[0] != '\0' && (list == nullptr || !lists_own_library(list));
  int at = 0;
  const auto needs = [&](const char* name, const char* value, char* into, std::size_t size) {
    if (value == nullptr || value_of(environment, name) != nullptr) return;
    snprintf(into, size, "%s%s", name, value);
    space[at++] = into;
  };
  needs(kReportVariable, report_value(), text.report, sizeof text.report);
  needs(kStrictVariable, strict_value(), text.strict, sizeof text.strict);
  if (!needs_pool && !needs_preload && at == 0) return environment;
  if (needs_pool) {
    snprintf(text.pool, sizeof text.pool, "%s%s", kPoolVariable, client::state.directory);
    space[at++] = text.pool;
  }
  if (needs_preload) {
    snprintf(text.preload, sizeof text.preload, "%s%s%s%s", kPreloadVariable, own_library,
             list != nullptr && *list != '\0' ? ":" : "", list != nullptr ? list : "");
    space[at++] = text.preload;
  }
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    if (needs_preload && strncmp(*environment, kPreloadVariable, sizeof kPreloadVariable - 1) == 0)
      continue;
    space[at++] = *environment;
  }
  space[at] = nullptr;
  return space;
}

long execute(int directory, const char* path, char* const* arguments, char* const* environment,
             int flags) {
  if (!active() || path == nullptr) {
    return run_kernel(directory, path, arguments, environment, flags);
  }
  client::share_all();
  EnvironmentText text;
  auto** const space = static_cast<char**>(alloca(
      sizeof(char*) * static_cast<std::size_t>(count_strings(environment) + kMoreVariables)));
  return run(directory, path, arguments, complete_environment(environment, space, text), flags, 0);
}

long execute_by_name(const char* file, char* const* arguments, char* const* environment) {
  if (*file == '\0') return -ENOENT;
  if (strchr(file, '/') != nullptr) {
    const long error = execute(AT_FDCWD, file, arguments, environment, 0);
    return error == -ENOEXEC ? run_by_shell(file, arguments, environment) : error;
  }
  long outcome = -ENOENT;
  for (const char* at = search_path();; ++at) {
    char candidate[PATH_MAX];
    if (next_candidate(at, file, candidate)) {
      long error = execute(AT_FDCWD, candidate, arguments, environment, 0);
      if (error == -ENOEXEC) error = run_by_shell(candidate, arguments, environment);
      switch (error) {
        case -EACCES:
          outcome = -EACCES;
          break;
        case -ENOENT:
        case -ESTALE:
        case -ENOTDIR:
        case -ENODEV:
        case -ETIMEDOUT:
          break;
        default:
          return error;
      }
    }
    if (*at == '\0') return outcome;
  }
}

bool needs_library(const char* file, bool search) {
  if (!active()) return false;
  if (!search || strchr(file, '/') != nullptr) {
    return leads_to_ours(AT_FDCWD, file) ||
           (client::has_open_files() && obstacle_at(AT_FDCWD, file, 0) != nullptr);
  }
  bool found = false;  // the one that the kernel runs
  for (const char* at = search_path();; ++at) {
    char candidate[PATH_MAX];
    if (next_candidate(at, file, candidate)) {
      if (leads_to_ours(AT_FDCWD, candidate)) return true;
      if (!found && client::has_open_files() &&
          raw::syscall(SYS_faccessat, AT_FDCWD, candidate, X_OK) == 0) {
        found = true;
        if (obstacle_at(AT_FDCWD, candidate, 0) != nullptr) return true;
      }
    }
    if (*at == '\0') return false;
  }
}

// --- exec ---------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_execve(const char* path, char* const* arguments,
                                 char* const* environment) {
  const Call call(Symbol::execve);
  return int_result(execute(AT_FDCWD, path, arguments, environment, 0));
}

LIBSERVICES_EXPORT int ls_execveat(int directory, const char* path, char* const* arguments,
                                   char* const* environment, int flags) {
  const Call call(Symbol::execveat);
  return int_result(execute(directory, path, arguments, environment, flags));
}

LIBSERVICES_EXPORT int ls_fexecve(int descriptor, char* const* arguments,
                                  char* const* environment) {
  const Call call(Symbol::fexecve);
  if (descriptor < 0 || arguments == nullptr || environment == nullptr) {
    return int_result(-EINVAL);
  }
  return int_result(execute(descriptor, "", arguments, environment, AT_EMPTY_PATH));
}

LIBSERVICES_EXPORT int ls_execv(const char* path, char* const* arguments) {
  const Call call(Symbol::execv);
  return ls_execve(path, arguments, environ);
}

LIBSERVICES_EXPORT int ls_execvpe(const char* file, char* const* arguments,
                                  char* const* environment) {
  const Call call(Symbol::execvpe);
  return int_result(execute_by_name(file, arguments, environment));
}

LIBSERVICES_EXPORT int ls_execvp(const char* file, char* const* arguments) {
  const Call call(Symbol::execvp);
  return int_result(execute_by_name(file, arguments, environ));
}

// The arguments of execl and its kin as an array on the stack; `last` is left behind the null.
#define LIBSERVICES_COLLECT(first, last, array)                                             \
  va_list last;                                                                             \
  va_start(last, first);                                                                    \
  std::size_t count_of_##array = first != nullptr ? 1 : 0;                                  \
  while (first != nullptr && va_arg(last, char*) != nullptr) ++count_of_##array;            \
  va_end(last);                                                                             \
  auto** const array = static_cast<char**>(alloca(sizeof(char*) * (count_of_##array + 1))); \
  va_start(last, first);                                                                    \
  array[0] = const_cast<char*>(first);                                                      \
  for (std::size_t i = 1; first != nullptr && i <= count_of_##array; ++i) {                 \
    array[i] = va_arg(last, char*);                                                         \
  }

LIBSERVICES_EXPORT int ls_execl(const char* path, const char* first, ...) {
  const Call call(Symbol::execl);
  LIBSERVICES_COLLECT(first, rest, arguments)
  va_end(rest);
  return ls_execve(path, arguments, environ);
}

LIBSERVICES_EXPORT int ls_execlp(const char* file, const char* first, ...) {
  const Call call(Symbol::execlp);
  LIBSERVICES_COLLECT(first, rest, arguments)
  va_end(rest);
  return ls_execvpe(file, arguments, environ);
}

LIBSERVICES_EXPORT int ls_execle(const char* path, const char* first, ...) {
  const Call call(Symbol::execle);
  LIBSERVICES_COLLECT(first, rest, arguments)
  char* const* const environment = va_arg(rest, char**);
  va_end(rest);
  return ls_execve(path, arguments, environment);
}

}  // namespace libservices::preload
