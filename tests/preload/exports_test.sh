#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The preload library needs libc alone and exports what symbols.table names, no less and no more.
# usage: exports_test.sh LIBRARY MAP
set -u
library=$1
map=$2
failed=0

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
         grep -v -e '^libc\.so\.6$' -e '^ld-linux')
if [ -n "$needed" ]; then
  echo "needs more than libc: $needed"
  failed=1
fi

wanted=$(mktemp)
found=$(mktemp)
trap 'rm -f "$wanted" "$found"' EXIT
sed -n 's/^    \([A-Za-z0-9_]*\);$/\1/p' "$map" | LC_ALL=C sort > "$wanted"
nm -D -g --defined-only "$library" | awk '{print $3}' | sed 's/@.*//' | LC_ALL=C sort -u > "$found"
if ! [ -s "$wanted" ] || ! diff "$wanted" "$found"; then
  echo "exports differ from $map (<: missing, >: not in the map)"
  failed=1
fi

# Without a pool it changes nothing.
if [ "$(LD_PRELOAD=$(realpath "$library") sh -c 'echo one; echo two | cat')" != "one
two" ]; then
  echo "a program does not run with the library and without a pool"
  failed=1
fi
exit $failed
