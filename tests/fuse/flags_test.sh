#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The flags of files (lsattr, chattr) of a union on ext4: through the mount and preloaded, compared
# with the same steps in a plain directory of that ext4.
# usage: flags_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
source "$(dirname "$0")/private.sh"
type lsattr chattr mkfs.ext4 >/dev/null 2>&1 || skip 'there is no e2fsprogs'
volume=$work/volume
mkdir "$volume" "$mnt"
truncate -s 64M "$work/image"
{ mkfs.ext4 -q "$work/image" && mount -o loop "$work/image" "$volume"; } 2>/dev/null ||
  skip 'there are no loop devices'
mkdir "$volume/upper" "$volume/lower" "$volume/plain"
chmod 777 "$volume/plain"
export volume half

for half in mount preloaded plain; do
  for at in lower plain; do
    mkdir "$volume/$at/$half"
    for name in file log directory/inner mine; do
      mkdir -p "$volume/$at/$half/directory"
      echo "$name" >"$volume/$at/$half/$name"
    done
    chown 65534:65534 "$volume/$at/$half/mine"
  done
done
touch "$volume/lower/immutable" && chattr +i "$volume/lower/immutable" || skip 'flags cannot be set'
unprotect() { chattr -R -ia "$volume"; } 2>/dev/null
trap 'unprotect; unmount_all; cd /; rm -rf "$work"' EXIT

serve "union(local:$volume/upper, local:$volume/lower)"

# One script of steps: each prints what it says and its status.
cat >"$work/steps.sh" <<'STEPS'
step() { "$@" 2>&1 | sed "s|$PWD/||g"; echo "= ${PIPESTATUS[0]}: $*"; }
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"; }
# ext4 says of files with content that they have extents, and of directories that they are indexed.
flags() { lsattr -d "$@" | awk '{ gsub(/[eI]/, "-", $1); print }'; }
step flags file log directory mine
step chattr +d file
step chattr +i file
step flags file
step sh -c 'cat file; echo more >>file'
step chmod 600 file
step mv file other
step rm -f file
step ln file other
step nobody chattr -i file
step chattr -i file
step flags file
step sh -c 'echo more >>file; cat file'
step chattr +a log
step sh -c 'echo more >>log; cat log'
step sh -c 'echo x >log'
step truncate -s 0 log
step rm -f log
step chattr =d log
step flags log
step sh -c 'echo x >log; cat log'
step chattr +i directory
step touch directory/new
step rm -f directory/inner
step chattr -i directory
step rm directory/inner
step nobody chattr +dA mine
step nobody chattr +i mine
step flags mine
step nobody chattr +d directory
step chattr +S directory
step flags directory
step chattr +c mine
step chattr +F directory
step python3 - <<'PYTHON'
import array, errno, fcntl, os, struct
GET, SET, GET_32, SET_32, XGET, XSET = 0x80086601, 0x40086602, 0x80046601, 0x40046602, 0x801c581f, 0x401c5820
def call(name, number, argument):
    fd = os.open(name, os.O_RDONLY)
    try:
        buffer = bytearray(argument)
        fcntl.ioctl(fd, number, buffer)
        return bytes(buffer)
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(fd)
def number(answer):
    return answer if isinstance(answer, str) else hex(struct.unpack("=I", answer[:4])[0] & ~0x80000)  # without extents
def extended(answer):
    return answer if isinstance(answer, str) else struct.unpack("=IIIII8x", answer)
print(number(call("mine", GET, bytes(8))), call("mine", GET, b"\xff" * 8)[4:])
print(number(call("mine", GET_32, bytes(4))))
print(call("mine", SET, struct.pack("=Q", 1 << 27)))  # there is no such flag
print(call("mine", XSET, struct.pack("=IIIII8x", 1 << 30, 0, 0, 0, 0)))
print([extended(call("mine", XGET, bytes(28)))[i] for i in (0, 1, 3, 4)])
print(call("mine", XSET, struct.pack("=IIIII8x", 0x40, 0, 0, 0, 0)))  # noatime
print(number(call("mine", GET, bytes(8))))
print(call("mine", 0x5401, bytes(60)), call("mine", 0x82187201, bytes(536)))  # others
PYTHON
STEPS
check 'the steps in a plain directory' sh -c 'cd "$volume/plain/plain" && bash "$work/steps.sh" >"$work/plain.out" 2>&1'
check 'the same through the mount' sh -c '
  cd "$mnt/mount" && bash "$work/steps.sh" >"$work/mount.out" 2>&1; diff "$work/plain.out" "$work/mount.out"'
check 'the same preloaded' "$libservices" run --run-directory "$work/run" -- sh -c '
  cd "$mnt/preloaded" && bash "$work/steps.sh" >"$work/preloaded.out" 2>&1; diff "$work/plain.out" "$work/preloaded.out"'
check 'they were the ones that were meant' sh -c '
  grep -q -- "^----i-d" "$work/plain.out" && grep -q "^= 1: nobody chattr +i mine" "$work/plain.out" &&
  grep -q "^ENOTSUP$" "$work/plain.out"'
check 'what was set stands in the upper' sh -c 'lsattr -d "$volume/upper/mount/directory" | grep -q "^--S"'
check 'a change of flags shows in the time of the last change, at once' sh -c '
  cd "$mnt/mount" && before=$(stat -c %z log) && chattr +i log && [ "$(stat -c %z log)" != "$before" ] && chattr -i log'
check 'what is immutable in a lower is, and is not copied' sh -c '
  lsattr "$mnt/immutable" | grep -q "^----i" && ! chattr -i "$mnt/immutable" && ! rm -f "$mnt/immutable" &&
  ! sh -c "echo >\"$mnt/immutable\"" && ! [ -e "$volume/upper/immutable" ]'
check 'it can be written as far as access(2) through the mount knows, not past it' sh -c '
  [ -w "$mnt/immutable" ] &&
  ! "$libservices" run --run-directory "$work/run" -- sh -c "[ -w \"$mnt/immutable\" ]"'
check 'the preloaded statx tells of flags' "$libservices" run --run-directory "$work/run" -- sh -c '
  python3 - "$mnt/immutable" <<"PYTHON"
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(256)
assert libc.statx(-100, sys.argv[1].encode(), 0, 0xfff, room) == 0
attributes, mask = struct.unpack_from("=Q", room, 8)[0], struct.unpack_from("=Q", room, 56)[0]
assert attributes & 0x74 == 0x10 and mask & 0x74 == 0x74, (hex(attributes), hex(mask))
PYTHON'
ends

serve "readonly(local:$volume/plain)"
check 'flags of a read-only mount can be seen' sh -c 'lsattr -d "$mnt/plain/mine" >/dev/null'
check 'and not changed' sh -c 'chattr +i "$mnt/plain/mine" 2>&1 | grep -q "Read-only file system"'
check 'nor past it' sh -c '
  "$libservices" run --run-directory "$work/run" -- chattr +i "$mnt/plain/mine" 2>&1 | grep -q "Read-only file system"'
ends

serve "local:$volume/plain" -o writeback
check 'what the kernel gathers cannot be an append' sh -c '
  chattr +a "$mnt/plain/log" && sh -c "echo more >>\"$mnt/plain/log\"" 2>&1 | grep -q "not permitted" &&
  chattr -a "$mnt/plain/log" && echo more >>"$mnt/plain/log"'
ends

serve memory
check 'what has no flags says so' sh -c '
  touch "$mnt/f" && lsattr "$mnt/f" 2>&1 | grep -q "not supported\|Inappropriate ioctl"'
check 'and past it' "$libservices" run --run-directory "$work/run" -- sh -c '
  lsattr "$mnt/f" 2>&1 | grep -q "not supported\|Inappropriate ioctl"'
ends
finish
