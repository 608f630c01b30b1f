// SPDX-License-Identifier: Apache-2.0
//
// `Empty`: a root directory in which nothing exists.
//
// As the end of a chain, or as the lower of a union that begins with nothing.
#ifndef LIBSERVICES_SOURCES_EMPTY_H_
#define LIBSERVICES_SOURCES_EMPTY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libservices/capabilities.h"

namespace libservices {

class Empty {
 public:
  struct Config {
    std::uint32_t mode = 0755;  // of the root directory
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
  };
  struct Node {};
  struct File {};

  explicit Empty(Config config) {
    static std::atomic<std::uint64_t> instances{0};
    root_.device = 0x45000000U + instances.fetch_add(1, std::memory_order_relaxed);
    root_.inode = 1;
    root_.mode = S_IFDIR | (config.mode & 07777U);
    root_.links = 2;
    root_.uid = config.uid;
    root_.gid = config.gid;
    root_.atime = root_.mtime = root_.ctime = root_.btime = Timestamp::now();
  }

  Coherence coherence() const { return {.kind = Coherence::Kind::kNeverChanges}; }
  Result<Entry<Node>> root(const Context&) { return Entry<Node>{{}, root_}; }
  Result<Entry<Node>> lookup(const Context&, const Node&, std::string_view name) {
    return Errno{name.size() > 255 ? ENAMETOOLONG : ENOENT};
  }
  Result<Attributes> getattr(const Context&, const Node&) { return root_; }
  Result<Opened<File>> open(const Context&, const Node&, OpenFlags flags) {
    if (flags.writes() || flags.truncates()) return Errno{EISDIR};
    return Opened<File>{{}, root_};
  }
  Result<std::size_t> read(const Context&, File&, std::uint64_t, std::span<std::byte>) {
    return Errno{EISDIR};
  }
  Result<void> close(const Context&, File&) { return {}; }
  Result<void> readdir(const Context&, File&, std::uint64_t, Listing, EntrySink) { return {}; }

 private:
  Attributes root_;
};

static_assert(ReadableService<Empty>);
static_assert(!WritableService<Empty>);

}  // namespace libservices

#endif  // LIBSERVICES_SOURCES_EMPTY_H_
