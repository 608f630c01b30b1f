# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Checks of tests that are scripts, and their counts. Sourced; needs $work, a directory of the test's
# own, where `out` and `err` have what the last command said.
passed=0
failed=0
skipped=0

ok() { passed=$((passed + 1)); }
bad() {
  failed=$((failed + 1))
  printf 'FAILED: %s\n' "$*"
  head -40 "$work/err" "$work/out" 2>/dev/null | sed 's/^/    /'
}
check() {  # check WHAT COMMAND...: it succeeds, within a minute unless it is a function
  local what=$1
  local limit=(timeout 60)
  shift
  [ "$(type -t "$1")" != function ] || limit=()
  if "${limit[@]}" "$@" >"$work/out" 2>"$work/err"; then ok; else bad "$what (status $?)"; fi
}
same() {  # same WHAT EXPECTED GOT
  : >"$work/err" >"$work/out"
  if [ "$2" = "$3" ]; then ok; else bad "$1: '$3' instead of '$2'"; fi
}
# equal GOT EXPECTED: for scripts that are checked.
equal() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'"; return 1; }; }
export -f equal
install_command() {  # install_command LIBSERVICES DIRECTORY: both parts of the command
  install -D -m 755 "$1" "$2/libservices"
  install -D -m 755 "$(dirname "$1")/whole/libservices" "$2/whole/libservices"
}
unmount_all() {  # what is mounted in $work, the last first
  local at
  while at=$(awk -v work="$work/" 'index($5, work) == 1 { at = $5 } END { print at }' /proc/self/mountinfo) && [ -n "$at" ]; do
    umount -l "$at" || break
  done
}
skip() {  # skip WHY: the whole test
  echo "SKIPPED: $1"
  echo '0 passed, 0 failed, 1 skipped'
  exit 0
}
report() {  # the last line of every test; its status
  echo "$passed passed, $failed failed, $skipped skipped"
  [ $failed = 0 ]
}
