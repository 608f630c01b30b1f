// SPDX-License-Identifier: Apache-2.0
//
// A *libservice*: a user-level storage subsystem behind POSIX-named operations. This header is the
// contract between one layer of a filesystem and the next.
//
// A libservice works on nodes and one name at a time. It never sees a path, a symbolic link to
// follow, a umask or a permission check: `Filesystem<Stack>` does that once for all of them.
//
//   Node   an object of the tree: copyable, cheap, and good for as long as it is held, also after
//          the last name is gone. It costs no descriptor.
//   File   an open file or directory: move-only. `close` says whether all went well; destroying a
//          File that was not closed closes it and drops the answer.
//
// To write one: a type with these members. Read-only needs the seven operations of
// `ReadableService`; `WritableService` adds nine. Everything else is optional and listed in
// capabilities.h; what a type lacks is answered by `Filesystem` with EROFS or ENOTSUP.
// `explain<S>()` (explain.h) lists in words what a type still lacks.
//
// THREADS: every operation may be called from any thread at any time, on the same File too.
// ERRORS: POSIX's errno for the operation. What the object's type forbids is checked here as well:
//   ENOTDIR for a lookup in a file, EISDIR for a write to a directory, and so on.
// OWNS: names and buffers belong to the caller and are valid during the call only.
#ifndef LIBSERVICES_LIBSERVICE_H_
#define LIBSERVICES_LIBSERVICE_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "libservices/attributes.h"
#include "libservices/context.h"
#include "libservices/dir_entry.h"
#include "libservices/open_flags.h"
#include "libservices/result.h"

namespace libservices {

// Attributes come back with every node and file, so that nobody asks twice.
template <class Node>
struct Entry {
  Node node;
  Attributes attributes;
};

template <class File>
struct Opened {
  File file;
  Attributes attributes;
};

template <class Node, class File>
struct Created {
  Node node;
  File file;
  Attributes attributes;
};

template <class S>
concept HasNodes = requires {
  typename S::Node;
  typename S::File;
} && std::copyable<typename S::Node> && std::movable<typename S::File>;

// Built from one plain struct, without I/O; optional `start()` and `stop()` do that.
template <class S>
concept HasConfig = requires { typename S::Config; } && std::constructible_from<S, typename S::Config>;

// root: the directory on which the instance is mounted.
// lookup: the object under `name` in `directory`; `name` is never "", "." or ".." and has no '/'.
//   ERRORS: ENOENT, ENOTDIR, ENAMETOOLONG.
// getattr: also of an object that has no name any more.
template <class S>
concept CanLookup =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& node,
                            const typename S::Node& directory, std::string_view name) {
      { s.root(context) } -> std::same_as<Result<Entry<typename S::Node>>>;
      { s.lookup(context, directory, name) } -> std::same_as<Result<Entry<typename S::Node>>>;
      { s.getattr(context, node) } -> std::same_as<Result<Attributes>>;
    };

// open: a regular file or a directory. ERRORS: EISDIR for writing to a directory, EROFS.
// read: up to `into.size()` bytes from `offset`; fewer only at the end of the file, where it is 0.
// close: ends the File; a delayed write may fail here.
template <class S>
concept CanRead =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& node,
                            typename S::File& file, OpenFlags flags, std::uint64_t offset,
                            std::span<std::byte> into) {
      { s.open(context, node, flags) } -> std::same_as<Result<Opened<typename S::File>>>;
      { s.read(context, file, offset, into) } -> std::same_as<Result<std::size_t>>;
      { s.close(context, file) } -> std::same_as<Result<void>>;
    };

// readdir: hands the entries behind cookie `after` to `sink` (0 = from the start) until the sink
//   refuses one or the directory ends, without "." and "..". Cookies are 1 to 2^63-4, or 2^63-1,
//   which is the last entry's, and stay valid while entries come and go: an entry that exists
//   throughout is listed exactly once.
template <class S>
concept CanList = HasNodes<S> && requires(S& s, const Context& context, typename S::File& directory,
                                          std::uint64_t after, Listing wanted, EntrySink sink) {
  { s.readdir(context, directory, after, wanted, sink) } -> std::same_as<Result<void>>;
};

// create: a new regular file, opened. ERRORS: EEXIST when the name is taken.
// write: at `offset`; a hole that comes to be reads as zeros. Fewer bytes only when space ends.
// fsync: when it succeeds, the file survives a power cut; of a directory, its entries do.
template <class S>
concept CanWrite =
    HasNodes<S> &&
    requires(S& s, const Context& context, const typename S::Node& directory, std::string_view name,
             const NewNode& fresh, OpenFlags flags, typename S::File& file, std::uint64_t offset,
             std::span<const std::byte> from, SyncScope scope) {
      {
        s.create(context, directory, name, fresh, flags)
      } -> std::same_as<Result<Created<typename S::Node, typename S::File>>>;
      { s.write(context, file, offset, from) } -> std::same_as<Result<std::size_t>>;
      { s.fsync(context, file, scope) } -> std::same_as<Result<void>>;
    };

// setattr: applies all changes or none, sets ctime, and returns the attributes afterwards.
template <class S>
concept CanChangeAttributes =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& node,
                            const AttributeChanges& changes) {
      { s.setattr(context, node, changes) } -> std::same_as<Result<Attributes>>;
    };

// mkdir, unlink (everything but directories), rmdir (empty directories), rename (within the tree).
//   ERRORS: EEXIST, ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL for a directory moved below itself,
//   EXDEV where a rename would have to copy. Replacing by rename is atomic.
template <class S>
concept CanChangeTree =
    HasNodes<S> &&
    requires(S& s, const Context& context, const typename S::Node& directory,
             const typename S::Node& new_directory, std::string_view name,
             std::string_view new_name, const NewNode& fresh, RenameMode mode) {
      {
        s.mkdir(context, directory, name, fresh)
      } -> std::same_as<Result<Entry<typename S::Node>>>;
      { s.unlink(context, directory, name) } -> std::same_as<Result<void>>;
      { s.rmdir(context, directory, name) } -> std::same_as<Result<void>>;
      {
        s.rename(context, directory, name, new_directory, new_name, mode)
      } -> std::same_as<Result<void>>;
    };

template <class S>
concept ReadableService = HasConfig<S> && CanLookup<S> && CanRead<S> && CanList<S>;

template <class S>
concept WritableService =
    ReadableService<S> && CanWrite<S> && CanChangeAttributes<S> && CanChangeTree<S>;

}  // namespace libservices

#endif  // LIBSERVICES_LIBSERVICE_H_
