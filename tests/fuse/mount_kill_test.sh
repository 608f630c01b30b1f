#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Services of mounts are killed at random moments while programs use them: each is followed by the next, or
# unmounted, and no file that was there is lost.
# usage: mount_kill_test.sh LIBSERVICES PRELOAD_LIBRARY     ($SEED, $TURNS)
. "$(dirname "$0")/private.sh"
seed=${SEED-$(($(date +%s) % 32768))}
RANDOM=$seed
turns=${TURNS-50}
echo "seed $seed"
mkdir upper lower mnt
for i in $(seq 20); do echo "kept $i" >"lower/$i"; done
spec="union(local:$work/upper, local:$work/lower)"

user() {  # what programs do, until the mount is dead or gone
  local i
  for i in $(seq 100000); do
    echo "$1 $i" >>"mnt/log$1" && cp "mnt/$((i % 20 + 1))" "mnt/copy$1" && rm "mnt/copy$1" && ls -l mnt >/dev/null || return 0
  done
}
before=$failed
for turn in $(seq "$turns"); do
  timeout 60 libservices mount "$spec" mnt 2>err || { bad "turn $turn: mount"; break; }
  service=$(services)
  [ "$(wc -w <<<"$service")" = 1 ] || { bad "turn $turn: services $service"; break; }
  users=
  for name in a b c; do
    user $name >/dev/null 2>&1 &
    users="$users $!"
  done
  timeout 60 libservices run --pool "$mnt" -- sh -c "while cat $mnt/1; do :; done" >/dev/null 2>&1 &
  users="$users $!"
  sleep "0.$((RANDOM % 20 + 10))"
  kill -9 $service
  case $((RANDOM % 4)) in
    0) timeout 60 libservices umount mnt 2>err || { bad "turn $turn: umount"; break; } ;;
    1) timeout 60 libservices umount -l mnt 2>err || { bad "turn $turn: umount -l"; break; } ;;
    2) timeout 60 umount -l mnt 2>err || { bad "turn $turn: umount(8)"; break; } ;;
    *) ;;  # the next one takes its place while it is used
  esac
  if [ $((turn % 10)) != 0 ]; then
    # Who goes on uses what comes next, as long as it is there.
    kill $users 2>/dev/null
  fi
  wait 2>/dev/null
done 2>/dev/null
[ $failed = "$before" ] && ok
check 'the last one' libservices mount "$spec" mnt
same 'one mount alone' 1 "$(grep -c " $mnt " /proc/mounts)"
same 'what was there is there' "$(cat lower/* | sort)" "$(for i in $(seq 20); do cat "mnt/$i"; done | sort)"
for name in a b c; do
  # Each line whole, but for one that a kill may have cut.
  same "lines of $name" '' "$(grep -avE "^$name [0-9]+\$" "mnt/log$name" | head -3)"
done
check 'umount' libservices umount mnt
same 'the work directory is empty' '' "$(find upper.work -mindepth 1 ! -name lock)"
same 'nothing is left' '' "$(left)"

finish
