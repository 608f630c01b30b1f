// SPDX-License-Identifier: Apache-2.0
//
// What stands behind `-o` of `mount`, `serve` and `with`.
#ifndef LIBSERVICES_SRC_CLI_FUSE_WORDS_H_
#define LIBSERVICES_SRC_CLI_FUSE_WORDS_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "libservices/host.h"

namespace libservices::cli {

struct FuseWords {
  HostConfig::Fuse fuse;
  std::string pool;  // empty: none is named
};

// kIgnore: mount(8)'s -s.
enum class Unknown : std::uint8_t { kRefuse, kIgnore };

// Lists with commas. ERRORS: InvalidArgument, which names the word.
absl::StatusOr<FuseWords> fuse_words(std::span<const std::string> lists,
                                     Unknown unknown = Unknown::kRefuse);

}  // namespace libservices::cli

#endif  // LIBSERVICES_SRC_CLI_FUSE_WORDS_H_
