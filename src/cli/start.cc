// SPDX-License-Identifier: Apache-2.0
//
// The first part of the command, which every use of it begins with. It starts the program of a
//
//   libservices run [--pool NAME | --run-directory DIRECTORY] [--strict] [--report] -- PROGRAM...
//
// if nothing stands in the way. Whatever else is wanted, and whatever fails, is left to the whole
// command, which knows all of the command line and says what is wrong.
#include <alloca.h>
#include <elf.h>
#include <unistd.h>

#include <string_view>

#include "src/cli/launch.h"
#include "src/cli/program.h"
#include "src/client/environment.h"
#include "src/host/pool.h"

namespace libservices::cli {
namespace {

using client::value_of;

struct Words {
  std::string_view pool{};
  std::string_view run_directory{};
  bool strict = false;
  bool report = false;
  char** program = nullptr;
};

// The value of the option `name` at `word`, which is moved on if that is the next one.
bool takes(char**& word, std::string_view name, std::string_view& value) {
  const std::string_view text = *word;
  if (!value.empty() || !text.starts_with(name)) return false;
  if (text.size() == name.size()) {
    if (word[1] == nullptr) return false;
    value = *++word;
  } else if (text[name.size()] == '=' && name.starts_with("--")) {
    value = text.data() + name.size() + 1;
  } else {
    return false;
  }
  return !value.empty() && value.front() != '-' && value.front() != '[';
}

bool takes(std::string_view word, std::string_view name, bool& given) {
  if (given || word != name) return false;
  given = true;
  return true;
}

// Whether it is the form above, and nothing that needs a second look.
bool read_words(char** arguments, Words& words) {
  if (arguments[0] == nullptr || arguments[1] == nullptr ||
      std::string_view(arguments[1]) != "run") {
    return false;
  }
  for (char** word = arguments + 2; *word != nullptr; ++word) {
    if (std::string_view(*word) == "--") {
      words.program = word + 1;
      return *words.program != nullptr;
    }
    if (!takes(word, "--pool", words.pool) && !takes(word, "-p", words.pool) &&
        !takes(word, "--run-directory", words.run_directory) &&
        !takes(*word, "--strict", words.strict) && !takes(*word, "--report", words.report)) {
      return false;
    }
  }
  return false;
}

bool run_directory_of(const Words& words, char* const* environment, PathText& into) {
  std::string_view named = words.run_directory;
  if (const char* const variable = value_of(environment, "LIBSERVICES_RUN_DIRECTORY=");
      named.empty() && variable != nullptr) {
    named = variable;
  }
  if (!named.empty()) {
    into += named;
    return into.fits();
  }
  const std::string_view pool = words.pool.empty() ? host::kDefaultPool : words.pool;
  return host::pool_directory(pool, value_of(environment, "XDG_RUNTIME_DIR="), into) && into.fits();
}

bool preload_library(std::string_view directory, char* const* environment, PathText& into) {
  const char* const named = value_of(environment, "LIBSERVICES_PRELOAD=");
  const bool found = named != nullptr ? real_path(named, into)
                                      : find_beside(directory, kPreloadPlaces, kPreloadName, into);
  return found && into.view().find_first_of(" :") == std::string_view::npos;
}

// An environment with other values for some variables.
class Environment {
 public:
  // `space` has room for all of `before`, kMost more and the end.
  Environment(char* const* before, char** space) : all_(space) {
    while (*before != nullptr) all_[count_++] = *before++;
    all_[count_] = nullptr;
  }
  static constexpr std::size_t kMost = 4;

  // `text` is NAME=value.
  void set(const char* name, const char* text) {
    std::size_t at = 0;
    while (at < count_ && !std::string_view(all_[at]).starts_with(name)) ++at;
    if (at == count_) all_[++count_] = nullptr;
    all_[at] = const_cast<char*>(text);
  }
  char* const* get() const { return all_; }

 private:
  char** const all_;
  std::size_t count_ = 0;
};

// Becomes the program, or returns.
void run(std::string_view directory, char** arguments, char* const* environment) {
  Words words;
  if (!read_words(arguments, words)) return;
  // What another library changes for the command is changed for its whole only.
  const char* const others = value_of(environment, client::kPreloadVariable);
  if (others != nullptr && *others != '\0') return;
  PathText run_directory;
  Found program;
  PathText library;
  if (!run_directory_of(words, environment, run_directory) ||
      !preload_library(directory, environment, library)) {
    return;
  }
  find(words.program[0], value_of(environment, "PATH="), program);
  if (program.verdict != Verdict::kStarts ||
      host::obstacle_to(run_directory.view()) != host::Obstacle::kNone) {
    return;
  }
  std::size_t count = 0;
  while (environment[count] != nullptr) ++count;
  Environment all(environment,
                  static_cast<char**>(alloca(sizeof(char*) * (count + Environment::kMost + 1))));
  const auto variable = [](PathText& text, const char* name, std::string_view value) {
    text += name;
    text += value;
    return text.fits();
  };
  PathText preload_text;
  PathText pool_text;
  if (!variable(preload_text, client::kPreloadVariable, library.view()) ||
      !variable(pool_text, client::kPoolVariable, run_directory.view())) {
    return;
  }
  all.set(client::kPreloadVariable, preload_text.text());
  all.set(client::kPoolVariable, pool_text.text());
  if (words.strict) all.set(client::kStrictVariable, "LIBSERVICES_STRICT=1");
  if (words.report) all.set(client::kReportVariable, "LIBSERVICES_REPORT=1");
  ::execve(program.path.text(), words.program, all.get());
}

[[noreturn]] void run_whole(std::string_view directory, char** arguments,
                            char* const* environment) {
  for (const std::string_view place : kWholePlaces) {
    PathText path;
    for (const std::string_view part :
         {directory, std::string_view("/"), place, std::string_view("/"), kWholeName}) {
      path += part;
    }
    if (path.fits()) ::execve(path.text(), arguments, environment);
  }
  constexpr std::string_view kMissing =
      "libservices: the command: its whole is not where this first part of it is (install both "
      "with tools/install, or run lib/libservices/libservices itself)\n";
  (void)!::write(STDERR_FILENO, kMissing.data(), kMissing.size());
  ::_exit(kOwnFailure);
}

// How this file was named; the kernel tells it where there is no /proc.
std::string_view executed_name(char* const* environment) {
  while (*environment != nullptr) ++environment;
  const auto* entry = reinterpret_cast<const Elf64_auxv_t*>(environment + 1);
  for (; entry->a_type != AT_NULL; ++entry) {
    if (entry->a_type == AT_EXECFN) return reinterpret_cast<const char*>(entry->a_un.a_val);
  }
  return "";
}

}  // namespace
}  // namespace libservices::cli

// `stack` as the kernel makes it: the count of arguments, these, a null, the environment.
extern "C" [[noreturn, gnu::used]] void libservices_start(long* stack) {
  using namespace libservices::cli;
  auto** const arguments = reinterpret_cast<char**>(stack + 1);
  char** const environment = arguments + *stack + 1;
  PathText directory;
  if (own_directory(directory)) {
    run(directory.view(), arguments, environment);
  } else {
    const std::string_view name = executed_name(environment);
    const std::size_t slash = name.rfind('/');
    directory += slash == std::string_view::npos ? "." : std::string_view(name.data(), slash);
  }
  run_whole(directory.view(), arguments, environment);
}

#if defined(__x86_64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xorl %ebp, %ebp\n"
    "  movq %rsp, %rdi\n"
    "  andq $-16, %rsp\n"
    "  call libservices_start\n");
#elif defined(__aarch64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  mov x0, sp\n"
    "  bl libservices_start\n");
#endif

// By this note the file is known for what it is: client::loading_of().
__asm__(
    ".pushsection .note.libservices, \"a\", @note\n"
    ".balign 4\n"
    ".long 12, 0, 1\n"
    ".asciz \"libservices\"\n"
    ".popsection\n");
