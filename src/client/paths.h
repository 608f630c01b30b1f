// SPDX-License-Identifier: Apache-2.0
//
// Which paths are ours. A path of the application is resolved to an instance, a base and a rest,
// or left to the kernel; a walk that leaves its instance goes on where it led.
#ifndef LIBSERVICES_SRC_CLIENT_PATHS_H_
#define LIBSERVICES_SRC_CLIENT_PATHS_H_

#include <errno.h>
#include <fcntl.h>

#include "src/client/addresses.h"
#include "src/client/request.h"
#include "src/client/state.h"

namespace libservices::client {

// A path of ours: `path` from the open directory `base`, or from the root of the instance.
struct Place {
  std::uint32_t instance = 0;
  protocol::Handle base = protocol::kRoot;
  const char* path = nullptr;
  std::uint32_t path_bytes = 0;
  bool itself = false;        // `base` is the object, and there is no path
  std::uint32_t way = 0;      // what the walk may not do, of Target::Flags
  char text[2 * kPathBytes];  // what path points into, if not into the caller's string

  protocol::Target target(std::uint32_t flags) const {
    return {base, flags | way | (itself ? std::uint32_t{protocol::Target::kItself} : 0U),
            path_bytes};
  }
};

// 1: ours, 0: the kernel's, or -errno (a stale descriptor, no service).
// When the kernel's working directory matters, it is asked for once and remembered. `follow`: what
// a link of /proc/self at the end of the path leads to is meant.
long resolve(int directory, const char* path, Place& place, bool follow = false);

// An open file, or the working directory, of this process by its name at the kernel:
// /proc/self/fd/N, /dev/fd/N, /dev/stdin, /proc/self/cwd.
struct OwnLink {
  OpenRecord* record = nullptr;  // null: it is none of ours
  int descriptor = -1;           // -1: the working directory
  const char* rest = nullptr;    // what comes behind it, without a '/' at the beginning
};
OwnLink own_link(const char* path);

// The place of an open file itself. 0, or -errno.
long place_of(OpenRecord& record, int descriptor, Place& place);

// After chdir and fchdir: the kernel's working directory is another one.
void forget_kernel_directory();
// The process's root is now what was `path` from the one before; 0 bytes: no mount lies below.
void take_root(const char* path, std::size_t bytes);
// A descriptor's own path, /proc/self/fd/N, with a NUL: its length without.
using NumberPath = char[sizeof "/proc/self/fd/" + 10];
std::size_t path_by_number(int descriptor, NumberPath& path);
// The path that the kernel knows of a descriptor; its length without a NUL, or -errno.
long name_of(int descriptor, char (&into)[kPathBytes]);

// The mount that a handle's file belongs to: its path into `into`, its length, or -errno.
long mount_path(std::uint32_t instance, char* into, std::size_t size);

// Takes the rest of a path that left its instance (protocol::kOutside) and makes it an absolute
// path in `absolute`. `place` is where the walk began.
void follow_outside(const Place& place, const char* rest, std::uint32_t rest_bytes,
                    char (&absolute)[2 * kPathBytes]);

// Whether a path that the kernel does not find (ENOENT) leads into a mount all the same: by a
// symbolic link of the kernel's tree, or from a descriptor of a directory above it. Then `absolute`
// is a path that resolve() knows.
bool leads_across(int directory, const char* path, char (&absolute)[2 * kPathBytes]);

inline constexpr int kMostLeaves = 40;

// Runs `ours(place)` for a path of ours, or `kernel(directory, path)`, until the walk ends in one.
// `ours` returns -protocol::kOutside, with the rest of the path in `rest`, when it left; `kernel`
// ENOENT where the walk may have come to a mount that the kernel does not know.
struct Rest {
  char text[kPathBytes];
  std::uint32_t bytes = 0;
  void take(const Request& request) {
    bytes = request.output_bytes() < sizeof text ? request.output_bytes() : sizeof text - 1;
    __builtin_memcpy(text, request.output(), bytes);
  }
};
// Opens `place` as `words` say, with a placeholder of the stock: a removed directory for a chdir.
// 0 and the record, with one descriptor counted and the stock's own in it; else -errno or kOutside.
long open_place(const Place& place, protocol::OpenRequest words, Rest& rest, OpenRecord*& opened);

template <class Ours, class Kernel>
long with_path(int directory, const char* path, Ours&& ours, Kernel&& kernel, bool follow = false) {
  if (!state.active || path == nullptr) return kernel(directory, path);
  if (const long error = check_text(path); error != 0) return error;
  char absolute[2 * kPathBytes];
  for (int leaves = 0; leaves < kMostLeaves; ++leaves) {
    Place place;
    const long kind = resolve(directory, path, place, follow);
    if (kind < 0) return kind;
    if (kind == 0) {
      const long result = kernel(directory, path);
      if (result != -ENOENT || !leads_across(directory, path, absolute)) return result;
    } else {
      Rest rest;
      const long result = ours(place, rest);
      if (result != -protocol::kOutside) return result;
      follow_outside(place, rest.text, rest.bytes, absolute);
    }
    directory = AT_FDCWD;
    path = absolute;
  }
  return -ELOOP;
}

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_PATHS_H_
