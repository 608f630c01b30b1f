// SPDX-License-Identifier: Apache-2.0
//
// The carrier of a session over /dev/fuse: threads that read requests and write answers, and rings
// (rings.h) where the kernel has them: then only forgotten objects and interrupts come to be read.
//
// There are as many threads as requests run at once, and one more that reads: a request that waits
// (for a backend, say) holds up no other. Calls (calls.h) watches those that take long.
// OWNS: the descriptor, and its threads between start() and stop().
#ifndef LIBSERVICES_SRC_FUSE_DEVICE_H_
#define LIBSERVICES_SRC_FUSE_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "src/fuse/calls.h"
#include "src/fuse/pipe.h"
#include "src/fuse/rings.h"
#include "src/fuse/session.h"
#include "src/fuse/threads.h"
#include "src/host/descriptor.h"

namespace libservices::fuse {

class Device final : public Carrier {
 public:
  static constexpr std::size_t kMostHeldUp = 4096;

  struct Options {
    // Of those that read, and of those of each processor's ring; beside those that are held up.
    std::size_t most_threads = 64;
    bool rings = true;              // where the kernel has them
    Calls::Options calls = {};
    std::function<void()> on_end;   // by a thread of the device, when the mount is gone
  };
  // `descriptor`: of /dev/fuse, mounted.
  Device(Session& session, host::Descriptor descriptor, Options options);
  ~Device() { (void)stop(); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // False: there is no thread to be had.
  bool start();
  // Waits for the requests that run, and cuts the connection: who still uses the mount gets
  // ENOTCONN. False: some requests do not end in this time; this object and the session must stay.
  bool stop(std::chrono::milliseconds most = Threads::kForEver);
  bool is_mounted() const { return !gone_.load(std::memory_order_acquire); }
  bool uses_rings() const { return rings_on_.load(std::memory_order_acquire); }

  std::uint64_t init_flags() const override;
  bool send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
            std::span<const std::byte> payload) override;
  bool notify(int code, std::span<const std::byte> fixed, std::string_view name) override;
  std::int32_t announce(int descriptor) override;
  void withdraw(std::int32_t number) override;

 private:
  void serve();
  void serve_one(std::span<const std::byte> bytes, std::span<std::byte> room, Pipe& pipe,
                 Calls::Call& call);
  bool answer(Message& message, Reply& reply, std::span<std::byte> room, Pipe& pipe,
              Calls::Call& call);
  void one_is_held_up();
  bool may_begin() const;
  void begin_rings(const Reply& reply);
  std::size_t most_threads() const;

  Session& session_;
  host::Descriptor descriptor_;
  const Options options_;
  std::atomic<std::size_t> reading_{0};
  std::atomic<bool> gone_{false};
  std::atomic<bool> rings_on_{false};
  std::atomic<std::size_t> held_up_{0};  // threads that read, in requests that take long
  Calls calls_;
  const std::unique_ptr<Rings> rings_;  // null: none
  Threads threads_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_DEVICE_H_
