#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the queues under ThreadSanitizer with each memory order weakened in turn: a race must be reported. With none weakened,
# none may be.
set -u
program=$1
# ThreadSanitizer's shadow of memory leaves too little room where the kernel randomises addresses further than this.
alone=
[ "$(cat /proc/sys/vm/mmap_rnd_bits)" -gt 28 ] && alone="setarch -R"
failures=0
passes=0

races() {  # races NAME
  # shellcheck disable=SC2086
  TSAN_OPTIONS="halt_on_error=1 exitcode=66" timeout 60 $alone "$program" "$1" >"$TEST_TMPDIR/log" 2>&1
  status=$?
}

races none
if [ $status -eq 0 ] && [ ! -s "$TEST_TMPDIR/log" ]; then
  passes=1
else
  failures=1
  cat "$TEST_TMPDIR/log"
fi
for order in doorbell_queue.kFill doorbell_queue.kTake rcqs.kFill rcqs.kTake rcqb.kLockEmpty rcqb.kMarkValid \
  rcqb.kLockValid rcqb.kMarkEmpty bell.kRing bell.kSeen; do
  # A race that did not happen in one run may in the next.
  for _ in 1 2 3 4 5; do
    races $order
    [ $status -eq 66 ] && break
  done
  if [ $status -eq 66 ] && grep -q 'data race' "$TEST_TMPDIR/log"; then
    passes=$((passes + 1))
  else
    failures=$((failures + 1))
    echo "FAILED: $order can be relaxed and no race is reported (status $status)"
  fi
done
echo "$passes passed, $failures failed, 0 skipped"
[ $failures -eq 0 ]
