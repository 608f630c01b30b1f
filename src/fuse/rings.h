// SPDX-License-Identifier: Apache-2.0
//
// Requests over io_uring (Linux 6.14, where `enable_uring` of the module fuse is on): the kernel
// has a queue for each processor, puts a request into memory that waits there for it, and takes the
// answer from the same memory in the call that waits for the next one.
//
// A thread serves a request of its processor on that processor, so that neither its start nor the
// caller's has to wake another. Each thread has a ring and in it one place for a request: one
// that waits for a backend holds up no other, for whoever takes the last free place of a processor
// begins one more thread there. The places of processors that nobody uses lie together in the ring
// of one thread, which gives a place away with the first request that comes to it.
//
// A request that is given up (calls.h) is answered from its place, which another thread takes with
// new memory at the same address: the old memory stays with the thread that is in the call.
//
// A place stays taken while its request waits for a lock, and so does its thread. A lock that is
// not to be had at once gives ENOLCK beyond kMostWaiting of them, and to callers on processors that
// this process may not use.
// SOURCE: fs/fuse/dev_uring.c of Linux. THREADS: all members at once.
#ifndef LIBSERVICES_SRC_FUSE_RINGS_H_
#define LIBSERVICES_SRC_FUSE_RINGS_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "src/fuse/calls.h"
#include "src/fuse/message.h"
#include "src/fuse/session.h"
#include "src/fuse/threads.h"

namespace libservices::fuse {

class Place;  // for a request (ring.h)

class Rings {
 public:
  static constexpr std::size_t kMostWaiting = 1024;
  static constexpr std::size_t kMostHeldUp = 4096;  // of a processor

  // `device`: of /dev/fuse. Null: this process cannot have them (kernel, limits).
  static std::unique_ptr<Rings> make(Session& session, Calls& calls, int device,
                                     std::size_t most_threads);
  ~Rings() { (void)stop(); }
  Rings(const Rings&) = delete;
  Rings& operator=(const Rings&) = delete;

  // The kernel has agreed.
  void start();
  // Waits for the requests that run. False: some do not end in this time; this object must stay.
  bool stop(std::chrono::milliseconds most = Threads::kForEver);
  // Of a request that came here and waits for a lock. False: it is none of ours.
  bool answer(std::uint64_t unique, int error);

 private:
  struct Begin;
  struct Queue {  // of a processor
    std::uint16_t processor = 0;
    std::atomic<bool> is_ours{false};     // its threads run on it
    std::atomic<int> free{0};             // places
    std::atomic<std::size_t> threads{0};  // that do not wait for a lock, and are not held up
    std::atomic<std::size_t> held_up{0};
  };
  struct Waiting {
    Waiting(Queue* at, std::uint64_t node) : queue(at), object(node) {}

    Queue* const queue;
    const std::uint64_t object;  // whose lock it is
    std::condition_variable changed;
    bool answered = false;
    int error = 0;
  };

  Rings(Session& session, Calls& calls, int device, std::size_t most_threads,
        std::size_t processors);
  void serve_unused(Begin& begin);
  void serve(Queue& queue, Begin& begin);
  bool begin_thread(Queue& queue, std::unique_ptr<Place>* with, bool is_answered = false);
  void one_is_held_up(Queue& queue);
  void take_place(Queue& queue);
  void fetch_what_waits(Queue& queue);
  enum class Outcome : std::uint8_t { kAnswered, kGivenUp, kAllEnds };
  Outcome run(Queue& queue, Place& place, Calls::Call* call);
  bool answer_lock(Queue& queue, Message& message, Place& place, Reply& reply);

  Session& session_;
  Calls& calls_;
  const int device_;
  const std::size_t most_threads_;
  std::vector<Queue> queues_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool agreed_ = false;
  bool ending_ = false;
  std::uint64_t fetches_ = 0;
  absl::flat_hash_map<std::uint64_t, Waiting*> waiting_;  // by the requests' `unique`

  Threads threads_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_RINGS_H_
