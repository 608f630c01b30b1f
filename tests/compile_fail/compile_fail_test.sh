#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Compiles each wrong program here with each compiler there is. It must not compile, and the message
# must match the line "// EXPECT: regular expression" of the program. well_formed.cc must compile.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root" || exit 1
flags=(-std=c++20 -Wall -Wextra -Werror -fsyntax-only -I. -Iinclude)
passed=0
failed=0
skipped=0

report() {  # what, 0 for passed
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $1"
  fi
}

for compiler in g++ clang++; do
  if ! command -v "$compiler" > /dev/null; then
    echo "SKIPPED: $compiler is not installed"
    skipped=$((skipped + 1))
    continue
  fi
  for program in tests/compile_fail/*.cc; do
    message=$("$compiler" "${flags[@]}" "$program" 2>&1)
    status=$?
    if [ "$(basename "$program")" = well_formed.cc ]; then
      report "$compiler $program does not compile: $message" "$status"
      continue
    fi
    expected=$(sed -n 's,^// EXPECT: ,,p' "$program")
    if [ "$status" -eq 0 ]; then
      report "$compiler $program compiles" 1
    else
      printf '%s\n' "$message" | grep -q -e "$expected"
      report "$compiler $program: the message does not name '$expected': $message" $?
    fi
  done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
