#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The copies need nothing but memcpy, memset, libc's table of what the processor can, and what every
# shared object has: no C++ library, no heap, no lock. usage: copy_symbols_test.sh LIBRARY
set -u
failed=0
needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -x 'libc\.so\.6')
if [ -n "$needed" ]; then
  echo "FAILED: more than libc is needed: $needed"
  failed=1
fi
used=$(nm -D --undefined-only "$1" | awk '$1 == "U" { sub(/@.*/, "", $2); print $2 }' |
       grep -v -x -e memcpy -e memset -e __stack_chk_fail -e __x86_get_cpuid_feature_leaf)
if [ -n "$used" ]; then
  echo "FAILED: the copies call: $used"
  failed=1
fi
if ! nm -D --undefined-only "$1" | grep -q 'U memcpy'; then
  echo 'FAILED: not even memcpy is called, so this is not the library'
  failed=1
fi
exit $failed
