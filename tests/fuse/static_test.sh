#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Programs that the preload library cannot enter: what a preloaded shell hands over to them, and how
# they run from a mount, as in a plain directory; and what is said where no mount is at the kernel.
# usage: static_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
[ -e /dev/fuse ] || skip 'there is no /dev/fuse'
[ "$(id -u)" = 0 ] || skip 'only root mounts here'
busybox=$(command -v busybox)
file -L "$busybox" 2>/dev/null | grep -q 'statically' || ! ldd "$busybox" >/dev/null 2>&1 || skip 'busybox is not static'
work=$(mktemp -d)
trap 'unmount_all; rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/upper" "$work/lower" "$work/mount"

cat >"$work/script" <<'END'
exec 2>&1
B=busybox
echo 'one two three' >words
$B cat <words
$B sh -c 'echo first; echo second' >out
cat out
{ $B echo a; echo b; $B echo c; $B printf 'd\n'; } >mixed
cat mixed
echo zero >appended
{ $B echo a; echo b; $B echo c; } >>appended
cat appended
seq 1 20 >numbers
exec 3<numbers
read -r line <&3
$B dd bs=1 count=4 <&3 2>/dev/null
read -r line <&3
echo "then $line"
exec 3<&-
$B sh -c 'cat; echo loud >&2' <words >both 2>&1
cat both
mkdir -p sub
(cd sub && $B sh -c 'echo here >file; ls; pwd' | sed 's,.*/sub,sub,')
cat sub/file
cp "$(command -v $B)" mine
./mine echo from the mount
(exec ./mine sh -c 'echo "$1" >by-mine' sh text)
cat by-mine
$B sh -c 'cat words | sed s/two/2/ >piped'
cat piped
$B env -i /bin/sh -c 'echo cleared >cleared'
cat cleared
python3 - <<'PY'
import subprocess
with open('spawned', 'w') as out:
    subprocess.run(['busybox', 'echo', 'spawned'], stdout=out, check=True)
    out.write('behind\n')
print(open('spawned').read(), end='')
PY
$B find . -type f | sort
$B tar cf - sub words | tar tf -
$B sh -c 'exec 4>>appended; echo last >&4'
cat appended
END
cd "$work/plain" || exit 1
timeout 60 sh "$work/script" >"$work/expected"
same 'the script ends well in a plain directory' 0 $?
for spec in memory "union(local:$work/upper, local:$work/lower)"; do
  timeout 120 "$libservices" with --fuse --mount "$work/mount=$spec" -- \
    sh -c "cd $work/mount && exec sh $work/script" >"$work/found"
  same "it ends well on $spec" 0 $?
  check "it prints the same on $spec" diff -u "$work/expected" "$work/found"
done
same 'a static program is started' 'text' \
  "$("$libservices" with --fuse --mount "$work/mount=memory" -- "$busybox" sh -c "echo text >$work/mount/f; cat $work/mount/f" 2>&1)"

# Without a mount at the kernel.
plain() { "$libservices" with --mount "$work/none=memory" -- sh -c "$1" 2>&1; }
check 'a static program is refused' [ "$("$libservices" with --mount "$work/none=memory" -- "$busybox" true >/dev/null 2>&1; echo $?)" = 126 ]
same 'a static program that inherits nothing of ours runs' yes "$(plain 'busybox echo yes')"
said=$(plain "busybox echo no >$work/none/f; echo \$?")
check 'one that inherits a file does not' [ "${said##*$'\n'}" = 126 ]
check 'and is told why' grep -q "busybox: it is statically linked.*not at the kernel" <<<"$said"
same 'the shell goes on unharmed' 'and back' "$(plain "{ busybox true; echo and back; } >$work/none/f 2>/dev/null; cat $work/none/f")"
said=$(plain "mkdir $work/none/d; cd $work/none/d; busybox pwd; echo \$?")
check 'nor one that would work in a mount' [ "${said##*$'\n'}" = 126 ]
said=$(plain "cd $work/none; '$libservices' --version >f; cat f")
check 'the first part of the command is none of them' [ "${said%% *}" = libservices ]
report
