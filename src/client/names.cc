// SPDX-License-Identifier: Apache-2.0
//
// Names and attributes: everything that takes a path, and its form for a descriptor.
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "src/client/addresses.h"
#include "src/client/calls.h"
#include "src/client/paths.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client::calls {
namespace {

using protocol::Operation;
using protocol::Target;

// One request about one object. `extra` goes into the input behind the path.
template <class Words>
long about(Operation operation, const Place& place, Words& words, std::uint32_t target_flags,
           Rest* rest, auto&& add_more, auto&& take) {
  Request request(operation, place.instance);
  if (!request.ok()) return request.error();
  words.target = place.target(target_flags);
  request.set(words);
  if (!place.itself && !request.add(place.path, place.path_bytes)) return -ENAMETOOLONG;
  if (!add_more(request)) return -E2BIG;
  const long result = request.run();
  if (result == -protocol::kOutside && rest != nullptr) rest->take(request);
  if (result == 0) take(request);
  return result;
}

constexpr auto kNothingMore = [](Request&) { return true; };
constexpr auto kIgnore = [](Request&) {};

// The call on a path, or with AT_EMPTY_PATH on the descriptor itself.
template <class Ours, class Kernel>
long at_path(int directory, const char* path, int flags, Ours&& ours, Kernel&& kernel) {
  if ((flags & AT_EMPTY_PATH) != 0 && state.active && path != nullptr && check_text(path) == 0 &&
      path[0] == '\0') {
    OpenRecord* const record = directory == AT_FDCWD
                                   ? state.working_directory.load(std::memory_order_acquire)
                                   : find(directory);
    if (record == nullptr) return kernel(directory, path);
    Place place;
    const int descriptor = directory == AT_FDCWD ? -1 : directory;
    if (const long error = place_of(*record, descriptor, place); error != 0) return error;
    Rest rest;
    return ours(place, rest);
  }
  return with_path(directory, path, ours, kernel, (flags & AT_SYMLINK_NOFOLLOW) == 0);
}

std::uint32_t follow_unless(bool no_follow) {
  return no_follow ? 0U : std::uint32_t{Target::kFollow};
}

long get_attributes(const Place& place, bool follow, Rest* rest, Attributes& attributes) {
  protocol::StatRequest words;
  return about(Operation::kStat, place, words, follow_unless(!follow), rest, kNothingMore,
               [&](Request& request) { attributes = request.answer<Attributes>(); });
}

timespec time_of(const Timestamp& time) {
  return {static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
}

void to_stat(const Attributes& from, struct stat* into) {
  *into = {};
  into->st_dev = from.device;
  into->st_ino = from.inode;
  into->st_mode = from.mode;
  into->st_nlink = from.links;
  into->st_uid = from.uid;
  into->st_gid = from.gid;
  into->st_rdev = from.special_device;
  into->st_size = static_cast<off_t>(from.size);
  into->st_blksize = static_cast<blksize_t>(from.block_size);
  into->st_blocks = static_cast<blkcnt_t>(from.blocks);
  into->st_atim = time_of(from.atime);
  into->st_mtim = time_of(from.mtime);
  into->st_ctim = time_of(from.ctime);
}

std::uint64_t statx_flags(std::uint16_t flags) {
  const auto flag = [&](Attributes::Flag ours, std::uint64_t bit) {
    return (flags & ours) != 0 ? bit : 0;
  };
  return flag(Attributes::kImmutable, STATX_ATTR_IMMUTABLE) |
         flag(Attributes::kAppendOnly, STATX_ATTR_APPEND) |
         flag(Attributes::kNoDump, STATX_ATTR_NODUMP) |
         flag(Attributes::kCompressed, STATX_ATTR_COMPRESSED);
}

void to_statx(const Attributes& from, struct statx* into) {
  auto time = [](const Timestamp& stamp) {
    struct statx_timestamp converted {};
    converted.tv_sec = stamp.seconds;
    converted.tv_nsec = stamp.nanoseconds;
    return converted;
  };
  *into = {};
  into->stx_mask = STATX_BASIC_STATS | (from.btime == Timestamp{} ? 0U : STATX_BTIME);
  into->stx_blksize = from.block_size;
  into->stx_attributes = statx_flags(from.flags);
  into->stx_attributes_mask = statx_flags(UINT16_MAX);
  into->stx_nlink = from.links;
  into->stx_uid = from.uid;
  into->stx_gid = from.gid;
  into->stx_mode = static_cast<std::uint16_t>(from.mode);
  into->stx_ino = from.inode;
  into->stx_size = from.size;
  into->stx_blocks = from.blocks;
  into->stx_atime = time(from.atime);
  into->stx_mtime = time(from.mtime);
  into->stx_ctime = time(from.ctime);
  into->stx_btime = time(from.btime);
  into->stx_rdev_major = major(from.special_device);
  into->stx_rdev_minor = minor(from.special_device);
  into->stx_dev_major = major(from.device);
  into->stx_dev_minor = minor(from.device);
}

long change(const Place& place, bool follow, Rest* rest, const AttributeChanges& changes) {
  protocol::SetattrRequest words;
  words.changes = changes;
  return about(Operation::kSetattr, place, words, follow_unless(!follow), rest, kNothingMore,
               kIgnore);
}

// The f-form of a change.
long change_open(OpenRecord& record, int descriptor, const AttributeChanges& changes) {
  Place place;
  if (const long error = place_of(record, descriptor, place); error != 0) return error;
  return change(place, false, nullptr, changes);
}

AttributeChanges owner_changes(uid_t uid, gid_t gid) {
  AttributeChanges changes;
  if (uid != static_cast<uid_t>(-1)) changes.which |= AttributeChanges::kUid;
  if (gid != static_cast<gid_t>(-1)) changes.which |= AttributeChanges::kGid;
  changes.uid = uid;
  changes.gid = gid;
  return changes;
}

AttributeChanges mode_changes(mode_t mode) {
  AttributeChanges changes;
  changes.which = AttributeChanges::kMode;
  changes.mode = mode & 07777U;
  return changes;
}

// False: a nanosecond count that means nothing.
bool time_changes(const timespec times[2], AttributeChanges& changes) {
  using C = AttributeChanges;
  if (times == nullptr) {
    changes.which = C::kAtimeNow | C::kMtimeNow;
    return true;
  }
  for (int i = 0; i < 2; ++i) {
    const timespec& time = times[i];
    if (time.tv_nsec == UTIME_OMIT) continue;
    if (time.tv_nsec == UTIME_NOW) {
      changes.which |= i == 0 ? C::kAtimeNow : C::kMtimeNow;
      continue;
    }
    if (time.tv_nsec < 0 || time.tv_nsec > 999'999'999) return false;
    changes.which |= i == 0 ? C::kAtime : C::kMtime;
    (i == 0 ? changes.atime : changes.mtime) = {time.tv_sec,
                                                static_cast<std::uint32_t>(time.tv_nsec), 0};
  }
  return true;
}

long tell(const Attributes& attributes, struct stat* into) {
  if (!writable(into, sizeof *into)) return -EFAULT;
  to_stat(attributes, into);
  return 0;
}

long tell(const Attributes& attributes, struct statx* into) {
  if (!writable(into, sizeof *into)) return -EFAULT;
  to_statx(attributes, into);
  return 0;
}

void to_statfs(const VolumeInfo& from, struct statfs* into) {
  *into = {};
  into->f_type = static_cast<decltype(into->f_type)>(from.type);
  into->f_bsize = static_cast<decltype(into->f_bsize)>(from.block_size);
  into->f_frsize = into->f_bsize;
  into->f_blocks = from.blocks;
  into->f_bfree = from.blocks_free;
  into->f_bavail = from.blocks_available;
  into->f_files = from.files;
  into->f_ffree = from.files_free;
  into->f_namelen = static_cast<decltype(into->f_namelen)>(from.name_max);
}

long get_volume(const Place& place, Rest* rest, struct statfs* into) {
  protocol::StatfsRequest words;
  VolumeInfo volume;
  const long result = about(Operation::kStatfs, place, words, Target::kFollow, rest, kNothingMore,
                            [&](Request& request) { volume = request.answer<VolumeInfo>(); });
  if (result != 0) return result;
  if (!writable(into, sizeof *into)) return -EFAULT;
  to_statfs(volume, into);
  return 0;
}

// As at_path(): of an object of ours `tell` gets the attributes, and gives the result.
template <class Tell, class Kernel>
long attributes_at(int directory, const char* path, int flags, Tell&& tell, Kernel&& kernel) {
  return at_path(
      directory, path, flags,
      [&](const Place& place, Rest& rest) {
        Attributes attributes;
        const bool follow = (flags & AT_SYMLINK_NOFOLLOW) == 0;
        const long result = get_attributes(place, follow, &rest, attributes);
        return result == 0 ? tell(attributes) : result;
      },
      kernel);
}

}  // namespace

long fstatat(int directory, const char* path, struct stat* into, int flags) {
  return attributes_at(
      directory, path, flags, [&](const Attributes& attributes) { return tell(attributes, into); },
      [&](int at, const char* name) {
        return raw::syscall(SYS_newfstatat, at, name, into, flags);
      });
}

long fstat(int descriptor, struct stat* into) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) {
    if (state.active && is_own_descriptor(descriptor)) return -EBADF;
    return raw::syscall(SYS_newfstatat, descriptor, "", into, AT_EMPTY_PATH);
  }
  Place place;
  if (const long error = place_of(*record, descriptor, place); error != 0) return error;
  Attributes attributes;
  const long result = get_attributes(place, false, nullptr, attributes);
  return result == 0 ? tell(attributes, into) : result;
}

long statx(int directory, const char* path, int flags, unsigned mask, struct statx* into) {
  return attributes_at(
      directory, path, flags, [&](const Attributes& attributes) { return tell(attributes, into); },
      [&](int at, const char* name) {
        return raw::syscall(SYS_statx, at, name, flags, mask, into);
      });
}

long statfs(const char* path, struct statfs* into) {
  return with_path(
      AT_FDCWD, path,
      [&](const Place& place, Rest& rest) { return get_volume(place, &rest, into); },
      [&](int, const char* name) { return raw::syscall(SYS_statfs, name, into); }, true);
}

long fstatfs(int descriptor, struct statfs* into) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_fstatfs, descriptor, into);
  Place place;
  if (const long error = place_of(*record, descriptor, place); error != 0) return error;
  return get_volume(place, nullptr, into);
}

long faccessat(int directory, const char* path, int mode, int flags) {
  return at_path(
      directory, path, flags,
      [&](const Place& place, Rest& rest) {
        if ((mode & ~(R_OK | W_OK | X_OK)) != 0) return static_cast<long>(-EINVAL);
        protocol::AccessRequest words;
        words.mode = static_cast<std::uint32_t>(mode);
        return about(Operation::kAccess, place, words,
                     follow_unless((flags & AT_SYMLINK_NOFOLLOW) != 0), &rest, kNothingMore,
                     kIgnore);
      },
      [&](int at, const char* name) {
        return flags == 0 ? raw::syscall(SYS_faccessat, at, name, mode)
                          : raw::syscall(SYS_faccessat2, at, name, mode, flags);
      });
}

long fchmodat(int directory, const char* path, mode_t mode, int flags) {
  return at_path(
      directory, path, flags,
      [&](const Place& place, Rest& rest) {
        return change(place, (flags & AT_SYMLINK_NOFOLLOW) == 0, &rest, mode_changes(mode));
      },
      [&](int at, const char* name) {
        constexpr long kFchmodat2 = 452;
        if (flags == 0) return raw::syscall(SYS_fchmodat, at, name, mode);
        const long result = raw::syscall(kFchmodat2, at, name, mode, flags);
        return result == -ENOSYS ? static_cast<long>(-EOPNOTSUPP) : result;
      });
}

long fchmod(int descriptor, mode_t mode) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_fchmod, descriptor, mode);
  return change_open(*record, descriptor, mode_changes(mode));
}

long fchownat(int directory, const char* path, uid_t uid, gid_t gid, int flags) {
  return at_path(
      directory, path, flags,
      [&](const Place& place, Rest& rest) {
        return change(place, (flags & AT_SYMLINK_NOFOLLOW) == 0, &rest, owner_changes(uid, gid));
      },
      [&](int at, const char* name) {
        return raw::syscall(SYS_fchownat, at, name, uid, gid, flags);
      });
}

long fchown(int descriptor, uid_t uid, gid_t gid) {
  OpenRecord* const record = find(descriptor);
  if (record == nullptr) return raw::syscall(SYS_fchown, descriptor, uid, gid);
  return change_open(*record, descriptor, owner_changes(uid, gid));
}

long utimensat(int directory, const char* path, const timespec times[2], int flags) {
  auto kernel = [&](int at, const char* name) {
    return raw::syscall(SYS_utimensat, at, name, times, flags);
  };
  AttributeChanges changes;
  constexpr std::size_t kTimes = 2 * sizeof *times;
  if (state.active && times != nullptr && !readable(times, kTimes)) return -EFAULT;
  if (path == nullptr) {  // futimens
    OpenRecord* const record = find(directory);
    if (record == nullptr) return kernel(directory, path);
    if (!time_changes(times, changes)) return -EINVAL;
    return changes.which == 0 ? 0 : change_open(*record, directory, changes);
  }
  return at_path(
      directory, path, flags,
      [&](const Place& place, Rest& rest) {
        if (!time_changes(times, changes)) return static_cast<long>(-EINVAL);
        return change(place, (flags & AT_SYMLINK_NOFOLLOW) == 0, &rest, changes);
      },
      kernel);
}

long truncate(const char* path, off_t size) {
  return with_path(
      AT_FDCWD, path,
      [&](const Place& place, Rest& rest) {
        if (size < 0) return static_cast<long>(-EINVAL);
        if (static_cast<std::uint64_t>(size) > file_limit()) {
          Attributes attributes;
          if (const long error = get_attributes(place, true, &rest, attributes); error != 0) {
            return error;
          }
          if (static_cast<std::uint64_t>(size) > attributes.size) return beyond_limit();
        }
        AttributeChanges changes;
        changes.which = AttributeChanges::kSize;
        changes.size = static_cast<std::uint64_t>(size);
        return change(place, true, &rest, changes);
      },
      [&](int, const char* name) { return raw::syscall(SYS_truncate, name, size); }, true);
}

long mkdirat(int directory, const char* path, mode_t mode) {
  return with_path(
      directory, path,
      [&](const Place& place, Rest& rest) {
        protocol::MknodRequest words;
        words.mode = mode & 07777U;
        words.umask = current_umask();
        return about(Operation::kMkdir, place, words, 0, &rest, kNothingMore, kIgnore);
      },
      [&](int at, const char* name) { return raw::syscall(SYS_mkdirat, at, name, mode); });
}

long mknodat(int directory, const char* path, mode_t mode, dev_t device) {
  return with_path(
      directory, path,
      [&](const Place& place, Rest& rest) {
        protocol::MknodRequest words;
        words.mode = mode & (S_IFMT | 07777U);
        words.umask = current_umask();
        words.special_device = device;
        return about(Operation::kMknod, place, words, 0, &rest, kNothingMore, kIgnore);
      },
      [&](int at, const char* name) { return raw::syscall(SYS_mknodat, at, name, mode, device); });
}

long symlinkat(const char* target, int directory, const char* path) {
  if (state.active) {
    if (const long error = check_text(target); error != 0) return error;
  }
  return with_path(
      directory, path,
      [&](const Place& place, Rest& rest) {
        const std::size_t size = __builtin_strlen(target);
        protocol::SymlinkRequest words;
        words.link_bytes = static_cast<std::uint32_t>(size);
        return about(
            Operation::kSymlink, place, words, 0, &rest,
            [&](Request& request) { return request.add(target, size); }, kIgnore);
      },
      [&](int at, const char* name) { return raw::syscall(SYS_symlinkat, target, at, name); });
}

long readlinkat(int directory, const char* path, char* into, std::size_t size) {
  if (state.active && path != nullptr && check_text(path) == 0 &&
      __builtin_strncmp(path, "/dev/std", 8) != 0) {
    const OwnLink link = own_link(path);
    if (link.record != nullptr && link.rest[0] == '\0') {
      if (static_cast<long>(size) <= 0) return -EINVAL;
      char whole[kPathBytes];
      const long length = path_of(*link.record, link.descriptor, whole, sizeof whole);
      if (length >= 0) {
        const auto bytes =
            static_cast<std::size_t>(length) < size ? static_cast<std::size_t>(length) : size;
        __builtin_memcpy(into, whole, bytes);
        return static_cast<long>(bytes);
      }
    }
  }
  // An empty path is the link that the descriptor is of, opened by O_PATH and O_NOFOLLOW.
  return at_path(
      directory, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW,
      [&](const Place& place, Rest& rest) {
        if (size == 0) return static_cast<long>(-EINVAL);
        protocol::ReadlinkRequest words;
        words.count = size < kPathBytes ? size : kPathBytes;
        long length = 0;
        const long result = about(
            Operation::kReadlink, place, words, 0, &rest, kNothingMore, [&](Request& request) {
              length = request.output_bytes();
              if (static_cast<std::size_t>(length) > size) {
                length = static_cast<long>(size);
              }
              if (!writable(into, static_cast<std::size_t>(length))) {
                length = -EFAULT;
                return;
              }
              __builtin_memcpy(into, request.output(), static_cast<std::size_t>(length));
            });
        if (result == -EINVAL && place.itself) return static_cast<long>(-ENOENT);
        return result == 0 ? length : result;
      },
      [&](int at, const char* name) { return raw::syscall(SYS_readlinkat, at, name, into, size); });
}

long unlinkat(int directory, const char* path, int flags) {
  return with_path(
      directory, path,
      [&](const Place& place, Rest& rest) {
        if ((flags & ~AT_REMOVEDIR) != 0) return static_cast<long>(-EINVAL);
        protocol::UnlinkRequest words;
        return about((flags & AT_REMOVEDIR) != 0 ? Operation::kRmdir : Operation::kUnlink, place,
                     words, 0, &rest, kNothingMore, kIgnore);
      },
      [&](int at, const char* name) { return raw::syscall(SYS_unlinkat, at, name, flags); });
}

namespace {

// Whether the kernel does not find a path that leads into a mount: then `absolute` is one that does.
bool is_hidden(int directory, const char* path, char (&absolute)[2 * kPathBytes]) {
  return raw::syscall(SYS_faccessat2, directory, path, F_OK, AT_SYMLINK_NOFOLLOW) == -ENOENT &&
         leads_across(directory, path, absolute);
}

// link and rename: two paths, which must lead into one instance. Either may leave it.
template <class Kernel>
long two_paths(Operation operation, int from_directory, const char* from, std::uint32_t from_flags,
               int to_directory, const char* to, std::uint32_t mode, Kernel&& kernel) {
  if (!state.active) return kernel(from_directory, from, to_directory, to);
  if (const long error = check_text(from); error != 0) return error;
  if (const long error = check_text(to); error != 0) return error;
  char from_absolute[2 * kPathBytes];
  char to_absolute[2 * kPathBytes];
  for (int leaves = 0; leaves < kMostLeaves; ++leaves) {
    Place source;
    Place target;
    long source_kind = 1;
    if ((from_flags & Target::kItself) != 0) {
      OpenRecord* const record = find(from_directory);
      if (record == nullptr) {
        source_kind = 0;
      } else if (const long error = place_of(*record, from_directory, source); error != 0) {
        return error;
      }
    } else {
      source_kind = resolve(from_directory, from, source);
    }
    const long target_kind = resolve(to_directory, to, target);
    if (source_kind < 0) return source_kind;
    if (target_kind < 0) return target_kind;
    if (source_kind == 0 && target_kind == 0) {
      const long result = kernel(from_directory, from, to_directory, to);
      if (result != -ENOENT) return result;
      const bool source_crosses = leads_across(from_directory, from, from_absolute);
      const bool target_crosses = leads_across(to_directory, to, to_absolute);
      if (!source_crosses && !target_crosses) return result;
      if (!source_crosses || !target_crosses) return -EXDEV;
      from = from_absolute;
      to = to_absolute;
      from_directory = to_directory = AT_FDCWD;
      continue;
    }
    if (source_kind == 0 && is_hidden(from_directory, from, from_absolute)) {
      from = from_absolute;
      from_directory = AT_FDCWD;
      continue;
    }
    if (target_kind == 0 && is_hidden(to_directory, to, to_absolute)) {
      to = to_absolute;
      to_directory = AT_FDCWD;
      continue;
    }
    if (source_kind != target_kind || source.instance != target.instance) return -EXDEV;
    Request request(operation, source.instance);
    if (!request.ok()) return request.error();
    protocol::TwoTargetsRequest words;
    words.from = source.target(from_flags & Target::kFollow);
    words.to = target.target(0);
    words.mode = mode;
    request.set(words);
    if ((!source.itself && !request.add(source.path, source.path_bytes)) ||
        !request.add(target.path, target.path_bytes)) {
      return -ENAMETOOLONG;
    }
    const long result = request.run();
    if (result != -protocol::kOutside) return result;
    Rest rest;
    rest.take(request);
    if (request.answer_word() == 0) {
      follow_outside(source, rest.text, rest.bytes, from_absolute);
      from = from_absolute;
      from_directory = AT_FDCWD;
    } else {
      follow_outside(target, rest.text, rest.bytes, to_absolute);
      to = to_absolute;
      to_directory = AT_FDCWD;
    }
  }
  return -ELOOP;
}

}  // namespace

long linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  if (state.active && from != nullptr) {
    if (const long error = check_text(from); error != 0) return error;
  }
  const bool itself = (flags & AT_EMPTY_PATH) != 0 && from != nullptr && from[0] == '\0';
  // The usual way to name a file of O_TMPFILE.
  if (state.active && from != nullptr && (flags & AT_SYMLINK_FOLLOW) != 0 &&
      __builtin_strncmp(from, "/proc/self/fd/", 14) == 0) {
    int descriptor = 0;
    const char* digit = from + 14;
    for (; *digit >= '0' && *digit <= '9' && descriptor < 1'000'000; ++digit) {
      descriptor = descriptor * 10 + (*digit - '0');
    }
    if (*digit == '\0' && find(descriptor) != nullptr) {
      return linkat(descriptor, "", to_directory, to, AT_EMPTY_PATH);
    }
  }
  return two_paths(Operation::kLink, from_directory, from,
                   (itself ? std::uint32_t{Target::kItself} : 0U) |
                       follow_unless((flags & AT_SYMLINK_FOLLOW) == 0),
                   to_directory, to, 0,
                   [&](int a, const char* from_name, int b, const char* to_name) {
                     return raw::syscall(SYS_linkat, a, from_name, b, to_name, flags);
                   });
}

long renameat2(int from_directory, const char* from, int to_directory, const char* to,
               unsigned flags) {
  constexpr unsigned kNoReplace = 1;
  constexpr unsigned kExchange = 2;
  auto kernel = [&](int a, const char* from_name, int b, const char* to_name) {
    return flags == 0 ? raw::syscall(SYS_renameat, a, from_name, b, to_name)
                      : raw::syscall(SYS_renameat2, a, from_name, b, to_name, flags);
  };
  if (flags != 0 && flags != kNoReplace && flags != kExchange) {
    if (is_ours(from_directory, from) != 0 || is_ours(to_directory, to) != 0) return -EINVAL;
    return kernel(from_directory, from, to_directory, to);
  }
  return two_paths(Operation::kRename, from_directory, from, 0, to_directory, to, flags, kernel);
}

bool leads_to_ours(int directory, const char* path) {
  if (!state.active || path == nullptr) return false;
  if (is_ours(directory, path) != 0) return true;
  char absolute[2 * kPathBytes];
  return raw::syscall(SYS_faccessat, directory, path, F_OK) == -ENOENT &&
         leads_across(directory, path, absolute);
}

long is_ours(int directory, const char* path) {
  if (!state.active || path == nullptr || check_text(path) != 0) return 0;
  Place place;
  return resolve(directory, path, place, true);
}

}  // namespace libservices::client::calls
