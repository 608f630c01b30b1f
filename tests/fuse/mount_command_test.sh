#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `libservices mount` and `umount`: what they start and end, what they refuse, and what becomes of mounts
# whose service dies.
# usage: mount_command_test.sh LIBSERVICES PRELOAD_LIBRARY
. "$(dirname "$0")/private.sh"
mkdir upper lower
echo lower >lower/file
spec="union(local:$work/upper, local:$work/lower)"

# --- a mount, its pool, its end
check 'mount' libservices mount "$spec" mnt
check 'it answers at once' grep -qx lower mnt/file
same 'what the kernel says of it' "${spec/ /\\040} fuse.libservices" "$(field "$mnt" 1) $(field "$mnt" 3)"
check 'preloaded programs reach the same files by its path' \
  sh -c 'libservices run --pool "$mnt" -- sh -c "echo more >>$mnt/file" && [ "$(cat mnt/file)" = "lower
more" ]'
check 'status by its path' sh -c 'libservices status --pool "$mnt" | grep -q "mounted at the kernel"'
opens() { libservices status --pool "$mnt" | awk '$2 == "open" { n = $1 } END { print n + 0 }'; }  # past the mount
opened=$(opens)
same 'a preloaded program that begins in the mount' lower "$(cd mnt && libservices run --pool "$mnt" -- head -1 file)"
same 'uses the mount for relative names' "$opened" "$(opens)"
same 'until it goes there itself' lower "$(cd mnt && libservices run --pool "$mnt" -- env -C "$mnt" head -1 file)"
check 'past the mount' test "$(opens)" -gt "$opened"
pool=$(ls /run/libservices)
check 'and by its name' sh -c "libservices status --pool $pool --json | grep -q '\"service_ends_with_it\": true'"
refused 125 "is mounted there already, by process" libservices mount memory mnt
refused 125 'a service with other mounts runs there already' libservices mount memory mnt2 --pool "$pool"
refused 125 'has a mount there' libservices status --pool /nowhere
for pid in $(services); do
  same 'descriptors 0 to 2' '/dev/null /dev/null /dev/null ' "$(for d in 0 1 2; do readlink "/proc/$pid/fd/$d"; done | tr '\n' ' ')"
  same 'its directory' / "$(readlink "/proc/$pid/cwd")"
done
exec 5<mnt/file
refused 125 'it is in use' libservices umount mnt
check 'what is in use stays' mounted "$mnt"
exec 5<&-
check 'writes' dd if=/dev/zero of=mnt/large bs=1M count=32
check 'umount' libservices umount mnt
same 'when it returns the service has ended' '' "$(services)"
same 'and all is written' 33554432 "$(stat -c %s upper/large)"
same 'nothing is left' '' "$(left)"
check 'a mount point that was made is gone' test ! -e mnt
refused 125 'nothing is mounted there' libservices umount mnt
refused 125 'nothing is mounted there' libservices umount upper
refused 125 'proc is mounted there, which is no mount of libservices' libservices umount /proc

# --- paths and pools
mkdir 'a b' mnt
ln -s 'a b' link
check 'a path through a symbolic link, with a space' libservices mount memory link/
check 'mounted behind it' mounted "$work/a\\040b"
check 'a second one, with a pool of its own' libservices mount "$spec" mnt --pool own
same 'both run' 2 "$(services | wc -w)"
same 'the pool' own "$(libservices status --pool own --json | awk -F'"' '/"pool"/ { print $4 }')"
check 'both are unmounted' libservices umount 'a b' mnt
same 'both have ended' '' "$(services)"
check 'a directory that was there stays' test -d mnt
check 'a pool among the options' libservices mount memory mnt -o pool=other,nodev,lazytime,strictatime
check 'it has that name' libservices status --pool other
for flag in rw nodev lazytime; do
  check "$flag is shown" sh -c "grep -q ' $mnt fuse.libservices [^ ]*\b$flag\b' /proc/mounts"
done
check 'umount(8)' umount mnt
check 'ends the service' ended
same 'and leaves nothing' '' "$(left)"
for times in noatime relatime; do
  check "$times" libservices mount memory mnt -o "$times"
  check "$times is shown" sh -c "grep -q ' $mnt fuse.libservices [^ ]*$times' /proc/mounts"
  libservices umount mnt
done

# --- what is wrong is told before anything is touched
refused 125 'option nonsense: it is not known' libservices mount memory mnt -o ro,nonsense
refused 125 'option remount: a mount that is there cannot be changed' libservices mount memory mnt -o remount
refused 125 'no such composition' libservices mount 'nothing(memory)' mnt
refused 125 'No such file or directory' libservices mount local:/nowhere mnt
refused 125 'no directory' libservices mount memory lower/file
refused 125 'the root directory cannot be a mount' libservices mount memory /
refused 125 "pool 'a/b': it is no name" libservices mount memory mnt --pool a/b
refused 125 'command line' libservices mount memory
refused 125 'command line' libservices umount
check 'nothing was mounted' unmounted "$mnt"
same 'nothing was left' '' "$(left)"

# --- in the foreground, and by signals
timeout 60 libservices mount -f "$spec" mnt &
foreground=$!
for i in $(seq 200); do mounted "$mnt" && break; sleep 0.05; done
check 'in the foreground' test -f mnt/file
check 'its end' libservices umount mnt
wait $foreground
same 'its status' 0 $?
libservices mount "$spec" mnt
for pid in $(services); do kill -TERM "$pid"; done
check 'SIGTERM ends the service' ended
check 'and unmounts' unmounted "$mnt"
libservices mount "$spec" mnt
exec 5>mnt/held
echo begun >&5
check 'umount --lazy' libservices umount --lazy mnt
check 'nobody comes in' unmounted "$mnt"
check 'but who has a file open goes on' sh -c 'echo more >&5'
exec 5>&-
check 'then the service ends' ended
same 'and all is written' 'begun
more' "$(cat upper/held)"
# The upper and the pool of the last one are just being left.
for i in $(seq 20); do
  libservices mount "$spec" mnt && echo "$i" >>mnt/counted && umount mnt || bad "turn $i"
done
same 'one mount after the other' "$(seq 20)" "$(cat upper/counted)"
ended
exec 6>told
check 'of its caller it keeps nothing' timeout 20 sh -c 'libservices mount memory mnt 2>&1 | cat'
same 'not even a descriptor' '' "$(for pid in $(services); do ls -l "/proc/$pid/fd" | grep told; done)"
exec 6>&-
libservices umount mnt
check 'with its descriptors closed' sh -c 'libservices mount memory mnt <&- >&- 2>&-'
check 'umount' libservices umount mnt

# --- a service that others use goes on
rm -f ready
libservices serve --fuse --pool serving --ready 3 --mount "$mnt=$spec" 3>ready >/dev/null 2>&1 &
serving=$!
until [ -s ready ]; do sleep 0.05; done
check 'the mount of serve is unmounted' libservices umount mnt
check 'and its service serves' libservices run --pool serving -- test -f "$mnt/file"
kill $serving
wait $serving
same 'and ends' 0 $?

# --- dead services
die() {
  local pid
  for pid in $(services); do kill -9 "$pid"; done
  ended
}
libservices mount "$spec" mnt
exec 5<mnt/file
die
check 'a dead mount' sh -c '! ls mnt 2>/dev/null'
check 'is followed by the next, whoever uses it' libservices mount "$spec" mnt
same 'which serves' lower "$(head -1 mnt/file)"
exec 5<&-
die
check 'umount of a dead mount' libservices umount mnt
check 'it is gone' unmounted "$mnt"
same 'with what the service has left' '' "$(left)"
libservices mount "$spec" mnt
cd mnt || exit 1
die
cd "$work" || exit 1
check 'umount(8) of a dead mount' umount mnt
check 'mount after that' libservices mount "$spec" mnt
check 'umount' libservices umount mnt
# Twice dead, one upon the other.
for pool in below above; do
  rm -f ready
  (libservices serve --fuse --pool $pool --ready 3 --mount "$mnt=memory" 3>ready >/dev/null 2>&1 &)
  until [ -s ready ]; do sleep 0.05; done
done
same 'two mounts' 2 "$(grep -c " $mnt " /proc/mounts)"
die
check 'the next one after both' libservices mount memory mnt
check 'one mount alone is there' test "$(grep -c " $mnt " /proc/mounts)" = 1
check 'umount' libservices umount mnt

finish
