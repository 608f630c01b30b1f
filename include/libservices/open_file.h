// SPDX-License-Identifier: Apache-2.0
//
// The service open file: POSIX's open file description, with the offset that all its descriptors
// share; and `Location`, the way in which a call names an object.
#ifndef LIBSERVICES_OPEN_FILE_H_
#define LIBSERVICES_OPEN_FILE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "libservices/open_flags.h"

namespace libservices {

// Made by `open` and ended by `close` of the filesystem that made it, never given to another one.
// THREADS: all its operations may run at once; those that use the shared offset take their turn.
class OpenFile {
 public:
  virtual ~OpenFile() = default;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  OpenFlags flags() const { return {flags_.load(std::memory_order_relaxed)}; }

  // fcntl(F_SETFL): only O_APPEND, O_NONBLOCK, O_DIRECT and O_NOATIME change; the rest is ignored.
  void set_flags(int bits) {
    constexpr int kChangeable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
    int old = flags_.load(std::memory_order_relaxed);
    flags_.store((old & ~kChangeable) | (bits & kChangeable), std::memory_order_relaxed);
  }

 protected:
  explicit OpenFile(OpenFlags flags) : flags_(flags.bits) {}

  std::mutex offset_mutex_;  // guards offset_, and makes read and write at it one step
  std::uint64_t offset_ = 0;  // bytes; in a directory the cookie behind which to go on

 private:
  std::atomic<int> flags_;
};

using OpenFilePtr = std::shared_ptr<OpenFile>;

enum class Follow : std::uint8_t { kNo, kYes };

// The object of a call: `path` below `base`, as the *at calls of POSIX take them.
struct Location {
  Location(std::string_view path, Follow follow = Follow::kYes)  // NOLINT: paths are passed as is
      : path(path), follow(follow) {}
  Location(const char* path) : path(path) {}         // NOLINT(google-explicit-constructor)
  Location(const std::string& path) : path(path) {}  // NOLINT(google-explicit-constructor)
  Location(OpenFile* base, std::string_view path, Follow follow = Follow::kYes)
      : base(base), path(path), follow(follow) {}
  // The open file itself (AT_EMPTY_PATH).
  Location(OpenFile& file) : base(&file), itself(true) {}  // NOLINT(google-explicit-constructor)

  OpenFile* base = nullptr;       // null: the root of the instance; an absolute path ignores it
  std::string_view path;
  Follow follow = Follow::kYes;   // whether a symbolic link in the last component is followed
  bool itself = false;            // the object is `base`, and `path` is not looked at

  // Null confines the walk: ".." at the root is the root, and absolute links start there.
  // Otherwise a walk that leaves the instance fails with EXDEV and stores here what is left of
  // the path: "/…" from the caller's own root, or "../…" from the root of the instance.
  std::string* outside = nullptr;
};

}  // namespace libservices

#endif  // LIBSERVICES_OPEN_FILE_H_
