// SPDX-License-Identifier: Apache-2.0
//
// The command line of `libservices-overlay`, as podman, buildah, CRI-O and mount(8) write it for
// fuse-overlayfs, and what it means.
//
//   -o lowerdir=TOP:…:BOTTOM,upperdir=UPPER,workdir=WORK,volatile MOUNTPOINT
//   -o lowerdir=TOP:…:BOTTOM MOUNTPOINT                 nothing can be changed
//   SOURCE MOUNTPOINT -o OPTIONS                        from mount(8); SOURCE is only a name
//
// Options stand behind `-o`, or glued to it, in one or more words; empty ones count for nothing. A
// backslash takes the meaning from a ',' or ':' or '\' behind it, and so does "…" behind a '=' from
// a ','. An option that is not known is told and ignored.
#ifndef LIBSERVICES_SRC_OVERLAY_OPTIONS_H_
#define LIBSERVICES_SRC_OVERLAY_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "libservices/id_mapping.h"
#include "src/daemon/daemon.h"

namespace libservices::overlay {

struct Options {
  enum class Action : std::uint8_t { kMount, kHelp, kVersion };
  Action action = Action::kMount;
  daemon::Place place = daemon::Place::kBackground;
  bool debug = false;  // tell what is mounted

  std::string source = "libservices-overlay";
  std::string mountpoint;
  std::vector<std::string> lowers;  // from the top
  std::string upper;                // empty: nothing can be changed
  std::string work;

  // Stored in the layers -> shown in the mount.
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;
  std::optional<std::uint32_t> squash_uid;  // all are shown as this one, whatever `uids` says
  std::optional<std::uint32_t> squash_gid;

  bool is_volatile = false;  // nothing need be on storage
  bool redirect = false;     // lower directories can be renamed; else EXDEV, as packers expect
  bool metacopy = false;
  bool index = true;
  // Larger files are changed in the upper in ranges of so many bytes. The kernel's overlayfs
  // cannot go on with such an upper, so it must be asked for.
  std::string range = "off";

  bool read_only = false;
  bool allow_other = false;
  std::vector<std::string> mount_options;  // nodev, noatime, …, and context=… for labels

  std::vector<std::string> warnings;  // each for a line on standard error
};

// The words behind the program's name. Touches nothing but them.
// ERRORS: InvalidArgument, for a person to read.
absl::StatusOr<Options> parse_options(std::span<const std::string_view> words);

// For --help and --version, with a newline at their ends.
std::string help_text();
std::string version_text();

}  // namespace libservices::overlay

#endif  // LIBSERVICES_SRC_OVERLAY_OPTIONS_H_
