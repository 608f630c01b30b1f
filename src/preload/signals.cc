// SPDX-License-Identifier: Apache-2.0
//
// Handlers of signals: what the kernel calls is `deliver`, which calls the program's handler, or
// keeps the signal until a call in progress is over (src/client/signals.h). Programs see the
// handlers that they have installed.
//
// libc installs first, and then its choice is changed, so that what it knows of flags, masks and
// errors is right whichever of its functions was called. In the moment between a signal finds the
// handler itself, as without us.
#include "src/client/signals.h"

#include <signal.h>
#include <ucontext.h>

#include <atomic>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

using client::Signals;
using Handler = void (*)(int, siginfo_t*, void*);
using Install = sighandler_t (*)(int, sighandler_t);

constexpr int kMost = 64;
// Of the flags the kernel has, these are the program's; it does the others itself.
constexpr int kOurs = SA_SIGINFO | static_cast<int>(SA_RESETHAND);

struct Action {
  std::atomic<Handler> handler;  // null: none was installed through us
  std::atomic<int> flags;
};
Action actions[kMost + 1];

// One kind of handler as the other, as the kernel has them.
Handler as_handler(sighandler_t handler) {
  struct sigaction action;
  action.sa_handler = handler;
  return action.sa_sigaction;
}
sighandler_t as_plain(Handler handler) {
  struct sigaction action;
  action.sa_sigaction = handler;
  return action.sa_handler;
}

int libc_action(int number, const struct sigaction* action, struct sigaction* before) {
  return LIBSERVICES_REAL(sigaction)(number, action, before);
}

constexpr std::uint64_t bit_of(int number) { return std::uint64_t{1} << (number - 1); }
// What an instruction of the thread itself may cause cannot wait.
constexpr std::uint64_t kFaults = bit_of(SIGSEGV) | bit_of(SIGBUS) | bit_of(SIGFPE) |
                                  bit_of(SIGILL) | bit_of(SIGTRAP) | bit_of(SIGSYS);

bool is_fault(int number, const siginfo_t& information) {
  return (kFaults & bit_of(number)) != 0 && information.si_code > 0;
}

// The thread goes on with its call, and everything but faults blocked.
void keep(int number, const siginfo_t& information, ucontext_t& context) {
  Signals& signals = client::signals;
  const std::uint64_t blocked = ~kFaults;
  signals.information = information;
  // The kernel's set is shorter than libc's.
  __builtin_memcpy(&signals.mask, &context.uc_sigmask, sizeof signals.mask);
  __builtin_memcpy(&context.uc_sigmask, &blocked, sizeof blocked);
  signals.pending = static_cast<std::uint32_t>(number);
}

void deliver(int number, siginfo_t* information, void* context) {
  Signals& signals = client::signals;
  if (signals.depth != 0 && !is_fault(number, *information)) {
    keep(number, *information, *static_cast<ucontext_t*>(context));
    return;
  }
  const Handler handler = actions[number].handler.load(std::memory_order_acquire);
  const int flags = actions[number].flags.load(std::memory_order_relaxed);
  if (handler == nullptr) return;
  if ((flags & static_cast<int>(SA_RESETHAND)) != 0) {
    struct sigaction none = {};
    (void)libc_action(number, &none, nullptr);
  }
  if ((flags & SA_RESTART) == 0) ++signals.interrupting;
  // A handler of a fault may jump out of the call.
  const std::uint32_t depth = signals.depth;
  signals.depth = 0;
  handler(number, information, context);
  signals.depth = depth;
}

// What the program had installed, before it installs something else.
class Before {
 public:
  explicit Before(int number) {
    if (number < 1 || number > kMost) return;
    handler_ = actions[number].handler.load(std::memory_order_acquire);
    flags_ = actions[number].flags.load(std::memory_order_relaxed);
  }
  void show_in(struct sigaction& action) const {
    if (action.sa_sigaction != deliver) return;
    action.sa_sigaction = handler_;
    action.sa_flags = (action.sa_flags & ~kOurs) | (flags_ & kOurs);
  }
  sighandler_t shown(sighandler_t handler) const {
    return as_handler(handler) == deliver ? as_plain(handler_) : handler;
  }

 private:
  Handler handler_ = nullptr;
  int flags_ = 0;
};

// The handler that libc has just installed is called by us from now on.
void take_over(int number) {
  struct sigaction now;
  if (number < 1 || number > kMost || libc_action(number, nullptr, &now) != 0) return;
  if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN || now.sa_sigaction == deliver) {
    return;
  }
  actions[number].flags.store(now.sa_flags, std::memory_order_relaxed);
  actions[number].handler.store(now.sa_sigaction, std::memory_order_release);
  now.sa_sigaction = deliver;
  now.sa_flags = (now.sa_flags & ~static_cast<int>(SA_RESETHAND)) | SA_SIGINFO;
  (void)libc_action(number, &now, nullptr);
}

sighandler_t install(int number, sighandler_t handler, Install libc_install) {
  if (!active()) return libc_install(number, handler);
  const Before before(number);
  const sighandler_t old = libc_install(number, handler);
  if (old != SIG_ERR) take_over(number);
  return before.shown(old);
}

}  // namespace

LIBSERVICES_EXPORT int ls_sigaction(int number, const struct sigaction* action,
                                    struct sigaction* old) {
  const Call call(Symbol::sigaction);
  if (!active()) return libc_action(number, action, old);
  const Before before(number);
  const int result = libc_action(number, action, old);
  if (result != 0) return result;
  if (action != nullptr) take_over(number);
  if (old != nullptr) before.show_in(*old);
  return result;
}

LIBSERVICES_EXPORT sighandler_t ls_signal(int number, sighandler_t handler) {
  const Call call(Symbol::signal);
  return install(number, handler, LIBSERVICES_REAL(signal));
}

LIBSERVICES_EXPORT sighandler_t ls_sysv_signal(int number, sighandler_t handler) {
  const Call call(Symbol::sysv_signal);
  return install(number, handler, LIBSERVICES_REAL_AS(Install, "sysv_signal"));
}

LIBSERVICES_EXPORT sighandler_t ls_sigset(int number, sighandler_t handler) {
  const Call call(Symbol::sigset);
  return install(number, handler, LIBSERVICES_REAL_AS(Install, "sigset"));
}

}  // namespace libservices::preload
