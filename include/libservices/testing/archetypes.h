// SPDX-License-Identifier: Apache-2.0
//
// Minimal models of the concepts: types with exactly the required members, which do nothing.
//
// A layer that compiles over them needs nothing but what it says it needs. `EverythingArchetype`
// has every optional operation too. Not for running: each operation answers ENOSYS.
#ifndef LIBSERVICES_TESTING_ARCHETYPES_H_
#define LIBSERVICES_TESTING_ARCHETYPES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libservices/capabilities.h"

namespace libservices::testing {

class ReadableArchetype {
 public:
  struct Config {};
  // Copyable, and nothing else: no default construction, no comparison.
  class Node {
   public:
    explicit Node(int) {}
  };
  // Movable, and nothing else.
  class File {
   public:
    explicit File(int) {}
    File(File&&) = default;
    File& operator=(File&&) = default;
  };

  explicit ReadableArchetype(Config) {}
  ReadableArchetype(const ReadableArchetype&) = delete;
  ReadableArchetype& operator=(const ReadableArchetype&) = delete;

  using E = Result<Entry<Node>>;
  using C = const Context&;
  using N = const Node&;

  E root(C) { return Errno{ENOSYS}; }
  E lookup(C, N, std::string_view) { return Errno{ENOSYS}; }
  Result<Attributes> getattr(C, N) { return Errno{ENOSYS}; }
  Result<Opened<File>> open(C, N, OpenFlags) { return Errno{ENOSYS}; }
  Result<std::size_t> read(C, File&, std::uint64_t, std::span<std::byte>) { return Errno{ENOSYS}; }
  Result<void> close(C, File&) { return Errno{ENOSYS}; }
  Result<void> readdir(C, File&, std::uint64_t, Listing, EntrySink) { return Errno{ENOSYS}; }
};

class WritableArchetype : public ReadableArchetype {
 public:
  using ReadableArchetype::ReadableArchetype;
  using M = Result<Created<Node, File>>;

  M create(C, N, std::string_view, const NewNode&, OpenFlags) { return Errno{ENOSYS}; }
  Result<std::size_t> write(C, File&, std::uint64_t, std::span<const std::byte>) {
    return Errno{ENOSYS};
  }
  Result<void> fsync(C, File&, SyncScope) { return Errno{ENOSYS}; }
  Result<Attributes> setattr(C, N, const AttributeChanges&) { return Errno{ENOSYS}; }
  E mkdir(C, N, std::string_view, const NewNode&) { return Errno{ENOSYS}; }
  Result<void> unlink(C, N, std::string_view) { return Errno{ENOSYS}; }
  Result<void> rmdir(C, N, std::string_view) { return Errno{ENOSYS}; }
  Result<void> rename(C, N, std::string_view, N, std::string_view, RenameMode) {
    return Errno{ENOSYS};
  }
};

class EverythingArchetype : public WritableArchetype {
 public:
  using WritableArchetype::WritableArchetype;

  absl::Status start() { return absl::OkStatus(); }
  absl::Status stop() { return absl::OkStatus(); }
  Coherence coherence() const { return {}; }
  Result<std::size_t> readlink(C, N, std::span<char>) { return Errno{ENOSYS}; }
  E symlink(C, N, std::string_view, std::string_view, const NewNode&) { return Errno{ENOSYS}; }
  E link(C, N, N, std::string_view) { return Errno{ENOSYS}; }
  E mknod(C, N, std::string_view, const NewNode&) { return Errno{ENOSYS}; }
  M tmpfile(C, N, const NewNode&, OpenFlags) { return Errno{ENOSYS}; }
  Result<Node> staging(C, Staging) { return Errno{ENOSYS}; }
  Result<VolumeInfo> statfs(C, N) { return Errno{ENOSYS}; }
  Result<std::size_t> getxattr(C, N, std::string_view, std::span<std::byte>) {
    return Errno{ENOSYS};
  }
  Result<void> setxattr(C, N, std::string_view, std::span<const std::byte>, XattrMode) {
    return Errno{ENOSYS};
  }
  Result<std::size_t> listxattr(C, N, std::span<char>) { return Errno{ENOSYS}; }
  Result<void> removexattr(C, N, std::string_view) { return Errno{ENOSYS}; }
  Result<std::uint64_t> append(C, File&, std::span<const std::byte>, std::size_t&) {
    return Errno{ENOSYS};
  }
  Result<void> fallocate(C, File&, int, std::uint64_t, std::uint64_t) { return Errno{ENOSYS}; }
  Result<std::uint64_t> seek(C, File&, std::uint64_t, SeekTarget) { return Errno{ENOSYS}; }
  Result<std::uint64_t> copy_range(C, File&, std::uint64_t, File&, std::uint64_t, std::uint64_t) {
    return Errno{ENOSYS};
  }
  Result<Backing> backing(C, File&, BackingUse) { return Errno{ENOSYS}; }
  Result<void> clone(C, File&, Backing) { return Errno{ENOSYS}; }
  Result<InodeFlags> getflags(C, N, InodeFlags::Form) { return Errno{ENOSYS}; }
  Result<void> setflags(C, N, const InodeFlags&) { return Errno{ENOSYS}; }
  Result<void> lock(C, File&, std::uint64_t, const LockRequest&) { return Errno{ENOSYS}; }
  Result<LockRequest> test_lock(C, File&, std::uint64_t, const LockRequest&) {
    return Errno{ENOSYS};
  }
};

static_assert(ReadableService<ReadableArchetype> && !WritableService<ReadableArchetype>);
static_assert(WritableService<WritableArchetype>);
static_assert(WritableService<EverythingArchetype>);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTING_ARCHETYPES_H_
