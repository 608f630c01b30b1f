#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# mount(8), umount(8) and fstab: through mount.fuse3 and the command in PATH, and through the installed helper
# mount.fuse.libservices.
# usage: mount_program_test.sh LIBSERVICES PRELOAD_LIBRARY
. "$(dirname "$0")/private.sh"
# mount(8) looks in its own places alone.
mount -t tmpfs -o mode=755 none /usr/local/bin
install_command bin/libservices /usr/local/bin
mkdir -p mnt sbin upper lower empty
sbin=$(dirname "$(realpath "$(command -v mount.fuse3 || echo /usr/sbin/mount)")")
echo lower >lower/file
spec="union(local:$work/upper, local:$work/lower)"
escaped=${spec/ /\\040}
cat >fstab <<END
# A comment
$escaped $mnt fuse.libservices noauto,user,_netdev,nofail,defaults,x-systemd.automount,x-systemd.requires=network.target,comment=any\\040thing,lazytime,pool=fstab 0 0
local:$work/own $work/a\\040b fuse.libservices rw,users,noatime 0 0
END
mkdir 'a b' own
chown 65534 own
touch /run/fstab

through_mount() {  # through_mount HOW
  check "$1: mount" mount -t fuse.libservices "$spec" mnt -o nodev,noexec,strictatime
  check "$1: it is there" grep -qx lower mnt/file
  for flag in rw nodev noexec; do
    check "$1: $flag" sh -c "grep -q ' $mnt fuse.libservices [^ ]*\\b$flag\\b' /proc/mounts"
  done
  check "$1: it has a pool" libservices status --pool "$mnt"
  echo text >mnt/written
  check "$1: umount" umount mnt
  check "$1: the service ends" ended
  same "$1: all is written" text "$(cat upper/written)"
  check "$1: read-only" mount -r -t fuse.libservices "$spec" mnt
  check "$1: cannot be written" sh -c '! touch mnt/x 2>/dev/null'
  if mount -t fuse.libservices -o remount,rw "$spec" mnt 2>told; then bad "$1: remounted"; else ok; fi
  check "$1: told why not" grep -q 'option remount: a mount that is there cannot be changed' told
  check "$1: and left alone" grep -qx lower mnt/file
  check "$1: the kernel changes flags" mount -i -o remount,rw mnt
  check "$1: can be written" touch mnt/x
  umount mnt
  ended
  for wrong in 'nothing no\ such\ composition' 'memory option\ nonsense:\ it\ is\ not\ known -o nonsense'; do
    eval "set -- \"$1\" $wrong"
    # shellcheck disable=SC2086  # words
    if mount -t fuse.libservices "$2" mnt ${4-} ${5-} 2>told; then bad "$1: $2 is mounted"; else same "$1: status" 32 $?; fi
    check "$1: $2: told" grep -q "$3" told
    set -- "$1"
  done
  check "$1: nothing is mounted" unmounted "$mnt"

  # fstab, with all that is for others
  mount --bind fstab /etc/fstab
  check "$1: by fstab" mount mnt
  same "$1: the spec with its space" "$escaped" "$(field "$mnt" 1)"
  check "$1: the pool of fstab" libservices status --pool fstab
  check "$1: flags of fstab" sh -c "grep ' $mnt ' /proc/mounts | grep lazytime | grep nodev | grep -q nosuid"
  check "$1: mount --all" mount -a
  check "$1: has mounted what was not" mounted "$work/a\\040b"
  same "$1: and no mount twice" 1 "$(grep -c " $mnt " /proc/mounts)"
  check "$1: by umount" umount mnt 'a b'
  ended
  chmod 777 upper
  check "$1: a user mounts what fstab says is users'" nobody mount 'a b'
  check "$1: it is that user's" sh -c "grep '040b ' /proc/mounts | grep -q user_id=65534"
  check "$1: who may use it" nobody sh -c 'echo text >"a b/file" && [ "$(cat "a b/file")" = text ]'
  check "$1: and unmounts it" nobody umount 'a b'
  check "$1: the user's service ends" ended
  umount /etc/fstab
}

if command -v mount.fuse3 >/dev/null; then
  chown 65534 'a b'
  through_mount mount.fuse3
  chown 65534 mnt
  check 'setuid=' mount.fuse3 "libservices#memory" mnt -o setuid=nobody,rw 2>told
  check 'the service is of that user' sh -c "grep ' $mnt ' /proc/mounts | grep -q user_id=65534"
  umount mnt
  ended
else
  skipped=$((skipped + 1))
  echo 'SKIPPED: there is no mount.fuse3'
fi

# Installed in the place where mount(8) looks; no other program stands between then.
mkdir covered
cp -a "$sbin"/. covered
mount --bind covered "$sbin"
ln -s /usr/local/bin/libservices "$sbin/mount.fuse.libservices"
rm -f "$sbin"/mount.fuse "$sbin"/mount.fuse3
hash -r
through_mount mount.fuse.libservices
check 'mount --fake' mount -f -t fuse.libservices "$spec" mnt
check 'mounts nothing' unmounted "$mnt"
check 'mount --sloppy -v -n ignores what is not known' mount -s -v -n -t fuse.libservices "$spec" mnt -o nonsense,nodev
umount mnt
ended

# The form by hand
check 'SPEC PATH' libservices memory mnt
umount mnt
ended
check 'SPEC PATH -o' libservices memory mnt -onodev -o ro
umount mnt
ended
for wrong in 'frobnicate a b' 'memory mnt --what' 'mount.fuse.libservices memory'; do
  # shellcheck disable=SC2086  # words
  set -- $wrong
  program=libservices
  [ "$1" = "${1#mount.}" ] || { program=$sbin/$1; shift; }
  if "$program" "$@" 2>told; then bad "$wrong succeeds"; else ok; fi
  check "$wrong: told" grep -q '^libservices: command line: .* (see libservices --help)$' told
done
umount "$sbin"
rmdir /tmp/libservices-65534 2>/dev/null  # mount(8) takes the users' variables away

finish
