// SPDX-License-Identifier: Apache-2.0
//
// One session, as the service sees it: who is at the other end, and the request buffers.
//
// OWNS: a ServerSession lives as long as a request of it runs, even when its process is gone.
// THREADS: claim() may be called at once, also for one buffer.
#ifndef LIBSERVICES_IPC_SERVER_SESSION_H_
#define LIBSERVICES_IPC_SERVER_SESSION_H_

#include <sys/types.h>

#include <any>
#include <array>
#include <atomic>
#include <compare>
#include <cstdint>
#include <utility>
#include <vector>

#include "ipc/region.h"
#include "ipc/request.h"

namespace libservices::ipc {

// Who is at the other end, from the kernel.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // sorted

  friend auto operator<=>(const Peer&, const Peer&) = default;
};

class ServerSession {
 public:
  ServerSession(std::uint32_t id, std::uint64_t salt, Peer peer, Region region)
      : id_(id), salt_(salt), peer_(std::move(peer)), region_(std::move(region)) {}

  std::uint32_t id() const { return id_; }
  std::uint64_t salt() const { return salt_; }
  const Peer& peer() const { return peer_; }
  RequestBuffer& buffer(std::uint32_t index) { return *buffer_at(region_.address(), index); }

  // Takes the request that is posted in a buffer, if there is one that nobody has taken yet: its
  // number; else 0.
  std::uint32_t claim(std::uint32_t index) {
    // In this order: when another thread takes the request after the first look, the last step
    // fails, however late it comes.
    std::uint32_t taken = taken_[index].load(std::memory_order_acquire);
    const std::uint32_t posted = buffer(index).state.load();  // pairs with FrontDriver::call()
    if (!is_posted(posted) || posted == taken) return 0;
    return taken_[index].compare_exchange_strong(taken, posted) ? posted : 0;
  }
  bool has_unclaimed(std::uint32_t index) {
    const std::uint32_t posted = buffer(index).state.load();
    return is_posted(posted) && taken_[index].load(std::memory_order_relaxed) != posted;
  }

  std::any upper;  // the upper layer's own state; set in Hooks::welcome, then left alone

 private:
  friend class BackDriver;
  friend class HotBuffers;
  friend class SessionListener;
  const std::uint32_t id_;
  const std::uint64_t salt_;
  const Peer peer_;
  Region region_;
  void* domain_ = nullptr;                                             // SessionListener's
  std::array<std::atomic<std::uint32_t>, kBuffersInSession> taken_{};  // number of the last request
  std::atomic<bool> ended_{false};
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_SERVER_SESSION_H_
