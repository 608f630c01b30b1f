// SPDX-License-Identifier: Apache-2.0
#include "src/cli/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "src/client/loading.h"
#include "src/host/descriptor.h"

namespace libservices::cli {
namespace {

constexpr int kMostInterpreters = 5;  // the kernel's own limit of scripts that run scripts

Program refuse(const std::string& name, int status, std::string_view why, std::string_view mend) {
  return {name, status, fmt::format("{}: {} ({})", name, why, mend)};
}

// It is a program, but none that the library enters.
Program refuse_apart(const std::string& name, std::string_view why, std::string_view mend) {
  Program program =
      refuse(name, kNotExecutable, why, fmt::format("{}, or mounts with --fuse", mend));
  program.runs_apart = true;
  return program;
}

// What must be known of the file; "" when the preload library can enter it.
struct Finding {
  std::string_view why{};
  std::string_view mend{};
  std::string interpreter{};  // of a script
};

Finding look_into(int file) {
  char start[client::kScriptBytes];
  const client::Loading loading = client::loading_of(
      [&](void* into, std::size_t size, std::uint64_t offset) {
        return static_cast<long>(::pread(file, into, size, static_cast<off_t>(offset)));
      },
      start);
  const std::string_view why = client::reason_of(loading);
  switch (loading) {
    case client::Loading::kLoads:
      return {};
    case client::Loading::kOtherMachine:
      return {.why = why, .mend = "use a program built for this one"};
    case client::Loading::kStatic:
    case client::Loading::kOtherLibrary:
      return {.why = why, .mend = "use a dynamically linked build of it for this system"};
    case client::Loading::kScript:
      break;
  }
  const std::string_view text(start);
  if (!text.starts_with("#!")) return {.interpreter = "/bin/sh"};
  const std::string_view line = text.substr(2, text.find('\n') - 2);
  const std::size_t from = line.find_first_not_of(" \t");
  if (from == std::string_view::npos) return {.interpreter = "/bin/sh"};
  return {.interpreter = std::string(line.substr(from, line.find_first_of(" \t", from) - from))};
}

Program check(const std::string& path, int depth) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return refuse(path, kNotFound, "there is no such program",
                    "check the spelling; a program inside a mount is started by a shell: "
                    "sh -c PROGRAM");
    }
    return refuse(path, kNotExecutable, std::strerror(error), "check who may reach it");
  }
  if (S_ISDIR(status.st_mode)) {
    return refuse(path, kNotExecutable, "it is a directory", "name a program in it");
  }
  if (!S_ISREG(status.st_mode) || ::access(path.c_str(), X_OK) != 0) {
    return refuse(path, kNotExecutable, "it is not executable for this user", "chmod +x it");
  }
  if ((status.st_mode & (S_ISUID | S_ISGID)) != 0) {
    return refuse_apart(
        path,
        fmt::format("it is set-{}-id: the loader ignores preload libraries in programs "
                    "that change their {}",
                    (status.st_mode & S_ISUID) != 0 ? "user" : "group",
                    (status.st_mode & S_ISUID) != 0 ? "user" : "group"),
        "run a copy without that bit");
  }
  if (::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return refuse_apart(
        path,
        "it has file capabilities: the loader ignores preload libraries in programs "
        "that gain rights",
        "run a copy without them");
  }
  const host::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return {path, 0, ""};  // executable, but not readable: nothing to be seen
  const Finding finding = look_into(file.get());
  if (!finding.why.empty()) return refuse_apart(path, finding.why, finding.mend);
  if (finding.interpreter.empty()) return {path, 0, ""};
  if (depth == kMostInterpreters) {
    return refuse(path, kNotExecutable, "its interpreters are scripts without end",
                  "check its first line");
  }
  Program interpreter = check(finding.interpreter, depth + 1);
  if (interpreter.exit_status == 0) return {path, 0, ""};
  return {path, kNotExecutable,
          fmt::format("{}: it cannot be run by its interpreter: {}", path, interpreter.message),
          interpreter.runs_apart};
}

}  // namespace

Program find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return check(name, 0);
  const char* variable = std::getenv("PATH");
  const std::string_view path = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  Program best = refuse(name, kNotFound, "there is no such program in PATH",
                        "check the spelling, or write its path");
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    std::string directory(path.substr(at, end - at));
    at = end + 1;
    if (directory.empty()) directory = ".";
    Program program = check(directory + '/' + name, 0);
    if (program.exit_status == 0) return program;
    if (program.exit_status == kNotFound) continue;
    // Something of that name is there; as execvp does, only what cannot be executed is passed by.
    if (::access(program.path.c_str(), X_OK) == 0) return program;
    if (best.exit_status == kNotFound) best = std::move(program);
  }
  return best;
}

}  // namespace libservices::cli
