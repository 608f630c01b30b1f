#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command `libservices`: statuses, messages, and what is left behind, above all with bad input.
# usage: command_test.sh LIBSERVICES [PRELOAD_LIBRARY]
set -u
# Everything in a directory that other users can reach too.
work=$(mktemp -d /tmp/libservices-command-test.XXXXXX)
chmod 755 "$work"
mkdir "$work/bin"
source "$(dirname "$0")/../support/checks.sh"
install_command "$1" "$work/bin" || exit 1
libservices=$work/bin/libservices
# Programs here use no mount, so any library may stand for the preload library.
cp "${2:-$(/sbin/ldconfig -p | awk '/libm\.so\.6 .*x86-64/ { print $NF; exit }')}" "$work/bin/library.so"
export LIBSERVICES_PRELOAD=$work/bin/library.so
services=
trap 'for p in $services; do kill "$p" 2>/dev/null; done; chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1

# expect STATUS TEXT COMMAND...: it ends with STATUS, and TEXT is in what it says on standard error.
expect() {
  local status=$1 text=$2
  shift 2
  timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null
  local got=$?
  if [ "$got" != "$status" ]; then
    bad "status $got instead of $status: $*"
  elif [ -n "$text" ] && ! grep -qF -- "$text" "$work/err"; then
    bad "not told '$text': $*"
  else
    ok
  fi
}
# prints STATUS TEXT COMMAND...: the same for standard output.
prints() {
  local status=$1 text=$2
  shift 2
  timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null
  local got=$?
  if [ "$got" = "$status" ] && grep -qF -- "$text" "$work/out"; then ok; else bad "status $got, or '$text' is not printed: $*"; fi
}
printf '#!/bin/sh\nexec "%s" with --mount /mnt/x=memory "$@"\n' "$libservices" >bin/with
printf '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"\n' >bin/nobody
chmod +x bin/with bin/nobody
PATH=$work/bin:$PATH
# Run directories of no living command: other tests may be running theirs.
left_over() {
  local directory i
  for directory in /run/libservices-with.* /dev/shm/libservices-with.*; do
    for i in $(seq 50); do
      if [ ! -d "$directory" ] || kill -0 "$(cat "$directory/lock" 2>/dev/null)" 2>/dev/null; then continue 2; fi
      sleep 0.1  # it may be coming or going
    done
    echo "$directory"
  done
}
has() { "$libservices" --help | grep -q "[ ,]$1[,(]\|[ ,]$1\$"; }
# serve DIRECTORY ARGUMENT...: in the background, ready when it returns; its pid is in $service.
serve() {
  local directory=$1
  shift
  coproc SERVE { exec "$libservices" serve --run-directory "$directory" --ready 1 "$@" 2>"$work/serve.err"; }
  service=$SERVE_PID
  services="$services $service"
  read -r -t 30 _ <&"${SERVE[0]}"
}
before=$(left_over)

# --- help and version
prints 0 'Compositions: ' "$libservices" --help
for verb in with serve run status tune; do prints 0 'Usage: ' "$libservices" "$verb" --help; done
prints 0 'libservices ' "$libservices" --version
expect 125 'see libservices --help' "$libservices"
expect 125 'see libservices --help' "$libservices" frobnicate
expect 125 'see libservices --help' "$libservices" serve
expect 125 'no program is named' "$libservices" with --mount /mnt/x=memory
expect 125 'no program is named' "$libservices" run --

# --- the program's exit status
expect 0 '' with -- true
expect 7 '' with -- sh -c 'exit 7'
expect 137 '' with -- sh -c 'kill -9 $$'
expect 143 '' with -- sh -c 'kill $$'
prints 0 'a -- b --help' with -- echo a -- b --help
prints 0 'a -- b -n' with echo a -- b -n
prints 0 "$LIBSERVICES_PRELOAD" with -- sh -c 'echo $LD_PRELOAD'
prints 0 'socket' with -- sh -c 'ls $LIBSERVICES_POOL'

# --- programs that cannot be run
expect 127 'no such program in PATH' with -- no-such-program
expect 127 '/no/such/program: there is no such program' with -- /no/such/program
echo text >plain
expect 126 'not executable' with -- ./plain
cp /bin/true suid && chmod u+s suid
expect 126 'set-user-id' with -- ./suid
if printf 'int main(void) { return 0; }' | gcc -static -x c - -o static 2>/dev/null; then
  expect 126 'statically linked' with -- ./static
  printf '#!%s\n' "$work/static" >script && chmod +x script
  expect 126 'statically linked' with -- ./script
else
  skipped=$((skipped + 2))
  echo 'SKIPPED: no static C library to link a static program with'
fi
expect 125 '(correct LIBSERVICES_PRELOAD, or unset it)' env LIBSERVICES_PRELOAD=/no/lib.so "$libservices" with --mount /m=memory -- true

# --- mounts and specs
for verb in 'serve --run-directory run' 'with'; do
  case $verb in with) program='-- true' ;; *) program= ;; esac
  try() { local text=$1; shift; expect 125 "$text" "$libservices" ${verb/ run/ $work/run} "$@" $program; }
  try 'it is not absolute' --mount mnt/x=memory
  try "it has the component '..'" --mount /mnt/../x=memory
  try 'the root directory cannot be a mount' --mount /=memory
  try 'it is given twice' --mount /mnt/x=memory --mount //mnt/x/=memory
  try 'it is no PATH=SPEC' --mount /mnt/x
  try 'no such composition is compiled in (there are: memory' --mount '/mnt/x=union(memory)'
  try "has no option 'size' (it has: cached_names, deadline, capacity_bytes" --mount '/mnt/x=memory(size=1)'
  try "'soon' is no value for 'cached_names'" --mount '/mnt/x=memory(cached_names=soon)'
  try "column 7: this '(' of 'memory' is not closed" --mount '/mnt/x=memory(a=1'
done
check 'a service that did not start left its run directory' [ ! -e run/socket ]

if has local; then
  mkdir secret && chmod 0 secret && touch file
  expect 125 "$work/missing: No such file or directory (make it, or correct the path)" \
    "$libservices" with --mount "/mnt/x=local:$work/missing" -- true
  check 'the reason is told twice' [ "$(grep -o 'No such file' "$work/err" | wc -l)" = 1 ]
  expect 125 "$work/file" "$libservices" with --mount "/mnt/x=local:$work/file" -- true
  expect 125 "'local' needs a directory" "$libservices" with --mount /mnt/x=local -- true
  expect 125 'is not an absolute path' "$libservices" with --mount /mnt/x=local:secret -- true
  if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    expect 125 "$work/secret" nobody "$libservices" with --mount "/mnt/x=local:$work/secret" -- true
  else
    skipped=$((skipped + 1))
    echo 'SKIPPED: an unreadable layer needs root and setpriv to be tried'
  fi
  if "$libservices" --help | grep -qF 'union(local, local...)'; then
    mkdir -p lower/upper upper/lower lower2
    union() { expect 125 "$1" "$libservices" with --mount "/mnt/x=union(local:$work/$2, local:$work/$3)" -- true; }
    union 'overlap: a change would appear in both' lower/upper lower
    union 'overlap: a change would appear in both' upper upper/lower
    union 'overlap: a change would appear in both' lower lower
    ln -s lower alias
    union 'overlap: a change would appear in both' lower alias
    union "$work/gone" upper gone
    expect 125 'it has no lower branch' "$libservices" with --mount "/mnt/x=union(local:$work/upper)" -- true
  fi
fi

# --- a pool and its service
serve "$work/pool" --mount /mnt/x=memory
prints 0 'pool default: process' "$libservices" status --run-directory "$work/pool"
prints 0 "\"pid\": $service" "$libservices" status --json --run-directory "$work/pool"
prints 0 "\"pid\": $service" env LIBSERVICES_RUN_DIRECTORY="$work/pool" "$libservices" status --json
prints 0 "$work/pool" "$libservices" run --run-directory "$work/pool" -- sh -c 'echo $LIBSERVICES_POOL'
expect 9 '' "$libservices" run --run-directory "$work/pool" -- sh -c 'exit 9'
expect 127 'no such program' "$libservices" run --run-directory "$work/pool" -- no-such-program
expect 126 'set-user-id' "$libservices" run --run-directory "$work/pool" -- ./suid
expect 125 "runs there already, as process $service" "$libservices" serve --run-directory "$work/pool" --mount /mnt/y=memory

# --- the first part of the command starts a program by itself, as the whole does
whole=$work/bin/whole/libservices
environment() { "$@" -- env | grep -v '^_=' | LC_ALL=C sort; }
as_whole() {
  local expected
  expected=$(environment "$whole" run "$@")
  same "run $*" "$expected" "$(environment "$libservices" run "$@")"
}
pool=$work/pool
as_whole --run-directory "$work/pool"
as_whole --run-directory="$work/pool" --report --strict
LIBSERVICES_STRICT=0 LIBSERVICES_POOL=other as_whole --strict --run-directory "$work/pool" -p other
LIBSERVICES_RUN_DIRECTORY=$work/pool as_whole --pool=other
LD_PRELOAD=$LIBSERVICES_PRELOAD as_whole --run-directory "$work/pool"
expect 0 '' "$libservices" run --run-directory "$pool" -- \
  "$libservices" run --run-directory="$pool" -- true
mkdir -p "$work/runtime/libservices" && chmod 755 "$work/runtime/libservices" "$work/runtime"
mv "$work/bin/whole" "$work/bin/away"
expect 9 '' "$libservices" run --run-directory "$work/pool" -- sh -c 'exit 9'
expect 0 '' "$work/bin/../bin/libservices" run --strict --report --run-directory "$pool" -- true
for words in status "run --run-directory $pool true" "run -- --run-directory $pool" \
    "run --run-directory $pool --run-directory $pool -- true" "run --run-directory $pool --" \
    "run --strict --strict --run-directory $pool -- true" "run --pool $pool -- true" \
    "run --run-directory -- true" "run --run-directory $work/none -- true" \
    "run --run-directory $pool -- ./plain" "run --run-directory $pool -- no-such-program"; do
  # shellcheck disable=SC2086
  expect 125 'its whole is not where' "$libservices" $words
done
mv "$work/bin/away" "$work/bin/whole"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  first=$service
  named=$work/runtime/libservices/named
  serve "$named" --mount /mnt/x=memory --clients all
  prints 0 "$named" nobody env XDG_RUNTIME_DIR="$work/runtime" \
    "$libservices" run -p named -- sh -c 'echo $LIBSERVICES_POOL'
  kill "$service" && wait "$service"
  service=$first
fi

kill -9 "$service"
wait "$service" 2>/dev/null
check 'a killed service leaves its socket' [ -S pool/socket ]
expect 125 'no service runs there' "$libservices" status --run-directory "$work/pool"
expect 125 'no service runs there' "$libservices" run --run-directory "$work/pool" -- true
serve "$work/pool" --mount /mnt/x=memory
prints 0 "\"pid\": $service" "$libservices" status --json --run-directory "$work/pool"
kill -TERM "$service"
wait "$service"
check 'a service that SIGTERM stops ends with 0' [ $? = 0 ]
check 'a stopped service removes its run directory' [ ! -e pool ]
expect 125 'no service runs there' "$libservices" status --run-directory "$work/pool"
expect 125 'it is no name' "$libservices" status --pool ../etc
expect 125 'no service runs there' "$libservices" status --pool no-such-pool

# --- the run directory
long=$work/$(printf 'x%.0s' $(seq 100))
expect 125 'too long' "$libservices" serve --run-directory "$long" --mount /mnt/x=memory
expect 125 'it is not absolute' "$libservices" serve --run-directory pool --mount /mnt/x=memory
expect 125 'cannot make' "$libservices" serve --run-directory /proc/pool --mount /mnt/x=memory
mkdir -m 777 open
expect 125 'only this user may write' "$libservices" serve --run-directory "$work/open" --mount /mnt/x=memory
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  expect 125 'Permission denied' nobody "$libservices" serve --run-directory "$work/mine" --mount /mnt/x=memory
  serve "$work/own" --mount /mnt/x=memory --clients own
  expect 125 'this user may not use it' nobody "$libservices" run --run-directory "$work/own" -- true
  expect 125 'Permission denied' nobody "$libservices" status --run-directory "$work/own"
  kill "$service" && wait "$service"
  serve "$work/all" --mount /mnt/x=memory --clients all
  expect 0 '' nobody "$libservices" run --run-directory "$work/all" -- true
  prints 0 'pool default' nobody "$libservices" status --run-directory "$work/all"
  kill "$service" && wait "$service"
  mkdir small && mount -t tmpfs -o size=16k none small 2>/dev/null
  if mountpoint -q small; then
    chmod 755 small
    expect 125 'No space left on device (make room on that file system' "$libservices" serve --run-directory "$work/small/pool" --mount /mnt/x=memory
    umount small
  fi
else
  skipped=$((skipped + 6))
  echo 'SKIPPED: other users need root and setpriv to be tried'
fi
expect 125 'Too many open files' sh -c "ulimit -n 8; exec '$libservices' serve --run-directory '$work/few' --mount /mnt/x=memory"

# --- a private service ends with its program, also when `libservices with` is killed
with -- sleep 1000 &
command_pid=$!
for _ in $(seq 500); do
  program=$(pgrep -P "$command_pid" -x sleep) && break
  sleep 0.02
done
private=$(pgrep -P "$command_pid" | grep -v "^$program\$")
check 'a private service runs' [ -n "$private" ]
kill -9 "$command_pid"
wait "$command_pid" 2>/dev/null
check 'the program outlives it' kill -0 "$program"
check 'and so does its service' kill -0 "$private"
kill "$program"
for _ in $(seq 500); do
  case $(ps -o stat= -p "$private" 2>/dev/null) in '' | Z*) break ;; esac
  sleep 0.02
done
case $(ps -o stat= -p "$private" 2>/dev/null) in '' | Z*) ok ;; *) bad 'the service ends with the program' ;; esac
with -- sleep 1000 &
command_pid=$!
for _ in $(seq 500); do
  program=$(pgrep -P "$command_pid" -x sleep) && break
  sleep 0.02
done
kill -TERM "$command_pid"
wait "$command_pid"
check 'a signal to it is passed on to the program' [ $? = 143 ]
check 'no run directory is left behind' [ "$(left_over)" = "$before" ]

# --- files that are in part in a lower branch
mkdir -p part/upper part/lower
head -c 300000 /dev/urandom >part/lower/large
part="union(local:$work/part/upper, local:$work/part/lower)"
# As overlayfs leaves a file of which only the mode was changed.
truncate -s 300000 part/upper/large
setfattr -n trusted.overlay.metacopy part/upper/large
prints 0 ': 1 files have content in lower branches' "$libservices" check "$part"
prints 0 ': 1 files made whole' "$libservices" check --complete "$part"
prints 0 ': 0 files have content in lower branches' "$libservices" check "$part"
check 'a file made whole has the content' cmp -s part/upper/large part/lower/large
prints 0 'every file is whole' "$libservices" check "local:$work/part/lower"
expect 125 'see libservices --help' "$libservices" check
expect 125 "$work/part/none: No such file or directory" "$libservices" check "union(local:$work/part/none, local:$work/part/lower)"
expect 125 'use a power of two from 4096' "$libservices" check "union(local:$work/part/upper, local:$work/part/lower, range=5000)"
expect 125 'write overlay or files' "$libservices" check "union(local:$work/part/upper, local:$work/part/lower, marks=stars)"
prints 0 ': 0 files' "$libservices" check "union(local:$work/part/upper, local:$work/part/lower, upper=none)"

# --- the copy table
table=$work/tuned/copy-table
expect 125 'see libservices --help' "$libservices" tune --seconds soon
expect 125 'see libservices --help' "$libservices" tune --seconds 0
expect 125 'see libservices --help' "$libservices" tune --frobnicate
expect 125 'it is not absolute (begin it with /)' "$libservices" tune --output copy-table
expect 125 "copy table /proc/no/table: No such file or directory (choose another place" "$libservices" tune --output /proc/no/table
expect 125 "copy table $work: Is a directory (choose another place" "$libservices" tune --output "$work"
prints 0 'built in (run libservices tune)' "$libservices" tune --show --output "$table"
prints 0 "written: $table" "$libservices" tune --seconds 0.1 --output "$table"
check 'a table is readable for all, and alone' [ "$(stat -c %a "$table") $(ls "$work/tuned")" = '644 copy-table' ]
prints 0 "copy table $table, processor " "$libservices" tune --show --output "$table"
prints 0 '"chunk_bytes"' "$libservices" tune --show --json --output "$table"
prints 0 '"measured"' "$libservices" tune --json --seconds 0.1 --output "$table"
sed -i 's/"cpu": ".*"/"cpu": "Elsewhere"/' "$table"
expect 125 "copy table $table: it is of another processor, 'Elsewhere'" "$libservices" tune --show --output "$table"
echo '{' >"$table"
expect 125 "copy table $table: it is no copy table" "$libservices" tune --show --output "$table"
expect 125 '(run libservices tune, or remove the file)' "$libservices" tune --show --output "$table"
prints 0 'written: ' "$libservices" tune --seconds 0.1 --output "$table"

report
