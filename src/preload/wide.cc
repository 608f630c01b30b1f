// SPDX-License-Identifier: Apache-2.0
//
// Wide characters on streams of ours, which are bytes to libc: they are converted here, by the
// present locale, on the way to its byte functions. libc's own streams stay with libc.
//
// What was pushed back is bytes too, so byte positions stay what they would be.
#include <iconv.h>
#include <langinfo.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

#include "src/preload/stream.h"
#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

// Of glibc's FILE: flags that are part of its binary interface.
constexpr int kFailed = 0x0020;
constexpr int kPushedBack = 0x0100;

class Locked {
 public:
  explicit Locked(FILE* stream) : stream_(stream) { flockfile(stream_); }
  ~Locked() { funlockfile(stream_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  FILE* stream_;
};

int orientation(const Cookie& cookie, const FILE* stream) {
  if (cookie.orientation != 0) return cookie.orientation;
  const bool moved = cookie.moved || stream->_IO_write_ptr > stream->_IO_write_base ||
                     stream->_IO_read_end > stream->_IO_read_base ||
                     (stream->_flags & kPushedBack) != 0;
  return moved ? -1 : 0;
}

// False: the stream is one of bytes.
bool widen(Cookie& cookie, const FILE* stream) {
  const int now = orientation(cookie, stream);
  if (now == 0) cookie.orientation = 1;
  return now >= 0;
}

// What libc's streams write for a character that the locale's encoding has not: another one, or
// '?'. 0 and EILSEQ: there is none.
std::size_t transliterate(char* into, std::size_t room, wchar_t character) {
  char encoding[64];
  const int length = snprintf(encoding, sizeof encoding, "%s//TRANSLIT", nl_langinfo(CODESET));
  const iconv_t conversion = length < static_cast<int>(sizeof encoding)
                                 ? iconv_open(encoding, "WCHAR_T")
                                 : reinterpret_cast<iconv_t>(-1);
  std::size_t left = room;
  if (conversion != reinterpret_cast<iconv_t>(-1)) {
    char* from = reinterpret_cast<char*>(&character);
    std::size_t size = sizeof character;
    if (iconv(conversion, &from, &size, &into, &left) == static_cast<std::size_t>(-1)) left = room;
    (void)iconv_close(conversion);
  }
  if (left == room) errno = EILSEQ;
  return room - left;
}

bool put(Cookie& cookie, FILE* stream, wchar_t character) {
  char bytes[4 * MB_LEN_MAX];
  std::size_t size = wcrtomb(bytes, character, &cookie.output);
  if (size == static_cast<std::size_t>(-1)) size = transliterate(bytes, sizeof bytes, character);
  if (size == 0) {
    stream->_flags |= kFailed;
    return false;
  }
  return fwrite_unlocked(bytes, 1, size, stream) == size;
}

bool put_all(Cookie& cookie, FILE* stream, const wchar_t* text, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (!put(cookie, stream, text[i])) return false;
  }
  return true;
}

// Bytes that are no character stay ahead; the beginning of one at the end of a file is the end, as
// it is to libc.
wint_t get(Cookie& cookie, FILE* stream) {
  const mbstate_t before = cookie.input;
  char bytes[MB_LEN_MAX];
  for (int size = 0; size < MB_LEN_MAX; ++size) {
    const int byte = getc_unlocked(stream);
    if (byte == EOF) return WEOF;
    wchar_t character = 0;
    bytes[size] = static_cast<char>(byte);
    const std::size_t outcome = mbrtowc(&character, bytes + size, 1, &cookie.input);
    if (outcome == static_cast<std::size_t>(-2)) continue;
    if (outcome != static_cast<std::size_t>(-1)) return static_cast<wint_t>(character);
    for (; size >= 0; --size) ungetc(static_cast<unsigned char>(bytes[size]), stream);
    break;
  }
  cookie.input = before;
  stream->_flags |= kFailed;
  errno = EILSEQ;
  return WEOF;
}

wint_t put_one(FILE* stream, wchar_t character) {
  Cookie* const cookie = find_cookie(stream);
  if (!widen(*cookie, stream) || !put(*cookie, stream, character)) return WEOF;
  return static_cast<wint_t>(character);
}

wint_t get_one(FILE* stream) {
  Cookie* const cookie = find_cookie(stream);
  return widen(*cookie, stream) ? get(*cookie, stream) : WEOF;
}

int put_string(const wchar_t* text, FILE* stream) {
  Cookie* const cookie = find_cookie(stream);
  if (!widen(*cookie, stream)) return -1;
  return put_all(*cookie, stream, text, wcslen(text)) ? 1 : -1;
}

wchar_t* get_line(wchar_t* into, int size, FILE* stream) {
  Cookie* const cookie = find_cookie(stream);
  if (size <= 0 || !widen(*cookie, stream)) return nullptr;
  if (size == 1) {
    into[0] = L'\0';
    return into;
  }
  const int failed_before = stream->_flags & kFailed;
  stream->_flags &= ~kFailed;
  int count = 0;
  while (count < size - 1) {
    const wint_t character = get(*cookie, stream);
    if (character == WEOF) break;
    into[count++] = static_cast<wchar_t>(character);
    if (character == L'\n') break;
  }
  const bool bad = count == 0 || ((stream->_flags & kFailed) != 0 && errno != EAGAIN);
  stream->_flags |= failed_before;
  if (bad) return nullptr;
  into[count] = L'\0';
  return into;
}

bool is_ours(FILE* stream) { return active() && find_cookie(stream) != nullptr; }

// --- formats ------------------------------------------------------------------------------------

using Print = int (*)(FILE*, const wchar_t*, va_list);
using CheckedPrint = int (*)(FILE*, int, const wchar_t*, va_list);
using Scan = int (*)(FILE*, const wchar_t*, va_list);

// libc's own. `strictness` -1: without checks.
int print_with_libc(FILE* stream, int strictness, const wchar_t* format, va_list arguments) {
  if (strictness < 0) {
    return LIBSERVICES_REAL_AS(Print, "vfwprintf")(stream, format, arguments);
  }
  return LIBSERVICES_REAL_AS(CheckedPrint, "__vfwprintf_chk")(stream, strictness, format,
                                                              arguments);
}

int print(FILE* stream, int strictness, const wchar_t* format, va_list arguments) {
  if (!is_ours(stream)) return print_with_libc(stream, strictness, format, arguments);
  Cookie* const cookie = find_cookie(stream);
  const Locked locked(stream);
  if (!widen(*cookie, stream)) return -1;
  wchar_t* text = nullptr;
  std::size_t size = 0;
  FILE* const memory = open_wmemstream(&text, &size);
  if (memory == nullptr) return -1;
  const int length = print_with_libc(memory, strictness, format, arguments);
  int error = errno;
  (void)fclose(memory);
  bool whole = length >= 0;
  if (whole) {
    whole = put_all(*cookie, stream, text, static_cast<std::size_t>(length));
    error = errno;
  }
  free(text);
  errno = error;
  return whole ? length : -1;
}

// What is ahead in a stream, taken from it to be looked at.
struct Ahead {
  char* bytes = nullptr;
  std::size_t size = 0;

  ~Ahead() { free(bytes); }
  // At least one byte more, if there is one, and no more than a stream has at hand: a terminal
  // is not asked for another line.
  bool take(FILE* stream, std::size_t most) {
    auto* const grown = static_cast<char*>(realloc(bytes, size + most));
    if (grown == nullptr) return false;
    bytes = grown;
    for (std::size_t taken = 0; taken < most; ++taken) {
      if (taken != 0 && stream->_IO_read_ptr >= stream->_IO_read_end) break;
      const int byte = getc_unlocked(stream);
      if (byte == EOF) break;
      bytes[size++] = static_cast<char>(byte);
    }
    return true;
  }
  void give_back(FILE* stream, std::size_t from) {
    while (size > from) ungetc(static_cast<unsigned char>(bytes[--size]), stream);
  }
};

struct Scanned {
  int outcome = -1;
  int error = 0;
  std::size_t used = 0;
  bool failed = false;
  bool at_end = false;
};

// libc's scanf on a wide stream of its own with these bytes.
Scanned scan_bytes(const Ahead& ahead, Scan scan, const wchar_t* format, va_list arguments) {
  Scanned scanned;
  const int memory =
      int_result(raw::syscall(SYS_memfd_create, "scan", static_cast<unsigned>(MFD_CLOEXEC)));
  if (memory >= 0 && raw::syscall(SYS_pwrite64, memory, ahead.bytes, ahead.size, 0L) ==
                         static_cast<long>(ahead.size)) {
    FILE* const stream = LIBSERVICES_REAL(fdopen)(memory, "r");
    if (stream != nullptr) {
      scanned.outcome = scan(stream, format, arguments);
      scanned.error = errno;
      scanned.failed = ferror_unlocked(stream) != 0;
      scanned.at_end = feof_unlocked(stream) != 0;
      const long used = ftell(stream);
      scanned.used = used < 0 ? ahead.size : static_cast<std::size_t>(used);
      (void)fclose(stream);
      return scanned;
    }
  }
  scanned.error = errno;
  scanned.failed = true;
  if (memory >= 0) raw::syscall(SYS_close, memory);
  return scanned;
}

// With few bytes first. Where libc came to their end it may have wanted more, and begins anew.
int scan_ours(Cookie& cookie, FILE* stream, Scan scan, const wchar_t* format, va_list arguments) {
  if (!widen(cookie, stream)) return -1;
  Ahead ahead;
  Scanned scanned;
  std::size_t more = 512;
  while (true) {
    const std::size_t before = ahead.size;
    if (!ahead.take(stream, more)) return -1;
    const bool all = ahead.size == before;
    va_list again;
    va_copy(again, arguments);
    scanned = scan_bytes(ahead, scan, format, again);
    va_end(again);
    const bool cut = scanned.failed && scanned.used + MB_LEN_MAX > ahead.size;
    if (all || !(scanned.at_end || cut)) break;
    more = ahead.size * 2 + 512;
  }
  ahead.give_back(stream, scanned.used);
  if (scanned.failed) stream->_flags |= kFailed;
  errno = scanned.error;
  return scanned.outcome;
}

int scan_with(Scan scan, FILE* stream, const wchar_t* format, va_list arguments) {
  if (!is_ours(stream)) return scan(stream, format, arguments);
  Cookie* const cookie = find_cookie(stream);
  const Locked locked(stream);
  return scan_ours(*cookie, stream, scan, format, arguments);
}

Scan gnu_scan() { return LIBSERVICES_REAL_AS(Scan, "vfwscanf"); }
Scan c99_scan() { return LIBSERVICES_REAL_AS(Scan, "__isoc99_vfwscanf"); }

}  // namespace

// --- characters and lines -----------------------------------------------------------------------

LIBSERVICES_EXPORT int ls_fwide(FILE* stream, int mode) {
  const Call call(Symbol::fwide);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fwide)(stream, mode);
  Cookie* const cookie = find_cookie(stream);
  const Locked locked(stream);
  if (mode != 0 && orientation(*cookie, stream) == 0) cookie->orientation = mode > 0 ? 1 : -1;
  return orientation(*cookie, stream);
}

LIBSERVICES_EXPORT wint_t ls_fputwc(wchar_t character, FILE* stream) {
  const Call call(Symbol::fputwc);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fputwc)(character, stream);
  const Locked locked(stream);
  return put_one(stream, character);
}

LIBSERVICES_EXPORT wint_t ls_fputwc_unlocked(wchar_t character, FILE* stream) {
  const Call call(Symbol::fputwc_unlocked);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fputwc_unlocked)(character, stream);
  return put_one(stream, character);
}

LIBSERVICES_EXPORT wint_t ls_putwchar(wchar_t character) {
  const Call call(Symbol::putwchar);
  return ls_fputwc(character, stdout);
}

LIBSERVICES_EXPORT wint_t ls_putwchar_unlocked(wchar_t character) {
  const Call call(Symbol::putwchar_unlocked);
  return ls_fputwc_unlocked(character, stdout);
}

LIBSERVICES_EXPORT int ls_fputws(const wchar_t* text, FILE* stream) {
  const Call call(Symbol::fputws);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fputws)(text, stream);
  const Locked locked(stream);
  return put_string(text, stream);
}

LIBSERVICES_EXPORT int ls_fputws_unlocked(const wchar_t* text, FILE* stream) {
  const Call call(Symbol::fputws_unlocked);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fputws_unlocked)(text, stream);
  return put_string(text, stream);
}

LIBSERVICES_EXPORT wint_t ls_fgetwc(FILE* stream) {
  const Call call(Symbol::fgetwc);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fgetwc)(stream);
  const Locked locked(stream);
  return get_one(stream);
}

LIBSERVICES_EXPORT wint_t ls_fgetwc_unlocked(FILE* stream) {
  const Call call(Symbol::fgetwc_unlocked);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fgetwc_unlocked)(stream);
  return get_one(stream);
}

LIBSERVICES_EXPORT wint_t ls_getwchar() {
  const Call call(Symbol::getwchar);
  return ls_fgetwc(stdin);
}

LIBSERVICES_EXPORT wint_t ls_getwchar_unlocked() {
  const Call call(Symbol::getwchar_unlocked);
  return ls_fgetwc_unlocked(stdin);
}

LIBSERVICES_EXPORT wchar_t* ls_fgetws(wchar_t* into, int size, FILE* stream) {
  const Call call(Symbol::fgetws);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fgetws)(into, size, stream);
  const Locked locked(stream);
  return get_line(into, size, stream);
}

LIBSERVICES_EXPORT wchar_t* ls_fgetws_unlocked(wchar_t* into, int size, FILE* stream) {
  const Call call(Symbol::fgetws_unlocked);
  if (!is_ours(stream)) return LIBSERVICES_REAL(fgetws_unlocked)(into, size, stream);
  return get_line(into, size, stream);
}

LIBSERVICES_EXPORT wchar_t* ls_fgetws_chk(wchar_t* into, std::size_t room, int size, FILE* stream) {
  const Call call(Symbol::fgetws_chk);
  if (size > 0 && static_cast<std::size_t>(size) > room) abort();
  return ls_fgetws(into, size, stream);
}

LIBSERVICES_EXPORT wchar_t* ls_fgetws_unlocked_chk(wchar_t* into, std::size_t room, int size,
                                                   FILE* stream) {
  const Call call(Symbol::fgetws_unlocked_chk);
  if (size > 0 && static_cast<std::size_t>(size) > room) abort();
  return ls_fgetws_unlocked(into, size, stream);
}

LIBSERVICES_EXPORT wint_t ls_ungetwc(wint_t character, FILE* stream) {
  const Call call(Symbol::ungetwc);
  if (!is_ours(stream)) return LIBSERVICES_REAL(ungetwc)(character, stream);
  Cookie* const cookie = find_cookie(stream);
  const Locked locked(stream);
  if (character == WEOF || !widen(*cookie, stream)) return WEOF;
  char bytes[MB_LEN_MAX];
  mbstate_t state = cookie->input;
  std::size_t size = wcrtomb(bytes, static_cast<wchar_t>(character), &state);
  if (size == static_cast<std::size_t>(-1)) return WEOF;
  while (size > 0) {
    if (ungetc(static_cast<unsigned char>(bytes[--size]), stream) == EOF) return WEOF;
  }
  return character;
}

// --- the functions of formats -------------------------------------------------------------------

#define LIBSERVICES_WITH_ARGUMENTS(last, expression) \
  va_list arguments;                                 \
  va_start(arguments, last);                         \
  const int outcome = expression;                    \
  va_end(arguments);                                 \
  return outcome

LIBSERVICES_EXPORT int ls_vfwprintf(FILE* stream, const wchar_t* format, va_list arguments) {
  const Call call(Symbol::vfwprintf);
  return print(stream, -1, format, arguments);
}

LIBSERVICES_EXPORT int ls_vwprintf(const wchar_t* format, va_list arguments) {
  const Call call(Symbol::vwprintf);
  return print(stdout, -1, format, arguments);
}

LIBSERVICES_EXPORT int ls_fwprintf(FILE* stream, const wchar_t* format, ...) {
  const Call call(Symbol::fwprintf);
  LIBSERVICES_WITH_ARGUMENTS(format, print(stream, -1, format, arguments));
}

LIBSERVICES_EXPORT int ls_wprintf(const wchar_t* format, ...) {
  const Call call(Symbol::wprintf);
  LIBSERVICES_WITH_ARGUMENTS(format, print(stdout, -1, format, arguments));
}

// The value that asks libc for its checks, whatever the program gave below 0.
constexpr int strict(int strictness) { return strictness < 0 ? 0 : strictness; }

LIBSERVICES_EXPORT int ls_vfwprintf_chk(FILE* stream, int strictness, const wchar_t* format,
                                        va_list arguments) {
  const Call call(Symbol::vfwprintf_chk);
  return print(stream, strict(strictness), format, arguments);
}

LIBSERVICES_EXPORT int ls_vwprintf_chk(int strictness, const wchar_t* format, va_list arguments) {
  const Call call(Symbol::vwprintf_chk);
  return print(stdout, strict(strictness), format, arguments);
}

LIBSERVICES_EXPORT int ls_fwprintf_chk(FILE* stream, int strictness, const wchar_t* format, ...) {
  const Call call(Symbol::fwprintf_chk);
  LIBSERVICES_WITH_ARGUMENTS(format, print(stream, strict(strictness), format, arguments));
}

LIBSERVICES_EXPORT int ls_wprintf_chk(int strictness, const wchar_t* format, ...) {
  const Call call(Symbol::wprintf_chk);
  LIBSERVICES_WITH_ARGUMENTS(format, print(stdout, strict(strictness), format, arguments));
}

LIBSERVICES_EXPORT int ls_vfwscanf(FILE* stream, const wchar_t* format, va_list arguments) {
  const Call call(Symbol::vfwscanf);
  return scan_with(gnu_scan(), stream, format, arguments);
}

LIBSERVICES_EXPORT int ls_vwscanf(const wchar_t* format, va_list arguments) {
  const Call call(Symbol::vwscanf);
  return scan_with(gnu_scan(), stdin, format, arguments);
}

LIBSERVICES_EXPORT int ls_fwscanf(FILE* stream, const wchar_t* format, ...) {
  const Call call(Symbol::fwscanf);
  LIBSERVICES_WITH_ARGUMENTS(format, scan_with(gnu_scan(), stream, format, arguments));
}

LIBSERVICES_EXPORT int ls_wscanf(const wchar_t* format, ...) {
  const Call call(Symbol::wscanf);
  LIBSERVICES_WITH_ARGUMENTS(format, scan_with(gnu_scan(), stdin, format, arguments));
}

LIBSERVICES_EXPORT int ls_isoc99_vfwscanf(FILE* stream, const wchar_t* format, va_list arguments) {
  const Call call(Symbol::isoc99_vfwscanf);
  return scan_with(c99_scan(), stream, format, arguments);
}

LIBSERVICES_EXPORT int ls_isoc99_vwscanf(const wchar_t* format, va_list arguments) {
  const Call call(Symbol::isoc99_vwscanf);
  return scan_with(c99_scan(), stdin, format, arguments);
}

LIBSERVICES_EXPORT int ls_isoc99_fwscanf(FILE* stream, const wchar_t* format, ...) {
  const Call call(Symbol::isoc99_fwscanf);
  LIBSERVICES_WITH_ARGUMENTS(format, scan_with(c99_scan(), stream, format, arguments));
}

LIBSERVICES_EXPORT int ls_isoc99_wscanf(const wchar_t* format, ...) {
  const Call call(Symbol::isoc99_wscanf);
  LIBSERVICES_WITH_ARGUMENTS(format, scan_with(c99_scan(), stdin, format, arguments));
}

}  // namespace libservices::preload
