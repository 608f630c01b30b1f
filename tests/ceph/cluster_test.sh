#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/cluster: a cluster comes up, is found and used, and goes down without a trace; what is wrong
# is said.
# usage: cluster_test.sh TOOLS_CLUSTER
set -u
source "$(dirname "$0")/../support/checks.sh"
cluster=$(realpath "$1")
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/cluster.XXXXXX")
up=$work/up
clean_up() {
  local at
  for at in "$work"/*/processes; do
    [ -e "$at" ] && "$cluster" down "$(dirname "$at")"
  done
  rm -rf "$work"
}
trap clean_up EXIT

says() {  # says STATUS TEXT ARGUMENT...: tools/cluster with them ends so, and says that
  local status=$1 text=$2 got
  shift 2
  "$cluster" "$@" >"$work/said" 2>&1
  got=$?
  cat "$work/said"
  [ $got = "$status" ] && grep -qF -- "$text" "$work/said"
}
without_packages() { PATH=/nothing /usr/bin/python3 "$cluster" up "$work/none"; }
files() { timeout 60 ceph -c "$up/ceph.conf" --keyring "$1" fs ls; }
sees_files() { files "$up/keyring" | grep cephfs; }
refused() { ! files "$1"; }
ended() {  # ended PROCESS: the watcher of a cluster ends a moment after it has removed it
  local i
  for i in $(seq 3000); do
    alive "$1" || return 0
    sleep 0.01
  done
  return 1
}
process() {  # process MEMBER: its number; a daemon that was started again stands below
  awk -v name="$1" '$1 == name { process = $2 } END { print process }' "$up/processes"
}
# An ended process may be a zombie until somebody has asked for its status.
alive() { grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }
gone() {  # gone DIRECTORY: it is removed, which takes a moment
  local i
  for i in $(seq 3000); do
    [ -e "$1" ] || return 0
    sleep 0.01
  done
  return 1
}

mkdir "$work/nothing"
"$cluster" up "$up" 2>"$work/err"
status=$?
if [ $status = 77 ]; then
  [ -z "${LIBSERVICES_REQUIRE_CEPH-}" ] || bad 'packages are missing, where they are required'
  [ $failed = 0 ] || { report; exit 1; }
  skip "$(cat "$work/err")"
fi
check 'it comes up' [ $status = 0 ]
[ $status = 0 ] || { report; exit 1; }

check 'all of it runs' says 0 'mds.a runs as process' status "$up"
daemons=$(awk '{ print $2 }' "$up/processes")
same 'three daemons' 3 "$(echo $daemons | wc -w)"
same 'what a shell needs' "$up/ceph.conf" "$(eval "$("$cluster" env "$up")"; echo "$CEPH_CONF")"
check 'keys are nobody else'\''s' [ "$(stat -c %a "$up/keyring")" = 600 ]
check 'a client that has the key sees the filesystem' sees_files
sed 's/key = .*/key = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==/' "$up/keyring" >"$work/wrong"
check 'one that has another key is not let in' refused "$work/wrong"

check 'one at a time in a directory' says 1 'is up there already' up "$up"
check 'all still runs' says 0 'mon.a runs as process' status "$up"
check 'a directory in use is not taken' says 1 'it is not empty' up "$work"
check 'where none is, none goes down' says 1 'no cluster is up there' down "$work/nothing"
check 'nor has a status' says 1 'no cluster is up there' status "$work/none"
check 'nor an environment' says 1 'no cluster is up there' env "$work/none"
check 'a path that ceph.conf cannot hold' says 1 'cannot hold such a path' up "$work/a;b"
check 'which is not made' [ ! -e "$work/a;b" ]
check 'a path in a file' says 1 'Not a directory' up "$work/out/up"
check 'an owner that there is not' says 1 'there is no process' up --while 4194305 "$work/none"
without_packages >"$work/said" 2>&1
same 'missing packages' 77 $?
check 'are named' grep -q 'ceph-mon (ceph-mon).*tools/packages-install' "$work/said"
for arguments in '' up 'up --fast x' 'up --while x y' 'down' 'down a b' 'fly x' 'kill x' \
  'kill x mgr' 'start x mon mgr' 'evict x y'; do
  # shellcheck disable=SC2086
  check "usage: '$arguments'" says 2 'usage: tools/cluster up' $arguments
done
check 'help' says 0 'usage: tools/cluster up' --help

# A second one, for as long as a process lives.
sleep 1000 &
owner=$!
check 'two at once' "$cluster" up --while $owner "$work/second"
check 'the second runs' says 0 'osd.0 runs as process' status "$work/second"
check 'and the first' says 0 'osd.0 runs as process' status "$up"
second=$(awk '{ print $2 }' "$work/second/processes")
same 'its watcher too' 4 "$(echo $second | wc -w)"
kill $owner
wait $owner 2>/dev/null
check 'it is gone when its owner is' gone "$work/second"
check 'the first is not' says 0 'mds.a runs as process' status "$up"

paused() { grep -q '^State:[[:space:]]*T' "/proc/$(process "$1")/status"; }
not_paused() { ! paused "$1"; }
check 'daemons are stopped for a while' "$cluster" pause "$up" osd mds
check 'one' paused osd.0
check 'and the other' paused mds.a
check 'they go on' "$cluster" resume "$up" osd mds
check 'both' not_paused mds.a
check 'a daemon is killed' "$cluster" kill "$up" mds
check 'and has ended' ended "$(process mds.a)"
check 'it is not killed twice' says 1 'mds.a is down' kill "$up" mds
check 'it starts again' "$cluster" start "$up" mds
check 'but not twice' says 1 'mds.a runs already' start "$up" mds
check 'all of it runs again' says 0 'mds.a runs as process' status "$up"
mds=$(process mds.a)

check 'an OSD is killed' "$cluster" kill "$up" osd
check 'a dead daemon is told' says 1 'osd.0 is down' status "$up"
check 'what was in memory does not come back' says 1 'up --bluestore' start "$up" osd
# The number may be another process's by now.
sleep 1000 &
other=$!
sed -i "s/^\(mds.a\) .*/\1 $other 1/" "$up/processes"
check 'it goes down' "$cluster" down "$up"
check 'whoever has a daemon'\''s number now stays' alive $other
kill $other
kill -9 "$mds"
for daemon in $daemons $second; do
  check "process $daemon has ended" ended "$daemon"
done
check 'nothing is left' [ ! -e "$up" ]

check 'with bluestore' "$cluster" up --bluestore "$up"
check 'the data is in a file' [ -s "$up/osd/block" ]
check 'all is killed' "$cluster" kill "$up" mon osd mds
check 'and started' "$cluster" start "$up" mon osd mds
check 'an OSD has what it had' sees_files
check 'it goes down as well' "$cluster" down "$up"
check 'and leaves nothing' [ ! -e "$up" ]

# Ended while it comes up, it leaves nothing either.
"$cluster" up "$up" 2>/dev/null &
starting=$!
until [ -s "$up/processes" ]; do
  alive $starting || break
  sleep 0.005
done
kill $starting
wait $starting
check 'an end on the way is no success' [ $? = 1 ]
check 'and leaves nothing too' [ ! -e "$up" ]
report
