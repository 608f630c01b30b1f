// SPDX-License-Identifier: Apache-2.0
//
// The kernel's interfaces for work that goes on behind a call, which libaio and liburing wrap:
// io_submit and its kin, and the setup of io_uring.
//
// A control block for a file of ours is done at once, and then handed to the kernel as a write of
// as many bytes to /dev/null: so its event comes in order, wakes who waits, counts against the
// context's limit and signals an eventfd. A failure is kept here and put into the event.
#include "src/preload/asynchronous.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {
namespace {

constexpr unsigned kMostFailures = 256;

struct Failure {
  std::atomic<std::uint64_t> block;  // the control block; 0: free
  std::int64_t result;
};
Failure failures[kMostFailures];
std::atomic<std::uint32_t> failure_count{0};

bool keep_failure(const iocb* block, long result) {
  for (Failure& one : failures) {
    std::uint64_t free = 0;
    if (one.block.load(std::memory_order_relaxed) != 0 ||
        !one.block.compare_exchange_strong(free, 1)) {
      continue;
    }
    one.result = result;
    one.block.store(reinterpret_cast<std::uint64_t>(block), std::memory_order_release);
    failure_count.fetch_add(1);
    return true;
  }
  return false;
}

void put_failures(io_event* events, long count) {
  if (failure_count.load() == 0) return;
  for (long i = 0; i < count; ++i) {
    for (Failure& one : failures) {
      if (one.block.load(std::memory_order_acquire) != events[i].obj) continue;
      events[i].res = one.result;
      one.block.store(0, std::memory_order_release);
      failure_count.fetch_sub(1);
      break;
    }
  }
}

// A descriptor of /dev/null, of the library's own.
int nothing() {
  static std::atomic<int> kept{-1};
  const int known = kept.load();
  if (known >= 0) return known;
  const long opened = raw::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
  if (opened < 0) return static_cast<int>(opened);
  const int copy = client::keep_copy(static_cast<int>(opened));
  raw::syscall(SYS_close, opened);
  int nobody = -1;
  if (copy < 0 || kept.compare_exchange_strong(nobody, copy)) return copy;
  client::close_copy(copy);
  return nobody;
}

long carry_out(const iocb& block) {
  const int descriptor = static_cast<int>(block.aio_fildes);
  auto* const bytes = reinterpret_cast<void*>(block.aio_buf);
  auto* const parts = reinterpret_cast<const iovec*>(block.aio_buf);
  const std::size_t size = block.aio_nbytes;
  const off_t offset = block.aio_offset;
  const int flags = block.aio_rw_flags;
  switch (block.aio_lio_opcode) {
    case IOCB_CMD_PREAD: {
      const iovec one{bytes, size};
      return offset < 0 ? -EINVAL : calls::readv(descriptor, &one, 1, offset, flags);
    }
    case IOCB_CMD_PWRITE: {
      const iovec one{bytes, size};
      return offset < 0 ? -EINVAL : calls::writev(descriptor, &one, 1, offset, flags);
    }
    case IOCB_CMD_PREADV:
      return offset < 0 ? -EINVAL
                        : calls::readv(descriptor, parts, static_cast<int>(size), offset, flags);
    case IOCB_CMD_PWRITEV:
      return offset < 0 ? -EINVAL
                        : calls::writev(descriptor, parts, static_cast<int>(size), offset, flags);
    case IOCB_CMD_FSYNC:
      return calls::fsync(descriptor, false);
    case IOCB_CMD_FDSYNC:
      return calls::fsync(descriptor, true);
    default:
      return -EINVAL;
  }
}

// 1, or why it was not taken.
long submit_ours(unsigned long context, iocb* block) {
  const int carrier = nothing();
  if (carrier < 0) return carrier;
  const iocb given = *block;
  const long done = carry_out(given);
  // As the kernel, of what cannot be begun.
  if (done == -EINVAL || done == -EBADF || done == -EOPNOTSUPP) return done;
  if (done < 0 && !keep_failure(block, done)) return -EAGAIN;
  block->aio_fildes = static_cast<std::uint32_t>(carrier);
  block->aio_lio_opcode = IOCB_CMD_PWRITE;
  block->aio_buf = reinterpret_cast<std::uint64_t>(&given);  // is not read
  block->aio_nbytes = done > 0 ? static_cast<std::uint64_t>(done) : 0;
  block->aio_offset = 0;
  block->aio_rw_flags = 0;
  const long taken = raw::syscall(SYS_io_submit, context, 1, &block);
  *block = given;
  return taken;
}

}  // namespace

long submit_blocks(unsigned long context, long count, iocb** blocks) {
  bool any = false;
  for (long i = 0; active() && i < count && blocks != nullptr; ++i) {
    any = any || (blocks[i] != nullptr && calls::is_ours(static_cast<int>(blocks[i]->aio_fildes)));
  }
  if (!any) return raw::syscall(SYS_io_submit, context, count, blocks);
  for (long i = 0; i < count; ++i) {
    const bool ours = calls::is_ours(static_cast<int>(blocks[i]->aio_fildes));
    const long taken = ours ? submit_ours(context, blocks[i])
                            : raw::syscall(SYS_io_submit, context, 1, &blocks[i]);
    if (taken <= 0) return i > 0 ? i : taken;
  }
  return count;
}

long take_events(unsigned long context, long least, long most, io_event* events,
                 const timespec* timeout) {
  const long count = raw::syscall(SYS_io_getevents, context, least, most, events, timeout);
  put_failures(events, count);
  return count;
}

long take_events_masked(unsigned long context, long least, long most, io_event* events,
                        const timespec* timeout, const void* mask) {
  const long count = raw::syscall(SYS_io_pgetevents, context, least, most, events, timeout, mask);
  put_failures(events, count);
  return count;
}

bool refuses_rings() {
  if (!active()) return false;
  const char* const wanted = getenv("LIBSERVICES_IO_URING");
  return wanted == nullptr || strcmp(wanted, "1") != 0;
}

// --- libaio: a failure is the negative errno itself ---------------------------------------------

LIBSERVICES_EXPORT int ls_io_submit(unsigned long context, long count, iocb** blocks) {
  const Call call(Symbol::io_submit);
  return static_cast<int>(submit_blocks(context, count, blocks));
}

LIBSERVICES_EXPORT int ls_io_getevents(unsigned long context, long least, long most,
                                       io_event* events, timespec* timeout) {
  const Call call(Symbol::io_getevents);
  const Cancellable cancellable;
  return static_cast<int>(take_events(context, least, most, events, timeout));
}

LIBSERVICES_EXPORT int ls_io_pgetevents(unsigned long context, long least, long most,
                                        io_event* events, timespec* timeout, sigset_t* mask) {
  const Call call(Symbol::io_pgetevents);
  const struct {
    const sigset_t* mask;
    std::size_t size;
  } given{mask, NSIG / 8};
  const Cancellable cancellable;
  return static_cast<int>(take_events_masked(context, least, most, events, timeout, &given));
}

// --- liburing: the same -------------------------------------------------------------------------

namespace {

// Where no library has the function, the program cannot expect more than a kernel without it.
template <class... Arguments>
int make_ring(const char* name, Arguments... arguments) {
  if (refuses_rings()) return -ENOSYS;
  auto* const real = reinterpret_cast<int (*)(Arguments...)>(dlsym(RTLD_NEXT, name));
  return real != nullptr ? real(arguments...) : -ENOSYS;
}

}  // namespace

LIBSERVICES_EXPORT int ls_io_uring_setup(unsigned entries, void* parameters) {
  const Call call(Symbol::io_uring_setup);
  return make_ring("io_uring_setup", entries, parameters);
}

LIBSERVICES_EXPORT int ls_io_uring_queue_init(unsigned entries, void* ring, unsigned flags) {
  const Call call(Symbol::io_uring_queue_init);
  return make_ring("io_uring_queue_init", entries, ring, flags);
}

LIBSERVICES_EXPORT int ls_io_uring_queue_init_params(unsigned entries, void* ring,
                                                     void* parameters) {
  const Call call(Symbol::io_uring_queue_init_params);
  return make_ring("io_uring_queue_init_params", entries, ring, parameters);
}

LIBSERVICES_EXPORT int ls_io_uring_queue_init_mem(unsigned entries, void* ring, void* parameters,
                                                  void* memory, std::size_t size) {
  const Call call(Symbol::io_uring_queue_init_mem);
  return make_ring("io_uring_queue_init_mem", entries, ring, parameters, memory, size);
}

}  // namespace libservices::preload
