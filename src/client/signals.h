// SPDX-License-Identifier: Apache-2.0
//
// Signals that come while a call is in progress. As with a call of the kernel's, the handler runs
// behind the call and never in the middle: it may make any call itself, and jump out of it.
//
// `Whole` says which part of a call must not be left. The preload library stands between the kernel
// and the program's handlers (src/preload/signals.cc): in such a part it keeps the signal, and has
// the kernel block all others of the thread, until the part ends. That costs no system call unless a
// signal comes. Handlers that were installed past the library run at once.
//
// THREADS: each has its own.
#ifndef LIBSERVICES_SRC_CLIENT_SIGNALS_H_
#define LIBSERVICES_SRC_CLIENT_SIGNALS_H_

#include <signal.h>

#include <atomic>
#include <cstdint>

namespace libservices::client {

struct Signals {
  std::uint32_t depth;         // of Whole
  std::uint32_t pending;       // the number of one that was kept; 0: none
  std::uint64_t mask;          // with it: what the thread had blocked before
  std::uint32_t interrupting;  // handlers that have run, and end waits: without SA_RESTART
  siginfo_t information;       // of the pending one
};
extern __thread Signals signals __attribute__((tls_model("initial-exec")));

// Has the kernel deliver what was kept.
void deliver_signal();

class Whole {
 public:
  Whole() {
    ++signals.depth;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Whole() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (--signals.depth != 0) return;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (signals.pending != 0) [[unlikely]] {
      deliver_signal();
    }
  }
  Whole(const Whole&) = delete;
  Whole& operator=(const Whole&) = delete;
};

// In a long wait within such a part: handlers run now. One that jumps out leaves the call in the
// middle, and what that had in its hands is lost.
inline void let_signals_in() {
  if (signals.pending == 0) return;
  const std::uint32_t depth = signals.depth;
  signals.depth = 0;
  deliver_signal();
  signals.depth = depth;
}

// For a wait that the program's handlers end: whether one has run since this was made.
class Interruption {
 public:
  bool has_come() const { return signals.interrupting != before_; }

 private:
  const std::uint32_t before_ = signals.interrupting;
};

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_SIGNALS_H_
