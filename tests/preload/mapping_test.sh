#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a program that maps files expects holds in a plain directory and on mounts alike.
# usage: mapping_test.sh LIBSERVICES PRELOAD_LIBRARY PROGRAM
set -u
source "$(dirname "$0")/../support/checks.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
install_command "$1" "$work/bin"
install -m 755 "$2" "$work/bin/preload.so"
install -m 755 "$3" "$work/bin/mapping"
libservices=$work/bin/libservices
export LIBSERVICES_PRELOAD=$work/bin/preload.so
program=$work/bin/mapping
as=()  # as whom
at=/mnt/mapping

on() {  # on SPEC WORD...: the program in a mount of SPEC
  local spec=$1
  shift
  timeout 120 "${as[@]}" "$libservices" with --mount "$at=$spec" -- sh -c 'cd /mnt/mapping && exec "$0" "$@"' "$program" "$@"
}

mkdir "$work/plain" "$work/local" "$work/own" "$work/upper" "$work/lower" "$work/second" "$work/capped"
printf 'lower text' >"$work/lower/small"
truncate -s 4096 "$work/lower/small"
{ printf 'lower text'; head -c 5000000 /dev/urandom; } >"$work/lower/big"
cp "$work/lower/small" "$work/local/small"
cp "$work/lower/small" "$work/lower/unchanged"
cp -r "$work/lower" "$work/lower.before"
union="union(local:$work/upper, local:$work/lower)"

export TIMES_MOVE=1
check 'a plain directory' env -C "$work/plain" "$program" all
check 'local' on "local:$work/local" all
check 'local, whose attributes are kept' on "local:$work/own(exclusive=true)" all
check 'a union' on "$union" all
unset TIMES_MOVE  # the kernel keeps no times of what is written to its memory through a mapping
check 'memory' on memory all
check 'memory with a capacity, where mappings are of copies' on "memory(capacity_bytes=1M)" copied

check 'a file of a union that is not changed' on "$union" reads unchanged
check 'a file that cannot be changed' on "readonly(local:$work/local)" reads small
check 'nor one that its owner could change at the host' on "readonly($union)" reads unchanged
for file in small big; do
  check "a $file file of a lower that is written to while it is mapped" on "$union" stale $file
done

# ---- libraries; the last one finds another by its own RUNPATH, in which the preload library has no part
printf 'int answer(void) { return ANSWER; }' >"$work/answer.c"
cat >"$work/asks.c" <<'C'
#include <dlfcn.h>
int answer(void) {
  void* const hidden = dlopen("libhidden.so", RTLD_NOW);
  return hidden == 0 ? -1 : ((int (*)(void))dlsym(hidden, "answer"))();
}
C
mkdir "$work/hidden"
for number in 1 2 3; do gcc -shared -fPIC -DANSWER=$number -o "$work/own/lib$number.so" "$work/answer.c" || exit 1; done
gcc -shared -fPIC -DANSWER=4 -o "$work/hidden/libhidden.so" "$work/answer.c" || exit 1
gcc -shared -fPIC -o "$work/libasks.so" "$work/asks.c" -Wl,--enable-new-dtags,-rpath,"$work/hidden" || exit 1
cp "$work/own"/lib?.so "$work/lower"
cp "$work/own"/lib?.so "$work/lower.before"
three=(./lib1.so 1 "$at/lib2.so" 2 ./lib3.so 3 "$work/libasks.so" 4)
for spec in "local:$work/own" "$union"; do
  check "libraries are loaded from $spec" on "$spec" loads "${three[@]}"
done
check 'and from copies' timeout 120 env COPIED=1 "$libservices" with --mount "$at=memory(capacity_bytes=10M)" -- \
  sh -c 'cp "$1"/lib?.so /mnt/mapping && cd /mnt/mapping && shift && exec "$0" loads "$@"' "$program" "$work/own" "${three[@]}"

# ---- a user without privilege: no mount is made for him, and the lower's file is his own
if [ "$(id -u)" = 0 ]; then
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all env -u TMPDIR XDG_RUNTIME_DIR=)
  rm -rf "$work/upper"* "$work/own"*
  mkdir "$work/upper" "$work/own"
  chmod 755 "$work"
  chown -R 65534 "$work/lower"
  chown 65534 "$work" "$work/upper" "$work/own"  # $work: for the directories of work beside them
  export TIMES_MOVE=1
  check 'local, of a user' on "local:$work/own" all
  check 'a union, of a user' on "$union" all
  check 'a file that cannot be changed, of a user' on "readonly($union)" reads unchanged
  check 'libraries of a user' on "$union" loads "${three[@]}"
  check 'a file of a lower that a user writes to' on "$union" stale big
fi
check 'the lower is as it was' diff -r "$work/lower.before" "$work/lower"
report
