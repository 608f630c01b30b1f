#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sockets with names, where the service is a user's and may not change its root directory.
# usage: sockets_of_user_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
[ "$(id -u)" = 0 ] || skip 'only root becomes another user'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -m 700 "$work/run"
mkdir "$work/plain" "$work/files"
# Where another user can read them.
install_command "$1" "$work"
cp "$2" "$work/library.so"
cp "$3" "$work/program"
chown 65534:65534 "$work/run" "$work/plain" "$work/files"
until_rights() { sed '/^--- rights/,$d'; }
user=(timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_RUNTIME_DIR="$work/run"
      LIBSERVICES_PRELOAD="$work/library.so")
(cd "$work/plain" && "${user[@]}" "$work/program") 2>&1 | until_rights >"$work/expected"
# shellcheck disable=SC2016  # for the shell that is started
"${user[@]}" "$work/libservices" with --mount "/mnt/sockets=local:$work/files" -- \
  sh -c 'cd /mnt/sockets && exec "$0"' "$work/program" 2>&1 | until_rights >"$work/found"
check 'the program says something' [ -s "$work/expected" ]
check 'it prints the same' diff -u "$work/expected" "$work/found"
report
