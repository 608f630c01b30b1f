// SPDX-License-Identifier: Apache-2.0
//
// The words behind `-o`, as mount(8) and fstab have them.
#ifndef LIBSERVICES_SRC_FUSE_MOUNT_OPTIONS_H_
#define LIBSERVICES_SRC_FUSE_MOUNT_OPTIONS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace libservices::fuse {

// What stands between separators, with its backslashes, empty parts too. A backslash protects the
// byte behind it, and a quote that opens behind '=' what is inside.
std::vector<std::string_view> split_options(std::string_view text, char separator = ',');
std::string without_backslashes(std::string_view text);

enum class OptionKind : std::uint8_t {
  kFlag,            // of mount(2): nodev, ro, relatime, …
  kLabel,           // context=… and its like, which the kernel's security module reads
  kOfMountProgram,  // for mount(8), systemd and whoever reads fstab: noauto, user, x-…, comment=…
  kChange,          // of a mount that is there: remount, bind, move
  kUnknown,
};
OptionKind kind_of(std::string_view option);

struct KernelOptions {
  unsigned long flags = 0;         // of mount(2)
  std::vector<std::string> words;  // the data, but what FUSE itself needs
};

// Of words that contradict each other the last one counts.
// ERRORS: InvalidArgument, which names a word that is none of a mount's.
absl::StatusOr<KernelOptions> kernel_options(std::span<const std::string> options);

// The flags as words of fusermount3, which knows few of them.
// ERRORS: FailedPrecondition for one that it does not know and that matters.
absl::StatusOr<std::vector<std::string>> helper_options(const KernelOptions& options);

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_MOUNT_OPTIONS_H_
