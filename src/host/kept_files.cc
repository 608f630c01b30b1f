// SPDX-License-Identifier: Apache-2.0
#include "src/host/kept_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/host/error_status.h"

namespace libservices::host {

KeptFiles::~KeptFiles() {
  if (memory_ != nullptr) ::munmap(memory_, kBytes);
  if (file_ >= 0) ::close(file_);
}

absl::Status KeptFiles::start() {
  const auto failed = [&](std::string_view what) {
    return error_status(errno, fmt::format("{}: cannot {}: {} (remove it, or choose another run "
                                           "directory)",
                                           path_, what, std::strerror(errno)));
  };
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file_ < 0) return failed("open it");
  const off_t size = ::lseek(file_, 0, SEEK_END);
  // Only of this size: what else stands there is nobody's.
  if (size != static_cast<off_t>(kBytes) &&
      (::ftruncate(file_, 0) != 0 || ::ftruncate(file_, kBytes) != 0)) {
    return failed("set its size");
  }
  // Allocated before it is touched: a full disk is an error, not a SIGBUS.
  if (const int error = ::posix_fallocate(file_, 0, sizeof(Head)); error != 0) {
    errno = error;
    return failed("allocate it");
  }
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) return failed("map it");
  memory_ = memory;
  auto* const head = static_cast<Head*>(memory);
  slots_ = reinterpret_cast<Slot*>(head + 1);
  std::lock_guard lock(mutex_);
  if (head->magic == kMagic) take_over();
  head->magic = kMagic;
  return absl::OkStatus();
}

// REQUIRES: mutex_. The entries of a dead service; what it was writing when it died counts as free.
void KeptFiles::take_over() {
  // Where the file has memory: entries are handed out from its beginning.
  const off_t hole = ::lseek(file_, 0, SEEK_HOLE);
  if (hole > static_cast<off_t>(sizeof(Head))) {
    allocated_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        (static_cast<std::uint64_t>(hole) - sizeof(Head)) / sizeof(Slot), kSlots));
  }
  used_ = allocated_;
  for (std::uint32_t i = used_; i-- > 0;) {
    const Slot& slot = slots_[i];
    const std::uint64_t placeholder = slot.placeholder.load(std::memory_order_acquire);
    const bool sound = placeholder != 0 && slot.mount_bytes <= kText &&
                       slot.path_bytes <= kText - slot.mount_bytes;
    if (sound) {
      lost_[placeholder] = i;
    } else {
      slots_[i].placeholder.store(0, std::memory_order_relaxed);
      free_.push_back(i);
    }
  }
}

void KeptFiles::keep_mapped(std::uint64_t object) {
  if (memory_ == nullptr) return;
  std::lock_guard lock(mutex_);
  const std::uint64_t count = head().mapped_count.load(std::memory_order_relaxed);
  for (std::uint64_t i = 0; i < std::min(count, kMostMapped); ++i) {
    if (head().mapped[i] == object) return;
  }
  if (count < kMostMapped) head().mapped[count] = object;
  // Last, as who reads it after our death sees it.
  if (count <= kMostMapped) head().mapped_count.store(count + 1, std::memory_order_release);
}

KeptFiles::Mapped KeptFiles::mapped() const {
  if (memory_ == nullptr) return {};
  std::lock_guard lock(mutex_);
  const std::uint64_t count = head().mapped_count.load(std::memory_order_acquire);
  Mapped mapped;
  mapped.others = count > kMostMapped;
  for (std::uint64_t i = 0; i < std::min(count, kMostMapped); ++i) {
    mapped.objects.push_back(head().mapped[i]);
  }
  return mapped;
}

void KeptFiles::remove() {
  if (file_ >= 0) ::unlink(path_.c_str());
}

// REQUIRES: mutex_.
std::optional<std::uint32_t> KeptFiles::take_slot() {
  if (!free_.empty()) {
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  if (used_ == allocated_) {
    const std::uint32_t more = std::min(kSlotsAtOnce, kSlots - allocated_);
    const auto start = static_cast<off_t>(sizeof(Head) + allocated_ * sizeof(Slot));
    if (more != 0 &&
        ::posix_fallocate(file_, start, static_cast<off_t>(more * sizeof(Slot))) == 0) {
      allocated_ += more;
    }
  }
  if (used_ < allocated_) return used_++;
  if (lost_.empty()) return std::nullopt;
  // Nobody has asked for this one since the service before died.
  const std::uint32_t index = lost_.begin()->second;
  lost_.erase(lost_.begin());
  return index;
}

KeptFiles::Entry KeptFiles::keep(std::uint64_t placeholder, std::string_view mount,
                                 std::string_view path, const OpenFile& file,
                                 const Attributes& attributes) {
  if (mount.size() + path.size() > kText || slots_ == nullptr) return {};
  std::uint32_t index;
  {
    std::lock_guard lock(mutex_);
    // A number that the host has given anew: what had it before is gone.
    if (const auto old = lost_.find(placeholder); old != lost_.end()) {
      slots_[old->second].placeholder.store(0, std::memory_order_relaxed);
      free_.push_back(old->second);
      lost_.erase(old);
    }
    const auto taken = take_slot();
    if (!taken) return {};
    index = *taken;
    Slot& slot = slots_[index];
    slot.placeholder.store(0, std::memory_order_relaxed);
    std::memcpy(slot.text, mount.data(), mount.size());
    std::memcpy(slot.text + mount.size(), path.data(), path.size());
    slot.mount_bytes = static_cast<std::uint16_t>(mount.size());
    slot.path_bytes = static_cast<std::uint16_t>(path.size());
  }
  Slot& slot = slots_[index];
  slot.object = attributes.inode;
  slot.born_seconds = attributes.btime.seconds;
  slot.born_nanoseconds = attributes.btime.nanoseconds;
  slot.mode = attributes.mode;
  slot.flags = file.flags().bits;
  slot.had_locks.store(0, std::memory_order_relaxed);
  slot.changes.store(0, std::memory_order_relaxed);
  slot.synchronised.store(0, std::memory_order_relaxed);
  // Last, as who reads it after our death sees it.
  slot.placeholder.store(placeholder, std::memory_order_release);
  return {this, index};
}

void KeptFiles::free(std::uint32_t index) {
  slots_[index].placeholder.store(0, std::memory_order_release);
  std::lock_guard lock(mutex_);
  free_.push_back(index);
}

std::string KeptFiles::path_at(std::uint32_t index) const {
  std::lock_guard lock(mutex_);
  const Slot& slot = slots_[index];
  return std::string(slot.text + slot.mount_bytes, slot.path_bytes);
}

void KeptFiles::renamed(std::string_view mount, std::string_view from, std::string_view to) {
  std::lock_guard lock(mutex_);
  for (std::uint32_t i = 0; i < used_; ++i) {
    Slot& slot = slots_[i];
    if (slot.placeholder.load(std::memory_order_relaxed) == 0 || slot.path_bytes < from.size()) {
      continue;
    }
    const std::string_view path(slot.text + slot.mount_bytes, slot.path_bytes);
    if (!path.starts_with(from) || (path.size() > from.size() && path[from.size()] != '/') ||
        std::string_view(slot.text, slot.mount_bytes) != mount) {
      continue;
    }
    std::string now(to);
    now += path.substr(from.size());
    if (now.size() > kText - slot.mount_bytes) {
      slot.path_bytes = 0;  // cannot be kept any more: the root is another object
      continue;
    }
    std::memcpy(slot.text + slot.mount_bytes, now.data(), now.size());
    slot.path_bytes = static_cast<std::uint16_t>(now.size());
  }
}

std::optional<KeptFiles::Lost> KeptFiles::claim(std::uint64_t placeholder) {
  std::lock_guard lock(mutex_);
  const auto found = lost_.find(placeholder);
  if (found == lost_.end()) return std::nullopt;
  const std::uint32_t index = found->second;
  lost_.erase(found);
  const Slot& slot = slots_[index];
  Lost lost;
  lost.entry = Entry(this, index);
  lost.mount.assign(slot.text, slot.mount_bytes);
  lost.path.assign(slot.text + slot.mount_bytes, slot.path_bytes);
  lost.flags = slot.flags;
  lost.mode = slot.mode;
  lost.object = slot.object;
  lost.born = {slot.born_seconds, slot.born_nanoseconds};
  lost.had_locks = slot.had_locks.load(std::memory_order_relaxed) != 0;
  lost.lost_changes = slot.changes.load() != slot.synchronised.load();
  const KeptOffset::Move& move = slot.offset.last();
  lost.before = move.before.load(std::memory_order_relaxed);
  lost.offset = move.after.load(std::memory_order_relaxed);
  lost.number = move.number.load(std::memory_order_relaxed);
  return lost;
}

std::size_t KeptFiles::kept() const {
  std::lock_guard lock(mutex_);
  return used_ - free_.size();
}

}  // namespace libservices::host
