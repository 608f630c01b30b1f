#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The example prints what its README says.
set -eu
host=$1
LIBSERVICES_PRELOAD=$2
export LIBSERVICES_PRELOAD
{
  "$host" with --mount /hello=greeting -- cat /hello/world
  "$host" with --mount '/hello=greeting(words="Good morning")' -- cat /hello/reader
} | diff - "$3"
echo "1 passed, 0 failed, 0 skipped"
