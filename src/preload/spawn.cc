// SPDX-License-Identifier: Apache-2.0
//
// posix_spawn. libc's own one serves all that the kernel can do by itself; a program, a working
// directory or a file of ours needs a child that runs the library: fork, the actions, exec.
#include <alloca.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/preload/execute.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// glibc's list of actions, whose form its binary interface fixes since version 2.29.
enum class Tag : int { kClose, kDup2, kOpen, kChdir, kFchdir, kClosefrom, kTcsetpgrp };
struct Action {
  Tag tag;
  union {
    struct {
      int descriptor;
    } close;  // also fchdir, closefrom and tcsetpgrp
    struct {
      int from;
      int to;
    } dup2;
    struct {
      int descriptor;
      char* path;
      int flags;
      mode_t mode;
    } open;
    struct {
      char* path;
    } chdir;
  };
};
struct Actions {
  const Action* first = nullptr;
  int count = 0;

  explicit Actions(const posix_spawn_file_actions_t* given) {
    if (given == nullptr) return;
    first = reinterpret_cast<const Action*>(given->__actions);
    count = given->__used;
  }
};

// Whether an action needs the library.
bool involves_ours(const Action& action) {
  switch (action.tag) {
    case Tag::kOpen:
      return leads_to_ours(AT_FDCWD, action.open.path);
    case Tag::kChdir:
      return leads_to_ours(AT_FDCWD, action.chdir.path);
    case Tag::kFchdir:
      return calls::is_ours(action.close.descriptor);
    default:
      return false;
  }
}

// A program of the kernel's, started where only kernel paths matter.
bool kernel_can(const char* file, bool search, const Actions& actions) {
  if (needs_library(file, search)) return false;
  for (int i = 0; i < actions.count; ++i) {
    if (involves_ours(actions.first[i])) return false;
  }
  return true;
}

long apply(const Action& action, int report) {
  switch (action.tag) {
    case Tag::kClose:
      (void)calls::close(action.close.descriptor);
      return 0;
    case Tag::kDup2: {
      if (action.dup2.from != action.dup2.to) {
        return calls::dup3(action.dup2.from, action.dup2.to, -1);
      }
      const long flags = calls::fcntl(action.dup2.from, F_GETFD, 0);
      if (flags < 0) return flags;
      return calls::fcntl(action.dup2.from, F_SETFD,
                          static_cast<unsigned long>(flags & ~FD_CLOEXEC));
    }
    case Tag::kOpen: {
      (void)calls::close(action.open.descriptor);
      const long opened =
          calls::open(AT_FDCWD, action.open.path, action.open.flags, action.open.mode);
      if (opened < 0 || opened == action.open.descriptor) return opened;
      const long moved = calls::dup3(static_cast<int>(opened), action.open.descriptor, -1);
      (void)calls::close(static_cast<int>(opened));
      return moved;
    }
    case Tag::kChdir:
      return calls::chdir(action.chdir.path);
    case Tag::kFchdir:
      return calls::fchdir(action.close.descriptor);
    case Tag::kClosefrom: {
      const auto first = static_cast<unsigned>(action.close.descriptor);
      const auto kept = static_cast<unsigned>(report);
      if (first < kept) (void)calls::close_range(first, kept - 1, 0);
      return calls::close_range(first > kept ? first : kept + 1, ~0U, 0);
    }
    case Tag::kTcsetpgrp:
      return tcsetpgrp(action.close.descriptor, getpgrp()) == 0 ? 0 : -errno;
  }
  return -EINVAL;
}

long take(int outcome) { return outcome == 0 ? 0 : -errno; }

// What the attributes ask of a child, but for its signal mask.
long become(const posix_spawnattr_t* attributes) {
  short flags = 0;
  posix_spawnattr_getflags(attributes, &flags);
  if ((flags & POSIX_SPAWN_SETSIGDEF) != 0) {
    sigset_t defaults;
    posix_spawnattr_getsigdefault(attributes, &defaults);
    for (int signal = 1; signal < NSIG; ++signal) {
      if (sigismember(&defaults, signal) == 1) (void)::signal(signal, SIG_DFL);
    }
  }
  if ((flags & (POSIX_SPAWN_SETSCHEDPARAM | POSIX_SPAWN_SETSCHEDULER)) != 0) {
    sched_param parameters;
    posix_spawnattr_getschedparam(attributes, &parameters);
    int policy = 0;
    posix_spawnattr_getschedpolicy(attributes, &policy);
    const long error = (flags & POSIX_SPAWN_SETSCHEDULER) != 0
                           ? take(sched_setscheduler(0, policy, &parameters) < 0 ? -1 : 0)
                           : take(sched_setparam(0, &parameters));
    if (error != 0) return error;
  }
  if ((flags & POSIX_SPAWN_SETSID) != 0 && setsid() < 0) return -errno;
  if ((flags & POSIX_SPAWN_SETPGROUP) != 0) {
    pid_t group = 0;
    posix_spawnattr_getpgroup(attributes, &group);
    if (const long error = take(setpgid(0, group)); error != 0) return error;
  }
  if ((flags & POSIX_SPAWN_RESETIDS) != 0) {
    if (const long error = take(setegid(getgid())); error != 0) return error;
    if (const long error = take(seteuid(getuid())); error != 0) return error;
  }
  return 0;
}

[[noreturn]] void run_child(int report, const char* file, bool search, const Actions& actions,
                            const posix_spawnattr_t* attributes, char* const* arguments,
                            char* const* environment) {
  long error = attributes != nullptr ? become(attributes) : 0;
  for (int i = 0; i < actions.count && error >= 0; ++i) {
    // An action may want the number of the pipe that reports a failure.
    const Action& action = actions.first[i];
    const int wanted = action.tag == Tag::kDup2   ? action.dup2.to
                       : action.tag == Tag::kOpen ? action.open.descriptor
                                                  : -1;
    if (wanted == report) {
      const long moved = raw::syscall(SYS_fcntl, report, F_DUPFD_CLOEXEC, report + 1);
      if (moved >= 0) report = static_cast<int>(moved);
    }
    error = apply(action, report);
  }
  if (error >= 0) {
    if (attributes != nullptr) {
      short flags = 0;
      posix_spawnattr_getflags(attributes, &flags);
      if ((flags & POSIX_SPAWN_SETSIGMASK) != 0) {
        sigset_t mask;
        posix_spawnattr_getsigmask(attributes, &mask);
        sigprocmask(SIG_SETMASK, &mask, nullptr);
      }
    }
    error = search ? execute_by_name(file, arguments, environment)
                   : execute(AT_FDCWD, file, arguments, environment, 0);
  }
  const int code = static_cast<int>(-error);
  raw::syscall(SYS_write, report, &code, sizeof code);
  _exit(127);
}

int spawn_here(pid_t* child, const char* file, bool search, const Actions& actions,
               const posix_spawnattr_t* attributes, char* const* arguments,
               char* const* environment) {
  int ends[2];
  if (const long error = raw::syscall(SYS_pipe2, ends, O_CLOEXEC); error != 0) {
    return static_cast<int>(-error);
  }
  const pid_t made = fork();
  if (made == 0) {
    raw::syscall(SYS_close, ends[0]);
    run_child(ends[1], file, search, actions, attributes, arguments, environment);
  }
  const int fork_error = errno;
  raw::syscall(SYS_close, ends[1]);
  int code = 0;
  if (made < 0) {
    code = fork_error;
  } else {
    long bytes = 0;
    do {
      bytes = raw::syscall(SYS_read, ends[0], &code, sizeof code);
    } while (bytes == -EINTR);
    if (bytes != sizeof code) {
      code = 0;
      if (child != nullptr) *child = made;
    } else {
      while (waitpid(made, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  }
  raw::syscall(SYS_close, ends[0]);
  return code;
}

int spawn(pid_t* child, const char* file, bool search, const posix_spawn_file_actions_t* given,
          const posix_spawnattr_t* attributes, char* const* arguments, char* const* environment) {
  const auto real = search ? LIBSERVICES_REAL(posix_spawnp) : LIBSERVICES_REAL(posix_spawn);
  if (!active()) return real(child, file, given, attributes, arguments, environment);
  client::share_all();
  const Actions actions(given);
  if (!kernel_can(file, search, actions)) {
    const int before = errno;
    const int error = spawn_here(child, file, search, actions, attributes, arguments, environment);
    errno = before;
    return error;
  }
  EnvironmentText text;
  auto** const space = static_cast<char**>(alloca(
      sizeof(char*) * static_cast<std::size_t>(count_strings(environment) + kMoreVariables)));
  return real(child, file, given, attributes, arguments,
              complete_environment(environment, space, text));
}

}  // namespace

LIBSERVICES_EXPORT int ls_posix_spawn(pid_t* child, const char* path,
                                      const posix_spawn_file_actions_t* actions,
                                      const posix_spawnattr_t* attributes, char* const* arguments,
                                      char* const* environment) {
  const Call call(Symbol::posix_spawn);
  return spawn(child, path, false, actions, attributes, arguments, environment);
}

LIBSERVICES_EXPORT int ls_posix_spawnp(pid_t* child, const char* file,
                                       const posix_spawn_file_actions_t* actions,
                                       const posix_spawnattr_t* attributes, char* const* arguments,
                                       char* const* environment) {
  const Call call(Symbol::posix_spawnp);
  return spawn(child, file, true, actions, attributes, arguments, environment);
}

}  // namespace libservices::preload
