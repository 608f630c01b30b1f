// SPDX-License-Identifier: Apache-2.0
#include "src/host/backing_descriptor.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "src/host/mountinfo.h"
#include "src/host/open_files.h"

namespace libservices::host {
namespace {

Descriptor open_again(int descriptor, int flags) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  return Descriptor(::open(path, flags | O_CLOEXEC | O_NOCTTY));
}

bool lacks_descriptors(int error) { return error == EMFILE || error == ENFILE; }

std::optional<std::string> mount_point_of(std::uint64_t id) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const std::optional<MountInfo> mount = parse_mountinfo(line);
    if (mount && mount->id == id) return mount->path;
  }
  return std::nullopt;
}

// The root of the mount `id`, on a mount that nobody can name and that is read-only. None: without
// privilege, or where another mount hides it.
Descriptor read_only_root(std::uint64_t id) {
  const std::optional<std::string> path = mount_point_of(id);
  if (!path) return {};
  constexpr unsigned kFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const Descriptor tree(
      static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path->c_str(), kFlags)));
  if (!tree.ok()) return {};
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) !=
      0) {
    return {};
  }
  return open_again(tree.get(), O_RDONLY | O_NOATIME);
}

// By mount id. A mount that is gone keeps its filesystem busy no longer than the service runs.
class ReadOnlyMounts {
 public:
  // ERRORS: those of opening; EOPNOTSUPP: there is no such mount.
  Result<Descriptor> open(int descriptor) {
    struct {
      file_handle head;
      unsigned char rest[MAX_HANDLE_SZ];
    } handle{};
    handle.head.handle_bytes = MAX_HANDLE_SZ;
    int old_id = 0;
    struct statx seen {};
    if (::name_to_handle_at(descriptor, "", &handle.head, &old_id, AT_EMPTY_PATH) != 0 ||
        ::statx(descriptor, "", AT_EMPTY_PATH, STATX_INO, &seen) != 0) {
      return Errno{EOPNOTSUPP};
    }
    const std::shared_ptr<const Descriptor> root = root_of(static_cast<std::uint64_t>(old_id));
    if (!root->ok()) return Errno{EOPNOTSUPP};
    Descriptor opened(::open_by_handle_at(root->get(), &handle.head, O_RDONLY | O_CLOEXEC));
    if (!opened.ok()) return Errno{lacks_descriptors(errno) ? ENFILE : EOPNOTSUPP};
    // The id may have been given to another mount since.
    struct statx found {};
    const bool same = ::statx(opened.get(), "", AT_EMPTY_PATH, STATX_INO, &found) == 0 &&
                      found.stx_ino == seen.stx_ino && found.stx_dev_major == seen.stx_dev_major &&
                      found.stx_dev_minor == seen.stx_dev_minor;
    if (!same) {
      forget(static_cast<std::uint64_t>(old_id), root);
      return Errno{EOPNOTSUPP};
    }
    return opened;
  }

 private:
  std::shared_ptr<const Descriptor> root_of(std::uint64_t id) {
    std::lock_guard lock(mutex_);
    auto& root = roots_[id];
    if (root == nullptr) root = std::make_shared<const Descriptor>(read_only_root(id));
    return root;
  }
  void forget(std::uint64_t id, const std::shared_ptr<const Descriptor>& root) {
    std::lock_guard lock(mutex_);
    const auto known = roots_.find(id);
    if (known != roots_.end() && known->second == root) roots_.erase(known);
  }

  std::mutex mutex_;  // guards roots_
  std::map<std::uint64_t, std::shared_ptr<const Descriptor>> roots_;
};

ReadOnlyMounts& read_only_mounts() {
  static ReadOnlyMounts mounts;
  return mounts;
}

// Whether the kernel would let somebody with this user id write to the file, or make it so. Of
// groups, and of users whom a list names, it is assumed.
bool kernel_lets_write(const struct stat& file, uid_t uid) {
  return uid == 0 || uid == file.st_uid || (file.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

// Whether `pid`, a process of the service's own user, sees the same tree of the host as the
// service, which would open the file for it by its path.
bool sees_same_tree(pid_t pid) {
  const auto is_same = [&](const char* what) {
    struct stat theirs {};
    struct stat ours {};
    const std::string its = "/proc/" + std::to_string(pid) + what;
    const std::string own = std::string("/proc/self") + what;
    return ::stat(its.c_str(), &theirs) == 0 && ::stat(own.c_str(), &ours) == 0 &&
           theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
  };
  return is_same("/ns/user") && is_same("/ns/mnt") && is_same("/root");
}

bool has_path(int descriptor) {
  char path[16] = "";
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  return ::readlink(link.c_str(), path, sizeof path) > 0 &&
         std::string_view(path, sizeof path).substr(0, 7) != "/memfd:";
}

}  // namespace

Result<Descriptor> open_for_mapping(const Backing& backing, Mapping mapping, uid_t uid,
                                    const std::function<bool()>& may_write) {
  const auto open = [&](int flags) -> Result<Descriptor> {
    Descriptor opened = open_again(backing.descriptor, flags);
    if (!opened.ok()) return Errno{lacks_descriptors(errno) ? ENFILE : EOPNOTSUPP};
    return opened;
  };
  if (mapping == Mapping::kWrites) {
    if (backing.until_changed) return Errno{EOPNOTSUPP};
    return open(O_RDWR);
  }
  Result<Descriptor> on_mount = read_only_mounts().open(backing.descriptor);
  if (on_mount.ok() || on_mount.error() != Errno{EOPNOTSUPP}) return on_mount;
  struct stat seen {};
  if (::fstat(backing.descriptor, &seen) != 0) return Errno{EOPNOTSUPP};
  if (kernel_lets_write(seen, uid) && !may_write()) return Errno{EOPNOTSUPP};
  return open(O_RDONLY);
}

Result<Descriptor> lend(AnyFilesystem& filesystem, const Context& context, OpenFile& file,
                        Mapping mapping, KeptFiles& kept_files) {
  if (mapping == Mapping::kWrites && !filesystem.is_mapped(file)) {
    LIBSERVICES_TRY(const Attributes now, filesystem.stat(context, Location::object_of(file)));
    kept_files.keep_mapped(now.inode);
  }
  LIBSERVICES_TRY(const Backing backing, filesystem.map(context, file, mapping));
  const uid_t uid = context.caller.uid;
  return open_for_mapping(backing, mapping, uid, [&] {
    if (!backing.until_changed &&
        filesystem.access(context, Location::object_of(file), W_OK).ok()) {
      return true;
    }
    return uid == ::geteuid() && has_path(backing.descriptor) &&
           sees_same_tree(static_cast<pid_t>(context.process & kPidMask));
  });
}

}  // namespace libservices::host
