#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that prints what calls give prints the same in a plain directory and on mounts, where
# it runs strictly: nothing that it does is refused.
# usage: same_test.sh [--root] LIBSERVICES PRELOAD_LIBRARY PROGRAM [ARGUMENT...]
set -u
for_root=no
[ "$1" != --root ] || { for_root=yes; shift; }
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
program=$(realpath "$3")
shift 3
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
[ $for_root = no ] || [ "$(id -u)" = 0 ] || skip 'only root may change its user'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/upper" "$work/lower" "$work/local"
chmod 755 "$work"

(cd "$work/plain" && timeout 120 "$program" "$@") >"$work/expected" 2>&1
same 'the program ends well in a plain directory' 0 $?
[ -s "$work/expected" ] || bad 'it says nothing'
for spec in memory "local:$work/local" "union(local:$work/upper, local:$work/lower)"; do
  timeout 120 "$libservices" with --strict --mount "/mnt/same=$spec" -- \
    sh -c 'cd /mnt/same && exec "$0" "$@"' "$program" "$@" >"$work/found" 2>&1
  same "it ends well on $spec" 0 $?
  check "it prints the same on $spec" diff -u "$work/expected" "$work/found"
done
# Temporary names lie in a mount then.
timeout 120 "$libservices" with --mount /tmp=memory --mount /mnt/same=memory -- \
  sh -c 'cd /mnt/same && exec "$0" "$@"' "$program" "$@" >"$work/found" 2>&1
same 'it ends well with a mount on /tmp' 0 $?
check 'it prints the same with a mount on /tmp' diff -u "$work/expected" "$work/found"
report
