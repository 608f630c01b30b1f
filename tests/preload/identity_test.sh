#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: identity_test.sh LIBSERVICES PRELOAD PROGRAM    (absolute paths, or from the runfiles)
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
program=$(realpath "$3")
if [ "$(id -u)" != 0 ]; then
  echo "SKIPPED: changing the identity takes root's rights"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
said=$(timeout 120 "$libservices" with --mount /mnt/x=memory -- sh -c 'mkdir -m 700 /mnt/x/d && : >/mnt/x/d/f && exec "$0" /mnt/x' "$program" 2>&1)
if [ "$said" = well ]; then
  echo "1 passed, 0 failed, 0 skipped"
else
  echo "FAILED: $said"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi
