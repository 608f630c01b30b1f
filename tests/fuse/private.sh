# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For tests that mount: namespaces of their own, so that mounts and processes end with the test
# whatever happens, a directory $work that every user can reach, and counts. Sourced with the test's
# arguments: LIBSERVICES PRELOAD_LIBRARY. A test calls `finish` last.
set -u
if [ "${1-}" != inside ]; then
  if [ "$(id -u)" != 0 ] || [ ! -w /dev/fuse ]; then
    echo 'SKIPPED: there are no mounts for this user'
    echo '0 passed, 0 failed, 1 skipped'
    exit 0
  fi
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$(realpath "$0")" inside "$(realpath "$1")" "$(realpath "$2")"
fi
work=$(mktemp -d /tmp/libservices-private-test.XXXXXX)
chmod 755 "$work"
mkdir "$work/bin"
install -m 755 "$2" "$work/bin/libservices"
install -m 755 "$3" "$work/bin/preload.so"
export LIBSERVICES_PRELOAD=$work/bin/preload.so LC_ALL=C PATH=$work/bin:$PATH work
libservices=$work/bin/libservices
mnt=$work/mnt
export libservices mnt
# The run directories of others are not looked at, and ours are no litter.
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm
passed=0
failed=0
skipped=0
trap 'unmount_all; cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1

unmount_all() {
  local at
  while at=$(awk -v work="$work/" 'index($5, work) == 1 { at = $5 } END { print at }' /proc/self/mountinfo) && [ -n "$at" ]; do
    umount -l "$at" || break
  done
}
ok() { passed=$((passed + 1)); }
bad() {
  failed=$((failed + 1))
  printf 'FAILED: %s\n' "$*"
  head -20 "$work/err" "$work/out" 2>/dev/null | sed 's/^/    /'
}
check() {  # check WHAT COMMAND...: it succeeds
  local what=$1
  local limit=(timeout 60)
  shift
  [ "$(type -t "$1")" != function ] || limit=()
  if "${limit[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null; then ok; else bad "$what (status $?)"; fi
}
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
same() {  # same WHAT EXPECTED GOT
  : >"$work/err" >"$work/out"
  if [ "$2" = "$3" ]; then ok; else bad "$1: '$3' instead of '$2'"; fi
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
  echo "$passed passed, $failed failed, $skipped skipped"
  [ $failed = 0 ] && exit 0
  exit 1
}
