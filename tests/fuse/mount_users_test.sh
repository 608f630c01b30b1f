#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Mounts of users without privilege: by fusermount3, and as the superuser of a user namespace.
# usage: mount_users_test.sh LIBSERVICES PRELOAD_LIBRARY
. "$(dirname "$0")/private.sh"
mkdir own mnt
mkdir own/upper own/lower own/mnt
echo lower >own/lower/file
chown -R 65534:65534 own
at=$work/own/mnt
spec="union(local:$work/own/upper, local:$work/own/lower)"
export at spec
die() {
  local pid
  for pid in $(services); do kill -9 "$pid"; done
  ended
}

# --- fusermount3
if command -v fusermount3 >/dev/null; then
  check 'a user mounts' nobody libservices mount "$spec" "$at" -o noatime,lazytime
  same 'the source has its commas' "${spec/ /\\040}" "$(field "$at" 1)"
  same 'the type' fuse.libservices "$(field "$at" 3)"
  check 'neither devices nor set-id programs' sh -c 'grep " $at " /proc/mounts | grep nosuid | grep -q nodev'
  same 'its user uses it' lower "$(nobody cat "$at/file")"
  check 'others do not, not even root' sh -c '! ls "$at" 2>/dev/null'
  check 'its pool' nobody libservices status --pool "$at"
  same 'preloaded programs too' lower "$(nobody libservices run --pool "$at" -- cat "$at/file")"
  refused 125 'this user may not unmount it (be the user who has mounted it, number 65534, or root)' another libservices umount "$at"
  nobody sh -c 'exec 5<"$at/file"; exec sleep 60' &
  busy=$!
  for i in $(seq 200); do [ -e "/proc/$busy/fd/5" ] && break; sleep 0.02; done
  refused 125 'it is in use' nobody libservices umount "$at"
  check 'lazily' nobody libservices umount -l "$at"
  kill $busy
  wait $busy 2>/dev/null
  check 'the service ends' ended
  check 'mount again' nobody libservices mount "$spec" "$at"
  check 'umount by its user' nobody libservices umount "$at"
  same 'when it returns the service has ended' '' "$(services)"
  check 'mount again' nobody libservices mount "$spec" "$at"
  check 'umount by root' libservices umount "$at"
  same 'has ended it' '' "$(services)"
  nobody libservices mount "$spec" "$at"
  check "umount(8) by its user" nobody umount "$at"
  check 'ends it' ended
  nobody libservices mount "$spec" "$at"
  die
  check 'a dead one is followed' nobody libservices mount "$spec" "$at"
  die
  check 'a dead one is unmounted by its user' nobody libservices umount "$at"
  check 'is gone' unmounted "$at"
  nobody libservices mount "$spec" "$at"
  die
  check 'a dead one is unmounted by root' libservices umount "$at"
  check 'is gone' unmounted "$at"
  # Root removes nothing where a user may put links: what is left there is the user's next service's.
  check 'mount again' nobody libservices mount "$spec" "$at"
  check 'umount by its user' nobody libservices umount "$at"
  same 'nothing is left' '' "$(left)"
  echo >fuse.conf
  mount --bind fuse.conf /etc/fuse.conf
  refused 125 'allow_other needs user_allow_other in /etc/fuse.conf' nobody libservices mount "$spec" "$at" -o allow_other
  check 'nothing is mounted' unmounted "$at"
  echo user_allow_other >fuse.conf
  check 'with that, allow_other is' nobody libservices mount "$spec" "$at" -o allow_other
  same 'and others come in' lower "$(another cat "$at/file")"
  check 'umount' nobody libservices umount "$at"
  umount /etc/fuse.conf
  refused 125 'fusermount3 has refused it' nobody libservices mount "$spec" "$mnt"
  refused 125 'option nosymfollow: fusermount3 does not know it' nobody libservices mount "$spec" "$at" -o nosymfollow
  refused 125 'there is no fusermount3' nobody env PATH=/nowhere "$libservices" mount "$spec" "$at"
  # Without a runtime directory it is in /tmp, where anybody could have made it.
  mkdir bare
  chown 1 bare
  check 'without a runtime directory' another env -u XDG_RUNTIME_DIR "$libservices" mount memory "$work/bare"
  check 'umount' another env -u XDG_RUNTIME_DIR "$libservices" umount "$work/bare"
  chown 65534 /tmp/libservices-1
  chmod 777 /tmp/libservices-1
  refused 125 'belongs to another user' another env -u XDG_RUNTIME_DIR "$libservices" mount memory "$work/bare"
  rm -rf /tmp/libservices-1
else
  skipped=$((skipped + 1))
  echo 'SKIPPED: there is no fusermount3'
fi

# --- a user namespace, in which mount(2) mounts
cat >inside.sh <<'END'
set -e
libservices mount "$spec" "$at" -o nodev,relatime
grep -q " $at fuse.libservices [^ ]*relatime.*user_id=0" /proc/mounts
cat "$at/file"
echo written >"$at/new"
chmod 600 "$at/new"
libservices status --pool "$at" | grep -o 'mounted at the kernel'
libservices run --pool "$at" -- cat "$at/new"
libservices umount "$at"
! grep -q " $at " /proc/mounts
libservices mount "$spec" "$at"
umount "$at"
# Dead, and followed by another
libservices mount "$spec" "$at"
kill -9 "$(libservices status --pool "$at" --json | awk -F'[:,]' '/"pid"/ { print $2; exit }')"
libservices mount "$spec" "$at"
cat "$at/new"
libservices umount "$at"
END
same "its superuser's mount" 'lower
mounted at the kernel
written
written' "$(nobody unshare --user --map-root-user --mount --pid --fork --kill-child --mount-proc bash inside.sh 2>&1)"
same 'what was written is that of the user' '65534 written' "$(stat -c %u own/upper/new) $(cat own/upper/new)"
same 'nothing is left' '' "$(left)"

finish
