#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that tries what POSIX promises of descriptors prints the same on a plain directory and
# on mounts; and system calls that the library does not see get EBADF from a file of a mount.
# usage: descriptors_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
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
  timeout 60 "$libservices" with --mount "/mnt/descriptors=$spec" -- \
    sh -c 'cd /mnt/descriptors && exec "$0"' "$program" >"$work/found" 2>&1 || failed=1
  if ! diff -u "$work/expected" "$work/found"; then
    echo "not the same on $spec"
    failed=1
  fi
done

timeout 60 "$libservices" with --mount /mnt/descriptors=memory -- \
  sh -c 'echo text >/mnt/descriptors/f; exec "$0" placeholder /mnt/descriptors/f' "$program" >"$work/found" 2>&1
if [ "$(grep -c -- '= -1 Bad file descriptor' "$work/found")" != 5 ]; then
  echo "a call that the library did not see succeeded:"
  cat "$work/found"
  failed=1
fi
[ $failed = 0 ] && echo "1 passed, 0 failed, 0 skipped"
exit $failed
