#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A mount program of overlayfs's kind by itself: what it mounts, what it leaves on disk, how it starts and ends.
# usage: mount_test.sh PROGRAM     ($LIBSERVICES_OVERLAY names another, as /usr/bin/fuse-overlayfs)
set -u
source "$(dirname "$0")/../support/checks.sh"
if [ "${1-}" != inside ]; then
  program=$(realpath "${LIBSERVICES_OVERLAY-$1}")
  if [ "$(id -u)" != 0 ] || [ ! -w /dev/fuse ]; then skip 'mounts through FUSE take root and /dev/fuse'; fi
  # Its mounts and processes end with the test, whatever happens.
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$(realpath "$0")" inside "$program" </dev/null
fi
name=$(basename "$2")
work=$(mktemp -d /tmp/libservices-layers-test.XXXXXX)
chmod 755 "$work"
# Where every user can run it.
mkdir "$work/bin"
program=$work/bin/$name
install -m 755 "$2" "$program"
trap 'unmount_all; rm -rf "$work"' EXIT
cd "$work" || exit 1
# The run directories of others are not looked at, and ours are no litter.
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm

mounted() { mountpoint -q "$work/$1"; }
# The services whose command line names the mount point.
services() { pgrep -f -- "^[^ ]*$name .*${1-$work/}" | tr '\n' ' '; }
gone() {  # gone DIRECTORY: its service has ended, which takes a moment
  local i
  for i in $(seq 500); do
    [ -z "$(services "$1")" ] && return 0
    sleep 0.02
  done
  return 1
}
start() {  # start ARGUMENT...: the program, which must return; 0: it says that it has mounted
  timeout 30 "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
}
end() { fusermount3 -u "$1"; }
# Private run directories that a service left.
litter() { (shopt -s nullglob && echo /run/libservices-overlay.* /dev/shm/libservices-overlay.* /tmp/libservices-overlay.*); }
litter_before=$(litter)

fresh() {  # low1 over low2, an empty upper, and the links by which containers/storage names layers
  unmount_all
  gone "$work/"  # a service that is still ending would be taken for the next one
  rm -rf low1 low2 upper work merged merged2 l
  mkdir -p low1/data low2/data/sub low2/dir l upper work merged merged2
  echo 1 >low1/data/b
  echo lower >low2/data/b
  echo gone >low2/data/a
  echo c >low2/data/sub/c
  echo file >low2/file
  echo linked >low2/linked
  ln low2/linked low2/linked2
  ln -s file low2/link
  echo x >low2/dir/x
  chmod 4755 low2/dir/x
  touch -d 2020-01-01 low2/file
  ln -s ../low1 l/AAAAAAAAAAAAAAAAAAAAAAAAAA
  ln -s ../low2 l/BBBBBBBBBBBBBBBBBBBBBBBBBB
  lowers=l/AAAAAAAAAAAAAAAAAAAAAAAAAA:l/BBBBBBBBBBBBBBBBBBBBBBBBBB
  layers=lowerdir=$lowers,upperdir=$work/upper,workdir=$work/work
}
tree() { (cd "$1" && find . -mindepth 1 \( -type d -printf '%p %y %m %U:%G\n' -o -printf '%p %y %m %U:%G %s %l\n' \) | sort &&
  find . -type f -exec sha256sum {} + | sort -k 2); }

# --- words
check '--version' sh -c "'$program' --version | grep -q '^$name: version [0-9]'"
check '--help' sh -c "'$program' --help | grep -q lowerdir"
fresh
for wrong in "-o lowerdir=nowhere merged" "-o lowerdir=low1 nowhere" "merged" "-o upperdir=upper merged" \
  "-o lowerdir=low1,upperdir=upper merged"; do
  # shellcheck disable=SC2086  # words
  if start $wrong; then bad "it mounts: $wrong"; else ok; fi
  if [ -s err ]; then ok; else bad "no word on standard error: $wrong"; fi
  if mounted merged; then bad "mounted after a failure: $wrong"; else ok; fi
done
same 'services of mounts that failed' '' "$(services)"

# --- a container's mount
fresh
check 'a mount with empty options and relative links' start -o "$layers,,volatile," "$work/merged"
check 'it is live when the program returns' mounted merged
same "the kernel's type" 65735546 "$(stat -f -c %t merged)"
check 'root directory' test "$(ls merged | tr '\n' ' ')" = 'data dir file link linked linked2 '
same 'the first layer is on top' 1 "$(cat merged/data/b)"
same 'modes' 4755 "$(stat -c %a merged/dir/x)"
same 'times' 2020-01-01 "$(stat -c %y merged/file | cut -d' ' -f1)"
same 'links' file "$(readlink merged/link)"
check 'a new file' sh -c 'echo new >merged/new && test "$(cat upper/new)" = new'
check 'a lower file is copied' sh -c 'echo more >>merged/file && test "$(cat upper/file)" = "file
more"'
same 'the lower stays' file "$(cat low2/file)"
check 'remove' rm merged/data/a
same 'whiteout' 'character special file 0:0' "$(stat -c '%F %t:%T' upper/data/a 2>&1)"
check 'remove and make a directory' sh -c 'rm -r merged/data/sub && mkdir merged/data/sub && touch merged/data/sub/z'
same 'only the new is in it' z "$(ls merged/data/sub)"
check 'rename a file' mv merged/link merged/data/link2
check 'rename a directory' mv merged/dir merged/dir2
same 'what was in it' x "$(cat merged/dir2/x)"
check 'hard link' ln merged/new merged/new2
check 'other attributes' setfattr -n user.test -v value merged/new
check 'device and pipe' sh -c 'mknod merged/null c 1 3 && mkfifo merged/pipe'
check 'owners' sh -c 'chown 12:34 merged/new && test "$(stat -c %u:%g upper/new)" = 12:34'
check 'statfs' sh -c 'test "$(stat -f -c %b merged)" -gt 0'
tree merged >tree.live

# --- the end
check 'unmount' end merged
check 'the service ends by itself' gone "$work/merged"
check 'mount again' start -o "$layers" "$work/merged"
tree merged >tree.again
check 'the tree is the same after a restart' diff tree.live tree.again
# The view that is compared with the parent's, while nothing is mounted read-write, and beside it.
check 'a view' start -o "lowerdir=$work/upper:$lowers" "$work/merged2"
tree merged2 >tree.view
check 'the view is the same tree' diff tree.live tree.view
if touch merged2/x 2>told; then bad 'the view can be changed'; else ok; fi
check 'a view says why it cannot be changed' grep -q 'Read-only file system' told
end merged2
end merged
gone "$work/merged"
if grep -qw overlay /proc/filesystems; then
  check "the kernel's overlayfs mounts the same layers" mount -t overlay overlay -o "lowerdir=low1:low2,upperdir=upper,workdir=work" merged
  tree merged >tree.native
  check "the kernel's overlayfs shows the same" diff tree.live tree.native
  umount merged
else
  skipped=$((skipped + 2))
  echo "SKIPPED: this kernel has no overlayfs to read the upper with"
fi
check 'one layer, seen' start -o lowerdir=low2 merged
same 'one layer' x "$(cat merged/dir/x)"
end merged

# --- hard links of the lower
fresh
start -o "$layers" "$work/merged"
check 'one of two names is written' sh -c 'echo more >>merged/linked'
same 'and the other one is the same file' 'linked
more' "$(cat merged/linked2)"
end merged
gone "$work/merged"
start -o "$layers" "$work/merged"
same 'after a restart too' 'linked
more' "$(cat merged/linked2)"
end merged
gone "$work/merged"

# --- one mount after the other, at once, as podman does it
fresh
failed_before=$failed
for i in $(seq 20); do
  start -o "$layers" "$work/merged" || { bad "mount $i at once after unmount"; break; }
  echo "$i" >>merged/counted || bad "write $i"
  end merged || bad "unmount $i"
done
[ $failed = $failed_before ] && ok
same 'nothing is lost' "$(seq 20)" "$(cat upper/counted)"

# --- what the service keeps of its caller
fresh
exec 7>"$work/held"
# The pipe has its end only when nobody holds it.
(cd "$work" && timeout 20 sh -c "'$program' -o $layers $work/merged 2>&1 | cat") >out 2>err
same 'standard error is closed' 0 $?
exec 7>&-
for pid in $(services "$work/merged"); do
  same 'descriptors 0 to 2' '/dev/null /dev/null /dev/null ' "$(for d in 0 1 2; do readlink "/proc/$pid/fd/$d"; done | tr '\n' ' ')"
  same "the caller's other descriptors" '' "$(ls -l "/proc/$pid/fd" | grep -o 'layers-test.*/held')"
  same 'its directory' / "$(readlink "/proc/$pid/cwd")"
done
end merged
gone "$work/merged"
check 'with its descriptors closed' sh -c "'$program' -o $layers $work/merged <&- >&- 2>&-"
check 'mounted then' mounted merged
end merged
gone "$work/merged"
check 'without any variable' env -i PATH="$PATH" "$program" -o "$layers" "$work/merged"
check 'mounted then' mounted merged

# --- ends of other kinds
exec 8>merged/open
echo begun >&8
umount -l merged
sleep 0.2
check 'an open file outlives a lazy unmount' sh -c 'echo more >&8'
exec 8>&-
check 'then the service ends' gone "$work/merged"
same 'and all is written' 'begun
more' "$(cat upper/open)"
start -o "$layers" "$work/merged"
for pid in $(services "$work/merged"); do kill -TERM "$pid"; done
check 'SIGTERM ends the service' gone "$work/merged"
if mounted merged; then bad 'mounted without a service'; else ok; fi
unmount_all
timeout 60 "$program" -f -o "$layers" "$work/merged" >out 2>err </dev/null &
foreground=$!
for i in $(seq 200); do mounted merged && break; sleep 0.05; done
check 'in the foreground' sh -c 'echo text >merged/foreground'
end merged
wait $foreground
same 'its status' 0 $?

# --- many layers
fresh
list=
for i in $(seq 500); do
  mkdir -p "many/$i"
  echo "$i" >"many/$i/f$i"
  echo "$i" >"many/$i/top"
  ln -s "../many/$i" "l/$i"
  list=$list:l/$i
done
check '500 layers' start -o "lowerdir=${list#:},upperdir=$work/upper,workdir=$work/work" "$work/merged"
same 'the top one' 1 "$(cat merged/top)"
same 'all of them' 501 "$(ls merged | wc -l)"
same 'the last one' 500 "$(cat merged/f500)"
end merged

# --- paths that need a backslash
mkdir -p 'a:b' 'c,d'
echo colon >'a:b/colon'
echo comma >'c,d/comma'
check 'a path with a comma' start -o "lowerdir=$work/c\\,d:$work/low1" "$work/merged"
same 'it is read' comma "$(cat merged/comma)"
end merged
gone "$work/merged"
check 'a path with a colon' start -o "lowerdir=$work/a\\:b:$work/low1" "$work/merged"
same 'it is read' colon "$(cat merged/colon)"
unmount_all

# --- other owners
fresh
chown 5:6 low2/file
check 'uidmapping' start -o "$layers,uidmapping=:0:300000:65536,gidmapping=:0:300000:65536" "$work/merged"
same 'shown' '300000:300000 300005:300006' "$(stat -c %u:%g merged/dir merged/file | tr '\n' ' ' | sed 's/ $//')"
check 'stored' sh -c 'chown 300007:300008 merged/file && test "$(stat -c %u:%g upper/file)" = 7:8'
check "the container's superuser writes" setpriv --reuid 300000 --regid 300000 --clear-groups touch merged/made
same 'as root' 0:0 "$(stat -c %u:%g upper/made)"
end merged
gone "$work/merged"
check 'squash' start -o "$layers,squash_to_uid=1000,squash_to_gid=1001" "$work/merged"
same 'one owner' 1000:1001 "$(stat -c %u:%g merged/file)"
end merged
gone "$work/merged"

# --- mount(8)
if command -v mount.fuse3 >/dev/null; then
  check 'mount.fuse3' mount.fuse3 "$program#overlay" "$work/merged" -o "rw,lowerdir=$work/low1:$work/low2,upperdir=$work/upper,workdir=$work/work,x-systemd.automount"
  check 'mounted then' mounted merged
  end merged
else
  skipped=$((skipped + 2))
  echo 'SKIPPED: there is no mount.fuse3'
fi
check 'an option that is not known' sh -c "'$program' -o $layers,nonsense=1 $work/merged 2>told"
check 'is told' grep -q nonsense told
unmount_all

# --- the superuser of a user namespace
fresh
chown -R 1500:1500 low1 low2 upper work merged l
rootless() {
  env -u XDG_RUNTIME_DIR -u TMPDIR setpriv --reuid 1500 --regid 1500 --clear-groups --inh-caps=-all unshare --user --map-root-user --mount --pid --fork --kill-child "$@"
}
cat >rootless.sh <<END
set -e
cd "$work"
timeout 30 "$program" -o $layers,volatile "$work/merged"
echo more >>merged/file
rm merged/data/a
rm -r merged/data/sub
mkdir merged/data/sub
touch merged/data/sub/z
ls merged/data/sub merged/data | tr '\n' ' '
stat -c %u:%g merged/file
fusermount3 -u merged 2>/dev/null || umount merged
ended() { for i in \$(seq 100); do pgrep -f -- "^[^ ]*$name .*$work/merged" >/dev/null || break; sleep 0.05; done; }
ended
timeout 30 "$program" -o lowerdir=$work/upper:$lowers "$work/merged"
ls merged/data/sub merged/data | tr '\n' ' '
cat merged/file
umount merged
ended
END
same 'rootless' 'merged/data: b sub merged/data/sub: z 0:0
merged/data: b sub merged/data/sub: z file
more' "$(rootless bash rootless.sh 2>rootless.err </dev/null | sed 's/  */ /g')"
sed 's/^/rootless: /' rootless.err

unmount_all
gone "$work/" || true
same 'services that are left' '' "$(services)"
same 'what services left behind' "$litter_before" "$(litter)"
report
