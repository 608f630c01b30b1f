#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What --report and --strict tell of a program's calls.
# usage: report_test.sh LIBSERVICES PRELOAD_LIBRARY REFUSED_PROGRAM
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
refused=$(realpath "$3")
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/files"
echo text >"$work/files/file"
mount=/mnt/report-test

on_mount() {  # on_mount OPTION... -- PROGRAM...: standard error goes to $work/told
  timeout 60 "$libservices" with --mount "$mount=local:$work/files" "$@" 2>"$work/told"
}
counts() {  # counts PROGRAM FUNCTION: served, passed, refused
  sed -n "s/^libservices: $1\[[0-9]*\]: *$2 *\([0-9]\)/\1/p" "$work/told" | tr -s ' '
}

same 'a program that reports runs' text "$(on_mount --report -- cat "$mount/file")"
same 'its open was served' '1 0 0' "$(counts cat open)"
same 'its output went to the kernel' '0 1 0' "$(counts cat write)"
check 'the sums are told' grep -Eq '^libservices: cat\[[0-9]+\]: [0-9]+ calls served, [0-9]+ passed to the kernel, 0 refused$' "$work/told"

on_mount --report -- sh -c "cd $mount; exec env -i /bin/cat file" >"$work/seen"
same 'what a process did before exec is told' '1 0 0' "$(counts sh chdir)"
same 'a cleared environment loses no report' '1 0 0' "$(counts cat open)"

LIBSERVICES_REPORT=$work/log on_mount -- sh -c "cat $mount/file | cat" >"$work/seen"
same 'a file takes the reports of all' 2 "$(grep -c 'cat\[.* calls served' "$work/log")"
same 'standard error stays the program'\''s' '' "$(cat "$work/told")"
on_mount -- cat "$mount/file" >"$work/seen"
same 'who was not asked does not report' '' "$(cat "$work/told")"

on_mount -- "$refused" handle "$mount/file"
same 'a refused call is an error' 3 $?
on_mount --strict -- "$refused" handle "$mount/file"
same 'strictly, it is the end' 125 $?
check 'which names the call' grep -q 'name_to_handle_at was refused' "$work/told"
on_mount --strict -- "$refused" handle "$work/files/file"
same 'a file outside is no matter of ours' 0 $?

on_mount --report -- "$refused" notify "$mount"
same 'nobody is told by a signal of what changes in a directory' 3 $?
same 'which is counted' '1' "$(sed -n 's/.*: *fcntl .* \([0-9]*\)$/\1/p' "$work/told")"
on_mount --strict -- "$refused" notify "$mount"
same 'and, strictly, the end' 125 $?
on_mount --report -- "$refused" lease "$mount/file"
same 'there are no leases' 3 $?
on_mount --strict -- "$refused" lease "$mount/file"
same 'and, strictly, who wants one ends' 125 $?
on_mount --strict -- "$refused" lease "$work/files/file"
same 'but one of a file outside' 0 $?
on_mount -- "$refused" bounds "$mount/file"
same 'a directory of the host is no bounds of a walk into a mount' 3 $?
on_mount --strict -- "$refused" bounds "$mount/file"
same 'and, strictly, who asks for that ends' 125 $?
on_mount --strict -- "$refused" bounds "$work/files/file"
same 'but of one outside' 0 $?
report
