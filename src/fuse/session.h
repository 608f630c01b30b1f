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
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/any_filesystem.h"
#include "src/fuse/message.h"
#include "src/fuse/nodes.h"

namespace libservices::fuse {

inline constexpr std::size_t kMostWrite = 1U << 20U;  // bytes of one read or write request
// Of a carrier for a message, and for an answer's payload.
inline constexpr std::size_t kMessageRoom = kMostWrite + 4096;
inline constexpr std::size_t kPayloadRoom = kMostWrite;

// What goes back. `fixed` and then `payload`, or an error alone.
struct Reply {
  int error = 0;
  bool none = false;  // requests that have no answer, or have it later
  std::uint32_t fixed_bytes = 0;
  alignas(8) std::array<std::byte, sizeof(abi::StatxOut)> fixed;
  std::span<const std::byte> payload;
  // If it cannot be sent, the kernel has not been told of these: to be forgotten again.
  std::vector<std::uint64_t> told;
  std::uint64_t handle = 0;  // and this one closed

  template <class T>
  void set(const T& words) {
    static_assert(sizeof words <= sizeof fixed);
    std::memcpy(fixed.data(), &words, sizeof words);
    fixed_bytes = sizeof words;
  }
};

// How answers and notices reach the kernel.
class Carrier {
 public:
  // False: the kernel does not want it (the request was aborted, the object forgotten).
  virtual bool send(std::uint64_t unique, int error, std::span<const std::byte> fixed,
                    std::span<const std::byte> payload) = 0;
  virtual bool notify(int code, std::span<const std::byte> fixed, std::string_view name) = 0;
  // Makes the kernel know a descriptor for passthrough: its number there, negative when it does not
  // want it.
  virtual std::int32_t announce(int descriptor) = 0;
  virtual void withdraw(std::int32_t number) = 0;

 protected:
  ~Carrier() = default;
};

class Session final : private ChangeListener {
 public:
  struct Options {
    bool read_only = false;
    bool writeback = false;  // the kernel gathers writes: others see them when it writes them out
    bool passthrough = true;  // where the kernel and the stack can
    bool kernel_decides = false;  // what it has allowed is not checked again
  };
  // From start() of the filesystem to its stop(). It becomes the filesystem's listener.
  Session(AnyFilesystem& filesystem, Options options);
  ~Session();

  // Before the first request.
  void set_carrier(Carrier* carrier) { carrier_ = carrier; }

  // `room`: of kPayloadRoom, where a payload may be put.
  void run(const Message& message, std::span<std::byte> room, Reply& reply) noexcept;
  // The answer was not taken.
  void undo(const Reply& reply);
  // The kernel is gone: all that it had is given back.
  void end();

  // Whether the kernel has agreed on a protocol, or does so within this time.
  bool wait_until_negotiated(std::chrono::milliseconds most);

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
  class Run;
  struct Notice {
    Session* session;
    std::uint64_t object;
    std::uint64_t offset;
    std::uint64_t length;
    std::string name;
    bool of_name;
  };
  // A lock that others hold, asked for again until it can be had.
  struct WaitingLock {
    std::uint64_t unique;
    HandlePtr handle;
    LockRequest request;
    Context context;
    pid_t pid = 0;
    bool interrupted = false;
  };
  struct Notes;

  void object_changed(std::uint64_t object, std::uint64_t offset, std::uint64_t length) override;
  void name_changed(std::uint64_t directory, std::string_view name) override;
  std::int32_t announce(const Context& context, OpenFile& file);
  void withdraw(std::uint64_t object, Passthrough::Way way);
  Result<void> close(const Context& context, Handle& open);
  void note(Notice notice);
  void send(const Notice& notice);
  void remember_holder(std::uint64_t process, pid_t pid);
  std::uint32_t holder_of(std::uint64_t process);
  void wait_for(WaitingLock waiting);
  void interrupt(std::uint64_t unique);
  bool ask_for_lock(const WaitingLock& waiting);
  void wait_for_locks();

  static thread_local Session* serving_;  // whose request this thread runs

  AnyFilesystem& filesystem_;
  const Options options_;
  const Coherence coherence_;
  Carrier* carrier_ = nullptr;
  Nodes nodes_;
  Handles handles_;
  Passthrough passthrough_;
  std::atomic<bool> may_pass_{false};  // the kernel can, and has not refused
  std::atomic<std::uint32_t> minor_{0};
  std::array<std::atomic<std::uint64_t>, kForms> requests_{};
  std::atomic<std::uint64_t> errors_{0};
  std::atomic<std::uint64_t> notices_{0};

  std::mutex locks_mutex_;  // guards what follows
  std::condition_variable locks_changed_;
  std::condition_variable negotiated_;
  std::list<WaitingLock> waiting_locks_;
  std::array<std::uint64_t, 64> interrupts_{};  // the latest
  std::size_t next_interrupt_ = 0;
  absl::flat_hash_map<std::uint64_t, pid_t> lock_pids_;  // by Context::process
  bool ending_ = false;
  std::thread lock_thread_;  // only once a lock had to be waited for
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_SESSION_H_
