// SPDX-License-Identifier: Apache-2.0
//
// CMA, cross-memory attach: the kernel copies straight from one address space into the other.
//
// One copy instead of two, without shared memory; but a system call that looks up and pins each
// page of the peer. Where it was measured it lost to SMC and SMO at every size (docs/copies.md), so
// the request path does not use it. It is for large transfers between processes that share nothing.
//
// WARNING: between two ends of the same trust only. The kernel checks whether the *caller* may
// trace the peer, and a privileged service may trace anyone: a hostile client that names an address
// and then runs a set-user-id program keeps its pid and its pidfd, and the service would write into
// that program, or read its secrets.
// The calls name their peer by pid. The pidfd is looked at before and after: a process that is
// alive after the call was the one that was meant. A read from a peer that died is not given out;
// a write may have gone to a later process of the same pid, if the kernel gave it anew in between.
//
// Freestanding: the preload library includes it. THREADS: any for the functions, one for an object.
#ifndef LIBSERVICES_IPC_COPY_CMA_H_
#define LIBSERVICES_IPC_COPY_CMA_H_

#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "ipc/copy.h"
#include "ipc/copy_channel.h"

namespace libservices::ipc {

inline constexpr std::size_t kMostCmaBytes = std::size_t{64} << 20U;

struct CmaPeer {
  int pid = 0;
  int pidfd = -1;
};

// 0, or why no call is made: EFAULT for a range at address 0 or past the end of the address space,
// EINVAL for more than kMostCmaBytes.
inline long check_cma_range(std::uint64_t address, std::size_t size) {
  constexpr std::uint64_t kFirstPage = 4096;
  if (size > kMostCmaBytes) return -EINVAL;
  return address < kFirstPage || address + size < address ? -EFAULT : 0;
}

namespace internal {
inline long cma_copy(long call, CmaPeer peer, void* here, std::uint64_t there, std::size_t size) {
  if (const long error = check_cma_range(there, size); error != 0) return error;
  if (has_ended(peer.pidfd)) return -ESRCH;
  std::size_t done = 0;
  while (done < size) {
    const iovec local{static_cast<std::byte*>(here) + done, size - done};
    const iovec remote{reinterpret_cast<void*>(there + done), size - done};
    const long copied = raw::syscall(call, peer.pid, &local, 1, &remote, 1, 0);
    if (copied <= 0) return copied == 0 ? -EFAULT : copied;
    done += static_cast<std::size_t>(copied);
  }
  return has_ended(peer.pidfd) ? -ESRCH : static_cast<long>(size);
}
}  // namespace internal

// All of `size`, or a negative errno; then any part of `to` may have been written.
// ERRORS: those of check_cma_range(); ESRCH when the peer is dead; EFAULT when it has no such
// memory; EPERM when the kernel does not let us.
inline long cma_read(CmaPeer peer, void* to, std::uint64_t from, std::size_t size) {
  return internal::cma_copy(SYS_process_vm_readv, peer, to, from, size);
}
inline long cma_write(CmaPeer peer, std::uint64_t to, const void* from, std::size_t size) {
  return internal::cma_copy(SYS_process_vm_writev, peer, const_cast<void*>(from), to, size);
}

// The receiver names its memory in the channel, the sender writes there.
class Cma {
 public:
  static constexpr const char* kName = "CMA";
  explicit Cma(CopyLink link) : link_(link) {}

  // ERRORS: EPROTO when the receiver wants another size than `size`.
  long send(const void* from, std::size_t size) {
    CopyChannel& channel = *link_.channel;
    ++count_;
    // Pairs with the store in receive().
    const auto wanted = [&] { return channel.wanted.load(std::memory_order_acquire) == count_; };
    if (!wait_for_peer(link_, wanted)) return -ESRCH;
    const std::uint64_t to = channel.wanted_at.load(std::memory_order_relaxed);
    long outcome = channel.wanted_bytes.load(std::memory_order_relaxed) == size ? 0 : -EPROTO;
    const auto* const bytes = static_cast<const std::byte*>(from);
    for (std::size_t done = 0; done < size && outcome >= 0;) {
      const std::size_t part = size - done < kMostCmaBytes ? size - done : kMostCmaBytes;
      outcome = cma_write({link_.peer_pid, link_.peer_pidfd}, to + done, bytes + done, part);
      done += part;
    }
    if (outcome >= 0) outcome = static_cast<long>(size);
    channel.outcome.store(outcome, std::memory_order_relaxed);
    channel.answered.store(count_, std::memory_order_release);  // pairs with receive()
    return outcome;
  }

  long receive(void* to, std::size_t size) {
    CopyChannel& channel = *link_.channel;
    ++count_;
    channel.wanted_at.store(reinterpret_cast<std::uint64_t>(to), std::memory_order_relaxed);
    channel.wanted_bytes.store(size, std::memory_order_relaxed);
    channel.wanted.store(count_, std::memory_order_release);  // pairs with send()
    // Pairs with the store in send().
    const auto done = [&] { return channel.answered.load(std::memory_order_acquire) == count_; };
    if (!wait_for_peer(link_, done)) return -ESRCH;
    const long outcome = channel.outcome.load(std::memory_order_relaxed);
    return outcome == static_cast<long>(size) || outcome < 0 ? outcome : -EPROTO;
  }

 private:
  CopyLink link_;
  std::uint32_t count_ = 0;  // transfers so far
};
static_assert(CopyStrategy<Cma>);

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_COPY_CMA_H_
