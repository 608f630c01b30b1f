// SPDX-License-Identifier: Apache-2.0
//
// Asynchronous input and output. A request on a file of ours is done within the call that makes it,
// as POSIX allows: the result is where libc's aio_error, aio_return and aio_suspend look for it.
// Requests on the kernel's files are libc's.
#include <aio.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

static_assert(sizeof(aiocb) == sizeof(aiocb64) &&
              offsetof(aiocb, __return_value) == offsetof(aiocb64, __return_value));

constexpr int kMostPriority = 20;  // AIO_PRIO_DELTA_MAX

struct Notification {
  void (*function)(sigval);
  sigval value;
};

void* run_notification(void* given) {
  const Notification notification = *static_cast<Notification*>(given);
  free(given);
  notification.function(notification.value);
  return nullptr;
}

void notify_by_thread(const sigevent& event) {
  auto* const notification = static_cast<Notification*>(malloc(sizeof(Notification)));
  if (notification == nullptr) return;
  *notification = {event.sigev_notify_function, event.sigev_value};
  pthread_attr_t own;
  pthread_attr_t* attributes = event.sigev_notify_attributes;
  if (attributes == nullptr) {
    if (pthread_attr_init(&own) != 0) return free(notification);
    (void)pthread_attr_setdetachstate(&own, PTHREAD_CREATE_DETACHED);
    attributes = &own;
  }
  pthread_t thread;
  if (pthread_create(&thread, attributes, run_notification, notification) != 0) free(notification);
  if (attributes == &own) (void)pthread_attr_destroy(&own);
}

void notify(const sigevent& event) {
  if (event.sigev_notify == SIGEV_SIGNAL) {
    siginfo_t about{};
    about.si_signo = event.sigev_signo;
    about.si_code = SI_ASYNCIO;
    about.si_pid = getpid();
    about.si_uid = getuid();
    about.si_value = event.sigev_value;
    raw::syscall(SYS_rt_sigqueueinfo, about.si_pid, event.sigev_signo, &about);
  } else if (event.sigev_notify == SIGEV_THREAD) {
    notify_by_thread(event);
  }
}

// What the request does, as its result or -errno.
long carry_out(const aiocb& request, int operation) {
  const long flags = calls::fcntl(request.aio_fildes, F_GETFL, 0);
  if (flags < 0) return flags;
  auto* const memory = const_cast<void*>(request.aio_buf);
  switch (operation) {
    case LIO_READ:
      return calls::pread(request.aio_fildes, memory, request.aio_nbytes, request.aio_offset);
    case LIO_WRITE:
      // pwrite appends where O_APPEND is set, at any offset.
      return calls::pwrite(request.aio_fildes, memory, request.aio_nbytes, request.aio_offset);
    default:
      return -EINVAL;
  }
}

void finish(aiocb& request, long outcome) {
  request.__return_value = outcome < 0 ? -1 : outcome;
  __atomic_store_n(&request.__error_code, outcome < 0 ? static_cast<int>(-outcome) : 0,
                   __ATOMIC_RELEASE);
  notify(request.aio_sigevent);
}

// -1 and EINVAL, as libc, for a priority out of its range; the descriptor is judged by the request.
int submit(aiocb& request, int operation) {
  if (request.aio_reqprio < 0 || request.aio_reqprio > kMostPriority) {
    request.__error_code = EINVAL;
    request.__return_value = -1;
    return failure<int>(EINVAL);
  }
  finish(request, carry_out(request, operation));
  return 0;
}

}  // namespace

LIBSERVICES_EXPORT int ls_aio_read(aiocb* request) {
  const Call call(Symbol::aio_read);
  if (!calls::is_ours(request->aio_fildes)) return LIBSERVICES_REAL(aio_read)(request);
  return submit(*request, LIO_READ);
}

LIBSERVICES_EXPORT int ls_aio_write(aiocb* request) {
  const Call call(Symbol::aio_write);
  if (!calls::is_ours(request->aio_fildes)) return LIBSERVICES_REAL(aio_write)(request);
  return submit(*request, LIO_WRITE);
}

LIBSERVICES_EXPORT int ls_aio_fsync(int operation, aiocb* request) {
  const Call call(Symbol::aio_fsync);
  if (!calls::is_ours(request->aio_fildes)) {
    return LIBSERVICES_REAL(aio_fsync)(operation, request);
  }
  if (operation != O_SYNC && operation != O_DSYNC) return failure<int>(EINVAL);
  const long flags = calls::fcntl(request->aio_fildes, F_GETFL, 0);
  if (flags < 0) return int_result(flags);
  finish(*request, calls::fsync(request->aio_fildes, operation == O_DSYNC));
  return 0;
}

// Nothing of ours is ever under way.
LIBSERVICES_EXPORT int ls_aio_cancel(int descriptor, aiocb* request) {
  const Call call(Symbol::aio_cancel);
  if (!calls::is_ours(descriptor)) return LIBSERVICES_REAL(aio_cancel)(descriptor, request);
  if (request != nullptr && request->aio_fildes != descriptor) return failure<int>(EINVAL);
  return AIO_ALLDONE;
}

// Ours first; libc has the others, and so tells of the end of all.
LIBSERVICES_EXPORT int ls_lio_listio(int mode, aiocb* const* list, int count, sigevent* event) {
  const Call call(Symbol::lio_listio);
  const auto real = LIBSERVICES_REAL(lio_listio);
  bool any = false;
  for (int i = 0; i < count; ++i) {
    any = any || (list[i] != nullptr && calls::is_ours(list[i]->aio_fildes));
  }
  if (!any || (mode != LIO_WAIT && mode != LIO_NOWAIT)) return real(mode, list, count, event);
  auto** const others =
      static_cast<aiocb**>(malloc(static_cast<std::size_t>(count) * sizeof(aiocb*)));
  if (others == nullptr) return failure<int>(EAGAIN);
  int error = 0;
  for (int i = 0; i < count; ++i) {
    aiocb* const request = list[i];
    others[i] = nullptr;
    if (request == nullptr || request->aio_lio_opcode == LIO_NOP) continue;
    if (!calls::is_ours(request->aio_fildes)) {
      others[i] = request;
    } else if (submit(*request, request->aio_lio_opcode) != 0) {
      error = mode == LIO_WAIT ? EIO : errno;
    } else if (mode == LIO_WAIT && request->__error_code != 0) {
      error = EIO;
    }
  }
  const int outcome = real(mode, others, count, event);
  const int kernels = errno;
  free(others);
  if (outcome == 0 && error != 0) return failure<int>(error);
  errno = kernels;
  return outcome;
}

}  // namespace libservices::preload
