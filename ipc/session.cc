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
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

namespace libservices::ipc {
namespace {

constexpr std::size_t kMostSpareRegions = 8;
constexpr int kEventsAtOnce = 64;
constexpr long kLongNanoseconds = 10'000'000;  // for a hook

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

std::chrono::milliseconds time_until(std::chrono::steady_clock::time_point end) {
  const auto left = end - std::chrono::steady_clock::now();
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
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
  bool in_hook = false;    // another thread's: nothing else is done with it meanwhile
  bool unwatched = false;  // something came meanwhile
  bool ends = false;       // its process has ended meanwhile
};

// A thread that serves. `loop_mutex_` is held but where it waits.
struct SessionListener::Loop {
  std::uint64_t number;
  std::unique_lock<std::mutex> lock;
};

// Outside of the lock, for as long as a hook takes.
class SessionListener::Away {
 public:
  Away(SessionListener& listener, Loop& loop) : listener_(listener), loop_(loop) {
    if (listener_.loop_ == loop_.number) {
      listener_.away_ = true;
      set_timer(kLongNanoseconds);
    }
    loop_.lock.unlock();
  }
  ~Away() {
    loop_.lock.lock();
    if (listener_.loop_ != loop_.number) return;  // replaced
    listener_.away_ = false;
    set_timer(0);
  }
  Away(const Away&) = delete;
  Away& operator=(const Away&) = delete;

 private:
  void set_timer(long nanoseconds) const {
    const itimerspec time{{}, {0, nanoseconds}};
    (void)::timerfd_settime(listener_.timer_, 0, &time, nullptr);
  }

  SessionListener& listener_;
  Loop& loop_;
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
  for (const int descriptor : {socket_, epoll_, stop_event_, timer_, lock_}) {
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
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (epoll_ < 0 || stop_event_ < 0 || timer_ < 0) {
    return failure(errno, "epoll", "raise the limit of open files (ulimit -n)");
  }
  watch(socket_, [this](Loop& loop) { accept_all(loop); });
  watch(stop_event_, [](Loop&) {});
  return absl::OkStatus();
}

void SessionListener::watch(int descriptor, Ready ready) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = descriptor;
  watched_[descriptor] = std::move(ready);
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
}

// A thread that serves in the place of the one that did. False: there is none to be had.
// REQUIRES: loop_mutex_.
bool SessionListener::begin_loop() {
  const std::uint64_t number = loop_ + 1;
  ++loops_;
  try {
    std::thread([this, number] {
      Loop loop{number, std::unique_lock(loop_mutex_)};
      serve(loop);
      --loops_;
      loop_ended_.notify_all();
    }).detach();
  } catch (const std::system_error&) {
    --loops_;
    return false;
  }
  loop_ = number;
  away_ = false;
  return true;
}

void SessionListener::run() {
  {
    std::unique_lock lock(loop_mutex_);
    if (!begin_loop()) {  // without another thread, then
      Loop loop{++loop_, std::move(lock)};
      serve(loop);
      return;
    }
  }
  pollfd events[] = {{stop_event_, POLLIN, 0}, {timer_, POLLIN, 0}};
  while (events[0].revents == 0) {
    if (::poll(events, std::size(events), -1) > 0 && events[1].revents != 0) replace_loop();
  }
  // Who serves ends now, unless a hook keeps it.
  (void)wait_for_loops(std::chrono::steady_clock::now() + std::chrono::seconds(1));
}

// A hook takes long.
void SessionListener::replace_loop() {
  std::lock_guard lock(loop_mutex_);
  std::uint64_t times = 0;
  if (::read(timer_, &times, sizeof times) < 0 || !away_) return;
  if (begin_loop()) return;
  const itimerspec again{{}, {0, kLongNanoseconds}};
  (void)::timerfd_settime(timer_, 0, &again, nullptr);
}

bool SessionListener::wait_for_loops(std::chrono::steady_clock::time_point end) {
  std::unique_lock lock(loop_mutex_);
  const auto ended = [this] { return loops_ == 0; };
  if (end != std::chrono::steady_clock::time_point::max()) {
    return loop_ended_.wait_until(lock, end, ended);
  }
  loop_ended_.wait(lock, ended);
  return true;
}

void SessionListener::serve(Loop& loop) {
  std::array<epoll_event, kEventsAtOnce> events;
  while (loop_ == loop.number) {
    loop.lock.unlock();
    const int count = ::epoll_wait(epoll_, events.data(), kEventsAtOnce, -1);
    loop.lock.lock();
    // One that was replaced leaves the rest to the other, which is told of it as well.
    for (int i = 0; i < count && loop_ == loop.number; ++i) {
      const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
      if (descriptor == stop_event_) return;
      if (const auto found = watched_.find(descriptor); found != watched_.end()) {
        const Ready ready = found->second;  // it may make new entries
        ready(loop);
      }
    }
    end_all(loop);
  }
}

void SessionListener::end_all(Loop& loop) {
  while (!ended_.empty()) {
    const int socket = ended_.back();
    ended_.pop_back();
    const auto found = connections_.find(socket);
    if (found == connections_.end()) continue;  // told twice
    Connection& connection = *found->second;
    if (connection.in_hook) {
      connection.ends = true;
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.process, nullptr);
      continue;
    }
    const std::unique_ptr<Connection> ended = std::move(found->second);
    connections_.erase(found);
    end(loop, *ended);
  }
}

void SessionListener::stop() {
  const std::uint64_t one = 1;
  (void)!::write(stop_event_, &one, sizeof one);
}

void SessionListener::accept_all(Loop& loop) {
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
    watch(socket, [this, raw](Loop& by) { ready(by, *raw); });
    ready(loop, *raw);  // the Hello is usually there already
  }
}

// A message of a session. False: it is none.
bool SessionListener::answer(Loop& loop, Connection& connection, std::span<const std::byte> bytes,
                             std::span<const int> descriptors) {
  Message reply;
  bool keep = false;
  connection.in_hook = true;
  {
    const Away away(*this, loop);
    keep = hooks_.message != nullptr &&
           hooks_.message(*connection.session, bytes, descriptors, reply);
    if (keep) send(connection.socket, nullptr, reply);
    close_descriptors(reply);
  }
  connection.in_hook = false;
  if (std::exchange(connection.unwatched, false)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = connection.socket;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.socket, &event);
  }
  if (connection.ends) ended_.push_back(connection.socket);
  return keep;
}

void SessionListener::ready(Loop& loop, Connection& connection) {
  if (connection.in_hook) {
    connection.unwatched = true;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.socket, nullptr);
    return;
  }
  std::array<std::byte, 4096> bytes;
  std::array<int, kMostDescriptors> descriptors;
  for (;;) {
    unsigned count = kMostDescriptors;
    const long size = receive_message(connection.socket, bytes.data(), bytes.size(),
                                      descriptors.data(), count, MSG_DONTWAIT);
    if (size == -EAGAIN) return;
    bool keep = size > 0;
    if (keep && connection.session != nullptr) {
      keep = answer(loop, connection, std::span(bytes).first(static_cast<std::size_t>(size)),
                    std::span(descriptors).first(count));
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
    for (const auto& driver : domain->drivers) driver->mend();
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
  watch(connection.process, [this, socket](Loop&) { ended_.push_back(socket); });
}

void SessionListener::end(Loop& loop, Connection& connection) {
  watched_.erase(connection.socket);
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.socket, nullptr);
  if (connection.process >= 0) {
    watched_.erase(connection.process);
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.process, nullptr);
  }
  const std::shared_ptr<ServerSession> session = std::move(connection.session);
  if (session == nullptr) return;
  Domain& domain = *static_cast<Domain*>(session->domain_);  // it stays while it has sessions
  for (const auto& driver : domain.drivers) driver->forget(*session);
  {
    std::unique_lock lock(mutex_);
    by_id_[session->id()] = nullptr;
    free_ids_.push_back(session->id());
  }
  if (hooks_.closed) {
    const Away away(*this, loop);
    hooks_.closed(*session);
  }
  std::unique_lock lock(mutex_);
  --domain.sessions;  // the domain stays until here
  // Nobody runs a request of it any more: the next process finds its memory in place. The bytes
  // stay in the trust domain.
  if (session.use_count() == 1 && connection.process >= 0) {
    // use_count() orders nothing. Giving up one more reference does: what the threads that had one
    // did with the session comes before what follows.
    std::shared_ptr<ServerSession>(session).reset();
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
      if (buffer.state.load() == 0 && buffer.watched.load() == 0 && buffer.sleeping.load() == 0 &&
          buffer.held.load() == 0) {
        continue;  // writing would give memory to a page that has none
      }
      buffer.held.store(0);
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

bool SessionListener::finish(std::chrono::milliseconds most) {
  const auto end = most == Patience::kForEver ? std::chrono::steady_clock::time_point::max()
                                              : std::chrono::steady_clock::now() + most;
  std::vector<BackDriver*> drivers;
  {
    std::shared_lock lock(mutex_);
    for (auto& [peer, domain] : domains_) {
      for (const auto& driver : domain.drivers) drivers.push_back(driver.get());
    }
  }
  bool ended = wait_for_loops(end);
  for (BackDriver* driver : drivers) {
    ended = driver->stop(most == Patience::kForEver ? most : time_until(end)) && ended;
  }
  if (lock_ >= 0) (void)::unlink((directory_ + "/socket").c_str());
  if (!ended) return false;
  Loop loop{0, std::unique_lock(loop_mutex_)};
  for (const auto& [socket, connection] : connections_) ended_.push_back(socket);
  end_all(loop);
  return true;
}

SessionListener::Counts SessionListener::counts() const {
  std::shared_lock lock(mutex_);
  Counts counts;
  counts.refused = refused_.load();
  counts.opened = opened_;
  for (const auto& [peer, domain] : domains_) {
    counts.sessions += domain.sessions;  // until they have ended altogether
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
