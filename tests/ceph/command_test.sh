#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Unmodified programs on CephFS through the command, which takes all that it needs from
# tools/cluster.
# usage: command_test.sh TOOLS_CLUSTER LIBSERVICES PRELOAD_LIBRARY PLUGIN
set -u
source "$(dirname "$0")/../support/checks.sh"
source "$(dirname "$0")/start_cluster.sh"
take_programs command "$@"
trap '"$cluster" down "$work/cluster" 2>/dev/null; rm -rf "$work"' EXIT

start_cluster
echo text >"$work/file"

with() {  # with SPEC SCRIPT: the script in a directory with that filesystem
  timeout 100 "$program" with --mount "$work/x=$1" -- sh -e -c "cd $work/x; $2"
}
says() {  # says TEXT SPEC: it is refused, and that is said
  ! with "$2" : >"$work/said" 2>&1 && grep -F -- "$1" "$work/said"
}
serves() { timeout 60 "$program" with --mount "$work/x=ceph:/" -- true; }

loads_cephfs() { LD_DEBUG=files "$@" 2>&1 | grep -q 'calling init: .*libcephfs'; }
spares_cephfs() { ! loads_cephfs "$@"; }

check 'directories for what follows' with ceph:/ '
  mkdir up img img/directory
  echo lower >img/file
  echo inner >img/directory/inner
  seq 100000 >img/large
  ls -l img
  test "$(wc -l <img/large)" = 100000'
check 'what was written is there for the next one' with ceph:/img '
  test "$(cat directory/inner)" = inner
  test "$(wc -l <large)" = 100000'
check 'a union of two' with 'union(ceph:/up, ceph:/img)' '
  test "$(cat file)" = lower
  echo upper >file
  echo new >directory/new
  echo end >>large
  rm directory/inner
  mkdir a a/b
  mv a/b c
  mv directory moved
  sed -i s/upper/changed/ file
  ln file link
  ln -s file symbolic
  tar cf archive.tar moved
  tar tf archive.tar
  find . | sort'
check 'the union is as it was left' with 'union(ceph:/up, ceph:/img)' '
  test "$(cat file)" = changed
  test "$(cat link symbolic)" = "changed
changed"
  test "$(tail -1 large)" = end
  test "$(ls moved)" = new
  test ! -e directory
  test -d c'
check 'the lower is as it was' with ceph:/img '
  test "$(cat file)" = lower
  test "$(cat directory/inner)" = inner
  test "$(wc -l <large)" = 100000'
check 'marks are files' with ceph:/up 'test -e .wh.directory'
mkdir "$work/upper"
check 'a local upper over it' with "union(local:$work/upper, ceph:/img)" '
  test "$(cat file)" = lower
  rm file
  echo x >directory/inner'
check 'its marks are as overlayfs has them' [ -c "$work/upper/file" ]
check 'read only' with 'readonly(union(ceph:/up, ceph:/img))' '
  test "$(cat file)" = changed
  ! echo x >file'
check 'a part' with 'subtree(ceph:/, path=img)' 'test "$(cat file)" = lower'
check 'options' with "ceph:/img(conf=$work/cluster/ceph.conf, client=admin, \
key=$work/cluster/keyring, exclusive=true, cache=16M, dirty=4M, mount_timeout=20s, \
data_timeout=60s, session=test, root=/img)" 'test "$(cat file)" = lower'

is_flushed() {  # in half the time that it would take by default
  with 'ceph:/(flush=100ms)' '
    exec 5>flushed
    echo x >&5
    /usr/bin/python3 - "$(printf "%x.00000000" "$(stat -c %i flushed)")" <<END
import os, sys, time, rados
with rados.Rados(conffile=os.environ["CEPH_CONF"]) as cluster:
    pool = cluster.open_ioctx("cephfs.data")
    for _ in range(25):
        try:
            if pool.stat(sys.argv[1])[0] == 2:
                sys.exit()
        except rados.ObjectNotFound:
            pass
        time.sleep(0.1)
sys.exit("it is not there")
END'
}
check 'what nobody synchronises is written in time' is_flushed

# Two services, and a program in each that locks the same file as it is told.
cat >"$work/locker.py" <<'PROGRAM'
import fcntl
import os
import sys

reading, writing = os.pipe()
if os.fork():
    os.close(writing)
    os.read(reading, 1)  # until none of its children is left
    sys.exit()
def answer(call, kind):
    try:
        call(one if call is fcntl.lockf else two, kind)
        return "has"
    except OSError:
        return "refused"

one = open(sys.argv[1], "r+")
two = open(sys.argv[1], "r+")
while command := sys.stdin.readline().strip():
    if command == "die":  # and leave all that is open to a child
        before = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == before:
            pass
        print("gone", flush=True)
    else:
        name, kind = command.split()
        print(answer(getattr(fcntl, name), {"try": fcntl.LOCK_EX | fcntl.LOCK_NB,
                                            "wait": fcntl.LOCK_EX}[kind]), flush=True)
PROGRAM
cat >"$work/lockers.py" <<'PROGRAM'
import os
import subprocess
import sys

program, work = sys.argv[1:]
one, two = [subprocess.Popen(
    [program, "with", "--mount", f"{work}/{name}=ceph:/", "--",
     "/usr/bin/python3", f"{work}/locker.py", f"{work}/{name}/file"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in ("x", "y")]
def ask(whom, command):
    whom.stdin.write(command + "\n")
    whom.stdin.flush()
    return whom.stdout.readline().strip()
def expect(whom, command, wanted):
    got = ask(whom, command)
    assert got == wanted, f"{'one' if whom is one else 'two'}: {command}: {got}"

expect(one, "lockf try", "has")
expect(two, "lockf try", "refused")
expect(one, "flock try", "has")
expect(two, "flock try", "refused")
expect(one, "die", "gone")
expect(two, "lockf wait", "has")
expect(two, "flock try", "refused")
expect(one, "lockf try", "refused")
two.stdin.close()
assert two.wait() == 0
expect(one, "lockf wait", "has")
one.stdin.close()
assert one.wait() == 0
PROGRAM
lockers() { with ceph:/ ': >file' && timeout 60 python3 "$work/lockers.py" "$program" "$work"; }
check 'locks keep the programs of another service out' lockers

check 'what is not there' says '/none: No such file or directory (make it' ceph:/none
check 'a client that there is not' says 'client.nobody: ' 'ceph:/(client=nobody)'
check 'an option that there is not' says "has no option 'speed'" 'ceph:/(speed=9)'
check 'no path' says "ceph" 'ceph'
check 'a form of marks that it cannot have' says 'use marks=files' \
  'union(ceph:/up, ceph:/img, marks=overlay)'
check 'branches in one another' says 'overlap' 'union(ceph:/up, ceph:/)'
check 'a composition that there is not' says 'no such composition' 'trace(ceph:/)'
LIBSERVICES_CEPH=$work/none
check 'no plug-in' says 'none' ceph:/
LIBSERVICES_CEPH=$(realpath "$4")

check 'libcephfs is loaded by whom it serves' loads_cephfs serves
check 'and by nobody else' spares_cephfs "$program" run --help
report
