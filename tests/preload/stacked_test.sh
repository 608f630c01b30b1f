#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Other preloaded libraries beside ours, before it and behind it: allocators, and libraries that
# stand between programs and libc as ours does.
# usage: stacked_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
source tests/support/checks.sh
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
export LIBSERVICES_PRELOAD LC_ALL=C HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/programs" <<'END'
set -e
cd "$1"
seq 1000 | sort -rn >numbers
sort -n numbers | md5sum
python3 - <<'PYTHON'
import os, subprocess, threading
def append(i):
    for k in range(20):
        with open(f"t{i}", "a") as f:
            f.write("x" * 1000)
threads = [threading.Thread(target=append, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sorted((n, os.stat(n).st_size) for n in os.listdir(".")))
print(subprocess.run(["cat", "numbers"], capture_output=True).stdout[:10])
if os.fork() == 0:
    open("child", "w").write("c")
    os._exit(0)
os.wait()
print(open("child").read())
PYTHON
tar cf a.tar numbers t0 t1
tar tf a.tar
git init -q g
cd g
echo a >f
git add f
git -c user.name=a -c user.email=b commit -qm m
git log --format=%s
git fsck
cd ..
rm -r g
find . -type f | sort
awk 'END { print NR }' numbers
perl -e 'open F, ">p"; print F "x"; close F; print -s "p", "\n"'
END
mkdir "$work/plain"
sh "$work/programs" "$work/plain" >"$work/expected" 2>&1
same 'the programs end well in a plain directory' 0 $?

libraries=/usr/lib/$(uname -m)-linux-gnu
for library in "$libraries"/libjemalloc.so.2 "$libraries"/libtcmalloc_minimal.so.4 \
  "$libraries"/libmimalloc.so.2 "$libraries"/libeatmydata.so \
  "$libraries"/libfakeroot/libfakeroot-sysv.so; do
  name=$(basename "$library")
  check "$name is installed" [ -e "$library" ]
  # shellcheck disable=SC2016  # the shell inside expands them
  for order in '$1:$LD_PRELOAD' '$LD_PRELOAD:$1'; do
    timeout 120 "$libservices" with --mount /mnt/stacked=memory -- \
      sh -c "export LD_PRELOAD=\"$order\"; exec sh \"\$2\" /mnt/stacked" \
      sh "$library" "$work/programs" >"$work/found" 2>&1
    check "$name, $order" diff "$work/expected" "$work/found"
  done
done

# A superuser that is none.
timeout 60 "$libservices" with --mount /mnt/stacked=memory -- fakeroot sh -c \
  'cd /mnt/stacked; touch f; chown 1234:5678 f; stat -c "%u %g" f; tar cf t f; tar tvf t' \
  >"$work/found" 2>&1
check 'fakeroot: an owner' grep -qx '1234 5678' "$work/found"
check 'fakeroot: an archive' grep -q '1234/5678' "$work/found"
report
