// SPDX-License-Identifier: Apache-2.0
//
// The start of the library in a process, new processes, and who a process is.
#include <fcntl.h>
#include <grp.h>
#include <pty.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>
#include <utmp.h>

#include "src/preload/execute.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {

void* find_next(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) {
    constexpr char kText[] = "libservices: libc has no ";
    raw::syscall(SYS_write, 2, kText, sizeof kText - 1);
    raw::syscall(SYS_write, 2, name, strlen(name));
    raw::syscall(SYS_write, 2, "\n", 1);
    abort();
  }
  return found;
}

void begin_child() {
  client::after_fork_in_child();
  forget_counts();
}

namespace {

// Before all other libraries' constructors (-z initfirst), hence before libc's environ is set.
__attribute__((constructor)) void begin(int, char**, char** environment) {
  const char* const pool = value_of(environment, kPoolVariable);
  if (pool == nullptr) return;
  client::start(pool);
  if (!active()) return;
  remember_environment(environment);
  pthread_atfork(client::share_all, nullptr, begin_child);
  client::adopt_inherited();
  settle_standard_streams();
  begin_report(value_of(environment, kReportVariable), value_of(environment, kStrictVariable));
}

template <class Result>
Result changed_identity(Result result) {
  if (active()) client::forget_session();
  return result;
}

}  // namespace

// --- limits -------------------------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_prlimit(pid_t process, __rlimit_resource resource, const rlimit* limit,
                                  rlimit* old) {
  const Call call(Symbol::prlimit);
  const long result = raw::syscall(SYS_prlimit64, process, resource, limit, old);
  calls::forget_limits();
  return int_result(result);
}

LIBSERVICES_EXPORT int ls_setrlimit(__rlimit_resource resource, const rlimit* limit) {
  const Call call(Symbol::setrlimit);
  return ls_prlimit(0, resource, limit, nullptr);
}

// --- new processes ------------------------------------------------------------------------------

// fork itself calls what `begin` registered.
LIBSERVICES_EXPORT pid_t ls_bare_fork() {
  const Call call(Symbol::bare_fork);
  if (active()) client::share_all();
  const pid_t child = LIBSERVICES_REAL(_Fork)();
  if (child == 0 && active()) begin_child();
  return child;
}

// A child of vfork runs in its parent's memory, where its dup2 and close would change the parent's
// table. While the library is active it gets memory of its own, as POSIX allows.
LIBSERVICES_EXPORT pid_t ls_vfork_as_fork() {
  const Call call(Symbol::vfork);
  return fork();
}
LIBSERVICES_EXPORT int ls_vfork_failed(long error) { return int_result(error); }

static_assert(offsetof(client::State, active) == 0);
#if defined(__x86_64__)
__asm__(
    ".text\n"
    ".globl ls_vfork\n"
    ".type ls_vfork, @function\n"
    "ls_vfork:\n"
    ".cfi_startproc\n"
    "  endbr64\n"
    "  cmpb $0, _ZN11libservices6client5stateE(%rip)\n"
    "  jne ls_vfork_as_fork@PLT\n"
    "  popq %rdi\n"  // the return address: the child overwrites the stack
    ".cfi_adjust_cfa_offset -8\n"
    ".cfi_register %rip, %rdi\n"
    "  movl $58, %eax\n"
    "  syscall\n"
    "  pushq %rdi\n"
    ".cfi_adjust_cfa_offset 8\n"
    "  cmpq $-4095, %rax\n"
    "  jae 1f\n"
    "  ret\n"
    "1:\n"
    "  movq %rax, %rdi\n"
    "  jmp ls_vfork_failed@PLT\n"
    ".cfi_endproc\n"
    ".size ls_vfork, . - ls_vfork\n");
#else
LIBSERVICES_EXPORT pid_t ls_vfork() { return ls_vfork_as_fork(); }
#endif

namespace {

struct Beginning {
  int (*function)(void*);
  void* argument;
};

int begin_clone(void* beginning) {
  const Beginning copy = *static_cast<Beginning*>(beginning);
  begin_child();
  return copy.function(copy.argument);
}

}  // namespace

// A child with memory of its own is that of a fork. One that shares its parent's memory but not its
// descriptors would change the parent's table: it gets memory of its own, as that of vfork does.
LIBSERVICES_EXPORT int ls_clone(int (*function)(void*), void* stack, int flags, void* argument,
                                ...) {
  const Call call(Symbol::clone);
  va_list rest;
  va_start(rest, argument);
  auto* const parent_id = va_arg(rest, pid_t*);
  void* const thread_area = va_arg(rest, void*);
  auto* const child_id = va_arg(rest, pid_t*);
  va_end(rest);
  const auto real = LIBSERVICES_REAL(clone);
  if (!active() || function == nullptr ||
      (flags & (CLONE_VM | CLONE_FILES)) == (CLONE_VM | CLONE_FILES)) {
    return real(function, stack, flags, argument, parent_id, thread_area, child_id);
  }
  client::share_all();
  Beginning beginning{function, argument};
  return real(begin_clone, stack, flags & ~(CLONE_VM | CLONE_SIGHAND), &beginning, parent_id,
              thread_area, child_id);
}

// Descriptors and the working directory in mounts are those of all threads.
LIBSERVICES_EXPORT int ls_unshare(int flags) {
  const Call call(Symbol::unshare);
  const int done = LIBSERVICES_REAL(unshare)(flags);
  if (done == 0 && active() && (flags & (CLONE_FILES | CLONE_FS)) != 0 &&
      __libc_single_threaded == 0) {
    (void)client::refused(0);
  }
  return (flags & CLONE_NEWUSER) != 0 ? changed_identity(done) : done;
}

LIBSERVICES_EXPORT int ls_setns(int descriptor, int type) {
  const Call call(Symbol::setns);
  return changed_identity(LIBSERVICES_REAL(setns)(descriptor, type));
}

LIBSERVICES_EXPORT int ls_system(const char* command) {
  const Call call(Symbol::system);
  if (active()) client::share_all();
  return LIBSERVICES_REAL(system)(command);
}

LIBSERVICES_EXPORT FILE* ls_popen(const char* command, const char* mode) {
  const Call call(Symbol::popen);
  if (active()) client::share_all();
  return LIBSERVICES_REAL(popen)(command, mode);
}

LIBSERVICES_EXPORT void ls_exit_now(int status) {
  write_report();
  raw::syscall(SYS_exit_group, status);
  __builtin_unreachable();
}

LIBSERVICES_EXPORT int ls_daemon(int keep_directory, int keep_streams) {
  const Call call(Symbol::daemon);
  if (!active()) return LIBSERVICES_REAL(daemon)(keep_directory, keep_streams);
  const pid_t child = fork();
  if (child < 0) return -1;
  if (child > 0) _exit(0);
  if (setsid() < 0) return -1;
  if (keep_directory == 0) (void)calls::chdir("/");
  if (keep_streams == 0) {
    const long nothing = calls::open(AT_FDCWD, "/dev/null", O_RDWR, 0);
    if (nothing < 0) return int_result(nothing);
    for (int i = 0; i < 3; ++i) (void)calls::dup3(static_cast<int>(nothing), i, -1);
    if (nothing > 2) (void)calls::close(static_cast<int>(nothing));
  }
  return 0;
}

// libc's own two would change the numbers 0, 1 and 2 by system calls that the library does not see.
LIBSERVICES_EXPORT int ls_login_tty(int terminal) {
  const Call call(Symbol::login_tty);
  if (!active()) return LIBSERVICES_REAL(login_tty)(terminal);
  (void)setsid();
  const long controls = calls::ioctl(terminal, TIOCSCTTY, 0);
  if (controls < 0) return int_result(controls);
  for (int i = 0; i < 3; ++i) (void)calls::dup3(terminal, i, -1);
  if (terminal > 2) (void)calls::close(terminal);
  return 0;
}

LIBSERVICES_EXPORT int ls_forkpty(int* leader, char* name, const termios* attributes,
                                  const winsize* size) {
  const Call call(Symbol::forkpty);
  if (!active()) return LIBSERVICES_REAL(forkpty)(leader, name, attributes, size);
  int master = -1;
  int terminal = -1;
  if (openpty(&master, &terminal, name, attributes, size) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    (void)calls::close(master);
    if (ls_login_tty(terminal) != 0) _exit(1);
    return 0;
  }
  const int error = errno;
  (void)calls::close(terminal);
  if (child < 0) {
    (void)calls::close(master);
  } else {
    *leader = master;
  }
  errno = error;
  return child;
}

// --- identity: a session is opened as who the process was ---------------------------------------

LIBSERVICES_EXPORT int ls_setuid(uid_t uid) {
  const Call call(Symbol::setuid);
  return changed_identity(LIBSERVICES_REAL(setuid)(uid));
}

LIBSERVICES_EXPORT int ls_setgid(gid_t gid) {
  const Call call(Symbol::setgid);
  return changed_identity(LIBSERVICES_REAL(setgid)(gid));
}

LIBSERVICES_EXPORT int ls_seteuid(uid_t uid) {
  const Call call(Symbol::seteuid);
  return changed_identity(LIBSERVICES_REAL(seteuid)(uid));
}

LIBSERVICES_EXPORT int ls_setegid(gid_t gid) {
  const Call call(Symbol::setegid);
  return changed_identity(LIBSERVICES_REAL(setegid)(gid));
}

LIBSERVICES_EXPORT int ls_setreuid(uid_t real, uid_t effective) {
  const Call call(Symbol::setreuid);
  return changed_identity(LIBSERVICES_REAL(setreuid)(real, effective));
}

LIBSERVICES_EXPORT int ls_setregid(gid_t real, gid_t effective) {
  const Call call(Symbol::setregid);
  return changed_identity(LIBSERVICES_REAL(setregid)(real, effective));
}

LIBSERVICES_EXPORT int ls_setresuid(uid_t real, uid_t effective, uid_t saved) {
  const Call call(Symbol::setresuid);
  return changed_identity(LIBSERVICES_REAL(setresuid)(real, effective, saved));
}

LIBSERVICES_EXPORT int ls_setresgid(gid_t real, gid_t effective, gid_t saved) {
  const Call call(Symbol::setresgid);
  return changed_identity(LIBSERVICES_REAL(setresgid)(real, effective, saved));
}

// A service knows a caller by its effective ids.
LIBSERVICES_EXPORT int ls_setfsuid(uid_t uid) {
  const Call call(Symbol::setfsuid);
  if (active() && uid != geteuid()) (void)client::refused(0);
  return LIBSERVICES_REAL(setfsuid)(uid);
}

LIBSERVICES_EXPORT int ls_setfsgid(gid_t gid) {
  const Call call(Symbol::setfsgid);
  if (active() && gid != getegid()) (void)client::refused(0);
  return LIBSERVICES_REAL(setfsgid)(gid);
}

LIBSERVICES_EXPORT int ls_setgroups(std::size_t count, const gid_t* groups) {
  const Call call(Symbol::setgroups);
  return changed_identity(LIBSERVICES_REAL(setgroups)(count, groups));
}

LIBSERVICES_EXPORT int ls_initgroups(const char* user, gid_t group) {
  const Call call(Symbol::initgroups);
  return changed_identity(LIBSERVICES_REAL(initgroups)(user, group));
}

}  // namespace libservices::preload
