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

// What was found at a path: attributes, content, other names, and the identity.
struct Seen {
  std::string what;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
};
// Every object of the tree by path. What has another inode number in the listing says so.
using Tree = std::map<std::string, Seen>;
Tree describe_tree(Subject&);
// Empty when equal, but for identity.
std::string difference(const Tree& kernel, const Tree& stack);

// The script up to the first difference, and that difference; empty when there is none.
using Differ = std::function<std::string(const std::vector<Operation>& script, std::size_t& at)>;
// As `differ`, with the least script that shows it; `at` is the index of the call that differs.
std::string shortest_difference(std::vector<Operation> script, const Differ& differ);

// What differs and the least script that shows it; empty when all answers and both trees are equal.
std::string difference(std::vector<Operation> script, const WithFresh& kernel,
                       const WithFresh& stack);

// A union gives its directories one link each, as overlayfs does: 1 says nothing of subdirectories.
class WithoutDirectoryLinks final : public Subject {
 public:
  explicit WithoutDirectoryLinks(Subject& subject) : subject_(subject) {}
  Outcome apply(const Operation&) override;

 private:
  Subject& subject_;
};

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_COMPARISON_H_
