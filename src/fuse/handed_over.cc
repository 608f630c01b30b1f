// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/handed_over.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <utility>

namespace libservices::fuse {

std::string HandedOver::offer(OpenFilePtr file) {
  std::array<std::uint64_t, 2> random{};
  if (::getrandom(random.data(), sizeof random, 0) != sizeof random) return {};
  std::string name = fmt::format("{}{:016x}{:016x}", kPrefix, random[0], random[1]);
  add({.file = std::move(file), .name = name});
  return name;
}

OpenFilePtr HandedOver::look_up(std::string_view name) {
  if (!name.starts_with(kPrefix)) return nullptr;
  return take([&](const Entry& entry) { return entry.name == name; });
}

void HandedOver::expect(OpenFilePtr file, std::uint64_t node, std::uint64_t thread) {
  add({.file = std::move(file), .name = {}, .node = node, .thread = thread});
}

OpenFilePtr HandedOver::open(std::uint64_t node, std::uint64_t thread) {
  if (!any_.load(std::memory_order_acquire)) return nullptr;
  return take([&](const Entry& entry) {
    return entry.name.empty() && entry.node == node && entry.thread == thread;
  });
}

void HandedOver::add(Entry entry) {
  OpenFilePtr forgotten;  // behind the lock
  std::lock_guard lock(mutex_);
  if (entries_.size() == kMost) {
    forgotten = std::move(entries_.front().file);
    entries_.pop_front();
  }
  entries_.push_back(std::move(entry));
  any_.store(true, std::memory_order_release);
}

template <class Wanted>
OpenFilePtr HandedOver::take(Wanted&& wanted) {
  std::lock_guard lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), wanted);
  if (found == entries_.end()) return nullptr;
  OpenFilePtr file = std::move(found->file);
  entries_.erase(found);
  if (entries_.empty()) any_.store(false, std::memory_order_release);
  return file;
}

}  // namespace libservices::fuse
