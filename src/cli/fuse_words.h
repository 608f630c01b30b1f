// SPDX-License-Identifier: Apache-2.0
//
// What stands behind `-o` of `mount`, `serve` and `with`.
#ifndef LIBSERVICES_SRC_CLI_FUSE_WORDS_H_
#define LIBSERVICES_SRC_CLI_FUSE_WORDS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "libservices/host.h"

namespace libservices::cli {

struct FuseWords {
  HostConfig::Fuse fuse;
  std::string pool;  // empty: none is named
  bool supervise = false;
};

inline constexpr std::chrono::seconds kStopGrace{20};  // HostConfig::stop_grace
// Calls of one filesystem that do not end: with more the service has itself started anew.
inline constexpr std::size_t kMostStuckCalls = 256;

// kIgnore: mount(8)'s -s.
enum class Unknown : std::uint8_t { kRefuse, kIgnore };

// Lists with commas. ERRORS: InvalidArgument, which names the word.
absl::StatusOr<FuseWords> fuse_words(std::span<const std::string> lists,
                                     Unknown unknown = Unknown::kRefuse);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_FUSE_WORDS_H_
