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

// Where an open file's offset is kept too, in memory that outlives the process: what a service that
// follows a killed one needs. The last two moves are there, so that one of them is always whole.
//
// A move with a request's number tells whether that request was run, when its answer was lost.
struct KeptOffset {
  struct Move {
    std::atomic<std::uint64_t> before;
    std::atomic<std::uint64_t> after;
    std::atomic<std::uint32_t> number;  // Context::number of who moved it; 0: nobody's
  };
  Move moves[2];
  std::atomic<std::uint32_t> latest;  // 0 or 1

  void move(std::uint64_t before, std::uint64_t after, std::uint32_t number) {
    const std::uint32_t next = 1 - (latest.load(std::memory_order_relaxed) & 1U);
    moves[next].before.store(before, std::memory_order_relaxed);
    moves[next].after.store(after, std::memory_order_relaxed);
    moves[next].number.store(number, std::memory_order_relaxed);
    // Who reads it after our death sees stores in their order.
    latest.store(next, std::memory_order_release);
  }
  const Move& last() const { return moves[latest.load(std::memory_order_acquire) & 1U]; }
};

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

  // From now on the offset is kept in `kept` as well; null: no more. OWNS: nothing.
  void keep_offset_in(KeptOffset* kept) {
    std::lock_guard lock(offset_mutex_);
    kept_ = kept;
    if (kept_ != nullptr) kept_->move(offset_, offset_, 0);
  }

 protected:
  explicit OpenFile(OpenFlags flags) : flags_(flags.bits) {}

  // REQUIRES: offset_mutex_. `number` is the request's.
  void move_to(std::uint64_t before, std::uint64_t after, std::uint32_t number) {
    if (kept_ != nullptr) kept_->move(before, after, number);
    offset_ = after;
  }

  std::mutex offset_mutex_;   // guards offset_, and makes read and write at it one step
  std::uint64_t offset_ = 0;  // bytes; in a directory the cookie behind which to go on
  KeptOffset* kept_ = nullptr;

 private:
  std::atomic<int> flags_;
};

using OpenFilePtr = std::shared_ptr<OpenFile>;

enum class Follow : std::uint8_t { kNo, kYes };

// How far a walk may go (openat2). Below `base` a ".." goes back to where the walk came from, so
// that nobody who moves directories meanwhile leads it out.
enum class Bounds : std::uint8_t {
  kNone,
  kBeneath,  // EXDEV where it would leave `base` (RESOLVE_BENEATH)
  kInRoot,   // `base` is its root (RESOLVE_IN_ROOT)
};

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
  // The object of an open file, as a path to it names it: O_PATH is no hindrance, and what the file
  // was opened for is no right.
  static Location object_of(OpenFile& file) {
    Location location(file);
    location.as_path = true;
    return location;
  }

  OpenFile* base = nullptr;  // null: the root of the instance; an absolute path ignores it
  std::string_view path;
  Follow follow = Follow::kYes;  // whether a symbolic link in the last component is followed
  bool itself = false;           // the object is `base`, and `path` is not looked at
  bool as_path = false;          // with `itself`: not by the rights of the open file
  Bounds bounds = Bounds::kNone;
  bool no_links = false;  // ELOOP where a symbolic link is to be followed (RESOLVE_NO_SYMLINKS)

  // Null confines the walk: ".." at the root is the root, and absolute links start there.
  // Otherwise a walk that leaves the instance fails with EXDEV and stores here what is left of
  // the path: "/…" from the caller's own root, or "../…" from the root of the instance.
  std::string* outside = nullptr;
};

}  // namespace libservices

#endif  // LIBSERVICES_OPEN_FILE_H_
