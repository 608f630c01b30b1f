// SPDX-License-Identifier: Apache-2.0
#include "services/ceph/unsynced.h"

namespace libservices::ceph_internal {

WritesPtr Unsynced::of(std::uint64_t inode) {
  const std::lock_guard lock(mutex_);
  WritesPtr& writes = files_[inode];
  if (writes == nullptr) writes = std::make_shared<Writes>();
  return writes;
}

WritesPtr Unsynced::find(std::uint64_t inode) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(inode);
  return found == files_.end() ? nullptr : found->second;
}

bool Unsynced::release(std::uint64_t inode, WritesPtr&& writes) {
  const std::lock_guard lock(mutex_);
  writes.reset();
  const auto found = files_.find(inode);
  if (found != files_.end() && is_done(found->second)) files_.erase(found);
  return files_.size() > most_;
}

void Unsynced::lose(std::uint64_t generation) {
  const std::lock_guard lock(mutex_);
  for (auto& [inode, writes] : files_) {
    if (writes->pending()) writes->lose(generation);
  }
  most_ = kMost + files_.size();
}

Unsynced::Everything Unsynced::everything() const {
  Everything all;
  const std::lock_guard lock(mutex_);
  all.reserve(files_.size());
  for (const auto& [inode, writes] : files_) all.emplace_back(writes, writes->counted());
  return all;
}

void Unsynced::synchronised(Everything all) {
  for (const auto& [writes, counted] : all) writes->synchronised(counted);
  all.clear();
  const std::lock_guard lock(mutex_);
  absl::erase_if(files_, [](const auto& file) { return is_done(file.second); });
  most_ = kMost + files_.size();
}

}  // namespace libservices::ceph_internal
