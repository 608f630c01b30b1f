// SPDX-License-Identifier: Apache-2.0
//
// What a program that the library cannot enter inherits of ours: before its exec, descriptors of
// the mounts at the kernel take the place of library descriptors, and stay the same open files,
// with their offsets and flags. So does the working directory.
#ifndef LIBSERVICES_SRC_CLIENT_HAND_OVER_H_
#define LIBSERVICES_SRC_CLIENT_HAND_OVER_H_

#include "src/client/state.h"

namespace libservices::client {

// Whether the process has open files of ours, or works in a directory of ours.
bool has_open_files();

class HandOver {
 public:
  HandOver() = default;
  HandOver(const HandOver&) = delete;
  HandOver& operator=(const HandOver&) = delete;

  // 0, or -errno and everything as it was; EOPNOTSUPP: a mount is not at the kernel.
  long begin();
  // The exec has failed.
  void take_back();

 private:
  static constexpr unsigned kMost = 512;
  struct Kept {
    int descriptor;
    int copy;  // what it was
  };

  long replace(int descriptor);

  Kept kept_[kMost];
  unsigned count_ = 0;
  long before_ = -1;  // the working directory that stood for ours
};

}  // namespace libservices::client

#endif  // LIBSERVICES_SRC_CLIENT_HAND_OVER_H_
