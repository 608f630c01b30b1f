#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that changes its root keeps what it had open, and the mounts that lie below.
# usage: chroot_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
program=$(realpath "$3")
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
[ "$(id -u)" = 0 ] || skip 'only root may change its root'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/empty" "$work/files/sub"
echo text >"$work/files/file"
ln -s /data/file "$work/files/absolute"
ln -s ../../../data/file "$work/files/sub/upwards"
echo outside >"$work/root/outside"

changed() {  # changed NEW_ROOT WAY PATH...: what the program prints of the paths
  timeout 60 "$libservices" with --mount "$work/root/data=local:$work/files" -- "$program" "$@"
}
expected="kept: text
/data/file: text
/outside: outside
/data/../outside: outside
/../data/file: text
/data/absolute: text
/data/sub/upwards: text
/data/none: No such file or directory
$work/root/data/file: No such file or directory
at /data"
paths=(/data/file /outside /data/../outside /../data/file /data/absolute /data/sub/upwards /data/none "$work/root/data/file")
same 'mounts below a new root' "$expected" "$(changed "$work/root" by-path "${paths[@]}")"
same 'chdir and chroot(".")' "$expected" "$(changed "$work/root" by-directory "${paths[@]}")"
same 'twice' "kept: text
/data/file: No such file or directory" "$(changed "$work/root" twice /data/file)"
same 'a mount that is not at the kernel is no root' "chroot: Operation not permitted" "$(changed "$work/root/data" by-path /file)"
same 'nor from within' "chroot: Operation not permitted" "$(changed "$work/root/data" by-directory /file)"
report
