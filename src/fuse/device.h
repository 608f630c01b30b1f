// SPDX-License-Identifier: Apache-2.0
//
// The carrier of a session over /dev/fuse: threads that read requests and write answers.
//
// There are as many threads as requests run at once, and one more that reads: a request that waits
// (for a backend, say) holds up no other. stop() takes them out of their read by a signal.
// WARNING: never use the mount from this process. A thread that waits for an answer of a process
// that is being killed keeps that process from dying, and so it waits for ever.
// OWNS: the descriptor, and its threads between start() and stop().
#ifndef LIBSERVICES_SRC_FUSE_DEVICE_H_
#define LIBSERVICES_SRC_FUSE_DEVICE_H_

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "src/fuse/session.h"
#include "src/host/descriptor.h"

namespace libservices::fuse {

class Device final : public Carrier {
 public:
  // Its handler, which does nothing, is this process's while a device is.
  static int wake_up_signal();

  struct Options {
    std::size_t most_threads = 64;
    std::function<void()> on_end;  // by a thread of the device, when the mount is gone
  };
  // `descriptor`: of /dev/fuse, mounted.
  Device(Session& session, host::Descriptor descriptor, Options options)
      : session_(session), descriptor_(std::move(descriptor)), options_(std::move(options)) {
    session_.set_carrier(this);
  }
  ~Device() { stop(); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // False: there is no thread to be had.
  bool start();
  // Waits for the requests that run, and cuts the connection: who still uses the mount gets ENOTCONN.
  void stop();
  bool is_mounted() const;

  bool send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
            std::span<const std::byte> payload) override;
  bool notify(int code, std::span<const std::byte> fixed, std::string_view name) override;
  std::int32_t announce(int descriptor) override;
  void withdraw(std::int32_t number) override;

 private:
  bool begin_thread();
  void serve();
  void serve_one(std::span<const std::byte> bytes, std::span<std::byte> room);

  Session& session_;
  host::Descriptor descriptor_;
  host::Descriptor nowhere_;
  const Options options_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable ended_;
  std::vector<pthread_t> threads_;
  std::size_t reading_ = 0;
  bool gone_ = false;
  bool stopping_ = false;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_DEVICE_H_
