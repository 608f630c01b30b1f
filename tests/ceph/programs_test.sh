#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Scripts of tests/programs in a directory of a CephFS and in a union of two, through the preload
# library, beside a plain directory. One cluster serves them all, several at a time.
# usage: programs_test.sh TOOLS_CLUSTER LIBSERVICES PRELOAD_LIBRARY PLUGIN PROGRAMS_TEST
#   SCRIPT:WAY...
set -u
source "$(dirname "$0")/../support/checks.sh"
source "$(dirname "$0")/start_cluster.sh"
cluster=$(realpath "$1")
program=$(realpath "$2")
preload=$(realpath "$3")
LIBSERVICES_CEPH=$(realpath "$4")
programs_test=$(realpath "$5")
shift 5
export LIBSERVICES_CEPH program preload programs_test
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/ceph-programs.XXXXXX")
# Sockets in it have short names.
XDG_RUNTIME_DIR=$(mktemp -d /tmp/ceph-programs.XXXXXX)
export work XDG_RUNTIME_DIR
trap '"$cluster" down "$work/cluster" 2>/dev/null; rm -rf "$work" "$XDG_RUNTIME_DIR"' EXIT

start_cluster

run_one() {  # run_one SCRIPT:WAY
  local began=$SECONDS
  "$programs_test" "$program" "$preload" "$(dirname "$programs_test")/${1%:*}.sh" "${1#*:}" \
    >"$work/$1.log" 2>&1 || touch "$work/$1.failed"
  echo "$1: $((SECONDS - began)) s"
}
export -f run_one
# They wait for the cluster, and for unmounting, most of their time.
printf '%s\n' "$@" | xargs -P 4 -I{} bash -c 'run_one "$1"' bash {}
for one in "$@"; do
  cp "$work/$one.log" "$work/out"
  : >"$work/err"
  ended=$(tail -1 "$work/out")
  if [ ! -e "$work/$one.failed" ] && [ "$ended" = '1 passed, 0 failed, 0 skipped' ]; then
    ok
  else
    bad "$one"
  fi
done
report
