// SPDX-License-Identifier: Apache-2.0
#include "ipc/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace libservices::ipc {
namespace {

constexpr std::size_t kMostSpareRegions = 8;
constexpr int kEventsAtOnce = 64;

absl::Status failure(int error, std::string_view what, std::string_view mend) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      fmt::format("{}: {} ({})", what, std::strerror(error), mend));
}

bool peer_of(int socket, Peer& peer) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
  peer = {credentials.pid, credentials.uid, credentials.gid, {}};
  size = 0;
  (void)::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &size);  // asks for the size
  peer.groups.resize(size / sizeof(gid_t));
  if (size != 0 &&
      ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) != 0) {
    return false;
  }
  std::sort(peer.groups.begin(), peer.groups.end());
  return true;
}

void send(int socket, const Welcome* welcome, Message& reply) {
  std::array<iovec, 2> parts{};
  unsigned count = 0;
  if (welcome != nullptr) {
    parts[count++] = {const_cast<Welcome*>(welcome), sizeof *welcome};
  }
  if (!reply.bytes.empty()) parts[count++] = {reply.bytes.data(), reply.bytes.size()};
  // A peer that does not read its answer loses its session with its next message.
  (void)send_message(socket, parts.data(), count, reply.descriptors.data(),
                     static_cast<unsigned>(reply.descriptors.size()));
}

void close_descriptors(Message& reply) {
  if (!reply.close_after) return;
  for (const int descriptor : reply.descriptors) ::close(descriptor);
  reply.descriptors.clear();
}

}  // namespace

// One socket: it waits for its Hello, or belongs to a session.
struct SessionListener::Connection {
  ~Connection() {
    if (process >= 0) ::close(process);
    if (socket >= 0) ::close(socket);
  }

  int socket = -1;
  int process = -1;  // pidfd: a child of the process may hold the socket for longer than it lives
  Peer peer;
  std::shared_ptr<ServerSession> session;
};

SessionListener::SessionListener(std::string directory, Hooks hooks,
                                 BackDriverOptions driver_options, SessionLimits limits)
    : directory_(std::move(directory)),
      hooks_(std::move(hooks)),
      driver_options_(std::move(driver_options)),
      limits_(limits),
      random_((std::uint64_t{std::random_device{}()} << 32U) | std::random_device{}()) {
  auto& groups = driver_options_.groups;
  if (groups.empty()) groups = core_groups(allowed_cpus());
  while (groups.size() > QueueSet::kMostGroups) {  // some share a queue
    const std::size_t kept = groups.size() % QueueSet::kMostGroups;
    groups[kept].insert(groups[kept].end(), groups.back().begin(), groups.back().end());
    groups.pop_back();
  }
  if (groups.empty()) groups.emplace_back();  // the processors cannot be told
}

SessionListener::~SessionListener() {
  finish();
  for (const int descriptor : {socket_, epoll_, stop_event_, lock_}) {
    if (descriptor >= 0) ::close(descriptor);
  }
}

absl::Status SessionListener::start() {
  const std::string lock_path = directory_ + "/lock";
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_ < 0) {
    return failure(errno, lock_path, "the service must be able to write to its run directory");
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    lock_ = -1;  // the socket is another's: it must outlive us
    return absl::AlreadyExistsError(fmt::format(
        "{}: a service runs here already (stop it, or choose another pool)", directory_));
  }
  const std::string path = directory_ + "/socket";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return failure(ENAMETOOLONG, path,
                   "the path of a socket has at most 107 bytes: use a shorter run directory");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  (void)::unlink(path.c_str());  // a dead service's: we have the lock
  socket_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket_ < 0 ||
      ::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0666) != 0 || ::listen(socket_, 1024) != 0) {
    return failure(errno, path, "cannot listen there; check the run directory");
  }
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  stop_event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || stop_event_ < 0) {
    return failure(errno, "epoll", "raise the limit of open files (ulimit -n)");
  }
  watch(socket_, [this] { accept_all(); });
  watch(stop_event_, [] {});
  return absl::OkStatus();
}

void SessionListener::watch(int descriptor, std::function<void()> ready) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = descriptor;
  watched_[descriptor] = std::move(ready);
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
}

void SessionListener::run() {
  std::array<epoll_event, kEventsAtOnce> events;
  for (;;) {
    const int count = ::epoll_wait(epoll_, events.data(), kEventsAtOnce, -1);
    for (int i = 0; i < count; ++i) {
      const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
      if (descriptor == stop_event_) return;
      if (const auto found = watched_.find(descriptor); found != watched_.end()) {
        const auto ready = found->second;  // it may make new entries
        ready();
      }
    }
    for (const int socket : ended_) {
      const auto found = connections_.find(socket);
      if (found == connections_.end()) continue;  // told twice
      end(*found->second);
      connections_.erase(found);
    }
    ended_.clear();
  }
}

void SessionListener::stop() {
  const std::uint64_t one = 1;
  (void)!::write(stop_event_, &one, sizeof one);
}

void SessionListener::accept_all() {
  for (;;) {
    const int socket = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      // EMFILE and the like: the connection stays in the backlog and is tried with the next event.
      if (errno != EAGAIN) ::usleep(1000);
      return;
    }
    auto connection = std::make_unique<Connection>();
    connection->socket = socket;
    if (!peer_of(socket, connection->peer) || connections_.size() >= 2 * limits_.sessions) {
      refused_.fetch_add(1);
      continue;  // closes it
    }
    Connection* raw = connection.get();
    connections_[socket] = std::move(connection);
    watch(socket, [this, raw] { ready(*raw); });
    ready(*raw);  // the Hello is usually there already
  }
}

void SessionListener::ready(Connection& connection) {
  std::array<std::byte, 4096> bytes;
  std::array<int, kMostDescriptors> descriptors;
  for (;;) {
    unsigned count = kMostDescriptors;
    const long size = receive_message(connection.socket, bytes.data(), bytes.size(),
                                      descriptors.data(), count, MSG_DONTWAIT);
    if (size == -EAGAIN) return;
    bool keep = size > 0;
    if (keep && connection.session != nullptr) {
      Message reply;
      keep = hooks_.message != nullptr &&
             hooks_.message(*connection.session,
                            std::span(bytes).first(static_cast<std::size_t>(size)),
                            std::span(descriptors).first(count), reply);
      if (keep) send(connection.socket, nullptr, reply);
      close_descriptors(reply);
    } else if (keep) {
      Hello hello;
      keep = static_cast<std::size_t>(size) == sizeof hello;
      if (keep) {
        std::memcpy(&hello, bytes.data(), sizeof hello);
        keep = hello.magic == kProtocolMagic;
      }
      if (keep) first_message(connection, hello);
    }
    for (unsigned i = 0; i < count; ++i) ::close(descriptors[i]);
    if (!keep) {
      if (size != 0 && size != -ECONNRESET) refused_.fetch_add(1);
      ended_.push_back(connection.socket);
      return;
    }
  }
}

void SessionListener::first_message(Connection& connection, const Hello& hello) {
  Message reply;
  if (hello.purpose != Hello::kSession) {
    const int error = hooks_.other ? hooks_.other(connection.peer, hello.purpose, reply) : ENOSYS;
    if (error != 0) reply.bytes.clear();
    send(connection.socket, nullptr, reply);
    close_descriptors(reply);
    ended_.push_back(connection.socket);
    return;
  }
  Welcome welcome;
  welcome.error = hello.version == kProtocolVersion ? begin(connection, reply) : EPROTO;
  if (welcome.error != 0) {
    close_descriptors(reply);
    Message refusal;
    send(connection.socket, &welcome, refusal);
    ended_.push_back(connection.socket);
    return;
  }
  ServerSession& session = *connection.session;
  welcome.session = session.id();
  welcome.salt = session.salt();
  welcome.region_bytes = session.region_.bytes();
  const Region& queues = static_cast<Domain*>(session.domain_)->region;
  welcome.queue_bytes = queues.bytes();
  welcome.upper_bytes = static_cast<std::uint32_t>(reply.bytes.size());
  Message whole;
  whole.bytes = std::move(reply.bytes);
  whole.descriptors = {session.region_.descriptor(), queues.descriptor()};
  whole.descriptors.insert(whole.descriptors.end(), reply.descriptors.begin(),
                           reply.descriptors.end());
  send(connection.socket, &welcome, whole);
  follow(connection, hello.cpu);  // while the process takes up its welcome
  close_descriptors(reply);
}

SessionListener::Spare::~Spare() { ::close(process); }

// `superfluous` is a domain that had to make room. It is to be destroyed without mutex_, since its
// threads look for sessions.
SessionListener::Domain* SessionListener::domain_of(const Peer& peer, int& error,
                                                    Domains::node_type& superfluous) {
  Peer key = peer;
  key.pid = 0;
  if (domains_.size() >= limits_.queues && !domains_.contains(key)) {
    const auto unused = std::find_if(domains_.begin(), domains_.end(), [](auto& entry) {
      return entry.second.sessions == 0 &&
             std::none_of(entry.second.drivers.begin(), entry.second.drivers.end(),
                          [](const auto& driver) { return driver->busy(); });
    });
    if (unused == domains_.end()) {
      error = EUSERS;
      return nullptr;
    }
    superfluous = domains_.extract(unused);
  }
  Domain& domain = domains_[key];
  if (domain.drivers.empty() && (error = open_queues(domain)) != 0) {
    domains_.erase(key);
    return nullptr;
  }
  return &domain;
}

int SessionListener::open_queues(Domain& domain) {
  const auto groups = static_cast<std::uint32_t>(driver_options_.groups.size());
  const int error = domain.region.make("libservices-queues", QueueSet::bytes(groups));
  if (error != 0) return error;
  QueueSet& queues = domain.queues();
  for (std::uint32_t cpu = 0; cpu < QueueSet::kMostCpus; ++cpu) {
    queues.group_of[cpu] = static_cast<std::uint8_t>(cpu % groups);
  }
  for (std::uint32_t group = 0; group < groups; ++group) {
    for (const int cpu : driver_options_.groups[group]) {
      queues.group_of[static_cast<std::uint32_t>(cpu) % QueueSet::kMostCpus] =
          static_cast<std::uint8_t>(group);
    }
  }
  for (std::uint32_t group = 0; group < groups; ++group) {
    domain.drivers.push_back(std::make_unique<BackDriver>(
        queues, group, [this, &domain](std::uint32_t session) { return find(session, domain); },
        hooks_.handle, driver_options_));
    // The threads look for sessions only after a doorbell, which needs begin()'s reply.
    domain.drivers.back()->start();
  }
  return 0;
}

// A session for the connection. 0, or an errno.
int SessionListener::begin(Connection& connection, Message& reply) {
  std::shared_ptr<ServerSession> session;
  Domains::node_type superfluous;
  {
    std::unique_lock lock(mutex_);
    if (by_id_.size() - free_ids_.size() >= limits_.sessions) return EUSERS;
    int error = 0;
    Domain* domain = domain_of(connection.peer, error, superfluous);
    if (domain == nullptr) return error;
    Region region;
    if (!take_spare(*domain, region)) {
      error = region.make("libservices-session", kSessionRegionBytes);
      if (error != 0) return error;
    }
    if (free_ids_.empty()) {
      free_ids_.push_back(static_cast<std::uint32_t>(by_id_.size()));
      by_id_.emplace_back();
    }
    const std::uint32_t id = free_ids_.back();
    free_ids_.pop_back();
    session = std::make_shared<ServerSession>(id, random_(), connection.peer, std::move(region));
    session->domain_ = domain;
    ++domain->sessions;
    by_id_[id] = session;
  }
  connection.session = session;
  ++opened_;
  return hooks_.welcome ? hooks_.welcome(*session, reply) : 0;
}

// What a new session needs beside its welcome: a thread awake for its first request, and notice of
// its process's end.
void SessionListener::follow(Connection& connection, std::uint32_t cpu) {
  Domain& domain = *static_cast<Domain*>(connection.session->domain_);
  const auto groups = static_cast<std::uint32_t>(domain.drivers.size());
  domain.drivers[domain.queues().group(cpu, groups)]->wake();
  // The pid is the peer's unless it died meanwhile, and then the socket is at its end too.
  connection.process = static_cast<int>(::syscall(SYS_pidfd_open, connection.peer.pid, 0));
  if (connection.process < 0) return;
  const int socket = connection.socket;
  watch(connection.process, [this, socket] { ended_.push_back(socket); });
}

void SessionListener::end(Connection& connection) {
  watched_.erase(connection.socket);
  if (connection.process >= 0) watched_.erase(connection.process);
  const std::shared_ptr<ServerSession> session = std::move(connection.session);
  if (session == nullptr) return;
  Domain& domain = *static_cast<Domain*>(session->domain_);  // it stays while it has sessions
  for (const auto& driver : domain.drivers) driver->forget(*session);
  {
    std::unique_lock lock(mutex_);
    by_id_[session->id()] = nullptr;
    free_ids_.push_back(session->id());
    --domain.sessions;
  }
  if (hooks_.closed) hooks_.closed(*session);
  std::unique_lock lock(mutex_);
  // Nobody runs a request of it any more: the next process finds its memory in place. The bytes
  // stay in the trust domain.
  if (session.use_count() == 1 && connection.process >= 0) {
    // use_count() orders nothing. Giving up one more reference does: what the threads that had one
    // did with the session comes before what follows.
    std::shared_ptr<ServerSession>(session).reset();
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.process, nullptr);
    domain.spare.emplace_back(std::move(session->region_), std::exchange(connection.process, -1));
    if (domain.spare.size() > kMostSpareRegions) domain.spare.pop_front();
  }
}

bool SessionListener::take_spare(Domain& domain, Region& region) {
  for (auto spare = domain.spare.begin(); spare != domain.spare.end(); ++spare) {
    pollfd process{spare->process, POLLIN, 0};
    if (::poll(&process, 1, 0) <= 0) continue;  // it lives, or is about to end
    region = std::move(spare->region);
    domain.spare.erase(spare);
    for (std::uint32_t i = 0; i < kBuffersInSession; ++i) {
      RequestBuffer& buffer = *buffer_at(region.address(), i);
      if (buffer.state.load() == 0 && buffer.watched.load() == 0 && buffer.sleeping.load() == 0) {
        continue;  // writing would give memory to a page that has none
      }
      buffer.state.store(0);
      buffer.sleeping.store(0);
      buffer.watched.store(0);
    }
    return true;
  }
  return false;
}

std::shared_ptr<ServerSession> SessionListener::find(std::uint32_t session, const Domain& domain) {
  std::shared_lock lock(mutex_);
  if (session >= by_id_.size() || by_id_[session] == nullptr) return nullptr;
  // A doorbell in the queue of another trust domain names nothing.
  if (by_id_[session]->domain_ != &domain) return nullptr;
  return by_id_[session];
}

void SessionListener::finish() {
  std::vector<BackDriver*> drivers;
  {
    std::shared_lock lock(mutex_);
    for (auto& [peer, domain] : domains_) {
      for (const auto& driver : domain.drivers) drivers.push_back(driver.get());
    }
  }
  for (BackDriver* driver : drivers) driver->stop();
  for (auto& [socket, connection] : connections_) end(*connection);
  connections_.clear();
  if (lock_ >= 0) (void)::unlink((directory_ + "/socket").c_str());
}

SessionListener::Counts SessionListener::counts() const {
  std::shared_lock lock(mutex_);
  Counts counts;
  counts.sessions = by_id_.size() - free_ids_.size();
  counts.refused = refused_.load();
  counts.opened = opened_;
  for (const auto& [peer, domain] : domains_) {
    counts.queues += domain.drivers.size();
    for (const auto& driver : domain.drivers) {
      counts.threads += driver->threads();
      counts.refused += driver->refused();
    }
  }
  return counts;
}

std::vector<std::shared_ptr<ServerSession>> SessionListener::sessions() const {
  std::shared_lock lock(mutex_);
  std::vector<std::shared_ptr<ServerSession>> all;
  for (const auto& session : by_id_) {
    if (session != nullptr) all.push_back(session);
  }
  return all;
}

}  // namespace libservices::ipc
