#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A service over CephFS that is shut out, killed, and loses its cluster: programs go on, what fsync
# has acknowledged is there, and mounts of other filesystems notice nothing.
# usage: service_fault_test.sh TOOLS_CLUSTER LIBSERVICES PRELOAD_LIBRARY PLUGIN
set -u
source "$(dirname "$0")/../support/checks.sh"
source "$(dirname "$0")/start_cluster.sh"
take_programs fault "$@"
service=
mounting=
writer=
clean_up() {
  local process
  for process in $writer $service $mounting; do kill -9 "$process" 2>/dev/null; done
  umount -l "$work/alone" 2>/dev/null
  "$cluster" down "$work/cluster" 2>/dev/null
  remove_pools
  rm -rf "$work"
}
trap clean_up EXIT

start_cluster --bluestore

serve() {  # serve [OPTION]...
  rm -f "$work/ready"
  LIBSERVICES_PRELOAD= "$program" serve --pool "$pool" --restart-wait 60 \
    --mount "$work/ceph=ceph:/(mount_timeout=30s)" --mount "$work/memory=memory" --ready 3 "$@" \
    3>"$work/ready" 2>>"$work/served" &
  service=$!
  until [ -s "$work/ready" ]; do
    kill -0 $service 2>/dev/null || return 1
    sleep 0.01
  done
}
killed() {
  kill -9 $service
  wait $service
} 2>/dev/null
inside() { timeout 60 "$program" run --pool "$pool" -- sh -e -c "cd $work; $1"; }
# Within a time in which the cluster does not yet take a dead client for dead.
soon() { timeout 30 "$program" run --pool "$pool" -- sh -e -c "cd $work; $1"; }
# The numbers from 1 on, a line each. What is acknowledged is also written here, behind it. After an
# error it looks how far it has come, and goes on from there.
cat >"$work/writer.py" <<'PROGRAM'
import os
import sys

path, acknowledged = sys.argv[1:]
sure = 0
with open(acknowledged, "ab", buffering=0) as here:
    while True:
        try:
            with open(path, "ab", buffering=0) as file:
                with open(path, "rb") as before:
                    there = before.read()
                # Of what was being appended when the service was killed, its size may be all.
                os.truncate(path, there.rfind(b"\n") + 1)
                assert not there[there.rfind(b"\n") + 1:].strip(b"\0"), there
                lines = there.count(b"\n")
                assert lines >= sure, "lost: %d of %d are there" % (lines, sure)
                for number in range(lines + 1, 1000000):
                    line = b"%d\n" % number
                    file.write(line)
                    os.fsync(file.fileno())
                    here.write(line)
                    sure = number
        except OSError as error:
            print(error, flush=True)
PROGRAM
write_on() {
  : >"$work/acknowledged"
  "$program" run --pool "$pool" -- python3 "$work/writer.py" "$work/ceph/$1" "$work/acknowledged" \
    >"$work/writer" 2>&1 &
  writer=$!
  await_lines 20
}
lines() { wc -l <"$work/acknowledged"; }
await_lines() {  # await_lines COUNT: so many more are acknowledged, within a minute
  local wanted=$(($(lines) + $1)) i
  for i in $(seq 3000); do
    [ "$(lines)" -ge $wanted ] && return 0
    kill -0 $writer 2>/dev/null || break
    sleep 0.02
  done
  tail -n 5 "$work/writer"
  return 1
}
all_there() {  # all_there NAME: each number once, in order, up to what was acknowledged or one more
  local lines size behind
  inside "cat ceph/$1" >"$work/got" || return 1
  lines=$(wc -l <"$work/got")
  size=$(seq "$lines" | wc -c)
  seq "$lines" | cmp -n "$size" - "$work/got" || { od -c "$work/got"; return 1; }
  # Of the one line that was not acknowledged, zero bytes may be all that is there.
  behind=$(($(wc -c <"$work/got") - size))
  if [ $behind -gt $((${#lines} + 2)) ] || ! cmp -n $behind -i "$size:0" "$work/got" /dev/zero; then
    od -c "$work/got"
    return 1
  fi
  [ "$(wc -l <"$work/got")" -ge "$(tail -n 1 "$work/acknowledged")" ] || return 1
  [ "$(wc -l <"$work/got")" -le $(($(tail -n 1 "$work/acknowledged") + 1)) ]
}
stop_writing() {
  kill -9 $writer
  wait $writer
  writer=
} 2>/dev/null

# goes_on_after EVENT NAME DIRECTORY [RUNNER]...: the program NAME.py in the directory, after the
# event, which comes when it is ready.
goes_on_after() {
  local event=$1 name=$2 directory=$3 process
  shift 3
  rm -f "$work/go"
  mkfifo "$work/go"
  exec 4<>"$work/go"
  timeout 60 "$@" python3 "$work/$name.py" "$work/$directory" <"$work/go" >"$work/$name" 4>&- &
  process=$!
  until [ -s "$work/$name" ]; do
    kill -0 $process || return 1
    sleep 0.01
  done
  "$event" || return 1
  echo go >&4
  wait $process
}
in_one=("$program" run --pool "$pool" --)
evict() { "$cluster" evict "$work/cluster"; }
serve_anew() {
  killed
  serve
}

check 'a service' serve
check 'files' inside 'echo text >ceph/file; mkdir ceph/directory; sync ceph/file; echo m >memory/file'

"$cluster" pause "$work/cluster" mds osd
check 'a cluster that is stopped stops no other mount' soon 'cat memory/file; echo x >memory/other'
"$cluster" resume "$work/cluster" mds osd
check 'and goes on' inside 'echo more >ceph/more; sync ceph/more'

cat >"$work/failing.py" <<'PROGRAM'
def failure(call):
    try:
        call()
        return 0
    except OSError as error:
        return error.errno
PROGRAM
# The client is shut out: readers go on, a writer is told, and all who come next work.
cat >"$work/holder.py" <<'PROGRAM'
import os
import sys

from failing import failure

os.chdir(sys.argv[1])
kept = os.open("file", os.O_RDONLY)
lost = os.open("lost", os.O_RDWR | os.O_CREAT)
os.write(lost, b"not synchronised")
print("ready", flush=True)
sys.stdin.readline()
assert os.read(kept, 100) == b"text\n"
assert failure(lambda: os.fsync(lost)) == 5
assert failure(lambda: os.write(lost, b"x")) == 5
fresh = os.open("lost", os.O_RDWR)
os.write(fresh, b"again")
os.fsync(fresh)
PROGRAM
check 'a client that was shut out' goes_on_after evict holder ceph "${in_one[@]}"
check 'is there for all' inside 'test "$(cat ceph/lost)" = again; ls ceph/directory'
check 'others noticed nothing' inside 'test "$(cat memory/file)" = m'

# Nobody else changes an exclusive mount, so the kernel may keep what it has read. Not what was lost.
cat >"$work/keeper.py" <<'PROGRAM'
import os
import sys
import time

path = sys.argv[1] + "/file"
lost = os.open(path, os.O_RDWR | os.O_CREAT)
os.write(lost, b"kept")
os.fsync(lost)
reader = os.open(path, os.O_RDONLY)
os.pwrite(lost, b"lost and longer", 0)
# From here on the kernel has both.
assert os.stat(path).st_size == 15
assert os.pread(reader, 100, 0) == b"lost and longer"
print("ready", flush=True)
sys.stdin.readline()
assert not os.path.exists(sys.argv[1] + "/other")  # somebody has to ask for something
end = time.monotonic() + 30
while os.stat(path).st_size != 4 or os.pread(reader, 100, 0) != b"kept":
    assert time.monotonic() < end, os.pread(reader, 100, 0)
    time.sleep(0.1)
PROGRAM
mount_alone() {
  rm -f "$work/ready"
  LIBSERVICES_PRELOAD= "$program" serve --pool "$pool-alone" --fuse --ready 3 \
    --mount "$work/alone=ceph:/directory(exclusive=true,flush=60s,mount_timeout=30s)" \
    3>"$work/ready" 2>>"$work/served" &
  mounting=$!
  until [ -s "$work/ready" ]; do
    kill -0 $mounting 2>/dev/null || return 1
    sleep 0.01
  done
}
check 'a mount of its own' mount_alone
check 'shows what was lost no longer' goes_on_after evict keeper alone
kill $mounting
wait $mounting
same 'it ends well, too' 0 $?
mounting=

# The service is killed, and the next one takes over its session at once.
check 'a program writes' write_on one
killed
check 'the next service' serve
check 'which has its files at once' soon 'cat ceph/one ceph/file; echo x >>ceph/file'
check 'the program goes on' await_lines 20
stop_writing
check 'all that was acknowledged is there' all_there one

# What the killed service had not synchronised is lost, and who wrote it is told.
cat >"$work/loser.py" <<'PROGRAM'
import os
import sys

from failing import failure

os.chdir(sys.argv[1])
kept = os.open("kept", os.O_RDWR | os.O_CREAT)
os.write(kept, b"synchronised")
os.fsync(kept)
cut = os.open("cut", os.O_RDWR | os.O_CREAT)
os.ftruncate(cut, 100)
lost = os.open("unsure", os.O_RDWR | os.O_CREAT)
os.write(lost, b"not synchronised")
print("ready", flush=True)
sys.stdin.readline()
assert failure(lambda: os.fsync(lost)) == 5
assert failure(lambda: os.fsync(cut)) == 5
os.write(kept, b", and more")
os.fsync(kept)
assert os.pread(kept, 100, 0) == b"synchronised, and more"
PROGRAM
check 'who wrote what is lost with a service' goes_on_after serve_anew loser ceph "${in_one[@]}"

# And now everything.
check 'a program writes again' write_on two
"$cluster" kill "$work/cluster" osd mds mon
killed
stop_writing
check 'the cluster comes back' "$cluster" start "$work/cluster" mon osd mds
check 'and a service' serve
check 'still all is there' all_there two
check 'also what was older' inside 'test "$(wc -l <ceph/one)" -ge 40; test "$(cat ceph/lost)" = again'
kill $service
wait $service
same 'it ends well' 0 $?

# It waits for a storage as long as it was told.
cat >"$work/filler.py" <<'PROGRAM'
import os
import sys

last = os.open(sys.argv[1] + "/last", os.O_RDWR | os.O_CREAT)
os.write(last, b"synchronised")
os.fsync(last)
print("ready", flush=True)
sys.stdin.readline()
os.write(last, b", and not")
PROGRAM
pause_osd() { "$cluster" pause "$work/cluster" osd; }
check 'a service with little time' serve --stop-grace 1
check 'what stays in its memory' goes_on_after pause_osd filler ceph "${in_one[@]}"
begun=$SECONDS
kill $service
wait $service
same 'it ends all the same' 74 $?
check 'in time' [ $((SECONDS - begun)) -lt 20 ]
check 'and says what it leaves behind' grep -qF "$work/ceph: the storage does not answer" "$work/served"
"$cluster" resume "$work/cluster" osd
service=
report
