// SPDX-License-Identifier: Apache-2.0
//
// A FUSE session: one mount of one filesystem instance, whatever carries its requests.
//
// A carrier (device.h) hands over messages, sends the answers, and sends the notices that
// the session wants sent. The session negotiates the protocol, maps node ids to objects and handles
// to open files, and runs each request on `AnyFilesystem`, where requests that come over shared
// memory go as well: what one half changes the other sees, and permissions, locks and offsets are
// the same. What the kernel keeps of names, attributes and content is withdrawn when it changes
// otherwise (docs/fuse.md has the rules).
//
// THREADS: `run` at once; a thread that changed the filesystem outside of `run` calls
// `deliver_notices` behind it, without locks that a request could wait for.
#ifndef LIBSERVICES_SRC_FUSE_SESSION_H_
#define LIBSERVICES_SRC_FUSE_SESSION_H_

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "libservices/any_filesystem.h"
#include "src/fuse/carrier.h"
#include "src/fuse/handed_over.h"
#include "src/fuse/message.h"
#include "src/fuse/nodes.h"
#include "src/fuse/passthrough.h"
#include "src/fuse/waiting_locks.h"

namespace libservices::fuse {

class Session final : private ChangeListener {
 public:
  struct Options {
    bool writeback = false;  // the kernel gathers writes: others see them when it writes them out
    bool passthrough = true;  // where the kernel and the stack can
    bool kernel_decides = false;  // what it has allowed is not checked again
  };
  // From start() of the filesystem to its stop(). It becomes the filesystem's listener.
  Session(AnyFilesystem& filesystem, Options options);
  ~Session();

  // Before the first request.
  void set_carrier(Carrier* carrier) {
    carrier_ = carrier;
    locks_.set_carrier(carrier);
  }

  // `room`: of kPayloadRoom, where a payload may be put.
  void run(const Message& message, std::span<std::byte> room, Reply& reply) noexcept;
  Negotiated negotiated() const {
    return {.setxattr_ext = setxattr_ext_.load(std::memory_order_relaxed)};
  }
  // The answer was not taken.
  void undo(const Reply& reply);
  // The kernel is gone: all that it had is given back.
  void end();

  // A name in the mount's root by which an open file is opened once, as the one that it is.
  std::string hand_over(OpenFilePtr file) { return handed_over_.offer(std::move(file)); }

  // Whether the kernel has agreed on a protocol, or does so within this time.
  bool wait_until_negotiated(std::chrono::milliseconds most);

  // Nothing of what the kernel was told counts any more. REQUIRES: not within a request.
  void forget_answers();

  // Sends what this thread's changes have made untrue in the kernel, of all sessions.
  static void deliver_notices();

  struct Counts {
    std::array<std::uint64_t, kForms> requests{};
    std::uint64_t errors = 0;
    std::uint64_t notices = 0;
    std::uint64_t nodes = 0;
    std::uint64_t handles = 0;
    std::uint32_t minor = 0;  // of the protocol; 0: not negotiated yet
    bool passthrough = false;   // in use
    std::uint64_t passing = 0;  // open files that pass through
  };
  Counts counts() const;

 private:
  class Run;  // of one request (request.h)
  struct Notice {
    Session* session;
    std::uint64_t object;
    std::uint64_t offset;
    std::uint64_t length;
    std::string name;  // empty: of the object itself
  };
  struct Notes;

  void object_changed(std::uint64_t object, std::uint64_t offset, std::uint64_t length) override;
  void name_changed(std::uint64_t directory, std::string_view name) override;
  std::optional<Passthrough::Offer> offer(const Context& context, OpenFile& file);
  std::int32_t announce(int descriptor);
  void withdraw(std::uint64_t node, Passthrough::Way way);
  void leave_inode(std::uint64_t node);
  Result<void> close(const Context& context, const HandlePtr& open);
  void note(Notice notice);
  void send(const Notice& notice);
  void send(const Notice& notice, std::uint64_t node);
  void set_negotiated(std::uint32_t minor);

  static thread_local Session* serving_;  // whose request this thread runs

  AnyFilesystem& filesystem_;
  const Options options_;
  const Coherence coherence_;
  Carrier* carrier_ = nullptr;
  Nodes nodes_;
  Handles handles_;
  HandedOver handed_over_;
  Passthrough passthrough_;
  std::atomic<bool> may_pass_{false};  // the kernel can, and has not refused
  std::atomic<std::uint32_t> minor_{0};
  std::atomic<bool> setxattr_ext_{false};
  std::array<std::atomic<std::uint64_t>, kForms> requests_{};
  std::atomic<std::uint64_t> errors_{0};
  std::atomic<std::uint64_t> notices_{0};

  WaitingLocks locks_;
  std::mutex negotiation_mutex_;
  std::condition_variable negotiated_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_SESSION_H_
