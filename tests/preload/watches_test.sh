#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Watches of programs whose service is killed and started anew, of programs that have made a child
# watch, and of what is done through the mount at the kernel; and what is left of them.
# usage: watches_test.sh LIBSERVICES PRELOAD_LIBRARY WATCH
set -u
source tests/support/checks.sh
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
watch=$(realpath "$3")
work=$(mktemp -d)
mnt=$work/mnt
service=0
trap 'kill $service 2>/dev/null; unmount_all; rm -rf "$work"' EXIT
mkdir "$work/data" "$mnt"

serve() { # serve OPTION...: a service that answers
  local ready=
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$libservices" serve --run-directory "$work/run" --ready 3 --restart-wait 30 \
    --mount "$mnt=local:$work/data" "$@" 3>"$work/ready" 4>&- 2>>"$work/serve.err" &
  service=$!
  disown $service
  read -r ready <"$work/ready"
}
stop() { # stop [SIGNAL]
  kill "$@" "$service"
  tail --pid="$service" -f /dev/null
}
preloaded() { timeout 60 "$libservices" run --run-directory "$work/run" -- "$@"; }

# A watcher that ends when descriptor 4 is closed.
begin() { # begin ARGUMENT...
  rm -f "$work/end"
  mkfifo "$work/end"
  preloaded "$watch" "$@" >"$work/events" 2>&1 <"$work/end" &
  watcher=$!
  exec 4>"$work/end"
  wait_for watching
}
finish() {
  exec 4>&-
  wait "$watcher"
}
wait_for() { # wait_for LINE
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    ! grep -qx "$1" "$work/events" || return 0
    sleep 0.05
  done
  return 1
}
shadows() { find "$work/run/watched/shadows" -mindepth 1 -maxdepth 1 | wc -l; }

# A killed service.
serve
mkdir "$work/data/d"
preloaded sh -c "echo text >$mnt/d/kept; echo text >$mnt/d/removed"
begin "$mnt/d"
preloaded touch "$mnt/d/before"
check 'an event comes' wait_for 'CREATE before'
stop -9
rm "$work/data/d/removed"
touch "$work/data/d/meanwhile"
serve
check 'what was made without a service is told' wait_for 'CREATE meanwhile'
check 'what was removed without a service is told' wait_for 'DELETE removed'
preloaded sh -c "echo more >>$mnt/d/kept; rm $mnt/d/before"
check 'the next service goes on: a change' wait_for 'MODIFY kept'
check 'a removal' wait_for 'DELETE before'
same 'what stayed is not told to have gone' 0 "$(grep -c 'DELETE kept' "$work/events")"
# Its directory has another name at the next death.
preloaded mv "$mnt/d" "$mnt/e"
stop -9
serve
preloaded touch "$mnt/e/after"
check 'a renamed directory is found' wait_for 'CREATE after'
same 'it has one shadow' 1 "$(shadows)"

# The end of a service is no end of its files.
cp "$work/events" "$work/events.before"
stop
same 'a stop tells nothing' '' "$(diff "$work/events.before" "$work/events")"
serve
preloaded touch "$mnt/e/later"
check 'a service that comes later goes on' wait_for 'CREATE later'
finish
stop
check 'nothing is left when nobody watches' [ ! -e "$work/run" ]

# A child watches when its parent has ended.
serve
begin "$mnt/e" child
preloaded touch "$mnt/e/for-child"
check 'a child goes on' wait_for 'CREATE for-child'
finish

# Programs of the pool watch what is done at the kernel.
if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ]; then
  stop
  serve --fuse
  begin "$mnt/e"
  sh -c "echo text >$mnt/e/kernel; mv $mnt/e/kernel $mnt/e/moved; rm $mnt/e/moved"
  check 'a change through the mount' wait_for 'CREATE kernel'
  check 'its end' wait_for 'CLOSE_WRITE kernel'
  check 'its content' wait_for 'MODIFY kernel'
  check 'a rename' wait_for 'MOVED_TO moved'
  check 'a removal' wait_for 'DELETE moved'
  finish
fi
stop

# tail follows by inotify.
serve
preloaded sh -c "echo first >$mnt/log"
preloaded tail -f "$mnt/log" >"$work/events" &
follower=$!
disown "$follower"
check 'tail reads' wait_for first
preloaded sh -c "echo second >>$mnt/log"
check 'tail follows' wait_for second
same 'tail has a watch' 1 "$(shadows)"
pkill -P "$follower"
tail --pid="$follower" -f /dev/null
stop
check 'nothing is left of it' [ ! -e "$work/run" ]
report
