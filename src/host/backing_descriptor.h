// SPDX-License-Identifier: Apache-2.0
//
// Descriptors that processes are lent to map files with.
//
// A descriptor is more than a mapping: its holder can open the file anew through /proc/self/fd with
// whatever rights the kernel gives to his user, or change its mode if it is his. So one for reading
// is opened on a mount of the service's own that is read-only, where the kernel refuses all of that
// (EROFS), whoever asks; where there is no such mount, only if the kernel would refuse it, or if he
// may do it without the descriptor as well. docs/mapping.md has the whole of it.
//
// THREADS: everything may be called at once.
#ifndef LIBSERVICES_SRC_HOST_BACKING_DESCRIPTOR_H_
#define LIBSERVICES_SRC_HOST_BACKING_DESCRIPTOR_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "libservices/any_filesystem.h"
#include "src/host/descriptor.h"
#include "src/host/kept_files.h"

namespace libservices::host {

// An open file description of its own for the file behind `backing`, with no more rights than the
// mapping needs. `may_write` says whether `uid` may write to the file without the descriptor.
// ERRORS: EOPNOTSUPP when it would give away more; ENFILE.
Result<Descriptor> open_for_mapping(const Backing& backing, Mapping mapping, uid_t uid,
                                    const std::function<bool()>& may_write);

// The same of an open file, for whom `context` names; a later service will know that it is mapped.
// ERRORS: those of AnyFilesystem::map, too.
Result<Descriptor> lend(AnyFilesystem& filesystem, const Context& context, OpenFile& file,
                        Mapping mapping, KeptFiles& kept_files);

// Those that one session has asked for and not yet taken.
class LentDescriptors {
 public:
  // Its number. ERRORS: ENFILE when there are too many.
  Result<std::uint32_t> put(Descriptor descriptor) {
    constexpr std::size_t kMost = 256;  // threads between asking and taking
    std::lock_guard lock(mutex_);
    if (lent_.size() >= kMost) return Errno{ENFILE};
    lent_.push_back({++last_, std::move(descriptor)});
    return last_;
  }
  // None: there is no such number.
  Descriptor take(std::uint32_t number) {
    std::lock_guard lock(mutex_);
    for (Lent& each : lent_) {
      if (each.number != number) continue;
      std::swap(each, lent_.back());
      Descriptor taken = std::move(lent_.back().descriptor);
      lent_.pop_back();
      return taken;
    }
    return {};
  }

 private:
  struct Lent {
    std::uint32_t number;
    Descriptor descriptor;
  };

  std::mutex mutex_;  // guards all below
  std::vector<Lent> lent_;
  std::uint32_t last_ = 0;
};

}  // namespace libservices::host

#endif  // LIBSERVICES_SRC_HOST_BACKING_DESCRIPTOR_H_
