// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/calls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

namespace libservices::fuse {
namespace {

constexpr std::chrono::milliseconds kTick(10);
constexpr std::uint64_t kHeldUpTicks = 2;
constexpr int kQuietTicks = 50;
constexpr std::chrono::milliseconds kBetweenLooksAtCaller(100);

// Requests without an answer.
bool has_answer(std::uint32_t opcode) {
  return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

class ProcFile {
 public:
  ProcFile(pid_t task, std::string_view name) {
    const int file =
        ::open(fmt::format("/proc/{}/{}", task, name).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0) return;
    const ssize_t size = ::read(file, text_.data(), text_.size());
    ::close(file);
    if (size > 0) size_ = static_cast<std::size_t>(size);
  }
  std::string_view text() const { return {text_.data(), size_}; }

 private:
  std::array<char, 8192> text_;
  std::size_t size_ = 0;
};

bool has_kill_pending(std::string_view status, std::string_view key) {
  const std::size_t at = status.find(key);
  if (at == std::string_view::npos) return false;
  const char* first = status.data() + at + key.size();
  const char* const last = status.data() + status.size();
  while (first < last && (*first == ' ' || *first == '\t')) ++first;
  std::uint64_t pending = 0;
  std::from_chars(first, last, pending, 16);
  return (pending >> (SIGKILL - 1) & 1U) != 0;
}

// Its end waits for the answer alone. SOURCE: proc(5); fatal signals pend as SIGKILL for each thread
// of the process (complete_signal() in kernel/signal.c of Linux).
bool is_dying(pid_t task) {
  if (task <= 0) return false;  // nobody waits, or of a namespace that is not seen here
  const ProcFile status(task, "status");
  if (has_kill_pending(status.text(), "\nSigPnd:") ||
      has_kill_pending(status.text(), "\nShdPnd:")) {
    return true;
  }
  // Behind the name: state, and five numbers before the flags of the task.
  constexpr unsigned kExiting = 0x4;  // PF_EXITING
  constexpr int kBefore = 7;
  const ProcFile stat(task, "stat");
  std::string_view rest = stat.text();
  const std::size_t name_end = rest.rfind(')');
  if (name_end == std::string_view::npos) return false;
  rest.remove_prefix(name_end + 1);
  for (int i = 0; i < kBefore; ++i) {
    const std::size_t space = rest.find(' ');
    if (space == std::string_view::npos) return false;
    rest.remove_prefix(space + 1);
  }
  unsigned flags = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), flags);
  return (flags & kExiting) != 0;
}

// A page that it has the kernel read ahead is locked, and others wait for it, whom no signal
// reaches: when it is given up, they read for themselves.
bool is_gone(pid_t task) { return task > 0 && ::kill(task, 0) != 0 && errno == ESRCH; }

}  // namespace

bool Calls::may_refuse(std::uint32_t opcode) {
  return has_answer(opcode) && opcode != FUSE_RELEASE && opcode != FUSE_RELEASEDIR &&
         opcode != FUSE_INIT && opcode != FUSE_DESTROY;
}

Calls::Call::Call(Calls& calls, Watched watched) : calls_(calls), watched_(std::move(watched)) {
  std::lock_guard lock(calls_.mutex_);
  calls_.calls_.push_back(this);
}

Calls::Call::~Call() {
  std::lock_guard lock(calls_.mutex_);
  std::erase(calls_.calls_, this);
}

void Calls::Call::begin(const fuse_in_header& header) {
  header_ = header;
  // seq_cst, and then the look whether the watcher sleeps: it does them in the other order.
  state_.store(1 + calls_.tick_.load(std::memory_order_relaxed));
  if (!calls_.asleep_.load()) return;
  std::lock_guard lock(calls_.mutex_);
  calls_.asleep_.store(false);
  calls_.changed_.notify_all();
}

bool Calls::Call::claim() {
  // Pairs with give_up(): exactly one of the two answers.
  const std::uint64_t was = state_.exchange(kNothing);
  was_held_up_ = (was & kHeldUp) != 0;
  if (!was_held_up_) return true;
  if (was == kGivenUp) {
    state_.store(kGivenUp);
    return false;
  }
  std::lock_guard lock(calls_.mutex_);  // behind held_up()
  calls_.held_up_.fetch_sub(1);
  return true;
}

bool Calls::Call::end() {
  bool is_answered = false;
  {
    std::lock_guard lock(calls_.mutex_);  // behind give_up()
    state_.store(kNothing);
    calls_.held_up_.fetch_sub(1);
    calls_.given_up_.fetch_sub(1);
    is_answered = std::exchange(unanswered_, 0) == 0;
  }
  if (calls_.options_.came_back) calls_.options_.came_back(this);
  return is_answered;
}

bool Calls::start() {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool begun = true;
  try {
    thread_ = std::thread([this] { watch(); });
  } catch (const std::system_error&) {
    begun = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return begun;
}

void Calls::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool Calls::any_runs() const {
  return std::any_of(calls_.begin(), calls_.end(),
                     [](const Call* call) { return call->state_.load() != Call::kNothing; });
}

void Calls::watch() {
  std::unique_lock lock(mutex_);
  for (int quiet = 0; !stopping_;) {
    tick_.fetch_add(1, std::memory_order_relaxed);
    const auto now = Clock::now();
    bool any = false;
    for (Call* const call : calls_) any = look(*call, now) || any;
    quiet = any ? 0 : quiet + 1;
    if (quiet > kQuietTicks) {
      quiet = 0;
      asleep_.store(true);
      // Pairs with Call::begin().
      if (!any_runs()) changed_.wait(lock, [this] { return stopping_ || !asleep_.load(); });
      asleep_.store(false);
    } else {
      changed_.wait_for(lock, kTick);
    }
  }
}

// Whether something runs there that is to be watched. REQUIRES: mutex_.
bool Calls::look(Call& call, Clock::time_point now) {
  std::uint64_t state = call.state_.load();
  if (state == Call::kGivenUp && call.unanswered_ != 0) {
    if (call.watched_.answer(call.header_, call.unanswered_)) call.unanswered_ = 0;
    return true;
  }
  if (state == Call::kNothing || state == Call::kGivenUp) return false;
  if ((state & Call::kHeldUp) == 0) {
    const std::uint64_t tick = tick_.load(std::memory_order_relaxed);
    if (tick - (state - 1) < kHeldUpTicks) return true;
    held_up_.fetch_add(1);
    if (!call.state_.compare_exchange_strong(state, state | Call::kHeldUp)) {
      held_up_.fetch_sub(1);
      return true;
    }
    const bool has_end = options_.deadline.count() != 0 && has_answer(call.header_.opcode);
    call.give_up_at_ = has_end ? now + options_.deadline : Clock::time_point::max();
    call.look_at_caller_at_ = now + kBetweenLooksAtCaller;
    call.watched_.held_up();
    return true;
  }
  if (call.give_up_at_ <= now) {
    give_up(call, state, ETIMEDOUT);
  } else if (call.look_at_caller_at_ <= now && has_answer(call.header_.opcode)) {
    call.look_at_caller_at_ = now + kBetweenLooksAtCaller;
    const auto caller = static_cast<pid_t>(call.header_.pid);
    const bool is_over =
        is_dying(caller) || (call.header_.opcode == FUSE_READ && is_gone(caller));
    if (is_over) give_up(call, state, EINTR);
  }
  return true;
}

void Calls::give_up(Call& call, std::uint64_t state, int error) {
  // Pairs with Call::claim().
  if (!call.state_.compare_exchange_strong(state, Call::kGivenUp)) return;
  given_up_.fetch_add(1);
  if (options_.given_up) options_.given_up(&call);
  if (!call.watched_.answer(call.header_, error)) call.unanswered_ = error;
}

}  // namespace libservices::fuse
