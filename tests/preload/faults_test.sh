#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that gives bad addresses to calls prints the same on a plain directory and on mounts.
# usage: faults_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
program=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/upper" "$work/lower" "$work/local"
failed=0

(cd "$work/plain" && timeout 60 "$program") >"$work/expected" 2>&1 || failed=1
for spec in memory "local:$work/local" "union(local:$work/upper, local:$work/lower)"; do
  timeout 60 "$libservices" with --mount "/mnt/faults=$spec" -- \
    sh -c 'cd /mnt/faults && exec "$0"' "$program" >"$work/found" 2>&1 || failed=1
  if ! diff -u "$work/expected" "$work/found"; then
    echo "not the same on $spec"
    failed=1
  fi
done

[ $failed = 0 ] && echo "1 passed, 0 failed, 0 skipped"
exit $failed
