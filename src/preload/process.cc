// SPDX-License-Identifier: Apache-2.0
//
// The start of the library in a process, new processes, and who a process is.
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

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

namespace {

// Before all other libraries' constructors (-z initfirst), hence before libc's environ is set.
__attribute__((constructor)) void begin(int, char**, char** environment) {
  constexpr char kPool[] = "LIBSERVICES_POOL=";
  const char* pool = nullptr;
  for (char** at = environment; at != nullptr && *at != nullptr; ++at) {
    if (strncmp(*at, kPool, sizeof kPool - 1) == 0) pool = *at + sizeof kPool - 1;
  }
  if (pool == nullptr) return;
  client::start(pool);
  if (!active()) return;
  remember_environment(environment);
  pthread_atfork(client::share_all, nullptr, client::after_fork_in_child);
  client::adopt_inherited();
  settle_standard_streams();
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
  const long result = raw::syscall(SYS_prlimit64, process, resource, limit, old);
  calls::forget_limits();
  return int_result(result);
}
LIBSERVICES_ALIAS_2(prlimit, prlimit64, ls_prlimit);

LIBSERVICES_EXPORT int ls_setrlimit(__rlimit_resource resource, const rlimit* limit) {
  return ls_prlimit(0, resource, limit, nullptr);
}
LIBSERVICES_ALIAS_2(setrlimit, setrlimit64, ls_setrlimit);

// --- new processes ------------------------------------------------------------------------------

// fork itself calls what `begin` registered.
LIBSERVICES_EXPORT pid_t ls_bare_fork() {
  if (active()) client::share_all();
  const pid_t child = LIBSERVICES_REAL(_Fork)();
  if (child == 0 && active()) client::after_fork_in_child();
  return child;
}
LIBSERVICES_ALIAS(_Fork, ls_bare_fork);

// A child of vfork runs in its parent's memory, where its dup2 and close would change the parent's
// table. While the library is active it gets memory of its own, as POSIX allows.
LIBSERVICES_EXPORT pid_t ls_vfork_as_fork() { return fork(); }
LIBSERVICES_EXPORT int ls_vfork_failed(long error) { return int_result(error); }

static_assert(offsetof(client::State, active) == 0);
#if defined(__x86_64__)
__asm__(
    ".text\n"
    ".globl vfork\n"
    ".globl __vfork\n"
    ".type vfork, @function\n"
    ".type __vfork, @function\n"
    "vfork:\n"
    "__vfork:\n"
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
    ".size vfork, . - vfork\n");
#else
LIBSERVICES_ALIAS_2(vfork, __vfork, ls_vfork_as_fork);
#endif

LIBSERVICES_EXPORT int ls_system(const char* command) {
  if (active()) client::share_all();
  return LIBSERVICES_REAL(system)(command);
}
LIBSERVICES_ALIAS(system, ls_system);

LIBSERVICES_EXPORT FILE* ls_popen(const char* command, const char* mode) {
  if (active()) client::share_all();
  return LIBSERVICES_REAL(popen)(command, mode);
}
LIBSERVICES_ALIAS_2(popen, _IO_popen, ls_popen);

LIBSERVICES_EXPORT int ls_daemon(int keep_directory, int keep_streams) {
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
LIBSERVICES_ALIAS(daemon, ls_daemon);

// --- identity: a session is opened as who the process was ---------------------------------------

LIBSERVICES_EXPORT int ls_setuid(uid_t uid) {
  return changed_identity(LIBSERVICES_REAL(setuid)(uid));
}
LIBSERVICES_ALIAS(setuid, ls_setuid);

LIBSERVICES_EXPORT int ls_setgid(gid_t gid) {
  return changed_identity(LIBSERVICES_REAL(setgid)(gid));
}
LIBSERVICES_ALIAS(setgid, ls_setgid);

LIBSERVICES_EXPORT int ls_seteuid(uid_t uid) {
  return changed_identity(LIBSERVICES_REAL(seteuid)(uid));
}
LIBSERVICES_ALIAS(seteuid, ls_seteuid);

LIBSERVICES_EXPORT int ls_setegid(gid_t gid) {
  return changed_identity(LIBSERVICES_REAL(setegid)(gid));
}
LIBSERVICES_ALIAS(setegid, ls_setegid);

LIBSERVICES_EXPORT int ls_setreuid(uid_t real, uid_t effective) {
  return changed_identity(LIBSERVICES_REAL(setreuid)(real, effective));
}
LIBSERVICES_ALIAS(setreuid, ls_setreuid);

LIBSERVICES_EXPORT int ls_setregid(gid_t real, gid_t effective) {
  return changed_identity(LIBSERVICES_REAL(setregid)(real, effective));
}
LIBSERVICES_ALIAS(setregid, ls_setregid);

LIBSERVICES_EXPORT int ls_setresuid(uid_t real, uid_t effective, uid_t saved) {
  return changed_identity(LIBSERVICES_REAL(setresuid)(real, effective, saved));
}
LIBSERVICES_ALIAS(setresuid, ls_setresuid);

LIBSERVICES_EXPORT int ls_setresgid(gid_t real, gid_t effective, gid_t saved) {
  return changed_identity(LIBSERVICES_REAL(setresgid)(real, effective, saved));
}
LIBSERVICES_ALIAS(setresgid, ls_setresgid);

LIBSERVICES_EXPORT int ls_setgroups(std::size_t count, const gid_t* groups) {
  return changed_identity(LIBSERVICES_REAL(setgroups)(count, groups));
}
LIBSERVICES_ALIAS(setgroups, ls_setgroups);

LIBSERVICES_EXPORT int ls_initgroups(const char* user, gid_t group) {
  return changed_identity(LIBSERVICES_REAL(initgroups)(user, group));
}
LIBSERVICES_ALIAS(initgroups, ls_initgroups);

}  // namespace libservices::preload
