// SPDX-License-Identifier: Apache-2.0
#include "src/host/open_files.h"

#include <algorithm>
#include <utility>

namespace libservices::host {

namespace {

// Where the thread that gives up a last reference finds what closing came to.
struct Closing {
  const Context& context;
  Result<void> result;
};
thread_local Closing* closing = nullptr;

}  // namespace

void ServiceOpenFile::keep(KeptFiles::Entry entry) {
  if (!entry) return;
  std::lock_guard lock(mutex_);
  kept_ = std::move(entry);
  file_->keep_offset_in(kept_.offset());
}

void ServiceOpenFile::keep_no_more() {
  std::lock_guard lock(mutex_);
  if (!kept_) return;
  file_->keep_offset_in(nullptr);
  kept_ = KeptFiles::Entry();
}

std::string ServiceOpenFile::kept_path() const {
  std::lock_guard lock(mutex_);
  return kept_.path();
}

void ServiceOpenFile::keep_flags() {
  std::lock_guard lock(mutex_);
  kept_.set_flags(file_->flags());
}

void ServiceOpenFile::had_locks() {
  std::lock_guard lock(mutex_);
  kept_.had_locks();
}

void ServiceOpenFile::count_change() {
  std::lock_guard lock(mutex_);
  kept_.count_change();
}

Result<void> ServiceOpenFile::fsync(const Context& context, SyncScope scope) {
  std::uint32_t changes = 0;
  {
    std::lock_guard lock(mutex_);
    changes = kept_.changes();
  }
  LIBSERVICES_CHECK_OK(filesystem_.fsync(context, *file_, scope));
  std::lock_guard lock(mutex_);
  kept_.synchronised(changes);
  return {};
}

ServiceOpenFile::~ServiceOpenFile() {
  keep_no_more();
  if (closing != nullptr) {
    closing->result = filesystem_.close(closing->context, std::move(file_));
    return;
  }
  // Nobody's call: no process's record locks end with it.
  Context context = opener_->context();
  context.process = 0;
  (void)filesystem_.close(context, std::move(file_));
}

Result<void> end_use(const Context& context, ServiceOpenFilePtr file) {
  (void)file->drop_locks(context);
  Closing mine{context, {}};
  closing = &mine;
  file.reset();
  closing = nullptr;
  return mine.result;
}

void end_everywhere(const ServiceOpenFilePtr& file) {
  std::vector<std::weak_ptr<HandleTable>> holders;
  {
    std::lock_guard lock(file->mutex_);
    holders.swap(file->holders_);
  }
  for (const auto& holder : holders) {
    const auto table = holder.lock();
    if (table == nullptr || table->remove(file.get()) == nullptr) continue;
    Context context = file->opener_->context();
    context.process = table->process_;
    (void)file->drop_locks(context);
  }
}

Result<protocol::Handle> HandleTable::add(const ServiceOpenFilePtr& file) {
  std::lock_guard lock(mutex_);
  if (const auto known = indexes_.find(file.get()); known != indexes_.end()) {
    return handle_of(known->second, slots_[known->second].generation);
  }
  if (indexes_.size() >= most_) return Errno{EMFILE};
  std::uint32_t index;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.push_back({.file = nullptr, .generation = first_generation_});
  } else {
    index = free_.back();
    free_.pop_back();
  }
  slots_[index].file = file;
  indexes_.emplace(file.get(), index);
  {
    std::lock_guard file_lock(file->mutex_);
    std::erase_if(file->holders_, [](const auto& holder) { return holder.expired(); });
    file->holders_.push_back(weak_from_this());
  }
  return handle_of(index, slots_[index].generation);
}

HandleTable::Slot* HandleTable::slot_of(protocol::Handle handle) {
  const std::uint64_t index = (handle & 0xffffffffU) - 1;  // wraps to a large number for kRoot
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  if (slot.file == nullptr || slot.generation != handle >> 32) return nullptr;
  return &slot;
}

ServiceOpenFilePtr HandleTable::find(protocol::Handle handle) const {
  std::lock_guard lock(mutex_);
  const Slot* slot = const_cast<HandleTable*>(this)->slot_of(handle);
  return slot == nullptr ? nullptr : slot->file;
}

ServiceOpenFilePtr HandleTable::take(std::size_t index) {
  Slot& slot = slots_[index];
  ServiceOpenFilePtr file = std::move(slot.file);
  slot.file = nullptr;
  indexes_.erase(file.get());
  // After 2^32 uses the index is retired, so that no old handle comes to life.
  if (++slot.generation == 0) ++slot.generation;
  if (slot.generation != first_generation_) free_.push_back(static_cast<std::uint32_t>(index));
  std::lock_guard file_lock(file->mutex_);
  std::erase_if(file->holders_, [this](const auto& holder) {
    return !holder.owner_before(weak_from_this()) && !weak_from_this().owner_before(holder);
  });
  return file;
}

ServiceOpenFilePtr HandleTable::remove(protocol::Handle handle) {
  std::lock_guard lock(mutex_);
  const Slot* slot = slot_of(handle);
  return slot == nullptr ? nullptr : take(static_cast<std::size_t>(slot - slots_.data()));
}

ServiceOpenFilePtr HandleTable::remove(const ServiceOpenFile* file) {
  std::lock_guard lock(mutex_);
  const auto known = indexes_.find(file);
  return known == indexes_.end() ? nullptr : take(known->second);
}

bool HandleTable::others_hold(ServiceOpenFile& file) const {
  std::lock_guard lock(file.mutex_);
  return std::any_of(file.holders_.begin(), file.holders_.end(), [this](const auto& holder) {
    const auto table = holder.lock();
    return table != nullptr && table.get() != this;
  });
}

std::vector<ServiceOpenFilePtr> HandleTable::remove_all() {
  std::lock_guard lock(mutex_);
  std::vector<ServiceOpenFilePtr> files;
  while (!indexes_.empty()) files.push_back(take(indexes_.begin()->second));
  return files;
}

std::size_t HandleTable::size() const {
  std::lock_guard lock(mutex_);
  return indexes_.size();
}

}  // namespace libservices::host
