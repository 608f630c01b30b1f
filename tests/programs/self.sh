#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# This project, cloned into a mount of itself, built there and tested. Not run with the other tests: it takes as long as
# a build takes.
# usage: tests/programs/self.sh LIBSERVICES PRELOAD_LIBRARY [preload|mount] [TARGET]...
set -eu
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
way=${3-mount}
shift 2
[ $# = 0 ] || shift
targets=("$@")
[ $# != 0 ] || targets=(//ipc:rcqb_test //tests/filesystem:tree_test)
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
mount=/mnt/libservices-self
mkdir "$work/upper" "$work/lower" "$work/out"
spec="union(local:$work/upper, local:$work/lower)"
end() {
  [ "$way" != mount ] || timeout 60 "$libservices" umount "$mount" || "$libservices" umount --lazy "$mount"
  chmod -R u+w "$work" && rm -rf "$work"
}
trap end EXIT
git clone -q "$root" "$work/lower/project"
export root work mount
build() {  # Bazel itself writes what it makes into the mount, too
  cd "$mount/project" || return
  bazel --output_user_root="$mount/out" --batch test --jobs=2 "$@"
}
export -f build
if [ "$way" = mount ]; then
  "$libservices" mount "$spec" "$mount"
  bash -c 'build "$@"' build "${targets[@]}"
else
  # Bazel's own programs are static or make their calls without libc: the compiler alone is preloaded.
  timeout 3600 "$libservices" with --mount "$mount=$spec" -- bash -c '
    cd "$mount/project" || exit
    for source in src/client/*.cc src/preload/*.cc; do
      g++ -std=c++20 -O1 -Wall -I. -Iinclude -fPIC -fno-exceptions -fno-rtti -fno-threadsafe-statics -fvisibility=hidden -c "$source" -o "$source.o" || exit
    done
    g++ -shared -static-libgcc -Wl,-Bsymbolic -o preload.so src/client/{content,directory,files,ioctl,names,paths,request,state,xattrs}.cc.o src/preload/*.cc.o && ls -l preload.so'
fi
echo '1 passed, 0 failed, 0 skipped'
