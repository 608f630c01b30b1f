// SPDX-License-Identifier: Apache-2.0
//
// Volumes and mounts that nobody else sees and that nothing leaves behind: they are in a mount
// namespace of one thread, and end with it.
#ifndef LIBSERVICES_TESTS_UNION_VOLUME_H_
#define LIBSERVICES_TESTS_UNION_VOLUME_H_

#include <functional>
#include <string>

namespace libservices::testing {

enum class VolumeKind { kTmpfs, kExt4 };

// Runs `work` in a thread with a mount namespace, a root directory and a file mode mask of its own.
// Its argument is a directory of a fresh tmpfs. Returns why not, if it could not be done.
std::string on_private_mounts(const std::function<void(const std::string& tmpfs)>& work);

// A fresh ext4 on a file in `directory`, mounted at a path that is returned, until the thread ends.
// Empty where that cannot be had. REQUIRES: called in `work` of on_private_mounts().
std::string mount_ext4(const std::string& directory);

// Why overlayfs cannot be mounted over directories in `directory`; empty if it can.
std::string why_overlayfs_cannot(const std::string& directory);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_VOLUME_H_
