#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program prints the same in a plain directory, where libc alone serves it, and on mounts.
# usage: alike_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
program=$(realpath "$3")
export LIBSERVICES_PRELOAD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/local" "$work/upper" "$work/lower"
cd "$work/plain" || exit 1

check "$program on a plain directory" timeout 50 "$program"
mv "$work/out" "$work/expected"
for spec in memory "local:$work/local" "union(local:$work/upper, local:$work/lower)"; do
  # shellcheck disable=SC2016  # for the shell that is started
  check "$program on $spec" "$libservices" with --mount "/mnt/alike=$spec" -- \
    sh -c 'cd /mnt/alike && exec timeout 50 "$0"' "$program"
  cp "$work/out" "$work/found"
  check "$program prints the same on $spec" diff -u "$work/expected" "$work/found"
done
# Temporary names are there.
# shellcheck disable=SC2016
check "$program with a mount on /tmp" "$libservices" with --mount "/tmp=memory" --mount /mnt/alike=memory -- \
  sh -c 'cd /mnt/alike && exec timeout 50 "$0"' "$program"
cp "$work/out" "$work/found"
check "$program prints the same with a mount on /tmp" diff -u "$work/expected" "$work/found"
report
