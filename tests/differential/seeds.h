// SPDX-License-Identifier: Apache-2.0
//
// Numbers from the environment: LIBSERVICES_SEED, LIBSERVICES_SCRIPTS.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_SEEDS_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_SEEDS_H_

#include <cstdint>
#include <cstdlib>

namespace libservices::testing {

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = getenv(variable);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 0);
}

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_SEEDS_H_
