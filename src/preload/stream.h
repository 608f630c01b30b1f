// SPDX-License-Identifier: Apache-2.0
//
// What is behind a stream of ours: libc's "cookie" stream, which knows bytes alone. Its orientation
// is kept here, for the wide-character functions.
#ifndef LIBSERVICES_SRC_PRELOAD_STREAM_H_
#define LIBSERVICES_SRC_PRELOAD_STREAM_H_

#include <stdio.h>
#include <wchar.h>

#include <cstddef>

namespace libservices::preload {

inline constexpr std::size_t kStreamBytes = 32768;

struct Cookie {
  int descriptor;
  bool moved;        // bytes have been read or written
  int orientation;   // as fwide tells it; 0 also while only byte functions were used
  mbstate_t output;  // of an encoding with shift states
  mbstate_t input;
  char buffer[kStreamBytes];
};

// What is behind the stream, null for one of libc's own. A standard stream that the program still
// knows by its old address becomes the one that took its place.
Cookie* find_cookie(FILE*& stream);

}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_STREAM_H_
