#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check.sh EXPECTED PROGRAM [ARGUMENT…]: the program succeeds and prints what stands in EXPECTED.
set -eu
expected=$1
shift
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
"$@" > "$printed"
diff -u "$expected" "$printed"
echo "1 passed, 0 failed, 0 skipped"
