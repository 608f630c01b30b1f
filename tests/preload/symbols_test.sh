#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every name that this libc exports to programs has its class, and docs/libc.md is what the table
# says.
# usage: symbols_test.sh CLASSES MADE_PAGE PAGE
set -u
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

libc=$(ldd /bin/sh | awk '$1 == "libc.so.6" { print $3 }')
# Not the absolute ones, which are versions, nor those that only libc's own parts may use.
nm -D --defined-only "$libc" | awk '$2 != "A" && $3 !~ /@GLIBC_PRIVATE|@@GLIBC_PRIVATE/ { sub(/@.*/, "", $3); print $3 }' |
  LC_ALL=C sort -u >"$work/exported"
awk '{ print $1 }' "$1" | LC_ALL=C sort >"$work/classified"
check "libc's export table is read" [ "$(wc -l <"$work/exported")" -gt 2000 ]
LC_ALL=C comm -23 "$work/exported" "$work/classified" >"$work/missing"
same "every name that $libc exports stands in src/preload/*.table" '' "$(tr '\n' ' ' <"$work/missing")"
# Older ones lack what newer ones have, so the other way is told for the version of the table alone.
case $(ldd --version | head -1) in
  *' 2.36')
    LC_ALL=C comm -13 "$work/exported" "$work/classified" >"$work/unknown"
    same "every name of the tables is one that libc exports" '' "$(tr '\n' ' ' <"$work/unknown")"
    ;;
esac
check 'docs/libc.md is what the table says (tools/libc-table renews it)' diff -u "$3" "$2"
report
