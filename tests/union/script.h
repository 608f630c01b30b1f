// SPDX-License-Identifier: Apache-2.0
//
// Scripts from a seed: layers that hide each other's names, then calls on what they show. Few
// names, so that calls meet.
#ifndef LIBSERVICES_TESTS_UNION_SCRIPT_H_
#define LIBSERVICES_TESTS_UNION_SCRIPT_H_

#include <cstdint>
#include <vector>

#include "tests/differential/operation.h"
#include "tests/differential/script.h"
#include "tests/union/expect.h"

namespace libservices::testing {

// Which instances go on after which; each part ends with a comparison of the trees.
enum class Course {
  kRestarts,  // the same implementation, three times
  kSwitches,  // the same one again, the other one, and the first one
  kLooks,     // nothing is changed
};

// The same operations for the same arguments, on every machine. `model` is a fresh one: the calls
// are tried on it, so that most names of later ones mean something.
std::vector<Operation> make_union_script(std::uint64_t seed, Course course, const Expect& expect,
                                         const ScriptOptions& options, Subject& model);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_SCRIPT_H_
