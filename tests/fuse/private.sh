# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For tests that mount: namespaces of their own, so that mounts and processes end with the test
# whatever happens, a directory $work that every user can reach, and services. Sourced with the
# test's arguments: LIBSERVICES PRELOAD_LIBRARY [TRANSPORT]. A test calls `finish` last.
set -u
source "$(dirname "$0")/../support/checks.sh"
if [ "${1-}" != inside ]; then
  if [ "$(id -u)" != 0 ] || [ ! -w /dev/fuse ]; then skip 'there are no mounts for this user'; fi
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$(realpath "$0")" inside "$(realpath "$1")" "$(realpath "$2")" "${3-device}" </dev/null
fi
work=$(mktemp -d /tmp/libservices-private-test.XXXXXX)
chmod 755 "$work"
mkdir "$work/bin"
install_command "$2" "$work/bin"
install -m 755 "$3" "$work/bin/preload.so"
export LIBSERVICES_PRELOAD=$work/bin/preload.so LC_ALL=C PATH=$work/bin:$PATH work
libservices=$work/bin/libservices
mnt=$work/mnt
transport=$4
export libservices mnt transport
# The run directories of others are not looked at, and ours are no litter.
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm
trap 'unmount_all; cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1

refused() {  # refused STATUS TEXT COMMAND...: it ends with STATUS, and says TEXT in one line of `libservices: WHAT: WHY (HOW TO MEND)`
  local status=$1 text=$2
  shift 2
  timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null
  local got=$?
  if [ $got != "$status" ]; then
    bad "status $got instead of $status: $*"
  elif ! grep -qF -- "$text" "$work/err" || ! grep -q '^libservices: .*: .* (.*)$' "$work/err"; then
    bad "not told '$text': $*"
  else
    ok
  fi
}
preloaded() { "$libservices" run --run-directory "$work/run" -- "$@"; }
export -f preloaded
service=0
on=()      # words before the service's command
always=()  # options of every service
serve() {  # serve SPEC OPTION...: in the background at $mnt, ready or failed when it returns
  local spec=$1 ready=
  shift
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "${on[@]}" "$libservices" serve --fuse "${always[@]}" --run-directory "$work/run" --ready 3 --mount "$mnt=$spec" "$@" \
    3>"$work/ready" 2>"$work/serve.err" &
  service=$!
  read -r ready <"$work/ready" || true
}
ends() {  # ends [SIGNAL]: the service, within 20 s; its status
  kill -"${1:-TERM}" $service
  ( sleep 20; kill -9 $service 2>/dev/null ) & local watchdog=$!
  wait $service 2>/dev/null
  local status=$?
  kill $watchdog 2>/dev/null
  wait $watchdog 2>/dev/null
  service=0
  return $status
}
mounted() { cut -d' ' -f5 /proc/self/mountinfo | grep -qxF "$1"; }
unmounted() { ! mounted "$1"; }
field() { awk -v at="$1" '$2 == at' /proc/mounts | tail -1 | cut -d' ' -f"$2"; }
# Services: of this test, as it has processes of its own. The dead ones have no command line.
services() { pgrep -f -- "^[^ ]*libservices " | tr '\n' ' '; }
ended() {  # within ten seconds
  local i
  for i in $(seq 500); do
    [ -z "$(services)" ] && return 0
    sleep 0.02
  done
  return 1
}
left() { (shopt -s nullglob && echo /run/libservices/* /run/libservices-*.* /run/user/*/libservices/* /dev/shm/libservices*); }
# nobody COMMAND..., another COMMAND...: as users without any rights.
for user in nobody:65534 another:1; do
  number=${user#*:}
  printf '#!/bin/sh\nexec setpriv --reuid %s --regid %s --clear-groups --inh-caps=-all env -u TMPDIR XDG_RUNTIME_DIR=/run/user/%s "$@"\n' "$number" "$number" "$number" >"$work/bin/${user%:*}"
  chmod 755 "$work/bin/${user%:*}"
  mkdir -p "/run/user/$number"
  chown "$number" "/run/user/$number"
done
finish() {
  unmount_all
  check 'no service is left' ended
  report
  exit
}
