// SPDX-License-Identifier: Apache-2.0
//
// libc's streams over library descriptors. libc reads and writes a stream's descriptor by system
// calls of its own, so a stream over one of ours is a "cookie" stream that comes back to us.
//
// A cookie stream works on a number: whatever file is behind it, ours or the kernel's. So stdin,
// stdout and stderr are replaced at most once, when their number first becomes ours, and stay right
// through all later redirections. What the program had kept as a copy of the old pointer (such as
// std::cout, if the redirection came after its start) stays with the old stream.
#include <fcntl.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr std::size_t kBufferBytes = 32768;

// Of glibc's FILE: its flags for the direction, which are part of its binary interface.
constexpr int kUnbuffered = 0x0002;
constexpr int kNoReads = 0x0004;
constexpr int kNoWrites = 0x0008;
constexpr int kAppending = 0x1000;

struct Cookie {
  int descriptor;
  char buffer[kBufferBytes];
};

ssize_t read_cookie(void* cookie, char* into, std::size_t size) {
  return result(calls::read(static_cast<Cookie*>(cookie)->descriptor, into, size));
}

// All of it, or less and errno.
ssize_t write_cookie(void* cookie, const char* from, std::size_t size) {
  const int descriptor = static_cast<Cookie*>(cookie)->descriptor;
  std::size_t done = 0;
  while (done < size) {
    const long some = calls::write(descriptor, from + done, size - done);
    if (some < 0) {
      errno = static_cast<int>(-some);
      break;
    }
    done += static_cast<std::size_t>(some);
  }
  return static_cast<ssize_t>(done);
}

int seek_cookie(void* cookie, off64_t* offset, int whence) {
  const long position = calls::lseek(static_cast<Cookie*>(cookie)->descriptor, *offset, whence);
  if (position < 0) return int_result(position);
  *offset = position;
  return 0;
}

int close_cookie(void* cookie) {
  const int closed = int_result(calls::close(static_cast<Cookie*>(cookie)->descriptor));
  const int error = errno;
  free(cookie);
  errno = error;
  return closed;
}

// libc checks this pointer behind a FILE before it is used; the same one for all cookie streams.
std::atomic<void*> cookie_methods{nullptr};

void* methods_of(FILE* stream) {
  void* methods;
  memcpy(&methods, reinterpret_cast<char*>(stream) + sizeof(FILE), sizeof methods);
  return methods;
}

// Whether a stream is one of those made here: others have no number.
bool is_cookie(FILE* stream) {
  void* const known = cookie_methods.load(std::memory_order_relaxed);
  return known != nullptr && stream->_fileno >= 0 && methods_of(stream) == known;
}

FILE* make_stream(int descriptor, const char* mode) {
  auto* const cookie = static_cast<Cookie*>(malloc(sizeof(Cookie)));
  if (cookie == nullptr) return nullptr;
  cookie->descriptor = descriptor;
  FILE* const stream =
      fopencookie(cookie, mode, {read_cookie, write_cookie, seek_cookie, close_cookie});
  if (stream == nullptr) {
    free(cookie);
    return nullptr;
  }
  stream->_fileno = descriptor;
  cookie_methods.store(methods_of(stream), std::memory_order_relaxed);
  setvbuf(stream, cookie->buffer, _IOFBF, sizeof cookie->buffer);
  return stream;
}

struct Mode {
  int flags;     // for open
  char text[3];  // for fopencookie
};

bool parse(const char* text, Mode& mode) {
  switch (text[0]) {
    case 'r':
      mode.flags = O_RDONLY;
      break;
    case 'w':
      mode.flags = O_WRONLY | O_CREAT | O_TRUNC;
      break;
    case 'a':
      mode.flags = O_WRONLY | O_CREAT | O_APPEND;
      break;
    default:
      return false;
  }
  mode.text[0] = text[0];
  mode.text[1] = mode.text[2] = '\0';
  for (const char* at = text + 1; *at != '\0' && *at != ','; ++at) {
    switch (*at) {
      case '+':
        mode.flags = (mode.flags & ~O_ACCMODE) | O_RDWR;
        mode.text[1] = '+';
        break;
      case 'x':
        mode.flags |= O_EXCL;
        break;
      case 'e':
        mode.flags |= O_CLOEXEC;
        break;
      default:
        break;  // b, c and m change nothing here
    }
  }
  return true;
}

// Makes `stream` one of ours that goes on with `mode` from the start of another file.
void begin_anew(FILE* stream, const Mode& mode) {
  __fpurge(stream);
  clearerr(stream);
  stream->_flags &= ~(kNoReads | kNoWrites | kAppending);
  const int access = mode.flags & O_ACCMODE;
  if (access == O_RDONLY) stream->_flags |= kNoWrites;
  if (access == O_WRONLY) stream->_flags |= kNoReads;
  if ((mode.flags & O_APPEND) != 0) stream->_flags |= kAppending;
}

FILE* fail(long error) {
  errno = static_cast<int>(-error);
  return nullptr;
}

FILE* original[3];  // what stdin, stdout and stderr were, once they are replaced

FILE*& standard(int number) { return number == 0 ? stdin : number == 1 ? stdout : stderr; }

// The stream that took the place of one that the program still knows.
FILE* present(FILE* stream) {
  for (int i = 0; i < 3; ++i) {
    if (original[i] != nullptr && stream == original[i]) return standard(i);
  }
  return stream;
}

// What the old stream has not yet written, or has read ahead, is now the new one's, as it would be
// if they were one.
void move_buffer(FILE* from, FILE* to, Cookie& cookie) {
  if (from->_IO_write_ptr > from->_IO_write_base) {
    fwrite(from->_IO_write_base, 1,
           static_cast<std::size_t>(from->_IO_write_ptr - from->_IO_write_base), to);
  } else if (from->_IO_read_end > from->_IO_read_ptr) {
    auto ahead = static_cast<std::size_t>(from->_IO_read_end - from->_IO_read_ptr);
    if (ahead > kBufferBytes) ahead = kBufferBytes;
    memcpy(cookie.buffer, from->_IO_read_ptr, ahead);
    to->_IO_read_base = to->_IO_read_ptr = cookie.buffer;
    to->_IO_read_end = cookie.buffer + ahead;
  }
  __fpurge(from);
}

}  // namespace

bool is_own_stream(FILE* stream) { return stream != nullptr && is_cookie(stream); }

FILE* open_stream(int descriptor, const char* mode) { return make_stream(descriptor, mode); }

void prepare_standard_stream(int number) {
  if (!active() || number < 0 || number > 2 || original[number] != nullptr) return;
  FILE* const old = standard(number);
  if (old == nullptr || old->_fileno != number || is_cookie(old) || old->_mode > 0) return;
  const int error = errno;
  const bool terminal = number != 0 && !calls::is_ours(number) && isatty(number) != 0;
  FILE* const made = make_stream(number, number == 0 ? "r" : "w");
  if (made != nullptr) {
    if (number == 2 || (old->_flags & kUnbuffered) != 0) {
      setvbuf(made, nullptr, _IONBF, 0);
    } else {
      if (terminal || __flbf(old) != 0) {
        setvbuf(made, nullptr, _IOLBF, 0);
      }
      flockfile(old);
      // The buffer is within the cookie, whose address libc keeps for itself.
      auto* const buffer = made->_IO_buf_base;
      auto* const cookie = reinterpret_cast<Cookie*>(buffer - offsetof(Cookie, buffer));
      move_buffer(old, made, *cookie);
      funlockfile(old);
    }
    original[number] = old;
    standard(number) = made;
  }
  errno = error;
}

void settle_standard_streams() {
  for (int i = 0; i < 3; ++i) {
    if (calls::is_ours(i)) prepare_standard_stream(i);
  }
}

// --- fopen, fdopen ------------------------------------------------------------------------------

LIBSERVICES_EXPORT FILE* ls_fopen(const char* path, const char* text) {
  if (!leads_to_ours(AT_FDCWD, path) &&
      !(active() && path != nullptr &&
        (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0))) {
    return LIBSERVICES_REAL(fopen)(path, text);
  }
  Mode mode;
  if (!parse(text, mode)) return fail(-EINVAL);
  const long opened = calls::open(AT_FDCWD, path, mode.flags, 0666);
  if (opened < 0) return fail(opened);
  const int descriptor = static_cast<int>(opened);
  if (!calls::is_ours(descriptor)) {
    // A way that led back to the kernel's files.
    FILE* const stream = LIBSERVICES_REAL(fdopen)(descriptor, text);
    if (stream == nullptr) (void)calls::close(descriptor);
    return stream;
  }
  if (text[0] == 'a' && mode.text[1] == '\0') (void)calls::lseek(descriptor, 0, SEEK_END);
  FILE* const stream = make_stream(descriptor, mode.text);
  if (stream == nullptr) {
    (void)calls::close(descriptor);
    return fail(-ENOMEM);
  }
  return stream;
}
LIBSERVICES_ALIAS_3(fopen, fopen64, _IO_fopen, ls_fopen);

LIBSERVICES_EXPORT FILE* ls_fdopen(int descriptor, const char* text) {
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(fdopen)(descriptor, text);
  Mode mode;
  if (!parse(text, mode)) return fail(-EINVAL);
  const long flags = calls::fcntl(descriptor, F_GETFL, 0);
  if (flags < 0) return fail(flags);
  const int wanted = mode.flags & O_ACCMODE;
  const int given = static_cast<int>(flags) & O_ACCMODE;
  if (given != O_RDWR && given != wanted) return fail(-EINVAL);
  if ((mode.flags & O_APPEND) != 0 && (flags & O_APPEND) == 0) {
    const long set =
        calls::fcntl(descriptor, F_SETFL, static_cast<unsigned long>(flags | O_APPEND));
    if (set < 0) return fail(set);
  }
  return make_stream(descriptor, mode.text);
}
LIBSERVICES_ALIAS_2(fdopen, _IO_fdopen, ls_fdopen);

LIBSERVICES_EXPORT int ls_fileno(FILE* stream) {
  stream = present(stream);
  return is_cookie(stream) ? stream->_fileno : LIBSERVICES_REAL(fileno)(stream);
}
LIBSERVICES_ALIAS_2(fileno, fileno_unlocked, ls_fileno);

// --- freopen ------------------------------------------------------------------------------------

// A cookie stream keeps its number, and its FILE, whatever file it goes to. A stream of libc's can
// not become one: a standard stream is replaced, and for any other the result is another FILE.
LIBSERVICES_EXPORT FILE* ls_freopen(const char* path, const char* text, FILE* stream) {
  if (!active()) return LIBSERVICES_REAL(freopen)(path, text, stream);
  stream = present(stream);
  if (!is_cookie(stream)) {
    if (path == nullptr || !leads_to_ours(AT_FDCWD, path)) {
      return LIBSERVICES_REAL(freopen)(path, text, stream);
    }
    const int number = stream->_fileno;
    if (number < 0 || number > 2 || stream != standard(number)) {
      FILE* const other = ls_fopen(path, text);
      const int error = errno;
      (void)fclose(stream);
      errno = error;
      return other;
    }
    prepare_standard_stream(number);
    if (stream == standard(number)) return fail(-ENOMEM);
    stream = standard(number);
  }
  Mode mode;
  (void)fflush(stream);
  const int number = stream->_fileno;
  char itself[32];
  if (path == nullptr) {
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", number);
    path = itself;
  }
  long opened = parse(text, mode) ? calls::open(AT_FDCWD, path, mode.flags, 0666) : -EINVAL;
  if (opened >= 0 && opened != number) {
    const long moved = calls::dup3(static_cast<int>(opened), number, mode.flags & O_CLOEXEC);
    (void)calls::close(static_cast<int>(opened));
    opened = moved;
  }
  if (opened < 0) {
    (void)fclose(stream);
    return fail(opened);
  }
  begin_anew(stream, mode);
  return stream;
}
LIBSERVICES_ALIAS_2(freopen, freopen64, ls_freopen);

// --- tmpfile ------------------------------------------------------------------------------------

LIBSERVICES_EXPORT FILE* ls_tmpfile() {
  if (!leads_to_ours(AT_FDCWD, P_tmpdir "/x")) return LIBSERVICES_REAL(tmpfile)();
  char path[] = P_tmpdir "/tmpfXXXXXX";
  for (int tries = 0; tries < 100; ++tries) {
    if (!fill_template(path + sizeof path - 7)) return nullptr;
    const long opened = calls::open(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (opened == -EEXIST) continue;
    if (opened < 0) return fail(opened);
    (void)calls::unlinkat(AT_FDCWD, path, 0);
    return make_stream(static_cast<int>(opened), "w+");
  }
  return fail(-EEXIST);
}
LIBSERVICES_ALIAS_2(tmpfile, tmpfile64, ls_tmpfile);

}  // namespace libservices::preload
