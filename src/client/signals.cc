// SPDX-License-Identifier: Apache-2.0
#include "src/client/signals.h"

#include <sys/syscall.h>

#include "ipc/raw_syscall.h"

namespace libservices::client {

namespace raw = ipc::raw;

__thread Signals signals __attribute__((tls_model("initial-exec")));

// All are blocked until the mask is the thread's own again: the kernel delivers this one then, with
// those that have come meanwhile, in its order.
void deliver_signal() {
  const std::uint32_t number = signals.pending;
  const std::uint64_t mask = signals.mask;
  siginfo_t information = signals.information;
  signals.pending = 0;
  const long process = raw::syscall(SYS_getpid);
  const long thread = raw::syscall(SYS_gettid);
  // Without room for one more in the queue it comes without what was known of it.
  if (raw::syscall(SYS_rt_tgsigqueueinfo, process, thread, number, &information) != 0) {
    raw::syscall(SYS_tgkill, process, thread, number);
  }
  raw::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
}

}  // namespace libservices::client
