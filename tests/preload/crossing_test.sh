#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Paths that cross between the kernel's tree and mounts: links in both directions, "..", descriptors
# of directories above a mount, a mount in a mount.
# usage: crossing_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD
# shellcheck source=../support/checks.sh
. tests/support/checks.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/host" "$work/outer" "$work/inner/below" "$work/upper" "$work/lower/sub/deep"
echo outside >"$work/host/outside"
echo file >"$work/lower/sub/file"
echo inner >"$work/inner/below/file"
printf '#!/bin/sh\necho "script $1"\n' >"$work/lower/script"
chmod +x "$work/lower/script"
cd "$work/host" || exit 1
ln -s "$work/host/mount" link
ln -s mount/sub relative
ln -s link chain
ln -s mount/made dangling
ln -s loop loop
mkdir up
ln -s ../link/sub up/through
ln -s "$work/host/outside" "$work/lower/out"
ln -s ../outside "$work/lower/out-relative"
ln -s "$work/host/link/sub/file" "$work/lower/out-and-in"

on_mount() {  # on_mount SCRIPT: in $work/host, where `mount` is a mount that the kernel has not
  timeout 60 "$libservices" with --mount "$work/host/mount=union(local:$work/upper, local:$work/lower)" \
    --mount "$work/host/mount/inner=local:$work/inner" -- sh -c "$1" 2>&1
}
says() {  # says WHAT EXPECTED SCRIPT: words, whatever stands between
  same "$1" "$2" "$(on_mount "$3" | xargs)"
}

says 'an absolute link' file 'cat link/sub/file'
says 'a relative link' file 'cat relative/file'
says 'a link to a link' file 'cat chain/sub/file'
says 'a link below another directory' file 'cat up/through/file'
says 'a path from the root' file "cat $work/host/up/through/file"
says 'a listing' 'deep file' 'ls link/sub | xargs'
says 'a listing of the link itself' 'deep file' 'ls relative/ | xargs'
says 'a glob' 'link/sub/deep link/sub/file' 'echo link/sub/*'
says 'the real path' "$work/host/mount/sub/file" 'realpath chain/sub/file'
says 'links of the kernel stay links' "$work/host/mount" 'readlink link'
says 'an absent name' 'cat: link/sub/none: No such file or directory' 'cat link/sub/none'
says 'an absent name of the host' 'cat: none/x: No such file or directory' 'cat none/x'
says 'a loop' 'cat: loop/x: Too many levels of symbolic links' 'cat loop/x'
says 'a directory to work in' "$work/host/mount/sub file" 'cd link/sub && echo "$(pwd -P) $(cat file)"'
says 'a script' 'script word' 'link/script word'
says 'a script in PATH' 'script word' 'PATH=link:$PATH; script word'
says 'new files and directories' 'new made' 'mkdir link/d && echo new >link/d/n && cat link/d/n && echo made >dangling && cat mount/made && rm mount/made link/d/n && rmdir link/d'
says 'renames and links' 'a b' 'echo a >link/a && mv link/a link/b && ln link/b relative/hard && cat relative/hard && test -e mount/b && echo b && rm link/b relative/hard'
says 'a move from the host' 'moved' 'echo moved >m && mv m link/m && cat mount/m && ! test -e m && rm link/m'
says 'a link out' outside 'cat mount/out'
says 'a relative link out' outside 'cat mount/out-relative'
says 'a link out and back in' file 'cat mount/out-and-in'
says 'the parent of a mount' outside 'cat mount/../outside'
says 'the parent of a working directory' "outside $work/host" 'cd mount && cat ../outside | tr "\n" " " && cd .. && pwd -P'
says 'a mount in a mount' inner 'cat mount/inner/below/file'
says 'a mount in a mount by a link' inner 'cat link/inner/below/file'
says 'out of the inner one' file 'cat mount/inner/../sub/file'
says 'a working directory in the inner one' file 'cd mount/inner/below && cat ../../sub/file'
says 'a rename between both fails, and mv copies' copied 'echo copied >mount/c && mv mount/c mount/inner/c && cat mount/inner/c && rm link/inner/c'
says 'descriptors of directories above' 'file True [deep,file] made' "python3 - <<'END'
import os
above = os.open('$work/host', os.O_RDONLY)
with os.fdopen(os.open('mount/sub/file', os.O_RDONLY, dir_fd=above)) as file:
    text = file.read().strip()
listed = ','.join(sorted(os.listdir(os.open('link/sub', os.O_RDONLY, dir_fd=above))))
os.mkdir('link/by-descriptor', dir_fd=above)
os.rename('link/by-descriptor', 'mount/renamed', src_dir_fd=above, dst_dir_fd=above)
os.stat('mount/renamed', dir_fd=above)
os.rmdir('relative/../renamed', dir_fd=above)
print(text, os.access('mount/sub', os.W_OK, dir_fd=above), '[' + listed + ']', 'made')
END"
says 'programs with several threads' 'file' "python3 - <<'END'
import threading
def look():
    for _ in range(200):
        with open('link/sub/file') as file:
            found.add(file.read().strip())
found = set()
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*found)
END"
report
