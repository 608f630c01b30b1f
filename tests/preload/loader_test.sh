#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that loads libraries from its working directory prints the same on a plain directory and
# on mounts.
# usage: loader_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM BESIDE PLUGIN NEEDED OTHER
set -u
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin/beside" "$work/libraries" "$work/plain" "$work/local" "$work/upper" "$work/lower"
program=$work/bin/program
cp "$3" "$program"
cp "$4" "$work/bin/beside"
cp "$5" "$6" "$work/libraries"
cp "$7" "$work/libraries/libother.so"
prepare="cp $work/libraries/* . && ln -s libplugin.so to-plugin"
cd "$work/plain" || exit 1

check "the program on a plain directory" timeout 50 sh -c "$prepare && exec $program"
mv "$work/out" "$work/expected"
for spec in memory "local:$work/local" "union(local:$work/upper, local:$work/lower)"; do
  check "the program on $spec" timeout 60 "$libservices" with --mount "/mnt/loader=$spec" -- \
    sh -c "cd /mnt/loader && $prepare && exec timeout 50 $program"
  cp "$work/out" "$work/found"
  check "it prints the same on $spec" diff -u "$work/expected" "$work/found"
done

check "a library that LD_LIBRARY_PATH finds in a mount" "$libservices" with --mount /mnt/loader=memory -- \
  sh -c "mkdir /mnt/loader/more; cp $work/bin/beside/* /mnt/loader/more; cp $program $work/alone &&
    cd /mnt/loader && $prepare && LD_LIBRARY_PATH=/none:/mnt/loader/more timeout 50 $work/alone | grep -x 'libbeside.so, 2: opened no error'"
report
