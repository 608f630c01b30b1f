// SPDX-License-Identifier: Apache-2.0
#include "src/overlay/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "src/fuse/mount_options.h"

namespace libservices::overlay {
namespace {

using fuse::OptionKind;
using fuse::split_options;
using fuse::without_backslashes;

// What is so in any case, or is advice on speed: nobody can tell that it was ignored.
constexpr std::string_view kWithoutEffect[] = {
    "auto_unmount",
    "big_writes",
    "default_permissions",
    "fast_ino",
    "fast_ino_check",
    "fsname",
    "kernel_cache",
    "max_read",
    "max_write",
    "nfs_export",
    "nfs_filehandles",
    "nonempty",
    "splice_move",
    "splice_read",
    "splice_write",
    "static_nlink",
    "subtype",
    "threaded",
    "timeout",
    "userxattr",
    "uuid",
    "writeback",
    "xino",
};

absl::Status wrong(std::string_view what, std::string_view why, std::string_view mend) {
  return absl::InvalidArgumentError(fmt::format("{}: {} ({})", what, why, mend));
}

template <class Words>
bool has(const Words& words, std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

absl::StatusOr<std::uint32_t> number(std::string_view key, std::string_view text) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [behind, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || behind != end) {
    return wrong(fmt::format("{}={}", key, text), "it is no number", "write digits");
  }
  return value;
}

class Parser {
 public:
  // As fuse-overlayfs has it: programs may be set-user-id, devices do not work, and reading does
  // not write times. The last word on each counts.
  Parser() { options_.mount_options = {"nodev", "noatime"}; }

  absl::StatusOr<Options> run(std::span<const std::string_view> words) {
    if (absl::Status taken = take_words(words); !taken.ok()) return taken;
    if (options_.action != Options::Action::kMount) return std::move(options_);
    if (absl::Status done = finish(); !done.ok()) return done;
    return std::move(options_);
  }

 private:
  absl::Status take_words(std::span<const std::string_view> words) {
    bool only_places = false;  // behind "--"
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::string_view word = words[i];
      if (only_places || word.empty() || word == "-" || word.front() != '-') {
        places_.emplace_back(word);
      } else if (word == "--") {
        only_places = true;
      } else if (word == "-h" || word == "--help") {
        options_.action = Options::Action::kHelp;
        return absl::OkStatus();
      } else if (word == "-V" || word == "--version") {
        options_.action = Options::Action::kVersion;
        return absl::OkStatus();
      } else if (word == "-f") {
        options_.place = daemon::Place::kForeground;
      } else if (word == "-d" || word == "--debug") {
        take_debug();
      } else if (word == "-o" && i + 1 == words.size()) {
        return wrong("command line", "nothing stands behind -o",
                     "write -o lowerdir=DIRECTORY:DIRECTORY");
      } else if (word.starts_with("-o")) {
        const std::string_view list = word == "-o" ? words[++i] : word.substr(2);
        if (absl::Status taken = take_list(list); !taken.ok()) return taken;
      } else if (word != "-s") {  // one thread: we have our own
        ignore_unknown(word);
      }
    }
    return absl::OkStatus();
  }

  absl::Status take_list(std::string_view list) {
    for (const std::string_view option : split_options(list, ',')) {
      if (option.empty()) continue;
      const std::size_t equals = option.find('=');
      const bool has_value = equals != std::string_view::npos;
      const std::string_view value = has_value ? option.substr(equals + 1) : "";
      if (absl::Status taken = take(option, option.substr(0, equals), value); !taken.ok()) {
        return taken;
      }
    }
    return absl::OkStatus();
  }

  absl::Status take(std::string_view option, std::string_view key, std::string_view value) {
    const bool has_value = key.size() != option.size();
    const OptionKind kind = fuse::kind_of(option);
    if (has_value && take_place(key, value)) return absl::OkStatus();
    if (kind == OptionKind::kLabel) return take_label(option, value);
    if (key == "uidmapping") return take_ranges(key, value, options_.uids);
    if (key == "gidmapping") return take_ranges(key, value, options_.gids);
    if (key == "squash_to_uid") return take_id(key, value, options_.squash_uid);
    if (key == "squash_to_gid") return take_id(key, value, options_.squash_gid);
    if (key == "redirect_dir") return take_switch(key, value, options_.redirect);
    if (key == "metacopy") return take_switch(key, value, options_.metacopy);
    if (key == "index") return take_switch(key, value, options_.index);
    if (key == "xattr_permissions") return check_permissions(value);
    if (key == "fsync" && has_value) {
      absl::StatusOr<std::uint32_t> wanted = number(key, value);
      if (!wanted.ok()) return wanted.status();
      options_.is_volatile = *wanted == 0;
    } else if (option == "ro" || option == "rw") {
      options_.read_only = option == "ro";
    } else if (kind == OptionKind::kFlag) {
      options_.mount_options.emplace_back(option);
    } else if (kind == OptionKind::kChange) {
      return wrong(option, "a mount that is there cannot be changed",
                   "unmount it and mount it anew");
    } else if (!take_word(option) && kind != OptionKind::kOfMountProgram &&
               !has(kWithoutEffect, key)) {
      ignore(option, key, value);
    }
    return absl::OkStatus();
  }

  bool take_place(std::string_view key, std::string_view value) {
    if (key == "lowerdir") {
      lowers_.assign(value);
    } else if (key == "upperdir") {
      options_.upper = without_backslashes(value);
    } else if (key == "workdir") {
      options_.work = without_backslashes(value);
    } else if (key == "range") {
      options_.range = without_backslashes(value);
    } else {
      return false;
    }
    return true;
  }

  bool take_word(std::string_view word) {
    if (word == "volatile") {
      options_.is_volatile = true;
    } else if (word == "squash_to_root") {
      to_root_ = true;
    } else if (word == "allow_other") {
      options_.allow_other = true;
    } else if (word == "debug") {
      take_debug();
    } else {
      return false;
    }
    return true;
  }

  void take_debug() {
    options_.debug = true;
    options_.place = daemon::Place::kForeground;
  }

  // The kernel's module for labels reads the quotes itself.
  absl::Status take_label(std::string_view option, std::string_view value) {
    if (value.starts_with('"') && (value.size() < 2 || !value.ends_with('"'))) {
      return wrong(option, "its quotes have no end", R"(write context="LABEL")");
    }
    options_.mount_options.emplace_back(option);
    return absl::OkStatus();
  }

  absl::Status take_ranges(std::string_view key, std::string_view text,
                           std::vector<IdRange>& into) {
    into.clear();
    std::vector<std::uint32_t> numbers;
    for (const std::string_view part : split_options(text, ':')) {
      if (part.empty()) continue;  // containers/storage begins the list with a ':'
      absl::StatusOr<std::uint32_t> each = number(key, part);
      if (!each.ok()) return each.status();
      numbers.push_back(*each);
    }
    if (numbers.size() % 3 != 0) {
      return wrong(fmt::format("{}={}", key, text), "it is no list of ranges",
                   "write CONTAINER-ID:HOST-ID:COUNT, and more of them behind another ':'");
    }
    for (std::size_t i = 0; i < numbers.size(); i += 3) {
      into.push_back({numbers[i], numbers[i + 1], numbers[i + 2]});
    }
    return absl::OkStatus();
  }

  absl::Status take_id(std::string_view key, std::string_view text,
                       std::optional<std::uint32_t>& into) {
    absl::StatusOr<std::uint32_t> id = number(key, text);
    if (!id.ok()) return id.status();
    into = *id;
    return absl::OkStatus();
  }

  absl::Status take_switch(std::string_view key, std::string_view value, bool& into) {
    into = value == "on";
    if (into || value == "off" || (key == "redirect_dir" && has_no_redirects(value))) {
      return absl::OkStatus();
    }
    return wrong(fmt::format("{}={}", key, value), "it is neither on nor off", "write on or off");
  }
  static bool has_no_redirects(std::string_view value) {
    return value == "follow" || value == "nofollow";
  }

  absl::Status check_permissions(std::string_view value) {
    if (value == "0") return absl::OkStatus();
    return wrong(fmt::format("xattr_permissions={}", value),
                 "owners and modes in extended attributes are not supported",
                 "take force_mask out of storage.conf");
  }

  void ignore(std::string_view option, std::string_view key, std::string_view value) {
    if (key == "noacl") {
      tell_ignored(option, "access control lists stay in force");
    } else if (key == "ino32_t") {
      tell_ignored(option, "inode numbers have 64 bits");
    } else if (key == "noxattrs") {
      if (value != "0") tell_ignored(option, "extended attributes are needed");
    } else if (key == "plugins") {
      if (!value.empty()) tell_ignored(option, "there are no plug-ins");
    } else if (key == "allow_root") {
      tell_ignored(option, "write allow_other to let others in");
    } else {
      ignore_unknown(option);
    }
  }
  void tell_ignored(std::string_view option, std::string_view why) {
    options_.warnings.push_back(fmt::format("option {}: ignored, {}", option, why));
  }
  void ignore_unknown(std::string_view option) {
    options_.warnings.push_back(fmt::format(
        "option {}: ignored, it is not known (see libservices-overlay --help)", option));
  }

  absl::Status finish() {
    if (absl::Status taken = finish_places(); !taken.ok()) return taken;
    for (const std::string_view lower : split_options(lowers_, ':')) {
      if (!lower.empty()) options_.lowers.push_back(without_backslashes(lower));
    }
    if (options_.lowers.empty()) {
      return wrong("lowerdir", "no lower directory is named", "write -o lowerdir=TOP:…:BOTTOM");
    }
    if (!options_.upper.empty() && options_.work.empty()) {
      return wrong("workdir", "upperdir needs one",
                   "name an empty directory on the same volume with workdir=DIRECTORY");
    }
    if (to_root_ && !options_.squash_uid) options_.squash_uid = 0;
    if (to_root_ && !options_.squash_gid) options_.squash_gid = 0;
    options_.read_only = options_.read_only || options_.upper.empty();
    return absl::OkStatus();
  }

  absl::Status finish_places() {
    if (places_.empty() || places_.back().empty()) {
      return wrong("command line", "no mount point is named", "write it last");
    }
    if (places_.size() > 2) {
      return wrong("command line", fmt::format("'{}' is one word too many", places_[2]),
                   "write SOURCE MOUNTPOINT, or MOUNTPOINT alone");
    }
    if (places_.size() == 2 && !places_[0].empty()) options_.source = places_[0];
    options_.mountpoint = places_.back();
    return absl::OkStatus();
  }

  Options options_;
  std::vector<std::string> places_;
  std::string lowers_;  // as it was written
  bool to_root_ = false;
};

}  // namespace

absl::StatusOr<Options> parse_options(std::span<const std::string_view> words) {
  return Parser().run(words);
}

std::string version_text() { return "libservices-overlay: version 0.1.0\n"; }

std::string help_text() {
  return R"(usage: libservices-overlay [-f] [-d] -o OPTION[,OPTION…] [SOURCE] MOUNTPOINT

Layers as one tree, through FUSE: the mount_program of podman, buildah and
CRI-O, with fuse-overlayfs's command line. Returns when the tree is mounted; its
process ends when the tree is unmounted.

Layers
  lowerdir=TOP:…:BOTTOM     directories that are only read
  upperdir=DIRECTORY        what is changed goes there; without it nothing can be
  workdir=DIRECTORY         on the upper's volume, needed with upperdir
  volatile, fsync=0         nothing is made durable
  redirect_dir=on|off       lower directories can be renamed (off)
  index=on|off              hard links of lower files stay together (on)
  metacopy=on|off           chmod and chown copy no content (off)
  range=SIZE|off            large files are copied where they are changed, in
                            ranges of SIZE; overlayfs of the kernel cannot go on
                            with such an upper (off)
Owners
  uidmapping=C:H:N[:C:H:N…] stored as C is shown as H, N users; gidmapping too
  squash_to_root            all is shown as root's
  squash_to_uid=N, squash_to_gid=N
Mount
  ro, rw, allow_other, [no]dev, [no]suid, [no]exec, [no]atime, [no]diratime,
  sync, dirsync, context="LABEL"
  The defaults are suid, nodev and noatime, and root's mounts are for everybody.
Words
  -f           stay in the foreground
  -d           the same, and tell what is mounted
  -h, --help   -V, --version

What fuse-overlayfs has for speed is taken and ignored: timeout, threaded,
writeback, fast_ino, xino, static_nlink, nfs_filehandles. An option that is not
known is told and ignored. Exit status: 0 when it is mounted, else 1.
)";
}

}  // namespace libservices::overlay
