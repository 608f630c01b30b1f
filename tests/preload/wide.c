/* SPDX-License-Identifier: Apache-2.0
 *
 * Wide characters on streams over files of the working directory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

#include "tests/preload/say.h"

int __fwprintf_chk(FILE*, int, const wchar_t*, ...);
wchar_t* __fgetws_chk(wchar_t*, size_t, int, FILE*);

static void show(const char* path) {
  unsigned char bytes[256];
  const int file = open(path, O_RDONLY);
  const ssize_t size = read(file, bytes, sizeof bytes);
  printf("%s:", path);
  for (ssize_t i = 0; i < size; ++i) printf(" %02x", bytes[i]);
  printf("\n");
  close(file);
}

static void make(const char* path, const char* bytes, size_t size) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (write(file, bytes, size) != (ssize_t)size) perror(path);
  close(file);
}

static int vprint(FILE* stream, const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = vfwprintf(stream, format, arguments);
  va_end(arguments);
  return length;
}

static int vscan(FILE* stream, const wchar_t* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int count = vfwscanf(stream, format, arguments);
  va_end(arguments);
  return count;
}

static void print(void) {
  FILE* stream = fopen("text", "w+");
  SAY(fwide(stream, 0));
  SAY(fputwc(L'a', stream) == L'a');
  SAY(fwide(stream, 0) > 0);
  SAY(fwide(stream, -1) > 0);
  SAY(putwc(L'\u00e4', stream) == L'\u00e4');
  SAY(fputwc_unlocked(L'\u20ac', stream) == L'\u20ac');
  SAY(putwc_unlocked(L'\U0001f600', stream) == L'\U0001f600');
  SAY(ftell(stream));
  SAY(fputws(L"w\u00f6rd ", stream) >= 0);
  SAY(fputws_unlocked(L"zwei\n", stream) >= 0);
  SAY(fwprintf(stream, L"%ls|%5d|%s|%lc\n", L"\u4e2d\u6587", 42, "gr\xc3\xbc\xc3\x9f", L'\u00e9'));
  SAY(__fwprintf_chk(stream, 1, L"%x\n", 255));
  SAY(vprint(stream, L"%.3f %c", 2.5, 0));
  SAY(fflush(stream));
  show("text");
  SAY(ftell(stream));
  rewind(stream);
  SAY(fgetwc(stream) == L'a');
  SAY(ftell(stream));
  SAY(getwc(stream) == L'\u00e4');
  SAY(ftell(stream));
  SAY(fgetwc_unlocked(stream) == L'\u20ac');
  SAY(getwc_unlocked(stream) == L'\U0001f600');
  SAY(ftell(stream));
  SAY(ungetwc(L'\U0001f600', stream) == L'\U0001f600');
  SAY(ftell(stream));
  SAY(fgetwc(stream) == L'\U0001f600');
  SAY(ungetwc(L'\u00df', stream) == L'\u00df');
  SAY(fgetwc(stream) == L'\u00df');
  SAY(ungetwc(WEOF, stream) == WEOF);
  wchar_t line[64];
  SAY(fgetws(line, 4, stream) == line);
  SAY(wcscmp(line, L"w\u00f6r"));
  SAY(fgetws(line, 64, stream) == line);
  SAY(wcscmp(line, L"d zwei\n"));
  SAY(fgetws_unlocked(line, 64, stream) == line);
  SAY(wcslen(line));
  SAY(__fgetws_chk(line, 64, 64, stream) == line);
  SAY(wcscmp(line, L"ff\n"));
  SAY(fgetws(line, 1, stream) == line && line[0] == 0);
  SAY(fgetws(line, 64, stream) == line);
  SAY(fgetwc(stream) == WEOF);
  SAY(feof(stream) != 0);
  SAY(ferror(stream) != 0);
  SAY(fgetws(line, 64, stream) == NULL);
  SAY(ungetwc(L'q', stream) == L'q');
  SAY(feof(stream) != 0);
  SAY(fgetwc(stream) == L'q');
  SAY(fseek(stream, 1, SEEK_SET));
  SAY(fgetwc(stream) == L'\u00e4');
  SAY(fclose(stream));

  stream = fopen("text", "a");
  SAY(fputws(L"\u00fcber", stream) >= 0);
  SAY(fclose(stream));
  show("text");
  stream = fopen("text", "r");
  SAY(getc(stream));
  SAY(fwide(stream, 1) < 0);
  SAY(fgetwc(stream) == WEOF);
  SAY(fclose(stream));
  stream = fopen("text", "w");
  SAY(fprintf(stream, "bytes"));
  SAY(fputwc(L'x', stream) == WEOF);
  SAY(fwprintf(stream, L"x"));
  SAY(fwide(stream, 0) < 0);
  stream = freopen("text", "w", stream);
  SAY(fwide(stream, 0));
  SAY(fwprintf(stream, L"\u00e4\n"));
  SAY(fclose(stream));
  show("text");
}

static void wrong(void) {
  make("bad",
       "ab\xff"
       "cd",
       5);
  FILE* stream = fopen("bad", "r");
  SAY(fgetwc(stream));
  SAY(fgetwc(stream));
  SAY(fgetwc(stream) == WEOF ? -1 : 0);
  SAY(ferror(stream) != 0);
  SAY(feof(stream) != 0);
  clearerr(stream);
  SAY(fgetwc(stream) == WEOF ? -1 : 0);
  SAY(fclose(stream));
  make("bad", "x\xe2\x82", 3);
  stream = fopen("bad", "r");
  SAY(fgetwc(stream));
  SAY(fgetwc(stream) == WEOF ? -1 : 0);
  SAY(ferror(stream) != 0);
  SAY(fclose(stream));
  stream = fopen("bad", "w");
  SAY(fputwc((wchar_t)0x7fffffff, stream) == WEOF ? -1 : 0);
  SAY(ferror(stream) != 0);
  SAY(fclose(stream));
  stream = fopen("bad", "r");
  SAY(fputwc(L'x', stream) == WEOF ? -1 : 0);
  SAY(ferror(stream) != 0);
  SAY(fclose(stream));
  stream = fopen("bad", "w");
  SAY(fgetwc(stream) == WEOF ? -1 : 0);
  wchar_t line[8];
  SAY(fgetws(line, 8, stream) == NULL ? -1 : 0);
  SAY(fclose(stream));
  SAY(fopen("bad", "r,ccs=NO-SUCH-ENCODING") == NULL ? -1 : 0);
  stream = fopen("bad", "w,ccs=UTF-8");
  SAY(fwide(stream, 0) > 0);
  SAY(fputws(L"\u00e4", stream) >= 0);
  SAY(fclose(stream));
  show("bad");
}

static void scan(void) {
  const char text[] = "12 0x1f  3.5 w\xc3\xb6rter [abc]\n\xe4\xb8\xad\xe6\x96\x87 x=7;y=-8 tail";
  make("scan", text, sizeof text - 1);
  FILE* stream = fopen("scan", "r");
  int number = 0, other = 0;
  double real = 0;
  wchar_t word[32] = L"", set[32] = L"";
  char bytes[32] = "";
  SAY(fwscanf(stream, L"%d %i", &number, &other));
  SAY(number);
  SAY(other);
  SAY(ftell(stream));
  SAY(fwscanf(stream, L"%lf %ls", &real, word));
  SAY(real * 10);
  SAY(wcscmp(word, L"w\u00f6rter"));
  SAY(ftell(stream));
  SAY(vscan(stream, L" [%l[a-z]%lc", set, word));
  SAY(wcscmp(set, L"abc") + word[0]);
  SAY(fwscanf(stream, L"%d", &number));
  SAY(ftell(stream));
  SAY(fgetwc(stream) == L'\u4e2d');
  SAY(fwscanf(stream, L"%s x=%d;", bytes, &number));
  printf("%s %d\n", bytes, number);
  SAY(fwscanf(stream, L"y=%d%n", &number, &other));
  SAY(number + other);
  wchar_t* made = NULL;
  SAY(fwscanf(stream, L"%mls", &made));
  SAY(wcscmp(made, L"tail"));
  free(made);
  SAY(feof(stream) != 0);
  SAY(fwscanf(stream, L"%d", &number));
  SAY(fclose(stream));

  // More than is looked at at once, with characters across the edges.
  stream = fopen("scan", "w");
  for (int i = 0; i < 20000; ++i) fwprintf(stream, L"%d\u20ac%*s", i, i % 7 + 1, " ");
  for (int i = 0; i < 3000; ++i) fputwc(L'\u00e4', stream);
  SAY(fclose(stream));
  stream = fopen("scan", "r");
  int right = 0;
  while (fwscanf(stream, L"%d\u20ac", &number) == 1 && number == right) ++right;
  SAY(right);
  static wchar_t long_word[4000];
  SAY(fwscanf(stream, L"%3999ls", long_word));
  SAY(wcslen(long_word));
  SAY(fclose(stream));
}

static void standard(void) {
  const int kept_output = dup(1), kept_input = dup(0);
  make("input", "eins 2 \xc3\xa4\n", 10);
  const int input = open("input", O_RDONLY),
            output = open("output", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  fflush(stdout);
  dup2(input, 0);
  dup2(output, 1);
  // The streams take their places.
  FILE *in = freopen("/proc/self/fd/0", "r", stdin), *out = freopen("output", "w", stdout);
  wchar_t word[16];
  int number = 0;
  const int got = wscanf(L"%ls %d ", word, &number);
  const wint_t last = getwchar(), end = getwchar_unlocked();
  const int printed = wprintf(L"%d %ls %d %lc\n", got, word, number, last);
  putwchar(L'\u00e4');
  putwchar_unlocked(L'\n');
  fflush(stdout);
  fprintf(stderr, "%d %d %d %d\n", in == stdin, out == stdout, printed, end == L'\n');
  dup2(kept_output, 1);
  dup2(kept_input, 0);
  close(kept_output), close(kept_input), close(input), close(output);
}

static int redirected(void) {
  wprintf(L"\u00e4 to where it was\n");
  fflush(stdout);
  const int output = open("output", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(output, 1);
  wprintf(L"\u00e4 to the file\n");
  fputws(fwide(stdout, 0) > 0 ? L"wide\n" : L"not wide\n", stdout);
  fflush(stdout);
  return 3;
}

int main(int count, char** words) {
  (void)words;
  if (setlocale(LC_ALL, "C.UTF-8") == NULL) return 2;
  if (count > 1) return redirected();
  print();
  wrong();
  scan();
  // Their standard output is one of wide characters then.
  for (int i = 0; i < 2; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      if (i == 1) execl("/proc/self/exe", "wide", "redirected", NULL);
      standard();
      _exit(3);
    }
    int status = 0;
    SAY(waitpid(child, &status, 0) == child);
    SAY(WEXITSTATUS(status));
    show("output");
  }
  // An encoding that has few characters: libc's streams write others for them.
  if (setlocale(LC_ALL, "C") == NULL) return 2;
  FILE* stream = fopen("text", "w+");
  SAY(fputws(L"w\u00f6rd \u20ac \u201equoted\u201c\n", stream) >= 0);
  SAY(fwprintf(stream, L"%lc\n", L'\u00e9'));
  SAY(fwprintf(stream, L"\u00e4%d\n", 1));
  rewind(stream);
  wchar_t line[64];
  SAY(fgetws(line, 64, stream) == line);
  SAY(wcslen(line));
  SAY(fclose(stream));
  show("text");
  return 0;
}
