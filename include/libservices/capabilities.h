// SPDX-License-Identifier: Apache-2.0
//
// The optional abilities of a libservice: one small concept for each operation or group.
//
// A type that cannot do something does not have the member; nobody writes a member that always
// fails. A layer offers an ability exactly when those below can carry it, which it says with one
// `requires` on the member. `capabilities_of<S>()` lists what a type offers, at compile time.
#ifndef LIBSERVICES_CAPABILITIES_H_
#define LIBSERVICES_CAPABILITIES_H_

#include <stop_token>
#include <string_view>

#include "libservices/inode_flags.h"
#include "libservices/libservice.h"
#include "libservices/lifecycle.h"  // IWYU pragma: export
#include "libservices/lock_request.h"

namespace libservices {

// readlink: the target, never longer than 4095 bytes, into `into`; returns its length.
template <class S>
concept OffersReadlink = HasNodes<S> && requires(S& s, const Context& context,
                                                 const typename S::Node& node,
                                                 std::span<char> into) {
  { s.readlink(context, node, into) } -> std::same_as<Result<std::size_t>>;
};

template <class S>
concept OffersSymlink =
    OffersReadlink<S> && requires(S& s, const Context& context, const typename S::Node& directory,
                                  std::string_view name, std::string_view target,
                                  const NewNode& fresh) {
      {
        s.symlink(context, directory, name, target, fresh)
      } -> std::same_as<Result<Entry<typename S::Node>>>;
    };

// link: a further name for `node`, which may have none left if it came from `tmpfile`.
template <class S>
concept OffersLink = HasNodes<S> && requires(S& s, const Context& context,
                                             const typename S::Node& node,
                                             const typename S::Node& directory,
                                             std::string_view name) {
  { s.link(context, node, directory, name) } -> std::same_as<Result<Entry<typename S::Node>>>;
};

// mknod: fifos, sockets, devices, and regular files without opening them.
template <class S>
concept OffersMknod =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& directory,
                            std::string_view name, const NewNode& fresh) {
      {
        s.mknod(context, directory, name, fresh)
      } -> std::same_as<Result<Entry<typename S::Node>>>;
    };

// tmpfile: a regular file without a name, on the volume of `directory` (O_TMPFILE).
template <class S>
concept OffersTmpfile =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& directory,
                            const NewNode& fresh, OpenFlags flags) {
      {
        s.tmpfile(context, directory, fresh, flags)
      } -> std::same_as<Result<Created<typename S::Node, typename S::File>>>;
    };

// staging: a directory outside the tree but on its volume, from which `rename` into the tree and
// back is atomic, and `link` goes both ways. Only this instance sees it.
template <class S>
concept OffersStaging = HasNodes<S> && requires(S& s, const Context& context, Staging which) {
  { s.staging(context, which) } -> std::same_as<Result<typename S::Node>>;
};

// data_epoch: a number that stays the same as long as nothing that was written can have been lost,
// with or without fsync. A service that dies changes it only if its own memory held the bytes.
template <class S>
concept KnowsDataEpoch = requires(const S& s) {
  { s.data_epoch() } -> std::same_as<std::uint64_t>;
};

template <class S>
concept OffersStatfs = HasNodes<S> && requires(S& s, const Context& context,
                                               const typename S::Node& node) {
  { s.statfs(context, node) } -> std::same_as<Result<VolumeInfo>>;
};

// Extended attributes. getxattr and listxattr return the size of the whole answer; with an empty
// `into` they only ask for it. listxattr gives the names one after the other, each with its NUL.
// ERRORS: ERANGE when `into` is too small, ENODATA, EEXIST, ENOTSUP for a namespace.
template <class S>
concept OffersXattrs =
    HasNodes<S> && requires(S& s, const Context& context, const typename S::Node& node,
                            std::string_view name, std::span<std::byte> into,
                            std::span<const std::byte> value, std::span<char> names,
                            XattrMode mode) {
      { s.getxattr(context, node, name, into) } -> std::same_as<Result<std::size_t>>;
      { s.setxattr(context, node, name, value, mode) } -> std::same_as<Result<void>>;
      { s.listxattr(context, node, names) } -> std::same_as<Result<std::size_t>>;
      { s.removexattr(context, node, name) } -> std::same_as<Result<void>>;
    };

// append: writes behind the end atomically, also against writers that this instance does not
// know; returns the offset behind what was written. Without it `Filesystem` orders the appends of
// its own callers.
template <class S>
concept OffersAppend = HasNodes<S> && requires(S& s, const Context& context,
                                               typename S::File& file,
                                               std::span<const std::byte> from,
                                               std::size_t& written) {
  { s.append(context, file, from, written) } -> std::same_as<Result<std::uint64_t>>;
};

// fallocate: `mode` is that of fallocate(2). ERRORS: ENOTSUP for a mode it does not know.
template <class S>
concept OffersFallocate =
    HasNodes<S> && requires(S& s, const Context& context, typename S::File& file, int mode,
                            std::uint64_t offset, std::uint64_t length) {
      { s.fallocate(context, file, mode, offset, length) } -> std::same_as<Result<void>>;
    };

// seek: the next data or hole at or behind `offset`. ERRORS: ENXIO at and behind the end.
template <class S>
concept OffersSeek = HasNodes<S> && requires(S& s, const Context& context, typename S::File& file,
                                             std::uint64_t offset, SeekTarget target) {
  { s.seek(context, file, offset, target) } -> std::same_as<Result<std::uint64_t>>;
};

// copy_range: within the instance, without the bytes passing through the caller. May copy less.
template <class S>
concept OffersCopyRange =
    HasNodes<S> && requires(S& s, const Context& context, typename S::File& from,
                            std::uint64_t from_offset, typename S::File& to,
                            std::uint64_t to_offset, std::uint64_t length) {
      {
        s.copy_range(context, from, from_offset, to, to_offset, length)
      } -> std::same_as<Result<std::uint64_t>>;
    };

// A descriptor that holds a file's bytes at the file's own offsets. It stays the libservice's.
enum class BackingUse : std::uint8_t {
  kWhileOpen,  // as the file lies now: no work is done for it
  // By others too, and when the file is closed, for as long as the object exists: what lies in
  // several places comes to one, and stays there.
  kLasting,
};
struct Backing {
  int descriptor = -1;
  // Only as long as nobody changes the object: then its bytes are elsewhere, and these stay as they
  // are. Of files that are open for reading alone.
  bool until_changed = false;
};

template <class S>
concept OffersBacking = HasNodes<S> && requires(S& s, const Context& context,
                                                typename S::File& file, BackingUse use) {
  { s.backing(context, file, use) } -> std::same_as<Result<Backing>>;
};

// clone: the empty file becomes one with the bytes of `from`, which share its storage until either
// is written. ERRORS: EOPNOTSUPP, EXDEV, EINVAL where that cannot be.
template <class S>
concept OffersClone = HasNodes<S> && requires(S& s, const Context& context,
                                              typename S::File& file, Backing from) {
  { s.clone(context, file, from) } -> std::same_as<Result<void>>;
};

// getflags: of a regular file or a directory. ERRORS: ENOTTY where the storage has none.
template <class S>
concept OffersFlags = HasNodes<S> && requires(S& s, const Context& context,
                                              const typename S::Node& node,
                                              InodeFlags::Form form) {
  { s.getflags(context, node, form) } -> std::same_as<Result<InodeFlags>>;
};

// setflags: all of that form. What an immutable object, or one that can be appended to alone, does
// not allow fails with EPERM from then on, whoever asks. ERRORS: as getflags; EOPNOTSUPP for a flag
// that the storage does not know, or that cannot be changed.
template <class S>
concept OffersFlagChanges =
    OffersFlags<S> && requires(S& s, const Context& context, const typename S::Node& node,
                               const InodeFlags& flags) {
      { s.setflags(context, node, flags) } -> std::same_as<Result<void>>;
    };

// lock: also among those who have the storage mounted elsewhere; who asks through this instance has
// been compared with its others. `owner`, not LockRequest::process, says for whom. Never waits. All
// of an owner's locks on a file are taken back through each of the open files that it asked
// through; a lock that is not has ended when its open file is closed. ERRORS: EAGAIN when somebody
// elsewhere holds a conflicting one. test_lock: the first of those, or kUnlock.
template <class S>
concept OffersLocks =
    HasNodes<S> && requires(S& s, const Context& context, typename S::File& file,
                            std::uint64_t owner, const LockRequest& request) {
      { s.lock(context, file, owner, request) } -> std::same_as<Result<void>>;
      { s.test_lock(context, file, owner, request) } -> std::same_as<Result<LockRequest>>;
    };

// Storage that other programs could not read by itself, since the content of some files lies
// elsewhere in part. partial_files: how many; EINTR when a stop is requested. complete: they become
// whole; counts in `completed`.
template <class S>
concept KeepsPartialFiles =
    requires(S& s, const Context& context, std::stop_token stop, std::uint64_t& completed) {
      { s.partial_files(context, stop) } -> std::same_as<Result<std::uint64_t>>;
      { s.complete(context, completed) } -> std::same_as<Result<void>>;
    };

// Whether `rename` can give two objects each other's name. What cannot says
//   static constexpr bool kExchangesNames = false;
// and answers EINVAL to RenameMode::kExchange.
template <class S>
constexpr bool exchanges_names() {
  if constexpr (requires { S::kExchangesNames; }) return S::kExchangesNames;
  return true;
}

struct Capabilities {
  bool writable, readlink, symlink, link, mknod, tmpfile, staging, statfs, xattrs, append,
      fallocate, seek, copy_range, backing, clone, flags, flag_changes, locks;

  friend constexpr bool operator==(const Capabilities&, const Capabilities&) = default;
};

template <HasNodes S>
constexpr Capabilities capabilities_of() {
  return {.writable = WritableService<S>,
          .readlink = OffersReadlink<S>,
          .symlink = OffersSymlink<S>,
          .link = OffersLink<S>,
          .mknod = OffersMknod<S>,
          .tmpfile = OffersTmpfile<S>,
          .staging = OffersStaging<S>,
          .statfs = OffersStatfs<S>,
          .xattrs = OffersXattrs<S>,
          .append = OffersAppend<S>,
          .fallocate = OffersFallocate<S>,
          .seek = OffersSeek<S>,
          .copy_range = OffersCopyRange<S>,
          .backing = OffersBacking<S>,
          .clone = OffersClone<S>,
          .flags = OffersFlags<S>,
          .flag_changes = OffersFlagChanges<S>,
          .locks = OffersLocks<S>};
}

}  // namespace libservices

#endif  // LIBSERVICES_CAPABILITIES_H_
