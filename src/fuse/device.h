// SPDX-License-Identifier: Apache-2.0
//
// The carrier of a session over /dev/fuse: threads that read requests and write answers.
//
// There are as many threads as requests run at once, and one more that reads: a request that waits
// (for a backend, say) holds up no other.
// OWNS: the descriptor, and its threads between start() and stop().
#ifndef LIBSERVICES_SRC_FUSE_DEVICE_H_
#define LIBSERVICES_SRC_FUSE_DEVICE_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>

#include "src/fuse/session.h"
#include "src/host/descriptor.h"

namespace libservices::fuse {

class Device final : public Carrier {
 public:
  struct Options {
    std::size_t most_threads = 64;
    std::function<void()> on_end;  // by a thread of the device, when the mount is gone
  };
  // `descriptor`: of /dev/fuse, mounted.
  Device(Session& session, host::Descriptor descriptor, Options options)
      : session_(session), descriptor_(std::move(descriptor)), options_(std::move(options)) {
    session_.set_carrier(this);
  }
  ~Device() { stop({}); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // False: there is no thread to be had.
  bool start();
  // Ends with the requests that run. `root`: a descriptor of the mount's root, which may have been
  // detached; none: the mount is gone altogether.
  void stop(const host::Descriptor& root);
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
  std::size_t threads_ = 0;
  std::size_t reading_ = 0;
  bool gone_ = false;
  bool stopping_ = false;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_DEVICE_H_
