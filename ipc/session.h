// SPDX-License-Identifier: Apache-2.0
//
// Sessions: the service's end of the pool's socket.
//
// An application connects, and the service learns from the kernel who it is (SO_PEERCRED,
// SO_PEERGROUPS, a pidfd). It gets a region of its own for its request buffers and the request
// queues of its *trust domain*, one for each core group: processes with the same user, group and
// supplementary groups share them, since they could trace and kill each other anyway, and with
// nobody else. When the process ends, or closes the socket, the kernel says so, and the session
// ends.
//
// One thread, in run(), does all of this; the requests themselves are served by BackDrivers.
#ifndef LIBSERVICES_IPC_SESSION_H_
#define LIBSERVICES_IPC_SESSION_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "ipc/back_driver.h"
#include "ipc/region.h"
#include "ipc/server_session.h"
#include "ipc/socket_message.h"

namespace libservices::ipc {

// Bytes and descriptors to send. The descriptors are closed after that when `close_after` is set.
struct Message {
  std::vector<std::byte> bytes;
  std::vector<int> descriptors;
  bool close_after = true;

  template <class T>
  void append(const T& value) {
    const auto* start = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), start, start + sizeof value);
  }
};

struct SessionLimits {
  unsigned sessions = 4096;
  unsigned queues =
      256;  // trust domains at once; each has two threads for each core group at least
};

class SessionListener {
 public:
  // All are called in the thread of run().
  struct Hooks {
    RequestHandler handle;  // but this one, in the threads of the BackDrivers
    // A session begins; what is put into `reply` goes out with the welcome. An errno refuses it.
    std::function<int(ServerSession&, Message& reply)> welcome;
    // A later message of a session; its descriptors are closed afterwards. False ends the session.
    std::function<bool(ServerSession&, std::span<const std::byte>, std::span<const int>,
                       Message& reply)>
        message;
    std::function<void(ServerSession&)> closed;
    // A connection for another purpose than a session: one question, one answer.
    std::function<int(const Peer&, std::uint32_t purpose, Message& reply)> other;
  };

  SessionListener(std::string directory, Hooks hooks, BackDriverOptions driver_options,
                  SessionLimits limits = {});
  ~SessionListener();
  SessionListener(const SessionListener&) = delete;
  SessionListener& operator=(const SessionListener&) = delete;

  // Takes the run directory's lock and listens on `directory`/socket. A socket that a dead service
  // left is used again. ERRORS: AlreadyExists when a service runs there; else for a person to read.
  absl::Status start();
  // Calls `ready` in run() whenever `descriptor` is readable.
  void watch(int descriptor, std::function<void()> ready);
  // Serves until stop().
  void run();
  // From any thread or signal handler.
  void stop();
  // After run(): no new request is taken, those under way end, and all sessions are closed.
  void finish();

  struct Counts {
    std::size_t sessions = 0;
    std::size_t queues = 0;
    unsigned threads = 0;
    std::uint64_t refused = 0;  // doorbells and messages that no library writes
    std::uint64_t opened = 0;   // sessions since the start
  };
  Counts counts() const;
  std::vector<std::shared_ptr<ServerSession>> sessions() const;

 private:
  struct Connection;
  // The region of an ended session, already backed by memory. A session may end before its process
  // does (the socket was closed), so the region is used again only once the process is dead and
  // nobody can write there any more.
  struct Spare {
    Spare(Region the_region, int the_process)
        : region(std::move(the_region)), process(the_process) {}
    Spare(const Spare&) = delete;
    ~Spare();
    Region region;
    int process;  // pidfd
  };
  struct Domain {
    QueueSet& queues() { return *static_cast<QueueSet*>(region.address()); }

    Region region;
    std::vector<std::unique_ptr<BackDriver>> drivers;  // by core group
    std::list<Spare> spare;
    std::size_t sessions = 0;
  };

  void accept_all();
  void ready(Connection& connection);
  void first_message(Connection& connection, const Hello& hello);
  int begin(Connection& connection, Message& reply);
  void follow(Connection& connection, std::uint32_t cpu);
  void end(Connection& connection);
  std::shared_ptr<ServerSession> find(std::uint32_t session, const Domain& domain);
  using Domains = std::map<Peer, Domain>;
  Domain* domain_of(const Peer& peer, int& error, Domains::node_type& superfluous);
  int open_queues(Domain& domain);
  bool take_spare(Domain& domain, Region& region);

  const std::string directory_;
  const Hooks hooks_;
  BackDriverOptions driver_options_;
  const SessionLimits limits_;
  int lock_ = -1;
  int socket_ = -1;
  int epoll_ = -1;
  int stop_event_ = -1;

  std::map<int, std::unique_ptr<Connection>> connections_;  // by socket; run() alone
  std::map<int, std::function<void()>> watched_;            // by descriptor; run() alone
  std::vector<int> ended_;  // sockets of connections that are to end; run() alone
  std::mt19937_64 random_;  // salts of sessions; run() alone
  std::atomic<std::uint64_t> opened_{0};

  mutable std::shared_mutex mutex_;
  Domains domains_;                                    // by peer with pid 0; guarded by mutex_
  std::vector<std::shared_ptr<ServerSession>> by_id_;  // guarded by mutex_
  std::vector<std::uint32_t> free_ids_;                // guarded by mutex_
  std::atomic<std::uint64_t> refused_{0};
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_SESSION_H_
