#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program with sockets that have names prints the same in a plain directory and on mounts.
# usage: sockets_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
program=$(realpath "$3")
[ "$(id -u)" = 0 ] || { echo "SKIPPED: not root"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/upper" "$work/lower" "$work/local"
chmod 755 "$work"
failed=0

(cd "$work/plain" && timeout 60 "$program") >"$work/expected" 2>&1 || failed=1
for spec in memory "local:$work/local" "union(local:$work/upper, local:$work/lower)"; do
  timeout 60 "$libservices" with --mount "/mnt/sockets=$spec" -- \
    sh -c 'cd /mnt/sockets && exec "$0"' "$program" >"$work/found" 2>&1 || failed=1
  if ! diff -u "$work/expected" "$work/found"; then
    echo "not the same on $spec"
    failed=1
  fi
done

# The service of a user, who may not change his root directory.
mkdir -m 700 "$work/run"
mkdir "$work/user" "$work/users"
cp "$libservices" "$LIBSERVICES_PRELOAD" "$program" "$work"
chown 65534:65534 "$work/run" "$work/user" "$work/users"
until_rights() { sed '/^--- rights/,$d'; }
user=(setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_RUNTIME_DIR="$work/run"
      LIBSERVICES_PRELOAD="$work/$(basename "$LIBSERVICES_PRELOAD")")
program=$work/$(basename "$program")
(cd "$work/user" && timeout 60 "${user[@]}" "$program") 2>&1 | until_rights >"$work/expected"
timeout 60 "${user[@]}" "$work/$(basename "$libservices")" with --mount "/mnt/sockets=local:$work/users" -- \
  sh -c 'cd /mnt/sockets && exec "$0"' "$program" 2>&1 | until_rights >"$work/found"
if ! diff -u "$work/expected" "$work/found"; then
  echo "not the same for a user"
  failed=1
fi
[ $failed = 0 ] && echo "1 passed, 0 failed, 0 skipped"
exit $failed
