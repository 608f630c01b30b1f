// SPDX-License-Identifier: Apache-2.0
#include "src/host/object_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "src/protocol/mount_table.h"

namespace libservices::host {

std::string object_name(std::string_view mount, const Attributes& object) {
  std::uint64_t hash = protocol::kMountHashSeed;
  for (const char byte : mount) hash = protocol::mount_hash_step(hash, byte);
  return fmt::format("{:x}-{:x}-{:x}-{:x}-{:x}", hash, object.device, object.inode,
                     object.btime.seconds, object.btime.nanoseconds);
}

// A mount of its own, which is mounted nowhere: its root has nothing above.
Descriptor open_confined(const std::string& path) {
  Descriptor tree(::open_tree(AT_FDCWD, path.c_str(),
                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (tree.ok()) return tree;
  return Descriptor(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

void empty_directory(int directory) {
  const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const listing = copy < 0 ? nullptr : ::fdopendir(copy);
  if (listing == nullptr) {
    if (copy >= 0) ::close(copy);
    return;
  }
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (::unlinkat(directory, entry->d_name, 0) == 0 || errno != EISDIR) continue;
    const Descriptor below(
        ::openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (below.ok()) empty_directory(below.get());
    ::unlinkat(directory, entry->d_name, AT_REMOVEDIR);
  }
  ::closedir(listing);
}

}  // namespace libservices::host
