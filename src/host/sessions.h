// SPDX-License-Identifier: Apache-2.0
//
// The processes and sessions that a service serves: what begins with a session, what it asks for
// on its socket, and what ends with it, whatever the transport.
//
// A process keeps its number (Context::process), and with it its record locks, while it lives,
// through exec too, where one session ends and another begins. That it is dead the kernel says.
// THREADS: everything may be called at once, `collect_dead` by one thread at a time.
#ifndef LIBSERVICES_SRC_HOST_SESSIONS_H_
#define LIBSERVICES_SRC_HOST_SESSIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "libservices/result.h"
#include "src/host/dispatcher.h"
#include "src/host/errands.h"
#include "src/host/kept_files.h"
#include "src/host/kernel_objects.h"
#include "src/host/placeholders.h"
#include "src/host/watches.h"
#include "src/protocol/placeholder.h"

namespace libservices::host {

// A peer as the kernel described it.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

struct SessionLimits {
  std::size_t sessions = 4096;
  std::size_t open_files = 65536;    // of one session
  std::size_t placeholders = 65536;  // of one session, in its descriptors or under way
};

class Sessions {
 public:
  Sessions(const FilesystemTable& filesystems, Placeholders& placeholders, KeptFiles& kept_files,
           KernelObjects& objects, Watches& watches, Errands& errands, SessionLimits limits)
      : filesystems_(filesystems),
        placeholders_(placeholders),
        kept_files_(kept_files),
        objects_(objects),
        watches_(watches),
        errands_(errands),
        limits_(limits) {}

  // `mount_table` is the number of the service's table.
  // ERRORS: for a person to read.
  absl::Status start(std::uint64_t mount_table = 0);

  // ERRORS: EUSERS with too many sessions, ESRCH when the peer is dead.
  Result<std::shared_ptr<ClientSession>> open(const Peer& peer);
  void close(const std::shared_ptr<ClientSession>& session);

  // The end of ipc's welcome, and the descriptors that go with it. With less stock than usual
  // when the machine's limits are reached.
  protocol::Welcome welcome(const ClientSession& session, std::vector<Descriptor>& descriptors);

  // A message of the session's socket and the descriptors that came with it. The answer goes back
  // with `descriptors`. False: it is none that a filesystem library writes.
  bool message(ClientSession& session, std::span<const std::byte> bytes,
               std::span<const int> received, protocol::SocketAnswer& answer,
               std::vector<Descriptor>& descriptors);

  // Readable when a process that had a session has died.
  int news() const { return epoll_.get(); }
  bool collect_dead();

  struct Entry {
    std::shared_ptr<ClientSession> session;
    pid_t pid = 0;
  };
  std::vector<Entry> list() const;

 private:
  struct Process {
    std::uint64_t number = 0;
    Descriptor pidfd;
  };

  Result<std::uint64_t> process_number(pid_t pid);
  void forget(std::uint64_t process);
  Errno give_stock(const ClientSession& session, Placeholders::Kind kind, std::size_t count,
                   protocol::StockEntry* stock, std::uint32_t& given,
                   std::vector<Descriptor>& descriptors);
  void adopt(ClientSession& session, std::span<const int> received, protocol::SocketAnswer& answer);
  Result<Descriptor> find_object(ClientSession& session, const protocol::ObjectRequest& request,
                                 std::span<const int> received);
  Result<ServiceOpenFilePtr> open_again(const ClientSession& session, int placeholder,
                                        std::uint64_t inode);

  const FilesystemTable& filesystems_;
  Placeholders& placeholders_;
  KeptFiles& kept_files_;
  KernelObjects& objects_;
  Watches& watches_;
  Errands& errands_;
  const SessionLimits limits_;
  Descriptor epoll_;
  std::uint64_t mount_table_ = 0;

  mutable std::mutex mutex_;  // guards all below
  absl::flat_hash_map<Placeholders::Session, std::shared_ptr<ClientSession>> sessions_;
  absl::flat_hash_map<pid_t, Process> processes_;
  Placeholders::Session next_session_ = 1;
  std::uint32_t next_process_ = 1;
  std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_SESSIONS_H_
