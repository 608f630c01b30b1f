#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The mount of a service at the kernel: who can use it, what it shares with preloaded programs, and
# what becomes of it when the service or the mount ends.
# usage: mount_test.sh LIBSERVICES PRELOAD_LIBRARY device|io_uring
set -u
source "$(dirname "$0")/private.sh"
always=(-o noio_uring)
[ "$transport" != io_uring ] || always=(-o io_uring)
busy=0

keep_busy() {  # a process that has a file of the mount open
  sleep 300 <"$mnt/d/file" &
  busy=$!
  until readlink /proc/$busy/fd/0 | grep -q "d/file"; do sleep 0.05; done
}
stop_busy() {
  kill $busy
  wait $busy 2>/dev/null
}
mkdir "$work/upper" "$work/lower" "$work/lower/d"
echo lower >"$work/lower/d/file"
cp /bin/sleep "$work/lower/d/sleep"
spec="union(local:$work/upper, local:$work/lower)"

# ---- programs that cannot be preloaded
serve "$spec"
check "the mount is there, and its directory was made" mountpoint -q "$mnt"
check "it says what it is" grep -q "$mnt fuse.libservices" /proc/mounts
cat >"$work/static.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char** argv) {
  char path[4096];
  (void)argc;
  snprintf(path, sizeof path, "%s/from-static", argv[1]);
  const int fd = open(path, O_CREAT | O_RDWR, 0600);
  if (fd < 0 || write(fd, "static", 6) != 6) return 1;
  char* const mapped = mmap(NULL, 6, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED || memcmp(mapped, "static", 6) != 0) return 2;
  mapped[0] = 'S';
  return msync(mapped, 6, MS_SYNC) == 0 && close(fd) == 0 ? 0 : 3;
}
C
gcc -static -o "$work/static" "$work/static.c" || exit 1
check "a static program writes and maps a file" "$work/static" "$mnt"
check "a preloaded one sees what it has written" bash -c 'equal "$(preloaded cat "$mnt/from-static")" Static'
cp "$work/static" "$mnt/d/static"
check "a program on the mount is executed" "$mnt/d/static" "$mnt"
chmod 4711 "$mnt/d/static"
for size in 40000 131072 5000017; do head -c $size /dev/urandom >"$work/lower/d/of-$size"; done
truncate -s 300000 "$work/lower/d/of-131072"  # the rest is a hole
for size in 40000 131072 5000017; do
  check "a file of $size bytes is the same through the mount" cmp "$work/lower/d/of-$size" "$mnt/d/of-$size"
  check "and when it is read in odd parts" bash -c '
    dd if="$mnt/d/of-$1" bs=98765 iflag=fullblock status=none | cmp - "$work/lower/d/of-$1"' _ $size
done
check "and when it has grown past the mount" bash -c '
  preloaded sh -c "cat \"$mnt/d/of-40000\" >>\"$mnt/d/of-5000017\""
  cat "$work/lower/d/of-5000017" "$work/lower/d/of-40000" | cmp - "$mnt/d/of-5000017"'
check "a program that may only be executed is, by others" \
  setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '"$mnt/d/static" /nonexistent; [ $? = 1 ]'

# ---- both halves
check "a name made past the mount is seen at once" \
  bash -c '! [ -e "$mnt/new" ] && preloaded touch "$mnt/new" && [ -e "$mnt/new" ]'
check "and one that was removed there is gone" bash -c 'preloaded rm "$mnt/new"; ! [ -e "$mnt/new" ]'
check "a change of the content is seen by who has the file open" bash -c '
  exec 5<"$mnt/d/file"; read -r first <&5
  preloaded sh -c "echo more >>\"$mnt/d/file\""
  read -r second <&5 && equal "$first $second" "lower more"'
check "what is mapped through the mount changes with it" python3 - <<'PYTHON'
import mmap, os, subprocess
mount = os.environ["mnt"]
path = mount + "/mapped"
with open(path, "wb") as file:
    file.write(b"a" * 8192)
with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ)
    assert mapped[5000:5001] == b"a"
    subprocess.run([os.environ["libservices"], "run", "--run-directory", os.environ["work"] + "/run", "--", "sh", "-c",
                    f"printf b | dd of={path} bs=1 seek=5000 conv=notrunc status=none"], check=True)
    assert mapped[4999:5002] == b"aba", mapped[4999:5002]
PYTHON
check "appends of both halves do not overwrite each other" bash -c '
  : >"$mnt/log"
  for i in $(seq 100); do echo "mount $i" >>"$mnt/log"; done &
  preloaded bash -c "for i in \$(seq 100); do echo \"past \$i\" >>\"$mnt/log\"; done"
  wait
  equal "$(sort -u "$mnt/log" | wc -l)" 200'
check "a removed file stays with who has it open, on the other side too" bash -c '
  echo kept >"$mnt/open"; exec 5<"$mnt/open"
  preloaded rm "$mnt/open"; ! [ -e "$mnt/open" ] && equal "$(cat <&5)" kept'
check "record locks and flock are those of both halves" python3 - <<'PYTHON'
import fcntl, os, subprocess
mount = os.environ["mnt"]
run = [os.environ["libservices"], "run", "--run-directory", os.environ["work"] + "/run", "--", "python3", "-c"]
def other(how):
    return subprocess.run(run + [f"import fcntl\nf = open('{mount}/lock', 'r+')\n"
                                 f"fcntl.{how}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"], stderr=subprocess.DEVNULL).returncode
with open(mount + "/lock", "w+") as file:
    for how in ("lockf", "flock"):
        lock = getattr(fcntl, how)
        assert other(how) == 0
        lock(file, fcntl.LOCK_EX)
        assert other(how) == 1, how
        lock(file, fcntl.LOCK_UN)
        assert other(how) == 0
    fcntl.lockf(file, fcntl.LOCK_EX)
    with open(mount + "/lock"):
        pass  # closing any descriptor of the file drops the process's locks
    assert other("lockf") == 0
PYTHON
check "who waits for a lock gets it when the other half lets go, and can be interrupted" python3 - <<'PYTHON'
import fcntl, os, signal, subprocess, time
mount = os.environ["mnt"]
holder = subprocess.Popen([os.environ["libservices"], "run", "--run-directory", os.environ["work"] + "/run", "--", "python3",
                           "-c", f"import fcntl, sys\nf = open('{mount}/lock', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
                                 "print('held', flush=True)\nsys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert holder.stdout.readline() == b"held\n"
class Interrupted(Exception):
    pass
def interrupt(*_):
    raise Interrupted
signal.signal(signal.SIGALRM, interrupt)
with open(mount + "/lock", "r+") as file:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begun = time.monotonic()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX)
        raise SystemExit("it was not interrupted")
    except Interrupted:
        assert time.monotonic() - begun < 5
    holder.stdin.close()
    fcntl.lockf(file, fcntl.LOCK_EX)
holder.wait()
PYTHON
check "however many wait for a lock, everything else goes on, and each gets it or can be killed" \
  python3 - <<'PYTHON'
import fcntl, os, signal, time
path = os.environ["mnt"] + "/many"
holder = open(path, "w")
fcntl.flock(holder, fcntl.LOCK_EX)
got = []
read_end, write_end = os.pipe()
children = []
for number in range(150):
    child = os.fork()
    if child == 0:
        with open(path, "r+") as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)
            os.write(write_end, b"%4d" % number)
        os._exit(0)
    children.append(child)
time.sleep(1)  # most of them wait by now
for number in range(100):
    begun = time.monotonic()
    with open(f"{path}-{number}", "w") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)
        other.write("x")
    os.unlink(f"{path}-{number}")
    assert time.monotonic() - begun < 5
for child in children[::3]:
    os.kill(child, signal.SIGKILL)
for child in children[::3]:
    os.waitpid(child, 0)
fcntl.flock(holder, fcntl.LOCK_UN)
for child in children[1::3] + children[2::3]:
    assert os.waitpid(child, 0)[1] == 0
os.close(write_end)
with os.fdopen(read_end) as pipe:
    numbers = pipe.read().split()
assert sorted(map(int, numbers)) == [n for n in range(150) if n % 3 != 0], numbers
fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
PYTHON
check "what there is not is refused" python3 - <<'PYTHON'
import ctypes, errno, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
with open(os.environ["mnt"] + "/mapped", "r+b") as file:
    try:
        fcntl.ioctl(file, 0x82187201, bytearray(536))  # VFAT_IOCTL_READDIR_BOTH
        raise SystemExit("an ioctl of another filesystem is there")
    except OSError as error:
        assert error.errno == errno.ENOTTY, error
    collapse_range = 8
    assert libc.fallocate(file.fileno(), collapse_range, ctypes.c_long(0), ctypes.c_long(4096)) == -1
    assert ctypes.get_errno() == errno.EOPNOTSUPP, ctypes.get_errno()
PYTHON
check "a new owner is known when the attributes have been asked for, and an old one is none at once" bash -c '
  touch "$mnt/given" && chown 65534 "$mnt/given" && stat "$mnt/given" >/dev/null &&
  preloaded chown 1000 "$mnt/given"
  as() { setpriv --reuid "$1" --regid "$1" --clear-groups python3 -c "import os; os.chmod(\"$mnt/given\", 0o640)" 2>/dev/null; }
  ! as 65534 && stat "$mnt/given" >/dev/null && as 1000 && equal "$(stat -c %a "$mnt/given")" 640'
check "others' groups count" bash -c '
  mkdir "$mnt/group" && chgrp 4242 "$mnt/group" && chmod 770 "$mnt/group" &&
  setpriv --reuid 65534 --regid 65534 --groups 4242 touch "$mnt/group/by-member" &&
  ! setpriv --reuid 65534 --regid 65534 --clear-groups touch "$mnt/group/by-stranger" 2>/dev/null'

check "chown takes the bits away that it does elsewhere, and leaves those of no group" bash -c '
  touch "$mnt/ids" && chmod 2700 "$mnt/ids" && chown 65534:65534 "$mnt/ids" &&
  equal "$(stat -c %a "$mnt/ids")" 2700 && chmod 6770 "$mnt/ids" && chown 0:0 "$mnt/ids" &&
  equal "$(stat -c %a "$mnt/ids")" 770'

# ---- the kernel goes to the files itself
kernel=$(uname -r | awk -F. '{ print $1 * 100 + $2 }')
if [ "$kernel" -ge 609 ]; then
  check "writes to a file of the upper take no requests" bash -c '
    count() { "$libservices" status --run-directory "$work/run" --json | grep -c "$1"; }
    exec 5>"$mnt/passing"
    equal "$(count "\"files_passing_through\": 1")" 1 || exit 1
    before=$("$libservices" status --run-directory "$work/run" --json | grep "\"write\":")
    for i in $(seq 50); do echo "$i" >&5; done
    equal "$("$libservices" status --run-directory "$work/run" --json | grep "\"write\":")" "$before" || exit 1
    equal "$(preloaded tail -1 "$mnt/passing")" 50 && equal "$(preloaded stat -c %s "$mnt/passing")" 141'
  check "a program of a lower runs from the lower's own pages, and who opens it when it has changed sees that" bash -c '
    passing() { "$libservices" status --run-directory "$work/run" --json | grep -q "\"files_passing_through\": $1"; }
    "$mnt/d/sleep" 300 & running=$!
    exec 5<"$mnt/d/sleep"
    passing [1-9] || exit 1
    printf changed | preloaded dd of="$mnt/d/sleep" bs=1 seek=20000 conv=notrunc status=none
    equal "$(tail -c +20001 "$mnt/d/sleep" | head -c 7)" changed || exit 1
    equal "$(preloaded tail -c +20001 "$mnt/d/sleep" | head -c 7)" changed || exit 1
    cmp -n 40000 - "$work/lower/d/sleep" <&5 || exit 1
    ! : </dev/fd/5 2>/dev/null || exit 1
    kill $running; exec 5<&-; wait $running
    equal "$(tail -c +20001 "$mnt/d/sleep" | head -c 7)" changed && passing 0 &&
    cmp -s "$work/lower/d/sleep" /bin/sleep'
fi

# ---- ends
check "status tells of the mount" bash -c '
  "$libservices" status --run-directory "$work/run" --json | grep -q "\"mounted\": true" &&
  "$libservices" status --run-directory "$work/run" | grep -q "mounted at the kernel, protocol 7.* over $transport:"'
waiter() {  # a process that waits for a lock which another one has
  flock "$mnt/waited" sleep 300 & holder=$!
  sleep 0.3
  flock "$mnt/waited" true & waiting=$!
  sleep 0.3
}
waiter
keep_busy
check "the service ends while the mount is in use, and somebody waits for a lock there" ends
pkill -P $holder
wait $holder $waiting 2>/dev/null
stop_busy
check "and leaves neither a mount nor the directory" bash -c '! [ -e "$mnt" ]'

serve "$spec"
keep_busy
ends KILL
check "a killed service leaves a mount that answers ENOTCONN" bash -c '! ls "$mnt" 2>/dev/null && ls "$mnt" 2>&1 | grep -q "not connected"'
serve "$spec"
check "the next one takes its place" bash -c 'equal "$(head -1 "$mnt/d/file")" lower && equal "$(preloaded head -1 "$mnt/d/file")" lower'
stop_busy
check "the mount can be taken away by hand" umount "$mnt"
check "and the service goes on without it" bash -c '
  preloaded test -e "$mnt/d/file" && "$libservices" status --run-directory "$work/run" --json | grep -q "\"mounted\": false"'
check "and ends" ends
umount -l "$mnt" 2>/dev/null
rmdir "$mnt" 2>/dev/null

# ---- files of memory
if [ "$kernel" -ge 609 ]; then
  serve memory
  check "files of memory pass through too, and both halves write them" bash -c '
    exec 5>"$mnt/f" && echo first >&5 && preloaded sh -c "echo second >>\"$mnt/f\"" &&
    "$libservices" status --run-directory "$work/run" --json | grep -q "\"files_passing_through\": 1" &&
    equal "$(cat "$mnt/f" | tr "\n" " ")" "first second " && equal "$(preloaded stat -c %s "$mnt/f")" 13'
  ends
fi

# ---- wrong ones
echo >"$mnt"
serve "$spec"
wait $service
service=0
check "a file is nothing to mount on" grep -q "no directory" "$work/serve.err"
rm "$mnt"
serve "$spec" -o nonsense
wait $service
service=0
check "an unknown option is told" grep -q "option nonsense: it is not known" "$work/serve.err"
serve memory -o ro
check "a read-only mount is" bash -c '! touch "$mnt/x" 2>/dev/null && [ -d "$mnt" ]'
check "and ends as well" ends

# ---- a service that has one of the processors
if [ "$(nproc)" -gt 1 ]; then
  on=(taskset -c 0)
  serve memory
  touch "$mnt/lock"
  taskset -c 0 flock "$mnt/lock" sleep 1.5 & holder=$!
  sleep 0.3
  check "a caller on its processor waits for a lock" taskset -c 0 flock "$mnt/lock" true
  wait $holder
  taskset -c 0 flock "$mnt/lock" sleep 2 & holder=$!
  for i in $(seq 50); do taskset -c 0 flock -n "$mnt/lock" true || break; done
  if [ "$transport" = io_uring ]; then
    check "one on another is told that it cannot" bash -c '
      taskset -c 1 flock "$mnt/lock" true 2>&1 | grep -q "No locks available"'
  else
    check "one on another, too" taskset -c 1 flock "$mnt/lock" true
  fi
  check "which else does all that it likes" taskset -c 1 sh -c 'for i in 1 2 3; do echo $i >"$mnt/x" && rm "$mnt/x" || exit 1; done'
  wait $holder
  check "and ends" ends
  on=()
fi
finish
