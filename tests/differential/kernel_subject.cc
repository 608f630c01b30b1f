// SPDX-License-Identifier: Apache-2.0
#include "tests/differential/kernel_subject.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace libservices::testing {
namespace {

Outcome answer(long returned) {
  if (returned < 0) return {.error = errno};
  return {.value = static_cast<std::uint64_t>(returned)};
}
Outcome done(long returned) {
  if (returned < 0) return {.error = errno};
  return {};
}

Outcome attributes_of(int directory, const char* path, int flags) {
  struct stat found;
  if (fstatat(directory, path, &found, flags) != 0) return {.error = errno};
  return {.text = describe_attributes(found.st_mode, found.st_nlink, found.st_uid, found.st_gid,
                                      static_cast<std::uint64_t>(found.st_size), found.st_mtim),
          .device = found.st_dev,
          .inode = found.st_ino};
}

Outcome list(int directory, const char* path) {
  const int opened = openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (opened < 0) return {.error = errno};
  DIR* stream = fdopendir(opened);
  std::vector<std::pair<std::string, int>> names;
  Outcome outcome;
  while (const dirent* entry = readdir(stream)) {
    names.emplace_back(entry->d_name, entry->d_type);
    outcome.listed[entry->d_name] = entry->d_ino;
  }
  closedir(stream);
  outcome.text = describe_names(std::move(names));
  return outcome;
}

// fchmodat2, which Linux has since 6.6.
int change_mode(int directory, const char* path, mode_t mode, bool follow) {
  struct stat found;
  if (!follow) {
    if (fstatat(directory, path, &found, AT_SYMLINK_NOFOLLOW) != 0) return -1;
    if (S_ISLNK(found.st_mode)) {
      errno = EOPNOTSUPP;
      return -1;
    }
  }
  return fchmodat(directory, path, mode, 0);
}

Outcome sorted_names(std::string names) {
  std::vector<std::pair<std::string, int>> list;
  for (std::size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) {
    list.emplace_back(names.c_str() + at, 0);
  }
  return {.value = names.size(), .text = describe_names(std::move(list))};
}

}  // namespace

KernelSubject::KernelSubject(const std::string& directory)
    : tree_(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      outside_(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  slots_.fill(-1);
  if (tree_ < 0 || outside_ < 0) abort();
}

KernelSubject::KernelSubject(const AsProgram& program) : prefix_(program.directory) {
  slots_.fill(-1);
  if (chdir(prefix_.c_str()) != 0) abort();
}

KernelSubject::~KernelSubject() {
  for (int fd : slots_) {
    if (fd >= 0) ::close(fd);
  }
  for (int fd : {tree_, outside_}) {
    if (fd >= 0) ::close(fd);
  }
}

class KernelSubject::InTree {
 public:
  explicit InTree(KernelSubject& subject) : subject_(subject) { move_to(subject.tree_); }
  ~InTree() {
    if (subject_.tree_ >= 0) subject_.become(0, 0);
    move_to(subject_.outside_);
  }

 private:
  static void move_to(int root) {
    if (root >= 0 && (fchdir(root) != 0 || chroot(".") != 0)) abort();
  }
  KernelSubject& subject_;
};

// The raw calls, but as a program: those of libc would change every thread of the process.
void KernelSubject::become(int whom, mode_t umask) {
  ::umask(umask);
  if (whom == caller_) return;
  const Caller& caller = kCallers[whom];
  caller_ = whom;
  if (!prefix_.empty()) {
    if (seteuid(0) != 0 || setgroups(caller.groups.size(), caller.groups.data()) != 0 ||
        setegid(caller.gid) != 0 || seteuid(caller.uid) != 0) {
      abort();
    }
    return;
  }
  setfsuid(0);
  syscall(SYS_setgroups, caller.groups.size(), caller.groups.data());
  setfsgid(caller.gid);
  setfsuid(caller.uid);
}

int KernelSubject::base(const Operation& op) const {
  return op.base < 0 ? AT_FDCWD : slots_[op.base];
}

std::string KernelSubject::named(const std::string& path) const {
  return path.starts_with('/') ? prefix_ + path : path;
}

Outcome KernelSubject::apply(const Operation& op) {
  const InTree here(*this);
  return apply_here(op);
}

Outcome KernelSubject::apply_here(const Operation& op) {
  become(op.caller, op.umask);
  if (op.call >= Call::kClose) return on_file(op);
  if (!op.itself && op.base >= 0 && slots_[op.base] < 0) return {.error = EBADF};
  if (op.itself && slots_[op.slot] < 0) return {.error = EBADF};
  return op.call >= Call::kStat ? on_attributes(op) : on_name(op);
}

Outcome KernelSubject::on_name(const Operation& op) {
  const int at = base(op);
  const std::string first = named(op.path);
  const std::string second = named(op.other_path);
  const char* path = first.c_str();
  const char* other = second.c_str();
  switch (op.call) {
    case Call::kOpen: {
      // A fifo would wait for its other end; that none can be opened is the rule compared with.
      const int opened = openat(at, path, op.flags | O_CLOEXEC | O_NONBLOCK, op.mode & 07777);
      const int error = errno;
      if (slots_[op.slot] >= 0) ::close(slots_[op.slot]);
      slots_[op.slot] = -1;
      if (opened < 0) return {.error = error};
      struct stat found;
      fstat(opened, &found);
      if (S_ISFIFO(found.st_mode) && (op.flags & O_PATH) == 0) {
        ::close(opened);
        return {.error = ENXIO};
      }
      slots_[op.slot] = opened;
      return {};
    }
    case Call::kAccess:
      return done(syscall(SYS_faccessat2, at, path, op.flags,
                          AT_EACCESS | (op.follow ? 0 : AT_SYMLINK_NOFOLLOW)));
    case Call::kMkdir:
      return done(mkdirat(at, path, op.mode));
    case Call::kMknod:
      return done(mknodat(at, path, op.mode, 0));
    case Call::kSymlink:
      return done(symlinkat(other, at, path));
    case Call::kReadlink: {
      char target[4096];
      Outcome outcome = answer(readlinkat(at, path, target, sizeof target));
      if (outcome.error == 0) outcome.text.assign(target, outcome.value);
      if (outcome.text.starts_with(prefix_)) outcome.text.erase(0, prefix_.size());
      return outcome;
    }
    case Call::kLink:
      return done(linkat(at, path, at, other, op.follow ? AT_SYMLINK_FOLLOW : 0));
    case Call::kUnlink:
      return done(unlinkat(at, path, 0));
    case Call::kRmdir:
      return done(unlinkat(at, path, AT_REMOVEDIR));
    case Call::kRename:
      return done(renameat2(at, path, at, other, static_cast<unsigned>(op.flags)));
    default:
      return list(at, path);
  }
}

Outcome KernelSubject::on_attributes(const Operation& op) {
  const bool own = op.itself;
  const int at = own ? slots_[op.slot] : base(op);
  const std::string first = own ? "" : named(op.path);
  const char* path = first.c_str();
  const int nofollow = own ? AT_EMPTY_PATH : (op.follow ? 0 : AT_SYMLINK_NOFOLLOW);
  const char* name = op.other_path.c_str();
  char buffer[65536];
  switch (op.call) {
    case Call::kStat:
      return attributes_of(at, path, nofollow);
    case Call::kChmod:
      if (own) return done(fchmod(at, op.mode));
      return done(change_mode(at, path, op.mode, op.follow));
    case Call::kChown: {
      const auto uid = static_cast<uid_t>(op.uid);
      const auto gid = static_cast<gid_t>(op.gid);
      return done(own ? fchown(at, uid, gid) : fchownat(at, path, uid, gid, nofollow));
    }
    case Call::kTruncate: {
      if (own) return done(ftruncate(at, op.offset));
      return done(truncate(path, op.offset));
    }
    case Call::kSetTimes: {
      timespec times[2] = {{op.offset, kSetAtime.tv_nsec}, {op.other_offset, kSetMtime.tv_nsec}};
      if (op.flags == 1) times[0].tv_nsec = times[1].tv_nsec = UTIME_NOW;
      const int result = own ? futimens(at, times) : utimensat(at, path, times, nofollow);
      if (result != 0) return {.error = errno};
      struct stat found;
      if (op.flags == 1 || fstatat(at, path, &found, nofollow) != 0) return {};
      return {.text = describe_times({found.st_atim.tv_sec, found.st_atim.tv_nsec},
                                     {found.st_mtim.tv_sec, found.st_mtim.tv_nsec}, op.itself)};
    }
    default:
      break;
  }
  switch (op.call) {
    case Call::kGetxattr: {
      Outcome outcome = answer(own         ? fgetxattr(at, name, buffer, sizeof buffer)
                               : op.follow ? getxattr(path, name, buffer, sizeof buffer)
                                           : lgetxattr(path, name, buffer, sizeof buffer));
      if (outcome.error == 0) outcome.text.assign(buffer, outcome.value);
      return outcome;
    }
    case Call::kSetxattr: {
      const std::string value = attribute_value(op);
      return done(own         ? fsetxattr(at, name, value.data(), value.size(), op.flags)
                  : op.follow ? setxattr(path, name, value.data(), value.size(), op.flags)
                              : lsetxattr(path, name, value.data(), value.size(), op.flags));
    }
    case Call::kListxattr: {
      Outcome outcome = answer(own         ? flistxattr(at, buffer, sizeof buffer)
                               : op.follow ? listxattr(path, buffer, sizeof buffer)
                                           : llistxattr(path, buffer, sizeof buffer));
      return outcome.error != 0 ? outcome : sorted_names({buffer, outcome.value});
    }
    default:
      return done(own         ? fremovexattr(at, name)
                  : op.follow ? removexattr(path, name)
                              : lremovexattr(path, name));
  }
}

Outcome KernelSubject::on_file(const Operation& op) {
  int& slot = slots_[op.slot];
  if (slot < 0) return {.error = EBADF};
  switch (op.call) {
    case Call::kClose: {
      Outcome outcome = done(::close(slot));
      slot = -1;
      return outcome;
    }
    case Call::kRead:
    case Call::kPread: {
      std::string bytes(op.length, '\0');
      Outcome outcome =
          answer(op.call == Call::kRead ? ::read(slot, bytes.data(), bytes.size())
                                        : ::pread(slot, bytes.data(), bytes.size(), op.offset));
      if (outcome.error == 0) outcome.text = bytes.substr(0, outcome.value);
      return outcome;
    }
    case Call::kWrite:
    case Call::kPwrite: {
      const std::string bytes = pattern(op.data, op.length);
      return answer(op.call == Call::kWrite
                        ? ::write(slot, bytes.data(), bytes.size())
                        : ::pwrite(slot, bytes.data(), bytes.size(), op.offset));
    }
    case Call::kSeek: {
      // The position in a directory is the filesystem's own business.
      struct stat found;
      if (fstat(slot, &found) == 0 && S_ISDIR(found.st_mode)) return {.error = ENOSYS};
      return answer(lseek(slot, op.offset, op.flags));
    }
    case Call::kFallocate:
      return done(fallocate(slot, op.flags, op.offset, static_cast<off_t>(op.length)));
    case Call::kCopyRange: {
      const int to = slots_[op.other_slot];
      if (to < 0) return {.error = EBADF};
      off_t from_offset = op.offset;
      off_t to_offset = op.other_offset;
      return answer(copy_file_range(slot, &from_offset, to, &to_offset, op.length, 0));
    }
    default:
      return done(fsync(slot));
  }
}

std::string why_kernel_cannot() {
  if (geteuid() != 0) return "comparing with the kernel takes the superuser's rights";
  struct statfs volume;
  if (statfs("/dev/shm", &volume) != 0 || volume.f_type != TMPFS_MAGIC) {
    return "there is no tmpfs at /dev/shm";
  }
  return "";
}

ScriptOptions what_kernel_has() {
  auto is_off = [](const std::string& protection) {
    std::ifstream setting("/proc/sys/fs/protected_" + protection);
    int value = 1;
    return setting >> value && value == 0;
  };
  ScriptOptions has;
  has.links_by_users = is_off("hardlinks");
  has.sticky = is_off("symlinks") && is_off("regular") && is_off("fifos");
  on_fresh_tmpfs([&](Subject&) {
    has.xattrs = ::setxattr("/", "user.a", "", 0, 0) == 0;
    has.access_lists = ::removexattr("/", "system.posix_acl_access") == 0;
  });
  return has;
}

namespace {

std::string fresh_directory() {
  std::string directory = "/dev/shm/libservices-differential-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) abort();
  return directory;
}

// A thread of its own, whose root directory is the open one.
void with_root(int directory, const std::function<void(Subject&)>& work) {
  std::thread([&] {
    if (unshare(CLONE_FS) != 0 || fchdir(directory) != 0 || chroot(".") != 0) {
      perror("with_root");
      abort();
    }
    KernelSubject subject;
    work(subject);
  }).join();
}

// A user namespace in which `ids.stored` and so on are the ids of 0 and so on outside.
int user_namespace(const ShownIds& ids) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    char byte = unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    (void)!write(ready[1], &byte, 1);
    pause();
    _exit(0);
  }
  ::close(ready[1]);
  char made = 'n';
  const bool asked = child > 0 && ::read(ready[0], &made, 1) == 1 && made == 'y';
  ::close(ready[0]);
  int found = -1;
  if (asked) {
    const std::string process = "/proc/" + std::to_string(child);
    for (const char* map : {"/uid_map", "/gid_map"}) {
      std::ofstream(process + map) << ids.stored << " 0 " << ids.count << std::endl;
    }
    found = open((process + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (child > 0) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return found;
}

// The directory in a mount of its own that nothing names. -1: this kernel has no such.
int idmapped(const std::string& directory, const ShownIds& ids) {
  const int users = user_namespace(ids);
  const int tree = open_tree(AT_FDCWD, directory.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_IDMAP;
  wanted.userns_fd = static_cast<std::uint64_t>(users);
  const bool is_mapped = users >= 0 && tree >= 0 &&
                         mount_setattr(tree, "", AT_EMPTY_PATH, &wanted, sizeof wanted) == 0;
  ::close(users);
  if (is_mapped) return tree;
  ::close(tree);
  return -1;
}

}  // namespace

void on_directory(const std::string& directory, const std::function<void(Subject&)>& work) {
  std::thread([&] {
    if (unshare(CLONE_FS) != 0) abort();
    KernelSubject subject(directory);
    work(subject);
  }).join();
}

void on_fresh_tmpfs(const std::function<void(Subject&)>& work) {
  const std::string directory = fresh_directory();
  const int root = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0 || fchmod(root, 0755) != 0) abort();
  with_root(root, work);
  ::close(root);
  std::filesystem::remove_all(directory);
}

bool has_idmapped_tmpfs() {
  const std::string directory = fresh_directory();
  const int root = idmapped(directory, {.stored = 100000, .count = 1});
  if (root >= 0) ::close(root);
  std::filesystem::remove_all(directory);
  return root >= 0;
}

void on_idmapped_tmpfs(const ShownIds& ids, const std::function<void(const std::string&)>& prepare,
                       const std::function<void(Subject&)>& work) {
  const std::string directory = fresh_directory();
  prepare(directory);
  const int root = idmapped(directory, ids);
  if (root < 0) abort();
  with_root(root, work);
  ::close(root);
  std::filesystem::remove_all(directory);
}

}  // namespace libservices::testing
