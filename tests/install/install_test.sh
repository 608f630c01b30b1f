#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What was installed is found with pkg-config and with CMake, is enough to build the examples outside the tree, and runs.
# usage: install_test.sh INSTALL_FILES PUBLIC_HEADERS
set -eu
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
pass() {
  passed=$((passed + 1))
  echo "ok: $1"
}
fail() {
  echo "FAILED: $1" >&2
  exit 1
}

prefix=$work/prefix
"$here/$1" "$here" "$here" "$prefix" >"$work/log" 2>&1 || { cat "$work/log"; fail "install_files"; }
for file in bin/libservices lib/libservices/libservices lib/libservices/libservices-ceph.so bin/libservices-overlay sbin/mount.fuse.libservices lib/libservices-preload.so lib/libservices-client.so lib/libservices.so \
  include/libservices/filesystem.h include/libservices/libservices.h include/libservices/client.h \
  include/libservices/testing/conformance.h include/libservices/extra/services/union/union.h \
  share/doc/libservices/LICENSE; do
  [ -s "$prefix/$file" ] || fail "$file is not installed"
done
[ "$(wc -l <"$2")" -gt 30 ] || fail "too few headers"
[ "$(find "$prefix/include" -type f | wc -l)" = "$(sort -u "$2" | wc -l)" ] || fail "not the headers that are declared"
[ "$(ls "$prefix/include")" = libservices ] || fail "include/ has more than libservices/"
pass "files"

DESTDIR=$work/stage "$here/$1" "$here" "$here" /opt/ls >"$work/log" 2>&1 || fail "with DESTDIR"
[ -s "$work/stage/opt/ls/bin/libservices" ] || fail "DESTDIR does not stand before the prefix"
grep -q '^prefix=/opt/ls$' "$work/stage/opt/ls/lib/pkgconfig/libservices.pc" || fail "DESTDIR in a .pc file"
pass "DESTDIR"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
# shellcheck disable=SC2046  # words
g++ -std=c++20 -Wall -Wextra -Werror -o "$work/union" examples/02_union/union_of_directories.cc \
  $(pkg-config --cflags --libs libservices)
"$work/union" | diff - examples/02_union/expected_output.txt
pass "a C++ program with pkg-config"
# shellcheck disable=SC2046
gcc -Wall -Wextra -Werror -o "$work/file_server" examples/05_embed_c/file_server.c $(pkg-config --cflags --libs libservices)
[ -x "$work/file_server" ]
pass "a C program with pkg-config"

# Every public header compiles alone, without the tree.
mkdir "$work/headers"
while read -r header; do
  case $header in
    */internal/* | */testing/*) continue ;;
  esac
  printf '#include "%s"\n' "${header#include/}" >"$work/headers/one.cc"
  # shellcheck disable=SC2046
  g++ -std=c++20 -fsyntax-only $(pkg-config --cflags libservices) "$work/headers/one.cc" || fail "$header alone"
done < <(grep -v 'services/union/.*_calls.h\|services/local/nodes.h' "$2" | awk 'NR % 5 == 0')
pass "headers"

cmake -S tests/install -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLES="$here/examples" >"$work/log" 2>&1 ||
  { cat "$work/log"; fail "cmake"; }
cmake --build "$work/cmake" >"$work/log" 2>&1 || { cat "$work/log"; fail "cmake --build"; }
"$work/cmake/union_of_directories" | diff - examples/02_union/expected_output.txt
pass "a C++ program with CMake"

# The command finds its preload library beside it; the client library reaches its service.
[ "$("$prefix/bin/libservices" with --mount /notes=memory -- sh -c 'echo text >/notes/a && cat /notes/a')" = text ] ||
  fail "the installed command"
pass "the installed command"
"$prefix/sbin/mount.fuse.libservices" memory "$work/mnt" -f -o ro,noauto || fail "the helper of mount(8)"
[ "$("$prefix/sbin/mount.fuse.libservices" memory "$work/mnt" -f -o nonsense 2>&1 | cut -d' ' -f-3)" = 'libservices: option nonsense:' ] ||
  fail "the helper of mount(8) takes any option"
[ "$(readlink "$work/stage/opt/ls/sbin/mount.fuse.libservices")" = ../bin/libservices ] || fail "the helper of mount(8) with DESTDIR"
pass "the helper of mount(8)"
"$prefix/bin/libservices-overlay" --version | grep -q '^libservices-overlay: version' || fail "the installed mount program"
pass "the installed mount program"
"$prefix/bin/libservices" with --run-directory "$work/run" --mount /notes=memory -- \
  env -u LD_PRELOAD "$work/cmake/client" "$work/run" /notes | diff - examples/06_client/expected_output.txt
pass "the client library"
LIBSERVICES_PRELOAD=$prefix/lib/libservices-preload.so "$work/cmake/own_host" with --mount /hello=greeting -- \
  cat /hello/world | grep -q '^Hello, world!$' || fail "a host of one's own"
pass "a host of one's own"
echo "$passed passed, 0 failed, 0 skipped"
