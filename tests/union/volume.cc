// SPDX-License-Identifier: Apache-2.0
#include "tests/union/volume.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/support/scratch_directory.h"

namespace libservices::testing {
namespace {

std::string reason(const char* what) { return fmt::format("{}: {}", what, std::strerror(errno)); }

}  // namespace

std::string on_private_mounts(const std::function<void(const std::string& tmpfs)>& work) {
  if (geteuid() != 0) return "mounting takes the superuser's rights";
  const ScratchDirectory scratch;
  const std::string place = scratch.directory("volume");
  std::string why;
  std::thread([&] {
    if (unshare(CLONE_FS | CLONE_NEWNS) != 0) {
      why = reason("a mount namespace");
    } else if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
               mount("tmpfs", place.c_str(), "tmpfs", 0, "mode=755") != 0) {
      why = reason("mounting a tmpfs");
    } else {
      ::umask(0);
      work(place);
    }
  }).join();
  return why;
}

std::string mount_ext4(const std::string& directory) {
  const std::string command = fmt::format(
      "cd {} && truncate -s 512M image && mkfs.ext4 -q -O ^has_journal image && mkdir -p ext4 && "
      "mount -o loop image ext4",
      directory);
  return std::system(command.c_str()) == 0 ? directory + "/ext4" : "";
}

std::string why_overlayfs_cannot(const std::string& directory) {
  const ScratchDirectory branches(directory);
  const std::string options = fmt::format(
      "lowerdir={},upperdir={},workdir={},redirect_dir=on,index=on,metacopy=off",
      branches.directory("lower"), branches.directory("upper"), branches.directory("work"));
  const std::string merged = branches.directory("merged");
  if (mount("overlay", merged.c_str(), "overlay", 0, options.c_str()) != 0) {
    return reason("mounting an overlayfs");
  }
  return umount(merged.c_str()) == 0 ? "" : reason("unmounting an overlayfs");
}

}  // namespace libservices::testing
