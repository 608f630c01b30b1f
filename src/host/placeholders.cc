// SPDX-License-Identifier: Apache-2.0
#include "src/host/placeholders.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "src/host/error_status.h"
#include "src/host/object_files.h"

namespace libservices::host {
namespace {

// Made ahead, by Kind: what eight sessions are given at their start.
constexpr std::size_t kAhead[] = {8 * protocol::kFirstStock, 2};

std::size_t index_of(Placeholders::Kind kind) { return static_cast<std::size_t>(kind); }

}  // namespace

absl::Status Placeholders::start() {
  if (::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
    return error_status(errno, fmt::format("{}: cannot make the directory: {} (check who "
                                           "may write there)",
                                           directory_, std::strerror(errno)));
  }
  directory_descriptor_ = open_confined(directory_);
  struct stat status {};
  if (!directory_descriptor_.ok() || ::fstat(directory_descriptor_.get(), &status) != 0) {
    return error_status(
        errno, fmt::format("{}: cannot open it: {} (remove it)", directory_, std::strerror(errno)));
  }
  device_ = status.st_dev;
  inotify_ = Descriptor(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_.ok()) {
    return error_status(
        errno, fmt::format("inotify: no instance for the placeholders: {} (raise the sysctl "
                           "fs.inotify.max_user_instances, or run fewer services as this user)",
                           std::strerror(errno)));
  }
  // One to begin with, so that what is missing (watches, rights, inodes) is told at the start.
  Result<Given> first = make(Kind::kFile);
  if (!first.ok()) {
    const int error = first.error().value;
    return error_status(
        error, fmt::format(
                   "{}: cannot make a placeholder there: {} ({})", directory_, std::strerror(error),
                   error == ENOSPC ? "raise the sysctl fs.inotify.max_user_watches, or make room"
                                   : "use a run directory on tmpfs or ext4"));
  }
  {
    std::lock_guard lock(mutex_);
    ready_[index_of(Kind::kFile)].push_back(*std::move(first));
  }
  refill();
  return absl::OkStatus();
}

protocol::Placeholder Placeholders::new_record(Kind kind) {
  std::lock_guard lock(mutex_);
  protocol::Placeholder id;
  do {
    id = next_++;
  } while (id == protocol::kNone || records_.contains(id));
  records_[id].kind = kind;
  return id;
}

Result<Placeholders::Given> Placeholders::make(Kind kind) {
  const protocol::Placeholder id = new_record(kind);
  const std::string name = fmt::format("p{}", id);
  Result<Given> made = make_named(name.c_str(), kind);
  std::lock_guard lock(mutex_);
  if (!made.ok()) {
    records_.erase(id);
    return made;
  }
  // From here on the inode may go at any time, and `collect` finds the record by the watch.
  Record& record = records_[id];
  record.inode = made->entry.inode;
  record.watch = static_cast<int>(made->entry.id);
  made->entry.id = id;
  by_inode_[record.inode] = id;
  by_watch_[record.watch] = id;
  return made;
}

// `entry.id` of the answer is the watch.
Result<Placeholders::Given> Placeholders::make_named(const char* name, Kind kind) {
  const int directory = directory_descriptor_.get();
  const bool is_directory = kind == Kind::kDirectory;
  const int remove_flag = is_directory ? AT_REMOVEDIR : 0;
  (void)::unlinkat(directory, name, remove_flag);  // what a killed service has left
  if (is_directory) {
    // A caller with any identity may make it its working directory, and find nothing in it.
    if (::mkdirat(directory, name, 0711) != 0) return last_errno();
  } else if (::mknodat(directory, name, S_IFSOCK | 0600, 0) != 0) {
    return last_errno();
  }
  Given made;
  made.descriptor = Descriptor(::openat(
      directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0)));
  struct stat status {};
  int watch = -1;
  int error = 0;
  const std::string path = directory_ + '/' + name;
  if (!made.descriptor.ok() || ::fstat(made.descriptor.get(), &status) != 0 ||
      (watch = ::inotify_add_watch(inotify_.get(), path.c_str(), IN_DELETE_SELF | IN_DONT_FOLLOW)) <
          0) {
    error = errno;
  }
  if (::unlinkat(directory, name, remove_flag) != 0 && error == 0) error = errno;
  if (error != 0) return Errno{error};
  made.entry.id = static_cast<protocol::Placeholder>(watch);
  made.entry.is_directory = is_directory ? 1 : 0;
  made.entry.inode = status.st_ino;
  return made;
}

Result<void> Placeholders::adopt(int descriptor, std::uint64_t inode,
                                 const ServiceOpenFilePtr& file) {
  const protocol::Placeholder id = new_record(Kind::kFile);
  const std::string path = fmt::format("/proc/self/fd/{}", descriptor);
  const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), IN_DELETE_SELF);
  const int error = errno;
  std::lock_guard lock(mutex_);
  if (watch < 0) {
    records_.erase(id);
    return Errno{error};
  }
  // No session may bind it: its descriptors are wherever they were.
  records_[id] = {.inode = inode, .watch = watch, .kind = Kind::kFile, .session = 0, .file = file};
  by_inode_[inode] = id;
  by_watch_[watch] = id;
  file->placeholder.store(id, std::memory_order_relaxed);
  ++bound_;
  return {};
}

// REQUIRES: mutex_ held.
Placeholders::Given Placeholders::assign(Given made, Session session) {
  records_[made.entry.id].session = session;
  ++alive_[session];
  return made;
}

Result<Placeholders::Given> Placeholders::give(Kind kind, Session session, std::size_t most) {
  {
    std::lock_guard lock(mutex_);
    if (const auto alive = alive_.find(session); alive != alive_.end() && alive->second >= most) {
      return Errno{EMFILE};
    }
    auto& ready = ready_[index_of(kind)];
    if (!ready.empty()) {
      Given given = std::move(ready.back());
      ready.pop_back();
      return assign(std::move(given), session);
    }
  }
  LIBSERVICES_TRY(Given made, make(kind));
  std::lock_guard lock(mutex_);
  return assign(std::move(made), session);
}

void Placeholders::end_session(Session session) {
  std::lock_guard lock(mutex_);
  alive_.erase(session);
}

void Placeholders::refill() {
  for (const Kind kind : {Kind::kFile, Kind::kDirectory}) {
    for (std::size_t i = 0; i < kAhead[index_of(kind)]; ++i) {
      {
        std::lock_guard lock(mutex_);
        if (ready_[index_of(kind)].size() >= kAhead[index_of(kind)]) break;
      }
      Result<Given> made = make(kind);
      if (!made.ok()) break;  // `give` will say why
      std::lock_guard lock(mutex_);
      ready_[index_of(kind)].push_back(*std::move(made));
    }
  }
}

const Placeholders::Record* Placeholders::record_of(protocol::Placeholder placeholder,
                                                    Session session, Kind kind) const {
  const auto found = records_.find(placeholder);
  if (found == records_.end() || found->second.session != session || found->second.kind != kind) {
    return nullptr;
  }
  return &found->second;
}

Result<void> Placeholders::can_bind(protocol::Placeholder placeholder, Session session,
                                    Kind kind) const {
  std::lock_guard lock(mutex_);
  const Record* record = record_of(placeholder, session, kind);
  if (record == nullptr) return Errno{EBADF};
  if (record->file != nullptr) return Errno{EBUSY};
  return {};
}

Result<std::uint64_t> Placeholders::bind(protocol::Placeholder placeholder, Session session,
                                         Kind kind, const ServiceOpenFilePtr& file) {
  std::lock_guard lock(mutex_);
  const Record* record = record_of(placeholder, session, kind);
  if (record == nullptr) return Errno{EBADF};
  if (record->file != nullptr) return Errno{EBUSY};
  const_cast<Record*>(record)->file = file;
  file->placeholder.store(placeholder, std::memory_order_relaxed);
  ++bound_;
  return record->inode;
}

void Placeholders::unbind(protocol::Placeholder placeholder, const ServiceOpenFile& file) {
  ServiceOpenFilePtr released;  // behind the lock
  std::lock_guard lock(mutex_);
  const auto found = records_.find(placeholder);
  if (found == records_.end() || found->second.file.get() != &file) return;
  --bound_;
  released.swap(found->second.file);
  released->placeholder.store(protocol::kNone, std::memory_order_relaxed);
}

ServiceOpenFilePtr Placeholders::find(std::uint64_t device, std::uint64_t inode) const {
  if (device != device_) return nullptr;
  std::lock_guard lock(mutex_);
  const auto known = by_inode_.find(inode);
  if (known == by_inode_.end()) return nullptr;
  const auto found = records_.find(known->second);
  return found == records_.end() ? nullptr : found->second.file;
}

// REQUIRES: mutex_ held.
void Placeholders::gone(int watch, std::vector<ServiceOpenFilePtr>& files) {
  const auto known = by_watch_.find(watch);
  if (known == by_watch_.end()) return;  // the second of the two events of one inode
  const protocol::Placeholder id = known->second;
  by_watch_.erase(known);
  const auto found = records_.find(id);
  Record& record = found->second;
  // The number of the inode may have been given to a new one already.
  if (const auto same = by_inode_.find(record.inode);
      same != by_inode_.end() && same->second == id) {
    by_inode_.erase(same);
  }
  if (record.file != nullptr) {
    --bound_;
    record.file->placeholder.store(protocol::kNone, std::memory_order_relaxed);
    files.push_back(std::move(record.file));
  }
  if (const auto alive = alive_.find(record.session); alive != alive_.end()) --alive->second;
  records_.erase(found);
}

std::vector<ServiceOpenFilePtr> Placeholders::collect() {
  std::vector<ServiceOpenFilePtr> files;
  alignas(inotify_event) char buffer[8192];
  for (;;) {
    const ssize_t bytes = ::read(inotify_.get(), buffer, sizeof buffer);
    if (bytes <= 0) return files;
    bool lost = false;
    {
      std::lock_guard lock(mutex_);
      for (ssize_t at = 0; at < bytes;) {
        inotify_event event;
        std::memcpy(&event, buffer + at, sizeof event);
        at += static_cast<ssize_t>(sizeof event + event.len);
        if ((event.mask & IN_Q_OVERFLOW) != 0) lost = true;
        if ((event.mask & (IN_DELETE_SELF | IN_IGNORED)) != 0) gone(event.wd, files);
      }
    }
    if (lost) collect_after_overflow(files);
  }
}

// Events were dropped: the kernel's own list of what is still watched tells.
// SOURCE: proc(5), /proc/PID/fdinfo of an inotify descriptor: "inotify wd:HEX ino:HEX …".
void Placeholders::collect_after_overflow(std::vector<ServiceOpenFilePtr>& files) {
  std::vector<int> before;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [watch, id] : by_watch_) before.push_back(watch);
  }
  std::vector<int> alive;
  std::ifstream list(fmt::format("/proc/self/fdinfo/{}", inotify_.get()));
  for (std::string line; std::getline(list, line);) {
    constexpr std::string_view kStart = "inotify wd:";
    if (!line.starts_with(kStart)) continue;
    alive.push_back(static_cast<int>(std::strtol(line.c_str() + kStart.size(), nullptr, 16)));
  }
  if (!list.eof()) return;
  std::sort(alive.begin(), alive.end());
  std::lock_guard lock(mutex_);
  for (const int watch : before) {
    if (!std::binary_search(alive.begin(), alive.end(), watch)) gone(watch, files);
  }
}

void Placeholders::release_all() {
  std::vector<ServiceOpenFilePtr> files;  // closed behind the lock
  std::lock_guard lock(mutex_);
  for (auto& [id, record] : records_) {
    if (record.file != nullptr) files.push_back(std::move(record.file));
    record.file = nullptr;
  }
  bound_ = 0;
}

std::size_t Placeholders::given() const {
  std::lock_guard lock(mutex_);
  return records_.size() - std::min(records_.size(), ready_[0].size() + ready_[1].size());
}

std::size_t Placeholders::bound() const {
  std::lock_guard lock(mutex_);
  return bound_;
}

}  // namespace libservices::host
