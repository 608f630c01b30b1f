// SPDX-License-Identifier: Apache-2.0
//
// The program that `with` and `run` shall start: where it is, and whether the preload library can
// enter it. What cannot be entered is refused at once, with the reason, and not run on files that
// it would not see; where the mounts are at the kernel it sees them there.
#ifndef LIBSERVICES_SRC_CLI_PROGRAM_H_
#define LIBSERVICES_SRC_CLI_PROGRAM_H_

#include <string>

namespace libservices::cli {

// The exit statuses of `env` and `docker run`, when the failure is not the program's own.
inline constexpr int kOwnFailure = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct Program {
  std::string path;
  int exit_status = 0;  // not 0: it cannot be started, and this is our exit status
  std::string message;  // what, why, and how to mend it
  bool runs_apart = false;  // it can be started all the same where the mounts are at the kernel
};

// `name` is looked for as the shell does: with a '/' it is the path, else in PATH. A script's
// interpreter is checked in its place.
Program find_program(const std::string& name);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_PROGRAM_H_
