// SPDX-License-Identifier: Apache-2.0
//
// The functions of libc that the command's first part calls, and nothing of libc's start: that
// asks the processor for its caches by some ninety `cpuid`, which a virtual machine answers in 7 us
// each. One thread, no thread-local storage.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstddef>

#include "ipc/raw_syscall.h"

namespace {

namespace raw = libservices::ipc::raw;

int last_error;

template <class Result = int>
Result result(long value) {
  if (value < 0 && value > -4096) {
    last_error = static_cast<int>(-value);
    return static_cast<Result>(-1);
  }
  return static_cast<Result>(value);
}

}  // namespace

extern "C" {

int* __errno_location() noexcept { return &last_error; }

// The compiler calls these five by itself. `volatile` keeps it from making a loop a call of the
// function that it is in.
void* memcpy(void* __restrict to, const void* __restrict from, std::size_t size) noexcept {
  auto* const into = static_cast<volatile char*>(to);
  const auto* const bytes = static_cast<const char*>(from);
  for (std::size_t i = 0; i < size; ++i) into[i] = bytes[i];
  return to;
}

void* memmove(void* to, const void* from, std::size_t size) noexcept {
  auto* const into = static_cast<volatile char*>(to);
  const auto* const bytes = static_cast<const char*>(from);
  if (into <= bytes) return memcpy(to, from, size);
  for (std::size_t i = size; i > 0; --i) into[i - 1] = bytes[i - 1];
  return to;
}

void* memset(void* to, int byte, std::size_t size) noexcept {
  auto* const into = static_cast<volatile char*>(to);
  for (std::size_t i = 0; i < size; ++i) into[i] = static_cast<char>(byte);
  return to;
}

int memcmp(const void* one, const void* other, std::size_t size) noexcept {
  const auto* const a = static_cast<const volatile unsigned char*>(one);
  const auto* const b = static_cast<const volatile unsigned char*>(other);
  for (std::size_t i = 0; i < size; ++i) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

// What clang makes of a memcmp that is compared with 0.
int bcmp(const void* one, const void* other, std::size_t size) noexcept {
  return memcmp(one, other, size);
}

std::size_t strlen(const char* text) noexcept {
  const volatile char* const bytes = text;
  std::size_t size = 0;
  while (bytes[size] != '\0') ++size;
  return size;
}

void* memchr(const void* bytes, int byte, std::size_t size) noexcept {
  const auto* const at = static_cast<const volatile char*>(bytes);
  for (std::size_t i = 0; i < size; ++i) {
    if (at[i] == static_cast<char>(byte)) return const_cast<char*>(at + i);
  }
  return nullptr;
}

int stat(const char* __restrict path, struct stat* __restrict status) noexcept {
  return result(raw::syscall(SYS_newfstatat, AT_FDCWD, path, status, 0));
}

int access(const char* path, int mode) noexcept {
  return result(raw::syscall(SYS_faccessat, AT_FDCWD, path, mode));
}

ssize_t readlink(const char* __restrict path, char* __restrict into, std::size_t size) noexcept {
  return result<ssize_t>(raw::syscall(SYS_readlinkat, AT_FDCWD, path, into, size));
}

ssize_t getxattr(const char* path, const char* name, void* value, std::size_t size) noexcept {
  return result<ssize_t>(raw::syscall(SYS_getxattr, path, name, value, size));
}

int open(const char* path, int flags, ...) {  // nothing is made here
  return result(raw::syscall(SYS_openat, AT_FDCWD, path, flags, 0));
}

ssize_t pread(int file, void* into, std::size_t size, off_t at) {
  return result<ssize_t>(raw::syscall(SYS_pread64, file, into, size, at));
}

int fcntl(int file, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  return result(raw::syscall(SYS_fcntl, file, command, argument));
}

int close(int file) { return result(raw::syscall(SYS_close, file)); }

ssize_t write(int file, const void* bytes, std::size_t size) {
  return result<ssize_t>(raw::syscall(SYS_write, file, bytes, size));
}

uid_t geteuid() noexcept { return static_cast<uid_t>(raw::syscall(SYS_geteuid)); }

int execve(const char* path, char* const* arguments, char* const* environment) noexcept {
  return result(raw::syscall(SYS_execve, path, arguments, environment));
}

void _exit(int status) {
  for (;;) raw::syscall(SYS_exit_group, status);
}

}  // extern "C"
