// SPDX-License-Identifier: Apache-2.0
//
// `Memory`: a complete filesystem in the memory of this process, gone when the instance is.
//
// For tests, for scratch space, and as the reference of the contract: it has every ability that
// capabilities.h names but `clone`. Not for what must outlive the process.
//
// A file whose `backing` was asked for moves to a memfd, at the price of one copy, and stays there
// until memfds become many, or for good if it was asked for to last. Not so with a capacity, which those who write there would not keep to.
//
// atime moves as with Linux's relatime. Extended attributes of the namespaces user, trusted,
// security and system are stored and mean nothing to it. Space is counted in pages of 4 KiB of
// file content; holes cost nothing.
//
// THREADS: lock order is in memory_tree.h. Listings call their receiver without a lock held.
// OWNS: nodes and files keep their object alive by themselves, also after the instance is gone.
#ifndef LIBSERVICES_SOURCES_MEMORY_H_
#define LIBSERVICES_SOURCES_MEMORY_H_

#include <fcntl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string_view>
#include <utility>

#include "libservices/capabilities.h"
#include "libservices/sources/memory_tree.h"

namespace libservices {

class Memory {
 public:
  struct Config {
    std::uint64_t capacity_bytes = UINT64_MAX;  // of file content, rounded down to pages of 4 KiB
    std::uint64_t capacity_files = UINT64_MAX;  // objects of any type, the root among them
  };

  class Node {
    friend class Memory;
    explicit Node(internal::MemoryPointer object) : object_(std::move(object)) {}
    internal::MemoryPointer object_;
  };

  class File {
   public:
    File(File&&) = default;
    File& operator=(File&&) = default;

   private:
    friend class Memory;
    File(internal::MemoryPointer object, OpenFlags flags)
        : object_(std::move(object)), flags_(flags) {}
    internal::MemoryPointer object_;
    OpenFlags flags_;
    internal::MemoryBytes::Descriptor backing_;  // held for whoever uses it
  };

  explicit Memory(Config config)
      : volume_(std::make_shared<internal::MemoryVolume>(
            config.capacity_bytes / internal::kPageBytes,
            std::max<std::uint64_t>(config.capacity_files, 1))),
        root_(*make_object({.mode = 0755}, S_IFDIR)),
        staging_{make_staging(), make_staging()} {}
  ~Memory() {
    internal::dismantle(root_);
    for (const Pointer& each : staging_) internal::dismantle(each);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  Coherence coherence() const { return {.kind = Coherence::Kind::kChangesOnlyThroughMe}; }

  Result<Entry<Node>> root(const Context&) { return entry(root_); }
  Result<Node> staging(const Context&, Staging which) {
    return Node(staging_[which == Staging::kKept ? 1 : 0]);
  }
  Result<Entry<Node>> lookup(const Context&, const Node& directory, std::string_view name);
  Result<Attributes> getattr(const Context&, const Node& node) { return node.object_->snapshot(); }
  Result<Attributes> setattr(const Context&, const Node&, const AttributeChanges&);
  Result<VolumeInfo> statfs(const Context&, const Node&);

  Result<Opened<File>> open(const Context&, const Node&, OpenFlags);
  Result<std::size_t> read(const Context&, File&, std::uint64_t offset, std::span<std::byte> into);
  Result<std::size_t> write(const Context&, File& file, std::uint64_t offset,
                            std::span<const std::byte> from) {
    LIBSERVICES_CHECK_OK(writable(file));
    std::unique_lock lock(file.object_->mutex);
    return write_locked(*file.object_, offset, from);
  }
  Result<std::uint64_t> append(const Context&, File&, std::span<const std::byte> from,
                               std::size_t& written);
  Result<void> fsync(const Context&, File&, SyncScope) { return {}; }
  Result<void> fallocate(const Context&, File&, int mode, std::uint64_t offset,
                         std::uint64_t length);
  Result<std::uint64_t> seek(const Context&, File&, std::uint64_t offset, SeekTarget);
  Result<std::uint64_t> copy_range(const Context&, File& from, std::uint64_t from_offset, File& to,
                                   std::uint64_t to_offset, std::uint64_t length);
  // ERRORS: EOPNOTSUPP with a capacity, and when too many files are in use so.
  Result<Backing> backing(const Context&, File&, BackingUse);
  Result<void> close(const Context&, File& file) {
    file.backing_.reset();
    file.object_.reset();
    return {};
  }
  Result<void> readdir(const Context&, File& directory, std::uint64_t after, Listing, EntrySink);

  Result<Created<Node, File>> create(const Context&, const Node& directory, std::string_view name,
                                     const NewNode& fresh, OpenFlags flags) {
    LIBSERVICES_TRY(auto made, make_named(directory, name, fresh, S_IFREG, {}));
    File file(made.node.object_, flags);
    return Created<Node, File>{std::move(made.node), std::move(file), made.attributes};
  }
  // With O_EXCL in `flags` it can never be given a name.
  Result<Created<Node, File>> tmpfile(const Context&, const Node& directory, const NewNode& fresh,
                                      OpenFlags flags);
  Result<Entry<Node>> mkdir(const Context&, const Node& directory, std::string_view name,
                            const NewNode& fresh) {
    return make_named(directory, name, fresh, S_IFDIR, {});
  }
  Result<Entry<Node>> mknod(const Context&, const Node& directory, std::string_view name,
                            const NewNode& fresh);
  Result<Entry<Node>> symlink(const Context&, const Node& directory, std::string_view name,
                              std::string_view target, const NewNode& fresh);
  Result<std::size_t> readlink(const Context&, const Node&, std::span<char> into);
  Result<Entry<Node>> link(const Context&, const Node&, const Node& directory,
                           std::string_view name);
  Result<void> unlink(const Context&, const Node& directory, std::string_view name);
  Result<void> rmdir(const Context&, const Node& directory, std::string_view name);
  Result<void> rename(const Context&, const Node& directory, std::string_view name,
                      const Node& new_directory, std::string_view new_name, RenameMode);

  Result<std::size_t> getxattr(const Context&, const Node&, std::string_view name,
                               std::span<std::byte> into);
  Result<void> setxattr(const Context&, const Node&, std::string_view name,
                        std::span<const std::byte> value, XattrMode);
  Result<std::size_t> listxattr(const Context&, const Node&, std::span<char> into);
  Result<void> removexattr(const Context&, const Node&, std::string_view name);

 private:
  using Object = internal::MemoryObject;
  using Pointer = internal::MemoryPointer;

  static constexpr std::uint64_t kMaxFileBytes = INT64_MAX;
  static constexpr std::size_t kMaxNameBytes = 255;
  static constexpr std::size_t kMaxTargetBytes = 4095;
  static constexpr std::size_t kMaxXattrBytes = 65536;

  static Entry<Node> entry(const Pointer& object) { return {Node(object), object->snapshot()}; }

  static Result<void> writable(const File& file) {
    if (file.object_->is_directory()) return Errno{EISDIR};
    if (!file.flags_.writes()) return Errno{EBADF};
    return {};
  }

  // On the device of the instance, but not counted among its files.
  Pointer make_staging() {
    auto counted = std::exchange(volume_->max_files, UINT64_MAX);
    Pointer made = *make_object({.mode = 0700}, S_IFDIR);
    volume_->max_files = counted == UINT64_MAX ? counted : counted + 1;
    return made;
  }
  Result<Pointer> make_object(const NewNode& fresh, std::uint32_t type) {
    return internal::MemoryVolume::make(volume_, fresh, type);
  }

  // REQUIRES: mutex held exclusively.
  static Result<std::size_t> write_locked(Object& object, std::uint64_t offset,
                                          std::span<const std::byte> from);
  static Result<void> resize_locked(Object& object, std::uint64_t size);

  // Whether entries can be made in `directory`. REQUIRES: tree_mutex_ held.
  static Result<void> check_new_name(const Node& directory, std::string_view name);

  Result<Entry<Node>> make_named(const Node& directory, std::string_view name,
                                 const NewNode& fresh, std::uint32_t type,
                                 std::string_view target);

  // The name in `directory` goes, and with it one link. REQUIRES: tree_mutex_ held exclusively.
  static void drop_entry(Object& directory, std::string_view name);
  static void drop_links(Object& object);
  static Result<void> exchange(Object& from, internal::MemoryEntry& entry, Object& to,
                               internal::MemoryEntry& other);
  static bool is_within(const Object* directory, const Object* ancestor) {
    while (directory != nullptr && directory != ancestor) directory = directory->directory->parent;
    return directory == ancestor;
  }

  std::shared_ptr<internal::MemoryVolume> volume_;
  std::shared_mutex tree_mutex_;  // guards every MemoryDirectory
  Pointer root_;
  Pointer staging_[2];
};

}  // namespace libservices

#include "libservices/sources/memory_content.h"  // IWYU pragma: export
#include "libservices/sources/memory_names.h"    // IWYU pragma: export

namespace libservices {
static_assert(WritableService<Memory>);
}  // namespace libservices

#endif  // LIBSERVICES_SOURCES_MEMORY_H_
