#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a test while the kernel offers FUSE over io_uring, which is a switch of the whole machine.
# usage: over_io_uring.sh TEST [ARGUMENT]...
set -u
switch=/sys/module/fuse/parameters/enable_uring
if [ ! -w $switch ]; then
  echo "SKIPPED: this kernel has no FUSE over io_uring, or this user no right to turn it on"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
was=$(cat $switch)
trap 'echo "$was" >$switch' EXIT
echo 1 >$switch
bash "$@"
