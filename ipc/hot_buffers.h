// SPDX-License-Identifier: Apache-2.0
//
// Hot buffers: the few request buffers that were served last. The service looks at their state
// beside the queue, and their applications, told so by `watched`, ring no doorbell. A round trip
// then needs no line of the queue: no ticket, no slot.
//
// No request is missed when the service looks away: the application posts and then reads
// `watched`; the service clears `watched` and then looks at the state once more. All four steps are
// seq_cst, so at least one of the two sees the other. Who is watched looks for sleepers as one who
// rings does: a thread may have gone to sleep before another one began to watch.
// THREADS: all functions at once. claim() and watch() do not wait for another thread that looks.
#ifndef LIBSERVICES_IPC_HOT_BUFFERS_H_
#define LIBSERVICES_IPC_HOT_BUFFERS_H_

#include <sched.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "ipc/rcqb.h"
#include "ipc/server_session.h"

namespace libservices::ipc {

// A request that the caller has claimed, and what keeps its buffer in place.
struct ClaimedRequest {
  std::shared_ptr<ServerSession> session;
  std::uint32_t buffer = 0;
  std::uint32_t posted = 0;
};

class HotBuffers {
 public:
  // For the threads of this core group.
  explicit HotBuffers(std::uint32_t group) : mark_(static_cast<std::uint8_t>(group + 1)) {}

  // Looks up to `looks` times and claims the next posted request. Between looks `elsewhere` is
  // asked whether there is something else to do, which ends the looking as well. False: nothing
  // was claimed. While another thread looks here, only `elsewhere` is asked.
  template <class Elsewhere>
  bool claim(ClaimedRequest& request, unsigned looks, Elsewhere&& elsewhere) {
    const TryLock lock(locked_);
    for (unsigned i = 0; i < looks; ++i) {
      if (lock.held() && claim_locked(request)) return true;
      if (elsewhere()) return false;
      if (i + 1 < looks) cpu_relax();
    }
    return false;
  }

  // Whether a request is posted.
  bool has_next() {
    const Lock lock(locked_);
    for (const Hot& hot : hot_) {
      if (hot.session != nullptr && hot.session->has_unclaimed(hot.buffer)) return true;
    }
    return false;
  }

  // Watches the buffer of a request that came through the queue, if there is a place for it: a
  // free one, or that of a buffer that is used much less.
  void watch(const ClaimedRequest& request) {
    const TryLock lock(locked_);
    if (!lock.held() || request.session->ended_.load()) return;
    ++uses_;
    Hot* place = &hot_[0];
    for (Hot& hot : hot_) {
      if (hot.session == request.session && hot.buffer == request.buffer) {
        request.session->buffer(request.buffer).watched.store(mark_, std::memory_order_relaxed);
        return;
      }
      if (hot.used < place->used) place = &hot;
    }
    if (place->session != nullptr) {
      if (uses_ - place->used < kUnusedFor || !unwatch(*place)) return;
    }
    *place = {request.session, request.buffer, uses_};
    request.session->buffer(request.buffer).watched.store(mark_, std::memory_order_relaxed);
  }

  // The buffer of a claimed request is watched no more: its thread has moved to another core
  // group, of which the driver may watch it as well.
  void drop(const ClaimedRequest& request) {
    const TryLock lock(locked_);
    for (Hot& hot : hot_) {
      if (lock.held() && hot.session == request.session && hot.buffer == request.buffer) {
        (void)unwatch(hot);
      }
    }
  }

  // Before the caller sleeps. False: a request was posted meanwhile, and those after it stay
  // watched.
  bool unwatch_all() {
    const Lock lock(locked_);
    for (Hot& hot : hot_) {
      if (hot.session != nullptr && !unwatch(hot)) return false;
    }
    return true;
  }

  // A session ends: nothing of it is referred to after this.
  void forget(ServerSession& session) {
    const Lock lock(locked_);
    session.ended_.store(true);  // before the lock is given back: nobody adds it after this
    for (Hot& hot : hot_) {
      if (hot.session.get() == &session) hot = {};
    }
  }

 private:
  static constexpr unsigned kMost = 4;
  static constexpr std::uint64_t kUnusedFor = 64;  // requests of others

  struct Hot {
    std::shared_ptr<ServerSession> session;  // null: a free place
    std::uint32_t buffer = 0;
    std::uint64_t used = 0;  // uses_ at its last request
  };

  // A lock that costs one locked instruction, since every request takes it. It is held for a few
  // looks; who waits for it lets others run.
  class TryLock {
   public:
    explicit TryLock(std::atomic<bool>& locked)
        : locked_(locked),
          held_(!locked.load(std::memory_order_relaxed) &&
                !locked.exchange(true, std::memory_order_acquire)) {}
    ~TryLock() {
      if (held_) locked_.store(false, std::memory_order_release);
    }
    TryLock(const TryLock&) = delete;
    TryLock& operator=(const TryLock&) = delete;
    bool held() const { return held_; }

   private:
    std::atomic<bool>& locked_;
    const bool held_;
  };
  class Lock {
   public:
    explicit Lock(std::atomic<bool>& locked) : locked_(locked) {
      while (locked.exchange(true, std::memory_order_acquire)) ::sched_yield();
    }
    ~Lock() { locked_.store(false, std::memory_order_release); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    std::atomic<bool>& locked_;
  };

  bool claim_locked(ClaimedRequest& request) {
    for (unsigned i = 0; i < kMost; ++i) {
      Hot& hot = hot_[next_++ % kMost];
      if (hot.session == nullptr) continue;
      const std::uint32_t posted = hot.session->claim(hot.buffer);
      if (posted == 0) continue;
      hot.used = ++uses_;
      if (request.session != hot.session) request.session = hot.session;
      request.buffer = hot.buffer;
      request.posted = posted;
      return true;
    }
    return false;
  }

  // Frees the place. False: a request is posted there, and it is watched as before.
  bool unwatch(Hot& hot) {
    RequestBuffer& buffer = hot.session->buffer(hot.buffer);
    buffer.watched.store(0);
    // Pairs with FrontDriver::call().
    if (hot.session->has_unclaimed(hot.buffer)) {
      buffer.watched.store(mark_, std::memory_order_relaxed);
      return false;
    }
    hot = {};
    return true;
  }

  const std::uint8_t mark_;  // RequestBuffer::watched
  std::atomic<bool> locked_{false};
  std::array<Hot, kMost> hot_;  // this and the rest: guarded by locked_
  std::uint64_t uses_ = 0;
  unsigned next_ = 0;
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_HOT_BUFFERS_H_
