// SPDX-License-Identifier: Apache-2.0
//
// Runs a script on the kernel and on a stack, and finds the shortest part of it on which they
// differ.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_COMPARISON_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_COMPARISON_H_

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/differential/operation.h"

namespace libservices::testing {

// Makes a fresh subject and hands it to the function; the kernel's is on_fresh_tmpfs.
using WithFresh = std::function<void(const std::function<void(Subject&)>&)>;

// Every object of the tree with its attributes, content and hard links, by path.
std::map<std::string, std::string> describe_tree(Subject&);

// What differs and the least script that shows it; empty when all answers and both trees are equal.
std::string difference(std::vector<Operation> script, const WithFresh& kernel,
                       const WithFresh& stack);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_COMPARISON_H_
