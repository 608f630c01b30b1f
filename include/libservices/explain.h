// SPDX-License-Identifier: Apache-2.0
//
// What a type still lacks to be a libservice, in words: all of it at once, where a compiler's
// message stops at the first.
//
//   static_assert(ReadableService<Mine>);         // fails
//   fmt::print("{}", explain<Mine>());            // beside it, in a test: says what to write
//
// `Consistent<S>` holds for a type that offers nothing by halves: no operation with a shape that
// no layer will call, no group with a member missing. Put it beside the claims of a libservice.
#ifndef LIBSERVICES_EXPLAIN_H_
#define LIBSERVICES_EXPLAIN_H_

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "libservices/capabilities.h"
#include "libservices/operations.h"

namespace libservices {
namespace internal {

// What the operations are called with: names for the expressions below, never made.
template <class S>
struct Given {
  S& s;
  const Context& context;
  const typename S::Node& node;
  const typename S::Node& directory;
  const typename S::Node& new_directory;
  typename S::File& file;
  typename S::File& to;
  std::string_view name, new_name, target;
  OpenFlags flags;
  std::uint64_t offset, to_offset, length, after, owner;
  std::span<std::byte> bytes;
  std::span<const std::byte> from, value;
  std::span<char> text;
  std::size_t& written;
  Listing wanted;
  EntrySink sink;
  const NewNode& fresh;
  const AttributeChanges& changes;
  RenameMode rename_mode;
  Staging staging;
  Backing backing;
  BackingUse backing_use{};
  InodeFlags inode_flags;
  InodeFlags::Form form;
  const LockRequest& lock_request;
  XattrMode xattr_mode;
  SyncScope scope;
  SeekTarget seek_target;
  int mode;
};

enum class Shape : std::uint8_t { kMissing, kWrong, kRight };

struct Finding {
  Operation operation;
  std::string_view family;  // the concept that names it
  std::string_view wanted;  // how the operation is called, and what it returns
  Shape shape;
};

// A member that a layer's `requires` takes away counts as missing; so does, when it fits nowhere,
// one that is overloaded or a template.
#define LIBSERVICES_FIT_(operation, family, arguments, ...)                                   \
  template <class S>                                                                          \
  constexpr Finding find_##operation() {                                                      \
    using Node [[maybe_unused]] = typename S::Node;                                           \
    using File [[maybe_unused]] = typename S::File;                                           \
    constexpr bool fits = requires(Given<S> g) {                                              \
      { g.s.operation arguments } -> std::same_as<__VA_ARGS__>;                               \
    };                                                                                        \
    return {Operation::operation, #family, #operation #arguments " -> " #__VA_ARGS__,         \
            fits                             ? Shape::kRight                                  \
            : requires { &S::operation; }    ? Shape::kWrong                                  \
                                             : Shape::kMissing};                              \
  }
// clang-format off
LIBSERVICES_FIT_(root, CanLookup, (g.context), Result<Entry<Node>>)
LIBSERVICES_FIT_(lookup, CanLookup, (g.context, g.directory, g.name), Result<Entry<Node>>)
LIBSERVICES_FIT_(getattr, CanLookup, (g.context, g.node), Result<Attributes>)
LIBSERVICES_FIT_(open, CanRead, (g.context, g.node, g.flags), Result<Opened<File>>)
LIBSERVICES_FIT_(read, CanRead, (g.context, g.file, g.offset, g.bytes), Result<std::size_t>)
LIBSERVICES_FIT_(close, CanRead, (g.context, g.file), Result<void>)
LIBSERVICES_FIT_(readdir, CanList, (g.context, g.file, g.after, g.wanted, g.sink), Result<void>)
LIBSERVICES_FIT_(readlink, OffersReadlink, (g.context, g.node, g.text), Result<std::size_t>)
LIBSERVICES_FIT_(statfs, OffersStatfs, (g.context, g.node), Result<VolumeInfo>)
LIBSERVICES_FIT_(getxattr, OffersXattrs, (g.context, g.node, g.name, g.bytes), Result<std::size_t>)
LIBSERVICES_FIT_(listxattr, OffersXattrs, (g.context, g.node, g.text), Result<std::size_t>)
LIBSERVICES_FIT_(seek, OffersSeek, (g.context, g.file, g.offset, g.seek_target), Result<std::uint64_t>)
LIBSERVICES_FIT_(backing, OffersBacking, (g.context, g.file, g.backing_use), Result<Backing>)
LIBSERVICES_FIT_(getflags, OffersFlags, (g.context, g.node, g.form), Result<InodeFlags>)
LIBSERVICES_FIT_(lock, OffersLocks, (g.context, g.file, g.owner, g.lock_request), Result<void>)
LIBSERVICES_FIT_(test_lock, OffersLocks, (g.context, g.file, g.owner, g.lock_request), Result<LockRequest>)
LIBSERVICES_FIT_(create, CanWrite, (g.context, g.directory, g.name, g.fresh, g.flags), Result<Created<Node, File>>)
LIBSERVICES_FIT_(write, CanWrite, (g.context, g.file, g.offset, g.from), Result<std::size_t>)
LIBSERVICES_FIT_(fsync, CanWrite, (g.context, g.file, g.scope), Result<void>)
LIBSERVICES_FIT_(setattr, CanChangeAttributes, (g.context, g.node, g.changes), Result<Attributes>)
LIBSERVICES_FIT_(mkdir, CanChangeTree, (g.context, g.directory, g.name, g.fresh), Result<Entry<Node>>)
LIBSERVICES_FIT_(unlink, CanChangeTree, (g.context, g.directory, g.name), Result<void>)
LIBSERVICES_FIT_(rmdir, CanChangeTree, (g.context, g.directory, g.name), Result<void>)
LIBSERVICES_FIT_(rename, CanChangeTree, (g.context, g.directory, g.name, g.new_directory, g.new_name, g.rename_mode), Result<void>)
LIBSERVICES_FIT_(symlink, OffersSymlink, (g.context, g.directory, g.name, g.target, g.fresh), Result<Entry<Node>>)
LIBSERVICES_FIT_(link, OffersLink, (g.context, g.node, g.directory, g.name), Result<Entry<Node>>)
LIBSERVICES_FIT_(mknod, OffersMknod, (g.context, g.directory, g.name, g.fresh), Result<Entry<Node>>)
LIBSERVICES_FIT_(tmpfile, OffersTmpfile, (g.context, g.directory, g.fresh, g.flags), Result<Created<Node, File>>)
LIBSERVICES_FIT_(staging, OffersStaging, (g.context, g.staging), Result<Node>)
LIBSERVICES_FIT_(setxattr, OffersXattrs, (g.context, g.node, g.name, g.value, g.xattr_mode), Result<void>)
LIBSERVICES_FIT_(removexattr, OffersXattrs, (g.context, g.node, g.name), Result<void>)
LIBSERVICES_FIT_(append, OffersAppend, (g.context, g.file, g.from, g.written), Result<std::uint64_t>)
LIBSERVICES_FIT_(fallocate, OffersFallocate, (g.context, g.file, g.mode, g.offset, g.length), Result<void>)
LIBSERVICES_FIT_(clone, OffersClone, (g.context, g.file, g.backing), Result<void>)
LIBSERVICES_FIT_(setflags, OffersFlagChanges, (g.context, g.node, g.inode_flags), Result<void>)
LIBSERVICES_FIT_(copy_range, OffersCopyRange, (g.context, g.file, g.offset, g.to, g.to_offset, g.length), Result<std::uint64_t>)
// clang-format on
#undef LIBSERVICES_FIT_

template <HasNodes S>
constexpr std::array<Finding, kOperationCount> find_all() {
#define LIBSERVICES_FIND_(name) find_##name<S>(),
  return {LIBSERVICES_OPERATIONS(LIBSERVICES_FIND_)};
#undef LIBSERVICES_FIND_
}

// What every libservice needs, and what one that can be written needs beside it.
constexpr bool is_needed(std::string_view family, bool writable) {
  if (family == "CanLookup" || family == "CanRead" || family == "CanList") return true;
  return writable && family.starts_with("Can");
}

// Whether S has some operations of `family`, but not all.
template <HasNodes S>
constexpr bool is_half(std::string_view family) {
  int there = 0;
  int all = 0;
  for (const Finding& finding : find_all<S>()) {
    if (finding.family != family) continue;
    ++all;
    if (finding.shape == Shape::kRight) ++there;
  }
  return there != 0 && there != all;
}

template <HasNodes S>
constexpr bool is_consistent() {
  for (const Finding& finding : find_all<S>()) {
    if (finding.shape == Shape::kWrong || is_half<S>(finding.family)) return false;
  }
  // Who can make a symbolic link must be able to read it.
  return find_symlink<S>().shape != Shape::kRight || OffersReadlink<S>;
}

// How an operation is called, without the "g." of Given.
inline std::string readable(std::string_view wanted) {
  std::string text(wanted);
  for (std::size_t at = text.find("g."); at != std::string::npos; at = text.find("g.", at)) {
    text.erase(at, 2);
  }
  return text;
}

}  // namespace internal

template <class S>
concept Consistent = HasNodes<S> && internal::is_consistent<S>();

// One line for each thing that is missing or has another shape, and what `S` is already.
template <class S>
std::string explain(std::string_view name = "the type") {
  if constexpr (!HasNodes<S>) {
    return fmt::format(
        "{} is no libservice: it needs the types Node (copyable) and File (movable) (HasNodes)\n",
        name);
  } else {
    std::string text;
    if constexpr (!HasConfig<S>) {
      text += "  HasConfig: a struct Config, and a constructor that takes it: missing\n";
    }
    for (const internal::Finding& finding : internal::find_all<S>()) {
      const bool wrong = finding.shape == internal::Shape::kWrong;
      const bool half = finding.shape != internal::Shape::kRight &&
                        internal::is_half<S>(finding.family);
      const bool needed = finding.shape != internal::Shape::kRight &&
                          internal::is_needed(finding.family, false);
      if (!wrong && !half && !needed) continue;
      text += fmt::format("  {}: {}: {}\n", finding.family, internal::readable(finding.wanted),
                          wrong  ? "there, but takes or returns something else"
                          : half ? "missing, while others of its group are there"
                                 : "missing");
    }
    if constexpr (internal::find_symlink<S>().shape == internal::Shape::kRight &&
                  !OffersReadlink<S>) {
      text += "  OffersSymlink: readlink is missing, without which nobody can use the links\n";
    }
    std::string write;
    for (const internal::Finding& finding : internal::find_all<S>()) {
      if (finding.shape != internal::Shape::kMissing ||
          internal::is_needed(finding.family, false) ||
          !internal::is_needed(finding.family, true) || internal::is_half<S>(finding.family)) {
        continue;
      }
      write += fmt::format("  {}: {}\n", finding.family, internal::readable(finding.wanted));
    }
    const std::string_view is = WritableService<S>   ? "a WritableService"
                                : ReadableService<S> ? "a ReadableService"
                                                     : "not yet a ReadableService";
    text = fmt::format("{} is {}{}\n", name, is, text.empty() ? "" : "; what is wrong:") + text;
    if (!write.empty()) text += "to be a WritableService it would also need:\n" + write;
    return text;
  }
}

}  // namespace libservices

#endif  // LIBSERVICES_EXPLAIN_H_
