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
// One thread at a time does all of this; the requests themselves are served by BackDrivers. Hooks
// may have to wait for a filesystem: when one takes long, another thread goes on with the others.
#ifndef LIBSERVICES_IPC_SESSION_H_
#define LIBSERVICES_IPC_SESSION_H_

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
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
  struct Hooks {
    RequestHandler handle;  // in the threads of the BackDrivers
    // A session begins; what is put into `reply` goes out with the welcome. An errno refuses it.
    // It must not wait.
    std::function<int(ServerSession&, Message& reply)> welcome;
    // These two may wait, and others are called meanwhile: but none of the same session. A later message of a session; its descriptors are closed afterwards. False ends the session.
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
  // Serves until stop().
  void run();
  // From any thread or signal handler.
  void stop();
  // After run(): no new request is taken, those under way end, and all sessions are closed. False:
  // some do not end in this time; then nothing that they use may be destroyed, this object neither.
  bool finish(std::chrono::milliseconds most = Patience::kForEver);

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
  struct Loop;
  class Away;
  using Ready = std::function<void(Loop&)>;
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

  void watch(int descriptor, Ready ready);
  bool begin_loop();
  void serve(Loop& loop);
  void replace_loop();
  bool wait_for_loops(std::chrono::steady_clock::time_point end);
  void accept_all(Loop& loop);
  void ready(Loop& loop, Connection& connection);
  bool answer(Loop& loop, Connection& connection, std::span<const std::byte> bytes,
              std::span<const int> descriptors);
  void first_message(Connection& connection, const Hello& hello);
  int begin(Connection& connection, Message& reply);
  void follow(Connection& connection, std::uint32_t cpu);
  void end_all(Loop& loop);
  void end(Loop& loop, Connection& connection);
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
  int timer_ = -1;  // runs while a hook does

  std::mutex loop_mutex_;  // guards what follows; not held in hooks that may wait
  std::condition_variable loop_ended_;
  std::uint64_t loop_ = 0;     // the one that serves
  bool away_ = false;          // it is in a hook
  unsigned loops_ = 0;         // threads, with those that were replaced
  std::map<int, std::unique_ptr<Connection>> connections_;  // by socket
  std::map<int, Ready> watched_;                            // by descriptor
  std::vector<int> ended_;  // sockets of connections that are to end
  std::mt19937_64 random_;  // salts of sessions
  std::atomic<std::uint64_t> opened_{0};

  mutable std::shared_mutex mutex_;
  Domains domains_;                                    // by peer with pid 0; guarded by mutex_
  std::vector<std::shared_ptr<ServerSession>> by_id_;  // guarded by mutex_
  std::vector<std::uint32_t> free_ids_;                // guarded by mutex_
  std::atomic<std::uint64_t> refused_{0};
};

}  // namespace libservices::ipc

#endif  // LIBSERVICES_IPC_SESSION_H_
