// SPDX-License-Identifier: Apache-2.0
//
// What became of the calls of this process, by the function that was called: served, passed to the
// kernel, or refused. Counted while LIBSERVICES_REPORT or LIBSERVICES_STRICT is set; otherwise a
// call costs one test of a flag.
//
// LIBSERVICES_REPORT=1 writes the counts to standard error when the process ends or runs another
// program; any other value names a file that they are added to. With LIBSERVICES_STRICT=1 a process
// ends at the first call that is refused, and says which it was.
//
// THREADS: any. A call made by a signal handler within another call is part of that one.
#ifndef LIBSERVICES_SRC_PRELOAD_REPORT_H_
#define LIBSERVICES_SRC_PRELOAD_REPORT_H_

#include "src/client/state.h"
#include "src/preload/symbols.h"

namespace libservices::preload {

// The values of both variables, null where they are not set. REQUIRES: the library is active.
void begin_report(const char* report, const char* strict);
// These values, for programs that this one runs; null where they were not set.
const char* report_value();
const char* strict_value();
// Writes the counts, if that was asked for, and begins them anew: before another program, or the
// end. The call that this is in counts.
void write_report();
// In the child of a fork: the parent's counts are the parent's.
void forget_counts();

// Lives as long as a call of an exported function.
class Call {
 public:
  explicit Call(Symbol symbol) {
    if (client::state.watched) [[unlikely]] {
      begin(symbol);
    }
  }
  ~Call() {
    if (outermost_) [[unlikely]] {
      end();
    }
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  void begin(Symbol symbol);
  void end();

  bool outermost_ = false;
};

}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_REPORT_H_
