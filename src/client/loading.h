// SPDX-License-Identifier: Apache-2.0
//
// Whether the loader brings the preload library into a program, by what the program's file says.
// Freestanding.
#ifndef LIBSERVICES_SRC_CLIENT_LOADING_H_
#define LIBSERVICES_SRC_CLIENT_LOADING_H_

#include <elf.h>

#include <cstddef>
#include <cstdint>

namespace libservices::client {

enum class Loading : std::uint8_t {
  kLoads,
  kScript,        // its interpreter decides
  kOtherMachine,  // it is built for another machine than the library
  kStatic,        // no loader runs
  kOtherLibrary,  // the loader is another C library's
  kFirstPart,     // of the command `libservices`: static, and becomes a program that is looked at
};

// A reason as the end of a sentence about the program.
constexpr const char* reason_of(Loading loading) {
  switch (loading) {
    case Loading::kOtherMachine:
      return "it is built for another machine than the preload library, which cannot enter it";
    case Loading::kStatic:
      return "it is statically linked: no loader runs that could load the preload library";
    case Loading::kOtherLibrary:
      return "it is linked to another C library, which the preload library cannot enter";
    default:
      return "";
  }
}

// The longest first line of a script that is looked at.
inline constexpr std::size_t kScriptBytes = 256;

#if defined(__x86_64__)
inline constexpr std::uint16_t kOwnMachine = EM_X86_64;
inline constexpr char kOwnLoader[] = "/ld-linux-x86-64.so.2";
#elif defined(__aarch64__)
inline constexpr std::uint16_t kOwnMachine = EM_AARCH64;
inline constexpr char kOwnLoader[] = "/ld-linux-aarch64.so.1";
#else
#error "the machine's number in <elf.h> and the name of its loader are needed here"
#endif

// The note by which src/cli/start.cc is known.
struct FirstPartNote {
  Elf64_Nhdr header{sizeof name, 0, 1};
  char name[12] = "libservices";
};

// `read(into, size, offset)` gives bytes of the file, as pread does. `start` has its first ones
// afterwards, and a NUL behind.
template <class Read>
Loading loading_of(Read&& read, char (&start)[kScriptBytes]) {
  const long bytes = read(start, sizeof start - 1, std::uint64_t{0});
  start[bytes > 0 ? bytes : 0] = '\0';
  if (start[0] == '#' && start[1] == '!') return Loading::kScript;
  // What has no known start is given to the shell by execvp.
  if (bytes < SELFMAG || __builtin_memcmp(start, ELFMAG, SELFMAG) != 0) return Loading::kScript;
  Elf64_Ehdr header;
  if (bytes < static_cast<long>(sizeof header)) return Loading::kOtherMachine;
  __builtin_memcpy(&header, start, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kOwnMachine) {
    return Loading::kOtherMachine;
  }
  bool first_part = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::uint64_t at = header.e_phoff + std::uint64_t{i} * header.e_phentsize;
    if (read(&segment, sizeof segment, at) != static_cast<long>(sizeof segment)) break;
    if (segment.p_type == PT_NOTE && segment.p_filesz == sizeof(FirstPartNote)) {
      const FirstPartNote known;
      FirstPartNote note;
      first_part = read(&note, sizeof note, segment.p_offset) == long{sizeof note} &&
                   __builtin_memcmp(&note, &known, sizeof note) == 0;
    }
    if (segment.p_type != PT_INTERP) continue;
    char loader[128];
    const std::size_t size =
        segment.p_filesz < sizeof loader ? static_cast<std::size_t>(segment.p_filesz) : 0;
    constexpr std::size_t kEnd = sizeof kOwnLoader;  // with the NUL, which the file has too
    const bool own = size >= kEnd &&
                     read(loader, size, segment.p_offset) == static_cast<long>(size) &&
                     __builtin_memcmp(loader + size - kEnd, kOwnLoader, kEnd) == 0;
    return own ? Loading::kLoads : Loading::kOtherLibrary;
  }
  return first_part ? Loading::kFirstPart : Loading::kStatic;
}

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_LOADING_H_
