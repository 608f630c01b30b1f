// SPDX-License-Identifier: Apache-2.0
#include "src/preload/report.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

using client::Outcome;

constexpr unsigned kOutcomes = 3;

std::atomic<std::uint64_t> counts[kSymbols][kOutcomes];
// Copies of the variables' values: programs write over their environment. Empty: not set.
char reports[512];
char strict[16];
int target = -1;      // a descriptor of the library's own
bool target_is_ours;  // standard error was a file in a mount when the program began

// The call that the thread is in, if it is watched.
struct Present {
  const Call* call;
  Symbol symbol;
};
thread_local Present present{};

void write_out(const char* text, std::size_t bytes) {
  if (target_is_ours) {
    (void)calls::write(STDERR_FILENO, text, bytes);
  } else {
    raw::syscall(SYS_write, target, text, bytes);
  }
}

// A line, whole in one write so that those of other processes do not mix with it.
template <class... Values>
void write_line(const char* format, Values... values) {
  char line[512];
  int bytes = snprintf(line, sizeof line, format, values...);
  if (bytes < 0) return;
  if (static_cast<std::size_t>(bytes) >= sizeof line) bytes = sizeof line - 1;
  write_out(line, static_cast<std::size_t>(bytes));
}

void count(Symbol symbol, Outcome outcome) {
  counts[static_cast<unsigned>(symbol)][static_cast<unsigned>(outcome)].fetch_add(
      1, std::memory_order_relaxed);
}

[[noreturn]] void end_by(Symbol symbol) {
  write_line(
      "libservices: %s: %s was refused for a file of a mount, and the program runs strictly "
      "(docs/libc.md says why; without --strict the program gets the error)\n",
      program_invocation_short_name, kSymbolNames[static_cast<unsigned>(symbol)]);
  strict[0] = '\0';
  write_report();
  constexpr int kOwnFailure = 125;  // as `libservices run` when the failure is not the program's
  raw::syscall(SYS_exit_group, kOwnFailure);
  __builtin_unreachable();
}

__attribute__((destructor)) void end_of_process() { write_report(); }

}  // namespace

void begin_report(const char* report, const char* strictness) {
  const auto take = [](const char* value, char* into, std::size_t size) {
    if (value == nullptr || strcmp(value, "0") == 0 || strlen(value) >= size) return;
    strcpy(into, value);
  };
  take(report, reports, sizeof reports);
  take(strictness, strict, sizeof strict);
  if (*reports == '\0' && *strict == '\0') return;
  if (*reports != '\0' && strcmp(reports, "1") != 0) {
    const long opened = raw::syscall(SYS_openat, AT_FDCWD, report,
                                     O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (opened >= 0) {
      target = client::keep_copy(static_cast<int>(opened));
      raw::syscall(SYS_close, opened);
    }
  } else if (calls::is_ours(STDERR_FILENO)) {
    target_is_ours = true;
  } else {
    // The program may close its own before it ends, as all of coreutils do.
    target = client::keep_copy(STDERR_FILENO);
  }
  client::state.watched = true;
}

const char* report_value() { return *reports != '\0' ? reports : nullptr; }
const char* strict_value() { return *strict != '\0' ? strict : nullptr; }

void write_report() {
  if (!client::state.watched) return;
  if (present.call != nullptr) {
    count(present.symbol, client::outcome);
    present.call = nullptr;
  }
  if (*reports == '\0') return;
  client::state.watched = false;
  std::uint64_t sums[kOutcomes]{};
  for (auto& one : counts) {
    for (unsigned i = 0; i < kOutcomes; ++i) sums[i] += one[i].load(std::memory_order_relaxed);
  }
  constexpr auto kPassed = static_cast<unsigned>(Outcome::kPassed);
  constexpr auto kServed = static_cast<unsigned>(Outcome::kServed);
  constexpr auto kRefused = static_cast<unsigned>(Outcome::kRefused);
  write_line("libservices: %s[%d]: %lu calls served, %lu passed to the kernel, %lu refused\n",
             program_invocation_short_name, getpid(), sums[kServed], sums[kPassed], sums[kRefused]);
  for (unsigned symbol = 0; symbol < kSymbols; ++symbol) {
    std::uint64_t of[kOutcomes];
    for (unsigned i = 0; i < kOutcomes; ++i) {
      of[i] = counts[symbol][i].exchange(0, std::memory_order_relaxed);
    }
    if (of[0] + of[1] + of[2] == 0) continue;
    write_line("libservices: %s[%d]:   %-20s %8lu %8lu %8lu\n", program_invocation_short_name,
               getpid(), kSymbolNames[symbol], of[kServed], of[kPassed], of[kRefused]);
  }
  client::state.watched = true;
}

void forget_counts() {
  for (auto& one : counts) {
    for (auto& value : one) value.store(0, std::memory_order_relaxed);
  }
}

void Call::begin(Symbol symbol) {
  // The stack grows down: what is above this frame and did not end was left by longjmp, or is a
  // call that this one is part of.
  if (present.call != nullptr && present.call > this) return;
  present = {this, symbol};
  client::outcome = Outcome::kPassed;
  outermost_ = true;
}

void Call::end() {
  if (present.call != this) return;
  present.call = nullptr;
  count(present.symbol, client::outcome);
  if (*strict != '\0' && client::outcome == Outcome::kRefused) end_by(present.symbol);
}

}  // namespace libservices::preload
