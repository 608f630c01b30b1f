// SPDX-License-Identifier: Apache-2.0
//
// Open files that a program hands over to one that cannot be preloaded, on its way to exec: they
// become files of the mount, and stay the same open files, with one offset.
//
// The program is told a name, and opens it in the mount's root. The name leads to the file once,
// and the open that the same thread makes then, which the kernel does in one system call, is no new
// one. Nobody can guess a name.
//
// THREADS: all members at once.
#ifndef LIBSERVICES_SRC_FUSE_HANDED_OVER_H_
#define LIBSERVICES_SRC_FUSE_HANDED_OVER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

#include "libservices/any_filesystem.h"

namespace libservices::fuse {

class HandedOver {
 public:
  static constexpr std::string_view kPrefix = ".libservices-handed-over-";

  // A name for the file. It is forgotten when kMost others have been given since.
  std::string offer(OpenFilePtr file);
  // The file of a name that nobody has looked up; null: there is none.
  OpenFilePtr look_up(std::string_view name);
  // It was looked up by `thread` as `node`.
  void expect(OpenFilePtr file, std::uint64_t node, std::uint64_t thread);
  // What the thread's open of the node is; null: a new open file.
  OpenFilePtr open(std::uint64_t node, std::uint64_t thread);

 private:
  static constexpr std::size_t kMost = 4096;

  struct Entry {
    OpenFilePtr file;
    std::string name;  // empty: it was looked up
    std::uint64_t node = 0;
    std::uint64_t thread = 0;
  };
  void add(Entry entry);
  template <class Wanted>
  OpenFilePtr take(Wanted&& wanted);

  std::atomic<bool> any_{false};
  std::mutex mutex_;  // guards what follows
  std::deque<Entry> entries_;
};

}  // namespace libservices::fuse

#endif  // LIBSERVICES_SRC_FUSE_HANDED_OVER_H_
