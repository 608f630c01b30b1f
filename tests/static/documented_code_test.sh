#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Each block of C++ in the README compiles, with the headers that it speaks of.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
awk -v to="$work" '
  /^```cpp$/ { inside = 1; file = to "/" ++blocks ".cc"
               print "#include \"libservices/filesystem.h\"\n#include \"libservices/libservice.h\"" >file
               print "#include \"services/local/local.h\"\n#include \"services/union/union.h\"" >file
               print "using namespace libservices;" >file; next }
  /^```$/    { inside = 0 }
  inside     { print >file }' README.md
passed=0
failed=0
for block in "$work"/*.cc; do
  [ -e "$block" ] || break
  if g++ -std=c++20 -Wall -Werror -fsyntax-only -I. -Iinclude "$block"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: this block of README.md does not compile:" && cat "$block"
  fi
done
[ $((passed + failed)) -ge 2 ] || { echo "FAILED: README.md has no such blocks" && failed=$((failed + 1)); }
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
