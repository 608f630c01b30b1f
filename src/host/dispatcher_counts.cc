// SPDX-License-Identifier: Apache-2.0
//
// What was asked how often.
#include <atomic>

#include "src/host/dispatcher.h"

namespace libservices::host {

const std::array<std::string_view, kOperations> kProtocolOperationNames = {
    "nothing",         "open",        "close",       "read",
    "write",           "seek",        "readdir",     "fsync",
    "fallocate",       "copy_range",  "stat",        "setattr",
    "access",          "statfs",      "mkdir",       "mknod",
    "symlink",         "readlink",    "link",        "unlink",
    "rmdir",           "rename",      "getxattr",    "setxattr",
    "listxattr",       "removexattr", "lock",        "test_lock",
    "set_flags",       "get_flags",   "path_of",     "get_inode_flags",
    "set_inode_flags", "map",         "make_socket", "hand_over"};

Dispatcher::Shard& Dispatcher::shard() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed);
  return shards_[mine % shards_.size()];
}

Dispatcher::Counts Dispatcher::counts() const {
  Counts counts;
  for (const Shard& shard : shards_) {
    for (std::size_t i = 0; i < kOperations; ++i) {
      counts.requests[i] += shard.requests[i].load(std::memory_order_relaxed);
    }
    counts.errors += shard.errors.load(std::memory_order_relaxed);
    counts.malformed += shard.malformed.load(std::memory_order_relaxed);
  }
  return counts;
}

}  // namespace libservices::host
