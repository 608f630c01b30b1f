#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example prints what its README says, and a wrong run directory is an error.
# usage: client_test.sh LIBSERVICES CLIENT EXPECTED
set -eu
libservices=$(realpath "$1")
client=$(realpath "$2")
expected=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The command keeps its service while the client, which has nothing preloaded, runs beside it.
timeout 60 "$libservices" with --run-directory "$work/run" --mount /notes=memory -- \
  env -u LD_PRELOAD "$client" "$work/run" /notes | diff - "$expected"
if "$client" "$work/none" /notes 2>"$work/error"; then
  echo "attached to no service"
  exit 1
fi
grep -q 'No such file or directory' "$work/error"
echo "1 passed, 0 failed, 0 skipped"
