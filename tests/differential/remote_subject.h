// SPDX-License-Identifier: Apache-2.0
//
// A subject in a process of its own, call_maker: what a program gets whose calls are the libc's.
#ifndef LIBSERVICES_TESTS_DIFFERENTIAL_REMOTE_SUBJECT_H_
#define LIBSERVICES_TESTS_DIFFERENTIAL_REMOTE_SUBJECT_H_

#include <optional>
#include <string>
#include <vector>

#include "tests/differential/operation.h"
#include "tests/support/piped_process.h"

namespace libservices::testing {

class RemoteSubject final : public Subject {
 public:
  // The tree is in `directory`. `before`: words that start call_maker, as `libservices run --`.
  RemoteSubject(std::vector<std::string> before, const std::string& directory);
  ~RemoteSubject() override;
  Outcome apply(const Operation&) override;

 private:
  PipedProcess process_;
};

// What call_maker does: answers calls from one descriptor on the other until there are no more.
void answer_calls(Subject& subject, int from, int to);

}  // namespace libservices::testing

#endif  // LIBSERVICES_TESTS_DIFFERENTIAL_REMOTE_SUBJECT_H_
