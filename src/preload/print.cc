// SPDX-License-Identifier: Apache-2.0
//
// Functions of libc that write text to a descriptor by system calls of their own, and setmntent,
// which opens a file by them.
#include <execinfo.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/preload/wrapper.h"

extern "C" {
int __vasprintf_chk(char** into, int strictness, const char* format, va_list arguments);
FILE* ls_fopen(const char* path, const char* mode);
}

namespace libservices::preload {
namespace {

// All of it, or -errno.
long write_all(int descriptor, const char* from, std::size_t size) {
  while (size != 0) {
    const long some = calls::write(descriptor, from, size);
    if (some < 0) return some;
    from += some;
    size -= static_cast<std::size_t>(some);
  }
  return 0;
}

// `strictness` -1: as vdprintf, otherwise as __vdprintf_chk.
int print(int descriptor, int strictness, const char* format, va_list arguments) {
  if (!calls::is_ours(descriptor)) {
    if (strictness < 0) return LIBSERVICES_REAL(vdprintf)(descriptor, format, arguments);
    return LIBSERVICES_REAL_AS(int (*)(int, int, const char*, va_list), "__vdprintf_chk")(
        descriptor, strictness, format, arguments);
  }
  const long flags = calls::fcntl(descriptor, F_GETFL, 0);
  if (flags < 0) return int_result(flags);
  char* text = nullptr;
  const int length = strictness < 0 ? vasprintf(&text, format, arguments)
                                    : __vasprintf_chk(&text, strictness, format, arguments);
  if (length < 0) return -1;
  const long written = write_all(descriptor, text, static_cast<std::size_t>(length));
  free(text);
  return written < 0 ? int_result(written) : length;
}

}  // namespace

LIBSERVICES_EXPORT int ls_vdprintf(int descriptor, const char* format, va_list arguments) {
  const Call call(Symbol::vdprintf);
  return print(descriptor, -1, format, arguments);
}

LIBSERVICES_EXPORT int ls_vdprintf_chk(int descriptor, int strictness, const char* format,
                                       va_list arguments) {
  const Call call(Symbol::vdprintf_chk);
  return print(descriptor, strictness < 0 ? 0 : strictness, format, arguments);
}

LIBSERVICES_EXPORT int ls_dprintf(int descriptor, const char* format, ...) {
  const Call call(Symbol::dprintf);
  va_list arguments;
  va_start(arguments, format);
  const int length = print(descriptor, -1, format, arguments);
  va_end(arguments);
  return length;
}

LIBSERVICES_EXPORT int ls_dprintf_chk(int descriptor, int strictness, const char* format, ...) {
  const Call call(Symbol::dprintf_chk);
  va_list arguments;
  va_start(arguments, format);
  const int length = print(descriptor, strictness < 0 ? 0 : strictness, format, arguments);
  va_end(arguments);
  return length;
}

// libc's own, into memory first: like that one without malloc, which may be what went wrong.
LIBSERVICES_EXPORT void ls_backtrace_symbols_fd(void* const* addresses, int count, int descriptor) {
  const Call call(Symbol::backtrace_symbols_fd);
  const auto real = LIBSERVICES_REAL(backtrace_symbols_fd);
  if (!calls::is_ours(descriptor)) return real(addresses, count, descriptor);
  const long memory = raw::syscall(SYS_memfd_create, "backtrace", MFD_CLOEXEC);
  if (memory < 0) return;
  real(addresses, count, static_cast<int>(memory));
  char text[512];
  off_t offset = 0;
  while (true) {
    const long some = raw::syscall(SYS_pread64, memory, text, sizeof text, offset);
    if (some <= 0 || write_all(descriptor, text, static_cast<std::size_t>(some)) < 0) break;
    offset += some;
  }
  raw::syscall(SYS_close, memory);
}

LIBSERVICES_EXPORT FILE* ls_setmntent(const char* path, const char* mode) {
  const Call call(Symbol::setmntent);
  if (!leads_to_ours(AT_FDCWD, path)) return LIBSERVICES_REAL(setmntent)(path, mode);
  char text[16];
  const std::size_t length = strlen(mode);
  if (length + 2 > sizeof text) return failure<FILE*>(EINVAL);
  memcpy(text, mode, length);
  memcpy(text + length, "e", 2);
  return ls_fopen(path, text);
}

}  // namespace libservices::preload
