// SPDX-License-Identifier: Apache-2.0
//
// Makes the calls that a RemoteSubject is asked for, as any program would: usage
// `call_maker DIRECTORY`.
#include <unistd.h>

#include "tests/differential/kernel_subject.h"
#include "tests/differential/remote_subject.h"

int main(int argc, char** argv) {
  using namespace libservices::testing;
  if (argc != 2) return 2;
  KernelSubject subject(KernelSubject::AsProgram{argv[1]});
  answer_calls(subject, STDIN_FILENO, STDOUT_FILENO);
  return 0;
}
