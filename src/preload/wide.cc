// SPDX-License-Identifier: Apache-2.0
//
// Wide characters on streams of ours. libc's cookie streams have no room for them, and its
// functions would follow a null pointer: here each character is converted on its way to or from the
// bytes.
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr int kErrorSeen = 0x0020;  // of glibc's FILE: part of its binary interface

// A stream that one function works on alone.
class Locked {
 public:
  explicit Locked(FILE* stream) : stream_(stream) { flockfile(stream); }
  ~Locked() { funlockfile(stream_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  FILE* stream_;
};

wint_t get_wide(FILE* stream) {
  mbstate_t shift{};
  for (bool within = false;; within = true) {
    const int next = getc_unlocked(stream);
    if (next == EOF && !within) return WEOF;
    const char byte = static_cast<char>(next);
    wchar_t wide = 0;
    const std::size_t length =
        next == EOF ? static_cast<std::size_t>(-1) : mbrtowc(&wide, &byte, 1, &shift);
    if (length == static_cast<std::size_t>(-2)) continue;
    if (length != static_cast<std::size_t>(-1)) return static_cast<wint_t>(wide);
    stream->_flags |= kErrorSeen;
    errno = EILSEQ;
    return WEOF;
  }
}

wint_t put_wide(wchar_t wide, FILE* stream) {
  char bytes[MB_LEN_MAX];
  mbstate_t shift{};
  const std::size_t length = wcrtomb(bytes, wide, &shift);
  if (length == static_cast<std::size_t>(-1)) {
    stream->_flags |= kErrorSeen;
    return WEOF;
  }
  return fwrite_unlocked(bytes, 1, length, stream) == length ? static_cast<wint_t>(wide) : WEOF;
}

wint_t unget_wide(wint_t wide, FILE* stream) {
  if (wide == WEOF) return WEOF;
  char bytes[MB_LEN_MAX];
  mbstate_t shift{};
  std::size_t length = wcrtomb(bytes, static_cast<wchar_t>(wide), &shift);
  if (length == static_cast<std::size_t>(-1)) return WEOF;
  while (length > 0) {
    if (ungetc(static_cast<unsigned char>(bytes[--length]), stream) == EOF) return WEOF;
  }
  return wide;
}

wchar_t* get_line(wchar_t* into, int size, FILE* stream) {
  if (size <= 0) return nullptr;
  const Locked locked(stream);
  int count = 0;
  while (count < size - 1) {
    const wint_t wide = get_wide(stream);
    if (wide == WEOF) {
      if (count == 0 || ferror_unlocked(stream) != 0) return nullptr;
      break;
    }
    into[count++] = static_cast<wchar_t>(wide);
    if (wide == L'\n') break;
  }
  into[count] = L'\0';
  return size > 1 ? into : nullptr;
}

int put_string(const wchar_t* text, FILE* stream) {
  const Locked locked(stream);
  for (; *text != L'\0'; ++text) {
    if (put_wide(*text, stream) == WEOF) return -1;
  }
  return 1;
}

int print(FILE* stream, const wchar_t* format, va_list arguments) {
  constexpr std::size_t kMost = 1U << 24U;  // characters
  for (std::size_t size = 1024; size <= kMost; size *= 4) {
    auto* const text = static_cast<wchar_t*>(malloc(size * sizeof(wchar_t)));
    if (text == nullptr) return -1;
    va_list again;
    va_copy(again, arguments);
    const int length = vswprintf(text, size, format, again);
    va_end(again);
    const bool written = length >= 0 && put_string(text, stream) >= 0;
    free(text);
    if (length >= 0) return written ? length : -1;
  }
  errno = EOVERFLOW;
  return -1;
}

}  // namespace

LIBSERVICES_EXPORT wint_t ls_fgetwc(FILE* stream) {
  if (!is_own_stream(stream)) return LIBSERVICES_REAL(fgetwc)(stream);
  const Locked locked(stream);
  return get_wide(stream);
}
LIBSERVICES_ALIAS_2(fgetwc, getwc, ls_fgetwc);

LIBSERVICES_EXPORT wint_t ls_fgetwc_unlocked(FILE* stream) {
  return is_own_stream(stream) ? get_wide(stream) : LIBSERVICES_REAL(fgetwc_unlocked)(stream);
}
LIBSERVICES_ALIAS_2(fgetwc_unlocked, getwc_unlocked, ls_fgetwc_unlocked);

LIBSERVICES_EXPORT wint_t ls_getwchar() { return ls_fgetwc(stdin); }
LIBSERVICES_ALIAS(getwchar, ls_getwchar);

LIBSERVICES_EXPORT wint_t ls_getwchar_unlocked() { return ls_fgetwc_unlocked(stdin); }
LIBSERVICES_ALIAS(getwchar_unlocked, ls_getwchar_unlocked);

LIBSERVICES_EXPORT wint_t ls_fputwc(wchar_t wide, FILE* stream) {
  if (!is_own_stream(stream)) return LIBSERVICES_REAL(fputwc)(wide, stream);
  const Locked locked(stream);
  return put_wide(wide, stream);
}
LIBSERVICES_ALIAS_2(fputwc, putwc, ls_fputwc);

LIBSERVICES_EXPORT wint_t ls_fputwc_unlocked(wchar_t wide, FILE* stream) {
  return is_own_stream(stream) ? put_wide(wide, stream)
                               : LIBSERVICES_REAL(fputwc_unlocked)(wide, stream);
}
LIBSERVICES_ALIAS_2(fputwc_unlocked, putwc_unlocked, ls_fputwc_unlocked);

LIBSERVICES_EXPORT wint_t ls_putwchar(wchar_t wide) { return ls_fputwc(wide, stdout); }
LIBSERVICES_ALIAS(putwchar, ls_putwchar);

LIBSERVICES_EXPORT wint_t ls_putwchar_unlocked(wchar_t wide) {
  return ls_fputwc_unlocked(wide, stdout);
}
LIBSERVICES_ALIAS(putwchar_unlocked, ls_putwchar_unlocked);

LIBSERVICES_EXPORT wint_t ls_ungetwc(wint_t wide, FILE* stream) {
  if (!is_own_stream(stream)) return LIBSERVICES_REAL(ungetwc)(wide, stream);
  const Locked locked(stream);
  return unget_wide(wide, stream);
}
LIBSERVICES_ALIAS(ungetwc, ls_ungetwc);

LIBSERVICES_EXPORT wchar_t* ls_fgetws(wchar_t* into, int size, FILE* stream) {
  return is_own_stream(stream) ? get_line(into, size, stream)
                               : LIBSERVICES_REAL(fgetws)(into, size, stream);
}
LIBSERVICES_ALIAS(fgetws, ls_fgetws);

LIBSERVICES_EXPORT wchar_t* ls_fgetws_unlocked(wchar_t* into, int size, FILE* stream) {
  return is_own_stream(stream) ? get_line(into, size, stream)
                               : LIBSERVICES_REAL(fgetws_unlocked)(into, size, stream);
}
LIBSERVICES_ALIAS(fgetws_unlocked, ls_fgetws_unlocked);

LIBSERVICES_EXPORT wchar_t* ls_fgetws_chk(wchar_t* into, std::size_t available, int size,
                                          FILE* stream) {
  if (size > 0 && static_cast<std::size_t>(size) > available) abort();
  return ls_fgetws(into, size, stream);
}
LIBSERVICES_ALIAS_2(__fgetws_chk, __fgetws_unlocked_chk, ls_fgetws_chk);

LIBSERVICES_EXPORT int ls_fputws(const wchar_t* text, FILE* stream) {
  return is_own_stream(stream) ? put_string(text, stream) : LIBSERVICES_REAL(fputws)(text, stream);
}
LIBSERVICES_ALIAS(fputws, ls_fputws);

LIBSERVICES_EXPORT int ls_fputws_unlocked(const wchar_t* text, FILE* stream) {
  return is_own_stream(stream) ? put_string(text, stream)
                               : LIBSERVICES_REAL(fputws_unlocked)(text, stream);
}
LIBSERVICES_ALIAS(fputws_unlocked, ls_fputws_unlocked);

// What a program asks for is what it is told: bytes and wide characters may follow each other here.
LIBSERVICES_EXPORT int ls_fwide(FILE* stream, int mode) {
  return is_own_stream(stream) ? mode : LIBSERVICES_REAL(fwide)(stream, mode);
}
LIBSERVICES_ALIAS(fwide, ls_fwide);

LIBSERVICES_EXPORT int ls_vfwprintf(FILE* stream, const wchar_t* format, va_list arguments) {
  return is_own_stream(stream) ? print(stream, format, arguments)
                               : LIBSERVICES_REAL(vfwprintf)(stream, format, arguments);
}
LIBSERVICES_ALIAS(vfwprintf, ls_vfwprintf);

LIBSERVICES_EXPORT int ls_vfwprintf_chk(FILE* stream, int, const wchar_t* format,
                                        va_list arguments) {
  return ls_vfwprintf(stream, format, arguments);
}
LIBSERVICES_ALIAS(__vfwprintf_chk, ls_vfwprintf_chk);

LIBSERVICES_EXPORT int ls_vwprintf(const wchar_t* format, va_list arguments) {
  return ls_vfwprintf(stdout, format, arguments);
}
LIBSERVICES_ALIAS(vwprintf, ls_vwprintf);

LIBSERVICES_EXPORT int ls_vwprintf_chk(int, const wchar_t* format, va_list arguments) {
  return ls_vfwprintf(stdout, format, arguments);
}
LIBSERVICES_ALIAS(__vwprintf_chk, ls_vwprintf_chk);

LIBSERVICES_EXPORT int ls_fwprintf(FILE* stream, const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = ls_vfwprintf(stream, format, arguments);
  va_end(arguments);
  return length;
}
LIBSERVICES_ALIAS(fwprintf, ls_fwprintf);

LIBSERVICES_EXPORT int ls_fwprintf_chk(FILE* stream, int, const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = ls_vfwprintf(stream, format, arguments);
  va_end(arguments);
  return length;
}
LIBSERVICES_ALIAS(__fwprintf_chk, ls_fwprintf_chk);

LIBSERVICES_EXPORT int ls_wprintf(const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = ls_vfwprintf(stdout, format, arguments);
  va_end(arguments);
  return length;
}
LIBSERVICES_ALIAS(wprintf, ls_wprintf);

LIBSERVICES_EXPORT int ls_wprintf_chk(int, const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = ls_vfwprintf(stdout, format, arguments);
  va_end(arguments);
  return length;
}
LIBSERVICES_ALIAS(__wprintf_chk, ls_wprintf_chk);

}  // namespace libservices::preload
