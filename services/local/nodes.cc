// SPDX-License-Identifier: Apache-2.0
#include "services/local/nodes.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace libservices::local_internal {
namespace {

constexpr int kFind = O_PATH | O_NOFOLLOW | O_CLOEXEC;
constexpr std::size_t kClocks = 16;
constexpr std::size_t kDeepest = 100'000;  // directories one inside the other

Timestamp time_of(const statx_timestamp& time) { return {time.tv_sec, time.tv_nsec, 0}; }

std::uint16_t flags_of(std::uint64_t attributes) {
  const auto flag = [&](std::uint64_t bit, Attributes::Flag ours) {
    return (attributes & bit) != 0 ? std::uint32_t{ours} : 0U;
  };
  return static_cast<std::uint16_t>(flag(STATX_ATTR_IMMUTABLE, Attributes::kImmutable) |
                                    flag(STATX_ATTR_APPEND, Attributes::kAppendOnly) |
                                    flag(STATX_ATTR_NODUMP, Attributes::kNoDump) |
                                    flag(STATX_ATTR_COMPRESSED, Attributes::kCompressed));
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

ProcPath::ProcPath(int fd) { *fmt::format_to(text.data(), "/proc/self/fd/{}", fd) = '\0'; }

Name::Name(std::string_view name) {
  if (name.size() >= text_.size()) {
    error_ = ENAMETOOLONG;
  } else if (name.empty() || name == "." || name == ".." ||
             name.find('/') != std::string_view::npos ||
             name.find('\0') != std::string_view::npos) {
    error_ = EINVAL;
  } else {
    size_ = name.size();
    std::memcpy(text_.data(), name.data(), size_);
  }
  text_[size_] = '\0';
}

Result<Attributes> attributes_of(int fd, const char* name, std::uint64_t* mount) {
  struct statx seen;
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_AS_STAT |
                    (*name == '\0' ? AT_EMPTY_PATH : 0);
  const unsigned wanted = STATX_BASIC_STATS | STATX_BTIME | (mount != nullptr ? STATX_MNT_ID : 0U);
  if (uninterrupted([&] { return ::statx(fd, name, flags, wanted, &seen); }) != 0) {
    return last_errno();
  }
  if (mount != nullptr) *mount = (seen.stx_mask & STATX_MNT_ID) != 0 ? seen.stx_mnt_id : 0;
  Attributes attributes;
  attributes.device = makedev(seen.stx_dev_major, seen.stx_dev_minor);
  attributes.inode = seen.stx_ino;
  attributes.mode = seen.stx_mode;
  attributes.links = seen.stx_nlink;
  attributes.uid = seen.stx_uid;
  attributes.gid = seen.stx_gid;
  attributes.special_device = makedev(seen.stx_rdev_major, seen.stx_rdev_minor);
  attributes.size = seen.stx_size;
  attributes.blocks = seen.stx_blocks;
  attributes.block_size = seen.stx_blksize;
  attributes.atime = time_of(seen.stx_atime);
  attributes.mtime = time_of(seen.stx_mtime);
  attributes.ctime = time_of(seen.stx_ctime);
  attributes.flags = flags_of(seen.stx_attributes);
  if ((seen.stx_mask & STATX_BTIME) != 0) attributes.btime = time_of(seen.stx_btime);
  return attributes;
}

Record::~Record() {
  nodes_->forget({identity_.device, identity_.inode});
  if (descriptor_ != nullptr) nodes_->open_.fetch_sub(1, std::memory_order_relaxed);
  // Up a deep tree one record after the other, not one inside the other.
  RecordPtr up = std::move(parent_);
  while (up != nullptr && up.use_count() == 1) {
    RecordPtr next;
    {
      std::lock_guard lock(up->mutex_);
      next = std::move(up->parent_);
    }
    up = std::move(next);
  }
}

Nodes::Nodes(std::size_t limit)
    : clocks_(std::clamp<std::size_t>(limit / 8, 1, kClocks)),
      clock_size_(std::max<std::size_t>(1, limit / clocks_.size())) {}

std::size_t Nodes::hash(const Key& key) {
  std::uint64_t mixed = (key.second + key.first * 31U) * 0x9e3779b97f4a7c15U;
  return static_cast<std::size_t>(mixed >> 40U);
}

void Nodes::use_handles(int root, std::uint64_t device) {
  alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> space{};
  auto* const handle = reinterpret_cast<file_handle*>(space.data());
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  if (::name_to_handle_at(root, "", handle, &mount, AT_EMPTY_PATH) != 0) return;
  const Descriptor tried(::open_by_handle_at(root, handle, O_PATH | O_CLOEXEC));
  if (tried.fd() < 0) return;
  handle_device_ = device;
  handle_root_ = root;
}

void Nodes::forget_handles() { handle_root_ = -1; }

RecordPtr Nodes::find(const Attributes& seen) {
  const Key key{seen.device, seen.inode};
  RecordPtr found;
  Shard& shard = shard_of(key);
  {
    std::lock_guard lock(shard.mutex);
    const auto at = shard.records.find(key);
    if (at != shard.records.end()) found = at->second.lock();
  }
  if (found != nullptr && found->identity_ != ObjectIdentity::of(seen)) found.reset();
  return found;
}

RecordPtr Nodes::find_or_make(const Attributes& seen) {
  const Key key{seen.device, seen.inode};
  const ObjectIdentity identity = ObjectIdentity::of(seen);
  RecordPtr record = find(seen);
  if (record != nullptr) return record;
  auto made = std::make_shared<Record>(shared_from_this(), identity);
  Shard& shard = shard_of(key);
  RecordPtr other;  // released behind the lock, which its destructor takes
  {
    std::lock_guard lock(shard.mutex);
    std::weak_ptr<Record>& slot = shard.records[key];
    other = slot.lock();
    // The host may have given the number to a new object meanwhile.
    if (other == nullptr || other->identity_ != identity) slot = made;
  }
  return other != nullptr && other->identity_ == identity ? other : made;
}

void Nodes::forget(const Key& key) {
  Shard& shard = shard_of(key);
  std::lock_guard lock(shard.mutex);
  const auto at = shard.records.find(key);
  if (at != shard.records.end() && at->second.expired()) shard.records.erase(at);
}

std::uint64_t Nodes::epoch_of(const RecordPtr& directory) const {
  const Key key{directory->identity_.device, directory->identity_.inode};
  return epochs_[hash(key) % kShards].finished.load();
}

// No change has begun that had not ended at `epoch`.
bool Nodes::unchanged_since(const RecordPtr& directory, std::uint64_t epoch) const {
  const Key key{directory->identity_.device, directory->identity_.inode};
  return epochs_[hash(key) % kShards].started.load() == epoch;
}

Nodes::Epoch& Nodes::epoch_slot(const RecordPtr& directory) {
  return epochs_[hash({directory->identity_.device, directory->identity_.inode}) % kShards];
}

RecordPtr Nodes::intern(const Attributes& seen, const RecordPtr& parent, std::string_view name,
                        std::uint64_t epoch, bool& settled) {
  RecordPtr record = find_or_make(seen);
  RecordPtr old_parent;  // released without the lock
  {
    std::lock_guard lock(record->mutex_);
    if (record->parent_ == nullptr) {
      if (record != parent && !record->nameless_ && record->pins_ == 0) {
        record->parent_ = parent;
        record->name_ = name;
      }
    } else if ((record->parent_ != parent || record->name_ != name) &&
               unchanged_since(parent, epoch)) {
      old_parent = std::exchange(record->parent_, parent);
      record->name_ = name;
    }
  }
  settled = unchanged_since(parent, epoch);
  return record;
}

RecordPtr Nodes::intern_nameless(const Attributes& seen, DescriptorRef descriptor) {
  RecordPtr record = find_or_make(seen);
  keep(record, std::move(descriptor), 1);
  std::lock_guard lock(record->mutex_);
  record->nameless_ = true;
  return record;
}

void Nodes::hold(const RecordPtr& record, DescriptorRef descriptor) {
  keep(record, std::move(descriptor), 1);
}

DescriptorRef Nodes::cached(const RecordPtr& record) {
  std::lock_guard lock(record->mutex_);
  if (record->descriptor_ != nullptr) record->used_.store(true, std::memory_order_relaxed);
  return record->descriptor_;
}

DescriptorRef Nodes::at_hand(const RecordPtr& record) {
  std::lock_guard lock(record->mutex_);
  if (record->descriptor_ == nullptr) return record->in_use_.lock();
  record->used_.store(true, std::memory_order_relaxed);
  return record->descriptor_;
}

void Nodes::in_use(const RecordPtr& record, const DescriptorRef& descriptor) {
  std::lock_guard lock(record->mutex_);
  record->in_use_ = descriptor;
}

void Nodes::no_longer_in_use(const RecordPtr& record, const DescriptorRef& descriptor) {
  std::lock_guard lock(record->mutex_);
  if (record->in_use_.lock() == descriptor) record->in_use_.reset();
}

bool Nodes::last_seen(const RecordPtr& record, RecordPtr& parent, std::string& name) {
  std::lock_guard lock(record->mutex_);
  parent = record->parent_;
  name = record->name_;
  return parent != nullptr;
}

Result<DescriptorRef> Nodes::descriptor(const RecordPtr& record) {
  if (DescriptorRef found = at_hand(record)) return found;
  auto opened = open_again(record);
  if (!opened.ok()) {
    // A rename may have been between the host's change and ours.
    std::unique_lock still(renames_);
    opened = open_by_name(record);
  }
  if (!opened.ok()) {
    // Whoever removed the name meanwhile has kept a descriptor before.
    if (DescriptorRef found = cached(record)) return found;
    return opened.error();
  }
  return keep(record, *std::move(opened), 0);
}

Result<Attributes> Nodes::attributes(const RecordPtr& record) {
  if (const DescriptorRef found = at_hand(record)) return attributes_of(found->fd(), "");
  RecordPtr parent;
  std::string name;
  if (last_seen(record, parent, name)) {
    if (auto above = descriptor(parent); above.ok()) {
      auto seen = attributes_of((*above)->fd(), name.c_str());
      if (seen.ok() && ObjectIdentity::of(*seen) == record->identity_) return seen;
    }
  }
  LIBSERVICES_TRY(const DescriptorRef found, descriptor(record));
  return attributes_of(found->fd(), "");
}

Result<DescriptorRef> Nodes::open_again(const RecordPtr& record) {
  auto opened = open_by_handle(record);
  return opened.ok() ? opened : open_by_name(record);
}

Result<DescriptorRef> Nodes::open_by_handle(const RecordPtr& record) {
  const int root = handle_root_;
  if (root < 0) return Errno{ESTALE};
  std::lock_guard lock(record->mutex_);
  if (record->handle_ == nullptr) return Errno{ESTALE};
  auto opened = std::make_shared<Descriptor>(
      ::open_by_handle_at(root, record->handle_.get(), O_PATH | O_CLOEXEC));
  if (opened->fd() < 0) return Errno{ESTALE};
  auto seen = attributes_of(opened->fd(), "");
  if (!seen.ok() || ObjectIdentity::of(*seen) != record->identity_) return Errno{ESTALE};
  return DescriptorRef(std::move(opened));
}

Result<DescriptorRef> Nodes::open_by_name(const RecordPtr& record) {
  // The nearest directory above that is open, and the way down from it.
  std::vector<std::pair<RecordPtr, std::string>> way;
  DescriptorRef at;
  RecordPtr step = record;
  while (at == nullptr) {
    RecordPtr parent;
    std::string name;
    // Renames by others can make what we saw last run in a circle.
    if (!last_seen(step, parent, name) || way.size() == kDeepest) return Errno{ESTALE};
    way.emplace_back(std::exchange(step, parent), std::move(name));
    at = cached(step);
    if (at == nullptr) {
      if (auto found = open_by_handle(step); found.ok()) at = keep(step, *std::move(found), 0);
    }
  }
  for (auto down = way.rbegin(); down != way.rend(); ++down) {
    auto opened = std::make_shared<Descriptor>(
        uninterrupted([&] { return ::openat(at->fd(), down->second.c_str(), kFind); }));
    if (opened->fd() < 0) {
      return errno == ENOENT || errno == ENOTDIR ? Errno{ESTALE} : last_errno();
    }
    auto seen = attributes_of(opened->fd(), "");
    if (!seen.ok() || ObjectIdentity::of(*seen) != down->first->identity_) return Errno{ESTALE};
    at = std::move(opened);
    if (down->first != record) at = keep(down->first, std::move(at), 0);
  }
  return at;
}

// The descriptor that the record has from now on, which may be another thread's.
DescriptorRef Nodes::keep(const RecordPtr& record, DescriptorRef descriptor, int pins) {
  bool added = false;
  {
    std::lock_guard lock(record->mutex_);
    record->pins_ += pins;
    if (record->descriptor_ == nullptr) {
      record->descriptor_ = std::move(descriptor);
      open_.fetch_add(1, std::memory_order_relaxed);
      added = record->pins_ == 0;
    }
    descriptor = record->descriptor_;
  }
  if (added) enlist(record);
  return descriptor;
}

void Nodes::unpin(const RecordPtr& record) {
  {
    std::lock_guard lock(record->mutex_);
    if (--record->pins_ != 0) return;
  }
  enlist(record);
}

// Puts the record where the clock's hand finds a place: an empty one, or that of a record whose
// descriptor was not used since the hand came by.
void Nodes::enlist(const RecordPtr& record) {
  Clock& clock =
      clocks_[hash({record->identity_.inode, record->identity_.device}) % clocks_.size()];
  RecordPtr victim;
  std::vector<RecordPtr> spared;  // released without the lock
  {
    std::lock_guard lock(clock.mutex);
    if (clock.slots.size() < clock_size_) {
      clock.slots.push_back(record);
      return;
    }
    for (;;) {
      std::weak_ptr<Record>& slot = clock.slots[clock.hand];
      clock.hand = (clock.hand + 1) % clock.slots.size();
      RecordPtr held = slot.lock();
      const bool spare = held != nullptr && held->used_.exchange(false, std::memory_order_relaxed);
      if (spare) {
        spared.push_back(std::move(held));
        continue;
      }
      victim = std::move(held);
      slot = record;
      break;
    }
  }
  if (victim != nullptr && victim != record) evict(victim);
}

void Nodes::evict(const RecordPtr& record) {
  DescriptorRef closed;
  std::lock_guard lock(record->mutex_);
  if (record->pins_ != 0 || record->descriptor_ == nullptr) return;
  if (record->handle_ == nullptr && handle_root_ >= 0 &&
      handle_device_ == record->identity_.device) {
    const std::size_t size = sizeof(file_handle) + MAX_HANDLE_SZ;
    auto* const handle = static_cast<file_handle*>(std::calloc(1, size));
    if (handle != nullptr) {
      handle->handle_bytes = MAX_HANDLE_SZ;
      int mount = 0;
      if (::name_to_handle_at(record->descriptor_->fd(), "", handle, &mount, AT_EMPTY_PATH) == 0) {
        void* const trimmed = std::realloc(handle, sizeof(file_handle) + handle->handle_bytes);
        record->handle_.reset(static_cast<file_handle*>(trimmed != nullptr ? trimmed : handle));
      } else {
        std::free(handle);
      }
    }
  }
  closed = std::exchange(record->descriptor_, nullptr);
  open_.fetch_sub(1, std::memory_order_relaxed);
}

void Nodes::named(const RecordPtr& record, const RecordPtr& parent, std::string_view name) {
  RecordPtr old_parent;
  bool free = false;
  {
    std::lock_guard lock(record->mutex_);
    old_parent = std::exchange(record->parent_, parent);
    record->name_ = name;
    free = std::exchange(record->nameless_, false);
  }
  if (free) unpin(record);
}

Nodes::Change::Change(Nodes& nodes, const RecordPtr& first, std::string_view first_name,
                      const RecordPtr* second, std::string_view second_name)
    : nodes_(nodes), renames_(nodes.renames_, std::defer_lock) {
  auto slot_of = [](const RecordPtr& directory, std::string_view name) {
    const std::size_t text = std::hash<std::string_view>{}(name);
    return hash({text, directory->identity_.inode}) % kShards;
  };
  std::size_t low = slot_of(first, first_name);
  std::size_t high = second != nullptr ? slot_of(*second, second_name) : low;
  if (high < low) std::swap(low, high);
  low_ = std::unique_lock(nodes.name_locks_[low]);
  if (high != low) high_ = std::unique_lock(nodes.name_locks_[high]);
  if (second != nullptr) renames_.lock();
  first_ = &nodes.epoch_slot(first);
  first_->started.fetch_add(1);
  if (second == nullptr) return;
  second_ = &nodes.epoch_slot(*second);
  second_->started.fetch_add(1);
}

Result<void> Nodes::Change::losing(int directory, const Name& name) {
  auto opened = std::make_shared<Descriptor>(::openat(directory, name.c_str(), kFind));
  if (opened->fd() < 0) {  // the change itself will say why there is no such name
    return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? last_errno() : Result<void>();
  }
  auto seen = attributes_of(opened->fd(), "");
  if (!seen.ok()) return {};
  RecordPtr victim = nodes_.find(*seen);
  if (victim == nullptr) return {};
  DescriptorRef held = nodes_.cached(victim);
  if (held == nullptr) held = std::move(opened);
  nodes_.keep(victim, std::move(held), 1);
  victim_ = std::move(victim);
  return {};
}

void Nodes::Change::moved(int directory, const RecordPtr& parent, const Name& name) {
  auto seen = attributes_of(directory, name.c_str());
  if (!seen.ok()) return;
  if (const RecordPtr record = nodes_.find(*seen); record != nullptr && record != parent) {
    nodes_.named(record, parent, name.view());
  }
}

Nodes::Change::~Change() {
  first_->finished.fetch_add(1);
  if (second_ != nullptr) second_->finished.fetch_add(1);
  if (victim_ != nullptr && !done_) nodes_.unpin(victim_);
}

}  // namespace libservices::local_internal
