// SPDX-License-Identifier: Apache-2.0
//
// How the preload library gives libc's names to its functions, and finds libc's own ones.
//
// A function is defined under a name of ours (`ls_open`); symbols.table tells under which of libc's
// it is exported, and the linker makes them. So libc's headers can be included as they are: their
// declarations, exception specifications and checked inline variants never meet a definition of
// ours.
#ifndef LIBSERVICES_SRC_PRELOAD_WRAPPER_H_
#define LIBSERVICES_SRC_PRELOAD_WRAPPER_H_

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/single_threaded.h>

#include <atomic>
#include <cstddef>
#include <type_traits>

#include "src/client/calls.h"
#include "src/client/state.h"
#include "src/preload/report.h"

// The linkage of a function that stands in symbols.table, which begins with a `Call` of its Symbol.
// Its own name is not exported, but an alias has the visibility of what it stands for.
#define LIBSERVICES_EXPORT extern "C" __attribute__((used, visibility("default")))

// The function `name` that the program would have without us, looked up when it is first needed:
// LIBSERVICES_REAL(fopen)(path, mode).
#define LIBSERVICES_REAL(name) LIBSERVICES_REAL_AS(decltype(&::name), #name)
#define LIBSERVICES_REAL_AS(type, text)                 \
  (reinterpret_cast<type>([] {                          \
    static std::atomic<void*> slot;                     \
    void* found = slot.load(std::memory_order_relaxed); \
    if (found == nullptr) {                             \
      found = ::libservices::preload::find_next(text);  \
      slot.store(found, std::memory_order_relaxed);     \
    }                                                   \
    return found;                                       \
  }()))

namespace libservices::preload {

namespace calls = client::calls;
namespace raw = client::raw;

// The next definition of a libc function; ends the program if there is none.
void* find_next(const char* name);

// A result of a call as libc gives it: -1 and errno, or the value.
inline long result(long value) {
  if (value < 0 && value > -4096) {
    errno = static_cast<int>(-value);
    return -1;
  }
  return value;
}
inline int int_result(long value) { return static_cast<int>(result(value)); }

// The failure of a function that has errno.
template <class Result>
Result failure(int error) {
  errno = error;
  if constexpr (std::is_pointer_v<Result>) {
    return nullptr;
  } else {
    return static_cast<Result>(-1);
  }
}

// The failure of a function that Linux has for its own files and we have not for ours.
template <class Result>
Result refuse(int error) {
  (void)client::refused(-error);
  return failure<Result>(error);
}

// While it lives, the thread can be cancelled at once: around a system call that may block, and
// never around a call on ours. Nothing with one thread.
class Cancellable {
 public:
  Cancellable() : on_(__libc_single_threaded == 0) {
    if (on_) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before_);
  }
  ~Cancellable() {
    if (on_) pthread_setcanceltype(before_, nullptr);
  }
  Cancellable(const Cancellable&) = delete;
  Cancellable& operator=(const Cancellable&) = delete;

 private:
  bool on_;
  int before_ = 0;
};

// A call on a file of ours is a point of cancellation before it begins.
inline void test_cancel() {
  if (__libc_single_threaded == 0) pthread_testcancel();
}

inline bool active() { return client::state.active; }

using calls::leads_to_ours;

// process.cc: in the child of a fork.
void begin_child();

// stdio.cc: `descriptor` is about to become (or has become) a library descriptor. For 0, 1 and 2
// the program's stdin, stdout or stderr begins to work through the library.
void prepare_standard_stream(int descriptor);
void settle_standard_streams();
// A stream over a library descriptor, as fdopen; null and errno on failure.
FILE* open_stream(int descriptor, const char* mode);

// A name with random letters in the place of six X: temp.cc.
bool fill_template(char* letters);

}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_WRAPPER_H_
