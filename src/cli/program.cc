// SPDX-License-Identifier: Apache-2.0
#include "src/cli/program.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "src/cli/launch.h"

namespace libservices::cli {
namespace {

Program refuse(std::string_view name, int status, std::string_view why, std::string_view mend) {
  return {std::string(name), status, fmt::format("{}: {} ({})", name, why, mend)};
}

// It is a program, but none that the library enters.
Program refuse_apart(std::string_view name, std::string_view why, std::string_view mend) {
  Program program =
      refuse(name, kNotExecutable, why, fmt::format("{}, or mounts with --fuse", mend));
  program.runs_apart = true;
  return program;
}

Program refuse_set_id(std::string_view name, std::string_view who) {
  return refuse_apart(name,
                      fmt::format("it is set-{}-id: the loader ignores preload libraries in "
                                  "programs that change their {}",
                                  who, who),
                      "run a copy without that bit");
}

// The verdict on the file `name`.
Program tell(const Found& found, std::string_view name) {
  switch (found.verdict) {
    case Verdict::kStarts:
      break;
    case Verdict::kNotReached:
      if (found.error == ENOENT || found.error == ENOTDIR) {
        return refuse(name, kNotFound, "there is no such program",
                      "check the spelling; a program inside a mount is started by a shell: "
                      "sh -c PROGRAM");
      }
      return refuse(name, kNotExecutable, std::strerror(found.error), "check who may reach it");
    case Verdict::kNotInPath:
      return refuse(name, kNotFound, "there is no such program in PATH",
                    "check the spelling, or write its path");
    case Verdict::kDirectory:
      return refuse(name, kNotExecutable, "it is a directory", "name a program in it");
    case Verdict::kNotExecutable:
      return refuse(name, kNotExecutable, "it is not executable for this user", "chmod +x it");
    case Verdict::kSetUser:
      return refuse_set_id(name, "user");
    case Verdict::kSetGroup:
      return refuse_set_id(name, "group");
    case Verdict::kCapabilities:
      return refuse_apart(
          name,
          "it has file capabilities: the loader ignores preload libraries in programs "
          "that gain rights",
          "run a copy without them");
    case Verdict::kNotEntered:
      return refuse_apart(name, client::reason_of(found.loading),
                          found.loading == client::Loading::kOtherMachine
                              ? "use a program built for this one"
                              : "use a dynamically linked build of it for this system");
    case Verdict::kEndless:
      return refuse(name, kNotExecutable, "its interpreters are scripts without end",
                    "check its first line");
  }
  return {std::string(name), 0, ""};
}

}  // namespace

Program find_program(const std::string& name) {
  Found found;
  find(name, std::getenv("PATH"), found);
  const auto file = [&](unsigned depth) {
    return depth == 0 ? found.path.view() : std::string_view(found.interpreter[depth - 1]);
  };
  Program program = tell(found, file(found.interpreters));
  program.path = found.path.view();
  if (program.exit_status == 0) return program;
  for (unsigned depth = found.interpreters; depth > 0; --depth) {
    program.exit_status = kNotExecutable;
    program.message = fmt::format("{}: it cannot be run by its interpreter: {}", file(depth - 1),
                                  program.message);
  }
  return program;
}

}  // namespace libservices::cli
