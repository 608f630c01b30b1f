// SPDX-License-Identifier: Apache-2.0
//
// Locks that the kernel waits for, and who holds those that it has.
//
// `AnyFilesystem::lock` never waits, and holders may come through shared memory too: so a lock that
// others have is asked for again and again by a thread that is there once one had to be waited for.
//
// THREADS: all members at once, but for end().
#ifndef LIBSERVICES_SRC_FUSE_WAITING_LOCKS_H_
#define LIBSERVICES_SRC_FUSE_WAITING_LOCKS_H_

#include <sys/types.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "libservices/any_filesystem.h"
#include "src/fuse/carrier.h"
#include "src/fuse/nodes.h"

namespace libservices::fuse {

// Context::process of a lock's owner in the kernel. The processes of shared memory sessions have
// smaller numbers, whose lower half is the process's.
inline constexpr std::uint64_t kOfKernel = std::uint64_t{1} << 63U;

class WaitingLocks {
 public:
  struct Waiting {
    std::uint64_t unique;  // of the request that is answered when the lock is had
    HandlePtr handle;
    LockRequest request;
    Context context;
    pid_t pid = 0;
    bool interrupted = false;
  };

  explicit WaitingLocks(AnyFilesystem& filesystem) : filesystem_(filesystem) {}
  ~WaitingLocks() { end(); }
  WaitingLocks(const WaitingLocks&) = delete;
  WaitingLocks& operator=(const WaitingLocks&) = delete;

  // Before the first request.
  void set_carrier(Carrier* carrier) { carrier_ = carrier; }

  void wait_for(Waiting waiting);
  void interrupt(std::uint64_t unique);
  // Those that still wait get no answer.
  void end();

  void remember_holder(std::uint64_t process, pid_t pid);
  // As F_GETLK tells it; 0: not known.
  std::uint32_t holder_of(std::uint64_t process);

 private:
  void remember_locked(std::uint64_t process, pid_t pid);
  bool ask_for(const Waiting& waiting);
  void serve();

  AnyFilesystem& filesystem_;
  Carrier* carrier_ = nullptr;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::list<Waiting> waiting_;
  std::array<std::uint64_t, 64> interrupts_{};  // the latest
  std::size_t next_interrupt_ = 0;
  absl::flat_hash_map<std::uint64_t, pid_t> pids_;  // by Context::process
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_WAITING_LOCKS_H_
