// SPDX-License-Identifier: Apache-2.0
//
// What stands between `libservices run` and the program: where the program is and whether the
// preload library can enter it, and where that library is. Words for people are program.h's.
//
// It takes nothing from the heap and calls no more of libc than tiny_libc.cc has: start.cc does
// this before every program, where a whole libc would start for as long as `true` runs.
#ifndef LIBSERVICES_SRC_CLI_LAUNCH_H_
#define LIBSERVICES_SRC_CLI_LAUNCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "src/client/loading.h"
#include "src/host/path_text.h"

namespace libservices::cli {

using host::PathText;

enum class Verdict : std::uint8_t {
  kStarts,
  kNotReached,  // `error` says why
  kNotInPath,
  kDirectory,
  kNotExecutable,
  kSetUser,
  kSetGroup,
  kCapabilities,
  kNotEntered,  // `loading` says why
  kEndless,     // its interpreters are scripts without end
};

inline constexpr unsigned kMostInterpreters =
    5;  // the kernel's own limit of scripts that run scripts

struct Found {
  Verdict verdict = Verdict::kStarts;
  client::Loading loading = client::Loading::kLoads;
  int error = 0;
  PathText path;
  // Of a script, the interpreter, and so on; the verdict is about the last of them.
  unsigned interpreters = 0;
  char interpreter[kMostInterpreters][client::kScriptBytes] = {};
};

// `name` is looked for as the shell does: with a '/' it is the path, else in `search`, which is
// $PATH or null. A script's interpreter is checked in its place.
void find(std::string_view name, const char* search, Found& found);

// The path without links of the file at `path`. False, with errno, when there is none.
bool real_path(const char* path, PathText& real);
// The directory of this program's own file. False when the kernel does not tell.
bool own_directory(PathText& into);
// The real path of the file `name` in the first of `places`, relative to `directory`, that has it.
bool find_beside(std::string_view directory, std::span<const std::string_view> places,
                 std::string_view name, PathText& real);

// Where the preload library is, from the command as installed and as built; in the second half of
// the list as seen from the whole command (kWholePlaces).
inline constexpr std::string_view kPreloadName = "libservices-preload.so";
inline constexpr std::string_view kPreloadPlaces[] = {"../lib", "../preload", "../src/preload",
                                                      ".",      "..",         "../../preload"};

// `libservices` has two parts, each a program: a small first one, which can start a program, and
// behind it the whole command.
inline constexpr std::string_view kWholeName = "libservices";
inline constexpr std::string_view kWholePlaces[] = {"../lib/libservices", "whole"};

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_LAUNCH_H_
