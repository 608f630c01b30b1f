// SPDX-License-Identifier: Apache-2.0
#include "src/host/sessions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/host/error_status.h"

namespace libservices::host {
namespace {

bool is_dead(const Descriptor& pidfd) {
  pollfd question{pidfd.get(), POLLIN, 0};
  return ::poll(&question, 1, 0) == 1;
}

}  // namespace

absl::Status Sessions::start(std::uint64_t mount_table) {
  mount_table_ = mount_table;
  epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (epoll_.ok()) return absl::OkStatus();
  return error_status(errno, fmt::format("sessions: no epoll: {} (raise the limit of open files)",
                                         std::strerror(errno)));
}

// Storage that has locks, too, may take its time: nobody waits for it.
void Sessions::forget(std::uint64_t process) {
  for (const Instance& instance : filesystems_) {
    AnyFilesystem* const filesystem = instance.filesystem.get();
    if (filesystem->counters().locks == 0) continue;
    errands_.run([filesystem, process] { filesystem->forget_process(process); });
  }
}

// REQUIRES: mutex_ held. The caller knows by its socket that the process was alive a moment ago.
Result<std::uint64_t> Sessions::process_number(pid_t pid) {
  auto known = processes_.find(pid);
  if (known != processes_.end()) {
    if (!is_dead(known->second.pidfd)) return known->second.number;
    // The pid has a new owner before the old one's death was collected.
    forget(known->second.number);
    processes_.erase(known);
  }
  Descriptor pidfd = open_pidfd(pid);
  if (!pidfd.ok()) return last_errno();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<std::uint64_t>(pid);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pidfd.get(), &event) != 0) return last_errno();
  Process process;
  process.number =
      (std::uint64_t{next_process_++} << 32) | (static_cast<std::uint64_t>(pid) & kPidMask);
  process.pidfd = std::move(pidfd);
  const std::uint64_t number = process.number;
  processes_.emplace(pid, std::move(process));
  return number;
}

Result<std::shared_ptr<ClientSession>> Sessions::open(const Peer& peer) {
  std::lock_guard lock(mutex_);
  if (sessions_.size() >= limits_.sessions) return Errno{EUSERS};
  auto caller = std::make_shared<Caller>();
  caller->uid = peer.uid;
  caller->gid = peer.gid;
  caller->groups = peer.groups;
  LIBSERVICES_TRY(caller->process, process_number(peer.pid));
  const Placeholders::Session id = next_session_++;
  auto session = std::make_shared<ClientSession>(id, std::move(caller), limits_.open_files,
                                                 static_cast<std::uint32_t>(random_()));
  sessions_.emplace(id, session);
  return session;
}

void Sessions::close(const std::shared_ptr<ClientSession>& session) {
  {
    std::lock_guard lock(mutex_);
    sessions_.erase(session->id);
  }
  // Files that have a placeholder somewhere live on; the record locks live as the process does.
  session->handles->remove_all();
  placeholders_.end_session(session->id);
}

Errno Sessions::give_stock(const ClientSession& session, Placeholders::Kind kind, std::size_t count,
                           protocol::StockEntry* stock, std::uint32_t& given,
                           std::vector<Descriptor>& descriptors) {
  for (std::size_t i = 0; i < count; ++i) {
    Result<Placeholders::Given> one = placeholders_.give(kind, session.id, limits_.placeholders);
    if (!one.ok()) return one.error();
    stock[given++] = one->entry;
    descriptors.push_back(std::move(one->descriptor));
  }
  return Errno{0};
}

protocol::Welcome Sessions::welcome(const ClientSession& session,
                                    std::vector<Descriptor>& descriptors) {
  protocol::Welcome welcome;
  welcome.placeholder_device = placeholders_.device();
  welcome.mount_table = mount_table_;
  (void)give_stock(session, Placeholders::Kind::kFile, protocol::kFirstStock, welcome.stock,
                   welcome.stock_count, descriptors);
  return welcome;
}

// The open file that a dead service kept of a placeholder, as it was: its object, flags and offset.
// ERRORS: EBADF when none was kept; EIO when it cannot be had, or had locks, which are gone, or
// changes that nobody can say are there.
Result<ServiceOpenFilePtr> Sessions::open_again(const ClientSession& session, int placeholder,
                                                std::uint64_t inode) {
  std::optional<KeptFiles::Lost> lost = kept_files_.claim(inode);
  if (!lost) return Errno{EBADF};
  if (lost->had_locks || lost->lost_changes) return Errno{EIO};
  const auto instance =
      std::find_if(filesystems_.begin(), filesystems_.end(),
                   [&](const Instance& each) { return each.path == lost->mount; });
  if (instance == filesystems_.end()) return Errno{EIO};
  AnyFilesystem& filesystem = *instance->filesystem;
  // Who had it open may go on, whatever its mode is now: the placeholder has proved the right.
  const Context context;
  const OpenFlags flags{lost->flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW)};
  Result<OpenFilePtr> opened = filesystem.open(context, Location(lost->path), flags, 0);
  if (!opened.ok()) return Errno{EIO};
  const auto fail = [&] {
    (void)filesystem.close(context, *std::move(opened));
    return Errno{EIO};
  };
  const Result<Attributes> attributes = filesystem.stat(context, Location(**opened));
  if (!attributes.ok() || attributes->inode != lost->object || attributes->btime != lost->born ||
      (attributes->mode & S_IFMT) != (lost->mode & S_IFMT)) {
    return fail();
  }
  const bool listing = attributes->is_directory() && lost->offset != 0;
  if (!attributes->is_directory() && lost->offset != 0 &&
      !filesystem.lseek(context, **opened, static_cast<std::int64_t>(lost->offset), SEEK_SET)
           .ok()) {
    return fail();
  }
  const auto file = std::make_shared<ServiceOpenFile>(
      filesystem, static_cast<std::uint32_t>(instance - filesystems_.begin()), *std::move(opened),
      attributes->mode, session.caller);
  file->last_move = {lost->before, lost->offset, lost->number};
  file->lost_its_place.store(listing);
  file->keep(std::move(lost->entry));
  LIBSERVICES_CHECK_OK(placeholders_.adopt(placeholder, inode, file));
  return file;
}

void Sessions::adopt(ClientSession& session, std::span<const int> received,
                     protocol::SocketAnswer& answer) {
  for (const int descriptor :
       received.first(std::min<std::size_t>(received.size(), protocol::kMostAdopted))) {
    protocol::Adopted& adopted = answer.adopted[answer.count++];
    adopted = {};
    struct stat status {};
    adopted.error = EBADF;
    if (::fstat(descriptor, &status) != 0 || status.st_dev != placeholders_.device()) continue;
    ServiceOpenFilePtr file = placeholders_.find(status.st_dev, status.st_ino);
    if (file == nullptr) {
      Result<ServiceOpenFilePtr> again = open_again(session, descriptor, status.st_ino);
      if (!again.ok()) {
        adopted.error = again.error().value;
        continue;
      }
      file = *std::move(again);
    }
    const Result<protocol::Handle> handle = session.handles->add(file);
    if (!handle.ok()) {
      answer.error = handle.error().value;
      continue;
    }
    adopted.handle = *handle;
    adopted.error = 0;
    adopted.instance = file->instance();
    adopted.flags = reported_flags(file->file().flags());
    adopted.mode = file->mode();
  }
}

// Empty when the answer is no descriptor.
Result<Descriptor> Sessions::find_object(ClientSession& session,
                                         const protocol::ObjectRequest& request,
                                         std::span<const int> received) {
  using Type = protocol::SocketRequestType;
  const bool binds = request.type == Type::kBindSocket;
  const ServiceOpenFilePtr file =
      binds ? session.handles->remove(request.handle) : session.handles->find(request.handle);
  if (file == nullptr) return Errno{ESTALE};
  const std::string_view mount = filesystems_[file->instance()].path;
  const Context context = session.caller->context();
  if (request.type == Type::kFindSocket) return objects_.find_socket(context, mount, *file);
  if (request.type == Type::kFindFifo) {
    return objects_.find_fifo(context, mount, *file, static_cast<int>(request.mode));
  }
  if (request.type == Type::kWatch) return watches_.watch(context, *file);
  // What somebody else has made, and perhaps bound once, is not to be had.
  if (!file->is_new_socket || received.size() != 1) return Errno{EINVAL};
  LIBSERVICES_CHECK_OK(
      objects_.bind(context, mount, *file, received[0], {request.address, request.address_bytes}));
  return Descriptor();
}

bool Sessions::message(ClientSession& session, std::span<const std::byte> bytes,
                       std::span<const int> received, protocol::SocketAnswer& answer,
                       std::vector<Descriptor>& descriptors) {
  if (protocol::ObjectRequest request; bytes.size() == sizeof request) {
    std::memcpy(static_cast<void*>(&request), bytes.data(), sizeof request);
    using Type = protocol::SocketRequestType;
    if (request.type < Type::kBindSocket || request.type > Type::kWatch ||
        (request.mode & ~std::uint32_t{R_OK | W_OK}) != 0 ||
        request.address_bytes > sizeof request.address) {
      return false;
    }
    Result<Descriptor> found = find_object(session, request, received);
    if (!found.ok()) {
      answer.error = found.error().value;
    } else if (found->ok()) {
      descriptors.push_back(*std::move(found));
    }
    return true;
  }
  protocol::SocketRequest request;
  if (bytes.size() != sizeof request) return false;
  std::memcpy(static_cast<void*>(&request), bytes.data(), sizeof request);
  switch (request.type) {
    case protocol::SocketRequestType::kStock: {
      if (request.is_directory > 1) return false;
      const auto kind =
          request.is_directory != 0 ? Placeholders::Kind::kDirectory : Placeholders::Kind::kFile;
      const std::size_t count = std::min<std::size_t>(request.count, protocol::kStockRefill);
      const Errno error = give_stock(session, kind, count, answer.stock, answer.count, descriptors);
      if (answer.count == 0) answer.error = error.value;
      return true;
    }
    case protocol::SocketRequestType::kAdopt:
      adopt(session, received, answer);
      return true;
    case protocol::SocketRequestType::kMapped: {
      Descriptor lent = session.lent.take(request.number);
      if (lent.ok()) {
        descriptors.push_back(std::move(lent));
      } else {
        answer.error = EBADF;
      }
      return true;
    }
    default:
      break;
  }
  return false;
}

bool Sessions::collect_dead() {
  bool any = false;
  epoll_event events[16];
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events, std::size(events), 0);
    if (count <= 0) return any;
    for (int i = 0; i < count; ++i) {
      std::uint64_t number = 0;
      {
        std::lock_guard lock(mutex_);
        const auto known = processes_.find(static_cast<pid_t>(events[i].data.u64));
        if (known == processes_.end() || !is_dead(known->second.pidfd)) continue;
        number = known->second.number;
        processes_.erase(known);
      }
      any = true;
      forget(number);
    }
  }
}

std::vector<Sessions::Entry> Sessions::list() const {
  std::vector<Entry> entries;
  std::lock_guard lock(mutex_);
  entries.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) {
    entries.push_back({session, static_cast<pid_t>(session->caller->process & kPidMask)});
  }
  return entries;
}

}  // namespace libservices::host
