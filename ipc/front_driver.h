// SPDX-License-Identifier: Apache-2.0
//
// The front driver: the application's end of a session.
//
//   FrontDriver driver;
//   if (driver.attach("/run/libservices/t1/socket", …) == 0) {
//     RequestBuffer* buffer = driver.take_buffer();
//     buffer->start(operation, instance);
//     buffer->set_words(words);
//     if (driver.call(*buffer)) … buffer->answer …
//     driver.give_back(*buffer);
//   }
//
// Freestanding, and fit for a signal handler: no memory is taken from the heap, no lock is held.
// THREADS: call() for different buffers at once; attach() and detach() alone.
#ifndef LIBSERVICES_IPC_FRONT_DRIVER_H_
#define LIBSERVICES_IPC_FRONT_DRIVER_H_

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ipc/attach.h"
#include "ipc/fault_point.h"
#include "ipc/queue.h"
#include "ipc/request.h"
#include "ipc/taken_buffers.h"
#include "ipc/wait_budget.h"

namespace libservices::ipc {

class FrontDriver {
 public:
  bool attached() const { return region_.load(std::memory_order_acquire) != nullptr; }
  int socket() const { return socket_; }
  std::uint32_t session() const { return session_; }
  std::uint64_t salt() const { return salt_.load(std::memory_order_relaxed); }

  // One round trip. `upper` receives at most `upper_size` bytes of the upper layer's welcome and
  // `descriptors` its descriptors; all counts are set. 0, or a negative errno: ECONNREFUSED and
  // ENOENT when no service runs, EPROTO for another version, else what the service refused with.
  long attach(const char* socket_path, void* upper, std::size_t upper_size,
              std::size_t& upper_bytes, int* descriptors, unsigned& descriptor_count) {
    Attachment made;
    if (const long error = attach_to(socket_path, made, upper, upper_size, upper_bytes, descriptors,
                                     descriptor_count);
        error != 0) {
      return error;
    }
    socket_ = made.socket;
    session_ = made.session;
    salt_.store(made.salt, std::memory_order_relaxed);
    queue_bytes_ = made.queue_bytes;
    groups_.store(QueueSet::groups_in(made.queue_bytes), std::memory_order_relaxed);
    queues_.store(made.queues, std::memory_order_release);
    region_.store(made.region, std::memory_order_release);  // last: now it is attached
    return 0;
  }

  // Forgets the session without a word: in the child of a fork, whose parent goes on with it.
  void abandon() {
    leave();
    taken_.forget();
  }
  // REQUIRES: no thread has a buffer.
  void detach() {
    if (!attached()) return;
    // Who looks for a buffer may be looking at one that was set aside.
    if (!had_aside_.exchange(false)) {
      raw::syscall(SYS_munmap, region_.load(std::memory_order_relaxed), kSessionRegionBytes);
    }
    raw::syscall(SYS_munmap, queues_.load(std::memory_order_relaxed), queue_bytes_);
    raw::syscall(SYS_close, socket_);
    abandon();
  }
  // As detach(), while a thread has a buffer and will give it back: its memory stays mapped.
  void leave_mapped() {
    raw::syscall(SYS_close, socket_);
    leave();
  }
  bool has_taken_buffers() const { return taken_.any(); }
  // The socket's new number, after the caller has moved it out of the application's way.
  void set_socket(int socket) { socket_ = socket; }

  static constexpr std::uint32_t kNobody = TakenBuffers::kNobody;
  // Null when there is none for `user` (TakenBuffers), or no session. `hint` is where to look first:
  // a thread's last buffer; `taken_index` is what it is given back by, even if the session is left
  // meanwhile.
  RequestBuffer* take_buffer(std::uint32_t hint, std::uint32_t& taken_index,
                             std::uint32_t user = kNobody) {
    const std::uint32_t index = taken_.take(hint, user, region_);
    if (index == TakenBuffers::kNone) return nullptr;
    void* const region = region_.load(std::memory_order_acquire);
    if (region == nullptr) {
      give_back(index);
      return nullptr;
    }
    taken_index = index;
    return buffer_at(region, index);
  }
  // The same, where nobody leaves the session while a buffer is taken.
  RequestBuffer* take_buffer(std::uint32_t hint = 0) {
    std::uint32_t index = 0;
    return take_buffer(hint, index);
  }
  void give_back(const RequestBuffer& buffer) { give_back(index_of(buffer)); }
  void give_back(std::uint32_t index) { taken_.give_back(index); }
  // Instead of that, when the answer was ETIMEDOUT: if the service may still use the buffer, it is
  // set aside until then. Whether it was.
  bool set_aside(const RequestBuffer& buffer, std::uint32_t index) {
    if (!owns(buffer) || buffer.held.load(std::memory_order_acquire) == 0) return false;
    had_aside_.store(true);
    taken_.set_aside(index);
    return true;
  }
  // Whether buffers of this user are set aside.
  bool has_aside(std::uint32_t user) const { return taken_.has_aside(user); }
  std::uint32_t index_of(const RequestBuffer& buffer) const {
    return index_in(region_.load(std::memory_order_relaxed), buffer);
  }

  // Whether the buffer is of the present session: not of one that was left while it was in use.
  bool owns(const RequestBuffer& buffer) const {
    const auto* const region = static_cast<const char*>(region_.load(std::memory_order_acquire));
    const auto* const address = reinterpret_cast<const char*>(&buffer);
    return region != nullptr && address >= region && address < region + kSessionRegionBytes;
  }

  // Posts the request in `buffer` and waits for its answer. False: the service has ended, and
  // nobody knows whether the request was run; the buffer must not be used again.
  bool call(RequestBuffer& buffer) {
    return call(buffer, [] { return false; });
  }
  // The same; `meanwhile` is called while it waits awake, and says whether it did something.
  template <class Meanwhile>
  bool call(RequestBuffer& buffer, Meanwhile&& meanwhile) {
    // Mapped as long as a buffer is taken, even if the session is left meanwhile.
    QueueSet* const queues = queues_.load(std::memory_order_acquire);
    if (queues == nullptr || !owns(buffer)) return false;
    const std::uint32_t groups = groups_.load(std::memory_order_relaxed);
    const std::uint32_t cpu = current_cpu();
    const std::uint32_t posted = buffer.state.load(std::memory_order_relaxed) + 1;
    buffer.cpu.store(static_cast<std::uint16_t>(cpu), std::memory_order_relaxed);
    // seq_cst, and then the look at `watched`: pairs with HotBuffers::unwatch().
    buffer.state.exchange(posted);
    LIBSERVICES_FAULT_POINT("posted in its buffer");
    const std::uint32_t watcher = buffer.watched.load();
    RequestQueue& queue =
        queues
            ->queues[watcher != 0 && watcher <= groups ? watcher - 1 : queues->group(cpu, groups)];
    if (watcher != 0) {
      queue.wake();
    } else if (!post(queue, buffer)) {
      return false;
    }
    LIBSERVICES_FAULT_POINT("the service knows");
    return done_soon(queue, buffer, posted, cpu, meanwhile) || done_later(queue, buffer, posted);
  }

 private:
  static constexpr std::uint32_t kYields = 20;
  static constexpr unsigned kWaitsUntilPostedAgain = 10;

  static std::uint32_t index_in(const void* region, const RequestBuffer& buffer) {
    return static_cast<std::uint32_t>(
        static_cast<std::uint64_t>(reinterpret_cast<const char*>(&buffer) -
                                   static_cast<const char*>(region)) /
        kBufferStride);
  }

  static bool is_done(const RequestBuffer& buffer, std::uint32_t posted) {
    // Pairs with the exchange in BackDriver.
    return buffer.state.load(std::memory_order_acquire) != posted;
  }

  bool post(RequestQueue& queue, const RequestBuffer& buffer) {
    const void* const region = region_.load(std::memory_order_acquire);
    if (region == nullptr) return false;
    return queue.post(doorbell_of(session_, index_in(region, buffer)),
                      [&] { return service_ended(queue, buffer); });
  }

  // Awake: spins while the service runs on another core; while it shares ours, or has just been
  // woken, lets others run.
  template <class Meanwhile>
  bool done_soon(const RequestQueue& queue, const RequestBuffer& buffer, std::uint32_t posted,
                 std::uint32_t cpu, Meanwhile&& meanwhile) {
    bool spun = false;
    std::uint32_t yields = 0;
    std::uint32_t most_yields = kYields;
    for (;;) {
      const std::uint32_t awake_on = queue.awake_on.load(std::memory_order_relaxed);
      if (awake_on != 0 && awake_on != cpu + 1 && !spun) {
        spun = true;
        const std::uint32_t budget = spin_.looks();
        for (std::uint32_t look = 0; look < budget; ++look) {
          LIBSERVICES_FAULT_POINT("waiting");
          if (is_done(buffer, posted)) {
            spin_.answered_after(look);
            return true;
          }
          if (meanwhile()) look = 0;
          cpu_relax();
        }
        spin_.in_vain();
      }
      if (is_done(buffer, posted)) break;
      if (awake_on == 0 && yields == 0) most_yields = waking_.looks();
      if (yields == most_yields) {
        if (most_yields != kYields) waking_.in_vain();
        return false;
      }
      ++yields;
      raw::syscall(SYS_sched_yield);
    }
    if (most_yields != kYields) waking_.answered_after(yields);
    return true;
  }

  bool done_later(RequestQueue& queue, RequestBuffer& buffer, std::uint32_t posted) {
    timespec patience{0, 20'000'000};
    unsigned waits = 0;
    for (;; patience.tv_nsec = 100'000'000) {
      buffer.sleeping.store(1);
      LIBSERVICES_FAULT_POINT("about to sleep");
      // Pairs with the exchange in BackDriver's completion.
      if (buffer.state.load() != posted) break;
      if (futex_wait(&buffer.state, posted, &patience) != -ETIMEDOUT) continue;
      if (service_ended(queue, buffer) && !is_done(buffer, posted)) return false;
      // No answer for a second: the request takes long, or another process has spoilt the queue.
      // A second doorbell does no harm: the service knows which requests it has taken.
      if (++waits % kWaitsUntilPostedAgain == 0 && !post(queue, buffer)) return false;
    }
    buffer.sleeping.store(0, std::memory_order_relaxed);
    return true;
  }

  bool service_ended(const RequestQueue& queue, const RequestBuffer& buffer) const {
    if (queue.closed.load(std::memory_order_relaxed) != 0 || !owns(buffer)) return true;
    pollfd end{socket_, 0, 0};
    const timespec now{};
    return raw::syscall(SYS_ppoll, &end, 1, &now, nullptr, 0) > 0 &&
           (end.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
  }

  void leave() {
    region_.store(nullptr, std::memory_order_release);
    queues_.store(nullptr);
    taken_.forget_aside();
    socket_ = -1;
  }

  int socket_ = -1;
  std::uint32_t session_ = 0;
  std::atomic<std::uint64_t> salt_{0};
  std::atomic<void*> region_{nullptr};
  std::atomic<QueueSet*> queues_{nullptr};
  std::atomic<std::uint32_t> groups_{0};
  std::uint64_t queue_bytes_ = 0;
  WaitBudget spin_{200, 4000};  // looks of about 10 ns while the service runs elsewhere
  WaitBudget waking_{4, 250};   // yields of about 250 ns while it is being woken
  TakenBuffers taken_;
  std::atomic<bool> had_aside_{false};  // in this session
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_FRONT_DRIVER_H_
