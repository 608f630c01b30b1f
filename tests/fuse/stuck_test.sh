#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A filesystem whose calls do not end: other mounts of its service go on, callers are told in time,
# can be killed, and the service stops, or is started anew.
# usage: stuck_test.sh LIBSERVICES PRELOAD_LIBRARY [TRANSPORT]
. "$(dirname "$0")/private.sh"
mkdir dead good
echo dead >dead/f
echo good >good/f
ok=$work/ok
never="faulty(local:$work/dead, operation=read, delay=3600s, every=1"
status_of_pool() { "$libservices" status --json --run-directory "$work/run"; }
number() { status_of_pool | tr -d ' ' | grep -o "\"$1\":[0-9]*" | head -1 | cut -d: -f2; }
# becomes NUMBER KEY: within 20 seconds.
becomes() {
  local i
  for i in $(seq 100); do
    [ "$(number "$2" 2>/dev/null)" = "$1" ] && return 0
    sleep 0.1
  done
  echo "$2 is $(number "$2")"
  return 1
}
becomes_many() {  # the kernel asks more than once
  local i
  for i in $(seq 100); do
    [ "$(number "$1")" -ge 2 ] && return 0
    sleep 0.1
  done
  return 1
}
both() {  # both SPEC OPTION...: it at $mnt, and one that is well at $ok
  local spec=$1
  shift
  serve "$spec" -o nopassthrough --mount "$ok=local:$work/good" "$@"
}
transport_is() {
  equal "$(status_of_pool | tr -d ' ' | grep -o '"transport":"[a-z_]*"' | sort -u)" "\"transport\":\"$transport\""
}
goes_on() {
  equal "$(timeout 10 cat "$ok/f")" good && equal "$(timeout 10 libservices run --run-directory "$work/run" -- cat "$ok/f")" good
}
# dies PID...: within a second of SIGKILL.
dies() {
  local i pid
  kill -9 "$@"
  for i in $(seq 20); do
    for pid in "$@"; do
      grep -qs '^State:.[^Z]' "/proc/$pid/status" && break
    done
    grep -qs '^State:.[^Z]' "/proc/$pid/status" || return 0
    sleep 0.05
  done
  echo "$pid lives"
  return 1
}
told() {  # told COMMAND...: it fails with ETIMEDOUT, after the deadline and not long behind it
  local begun=${EPOCHREALTIME/./}
  ! timeout 20 "$@" >"$work/out" 2>"$work/told" || { echo "it did not fail"; return 1; }
  local took=$((${EPOCHREALTIME/./} - begun))
  grep -q 'timed out' "$work/told" || { cat "$work/told"; return 1; }
  [ $took -ge 300000 ] || { echo "after $took us"; return 1; }
}

# Callers without a deadline: they wait, and nobody else does.
both "$never)" --stop-grace 1
check 'the transport' transport_is
stuck=
for i in $(seq 70); do
  "$libservices" run --run-directory "$work/run" -- cat "$mnt/f" >out.preloaded 2>&1 &
  stuck="$stuck $!"
  cat "$mnt/f" >out.mounted 2>&1 &
  stuck="$stuck $!"
done
sleep 2
check 'another mount goes on' goes_on
check 'so do other calls of the same' timeout 10 stat "$mnt/f"
# shellcheck disable=SC2086
check 'all of them die' dies $stuck
check 'and nobody is the worse' goes_on
cat "$mnt/f" >/dev/null 2>&1 &
"$libservices" run --run-directory "$work/run" -- cat "$mnt/f" >/dev/null 2>&1 &
sleep 0.5
ends
same 'a stop ends in time' 74 $?
check 'and says so' grep -q '^libservices: calls do not end.* (the service ends without them)$' serve.err
wait

# With a deadline they are told.
both "$never, deadline=400ms)" --stop-grace 1
check 'a caller is told' told cat "$mnt/f"
check 'a preloaded one is' told "$libservices" run --run-directory "$work/run" -- cat "$mnt/f"
check 'they are counted' becomes_many stuck_calls
check 'one process is told again and again' told "$libservices" run --run-directory "$work/run" -- sh -c "
  for i in 1 2 3 4 5 6; do cat $mnt/f && exit; done; exit 1"
check 'and the others go on' goes_on
ends
same 'a stop' 74 $?

# Calls that end late.
both "faulty(local:$work/dead, operation=read, delay=2s, every=1, deadline=400ms)"
check 'a caller is told' told cat "$mnt/f"
check 'a preloaded one is' told "$libservices" run --run-directory "$work/run" -- cat "$mnt/f"
check 'they come back' becomes 0 stuck_calls
check 'and leave nothing open' becomes 0 open_files
check 'another one waits less' told cat "$mnt/f"
check 'it comes back' becomes 0 stuck_calls
ends
same 'an orderly end' 0 $?

both "faulty(local:$work/dead, operation=open, delay=1s, every=1, deadline=400ms)"
check 'who opens is told' told cat "$mnt/f"
check 'a preloaded one is' told "$libservices" run --run-directory "$work/run" -- cat "$mnt/f"
check 'they come back' becomes 0 stuck_calls
check 'and what they opened late is closed' becomes 0 open_files
ends
same 'an orderly end' 0 $?

refused 125 "'1ms' is no value for 'deadline'" \
  "$libservices" serve --run-directory "$work/run" --mount "$mnt=readonly(local:$work/good, deadline=1ms)"

# A supervisor starts the service anew.
both "$never, deadline=200ms)" --supervise --stop-grace 1
first=$(number pid)
printf 'one\ntwo\n' >good/lines
cat >reader.sh <<'END'
exec 4<"$1"
read -r line <&4
echo ready >"$2.ready"
while [ ! -e "$2.go" ]; do sleep 0.05; done
read -r line <&4
echo "$line" >"$2.line"
END
"$libservices" run --run-directory "$work/run" -- bash reader.sh "$ok/lines" "$work/reader" 2>reader.err &
reader=$!
for i in $(seq 100); do [ -e reader.ready ] && break; sleep 0.1; done
kill -9 "$first"
another() {
  local i now
  for i in $(seq 200); do
    now=$(number pid 2>/dev/null)
    [ -n "$now" ] && [ "$now" != "$1" ] && return 0
    sleep 0.1
  done
  return 1
}
check 'a killed service is followed by another' another "$first"
touch reader.go
wait $reader
same 'programs go on with their files' two "$(cat reader.line 2>/dev/null)"
check 'the mounts are there' goes_on
second=$(number pid)
check 'a caller is told' told cat "$mnt/f"
check 'a service with calls that do not end is followed by another' another "$second"
check 'it says why' grep -q 'calls do not end (the service ends, to be started anew)' serve.err
check 'the mounts are there' goes_on
ends
same 'the supervisor ends with its service' 0 $?
same 'nothing is left' '' "$(left)"

finish
