// SPDX-License-Identifier: Apache-2.0
//
// Runs a script on the model and on a union at once, and looks for the first difference.
#ifndef LIBSERVICES_TESTS_UNION_LOCKSTEP_H_
#define LIBSERVICES_TESTS_UNION_LOCKSTEP_H_

#include <string>
#include <vector>

#include "tests/differential/operation.h"
#include "tests/union/expect.h"

namespace libservices::testing {

// One call of a script, those that consist of several calls of the subject among them.
Outcome apply_to(Subject&, const Operation&);

// What the call at `at` answers or shows otherwise; empty when nothing does.
std::string first_difference(const std::vector<Operation>& script, Subject& model, Subject& stack,
                             const Expect& expect, std::size_t& at);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_UNION_LOCKSTEP_H_
