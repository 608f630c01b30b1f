# SPDX-License-Identifier: Apache-2.0
# Two halves at one tree: `one` and `other` run a program each in its own, the preload library and the kernel's mount,
# and what this shell runs by itself, above all static programs, comes through the mount.
set -e
# Pipelines from half to half.
one tar c documents many link script | other tar x -C empty; diff -r documents empty/documents; ls empty | sort
other tar c code | busybox tar x -C empty; one diff -r code empty/code; busybox tar c many | one tar x -C empty/code; ls empty/code/many | wc -l
one find documents code -type f | LC_ALL=C sort | other xargs sha256sum | md5sum; busybox find many -type f | LC_ALL=C sort | one xargs cat | md5sum
one sh -c 'cat documents/book >copy'; other cmp copy documents/book; one cp -a documents documents2; other diff -r documents documents2 && echo same

# A static shell that calls programs of the other half, and the reverse; what this shell opens for them is the same file.
busybox sh -c 'one sed -i s/line/LINE/ documents/book; busybox head -2 documents/book; one sh -c "echo more >>documents/book"; busybox tail -1 documents/book'
one sh -c "busybox sed -i s/LINE/line/ $PWD/documents/book; head -2 documents/book; busybox sh -c 'echo static >>$PWD/documents/book'; tail -2 documents/book"
one bash -c "exec 5>shared; echo 1 >&5; busybox sh -c 'echo 2 >>$PWD/shared'; exec 5>>shared; echo 3 >&5; exec 5<shared; read -r a <&5; busybox head -1 $PWD/shared; cat <&5"
busybox sh -c 'exec 5>>shared; echo 4 >&5; one echo 5 >&5; other echo 6 >&5; one sh -c "echo 7 >>shared"; echo 8 >&5'; cat shared
(cd documents && one pwd | sed 's|.*/||' && one ls . && busybox ls .); one cat <documents/old/list; other wc -l <documents/book

# Attributes, names and links of each half, seen in the other.
one chmod 640 shared; other stat -c '%a %s %h' shared; one ln shared linked; busybox stat -c '%h' shared; other touch -d 2003-03-03 linked; one stat -c '%y' shared
one mkdir -p deep/er; busybox touch deep/er/file; one ls deep/er; other mv deep/er deep/est; one cat deep/est/file; other rm -r deep; one test ! -e deep && echo gone
one ln -s shared soft; busybox readlink soft; other rm soft; one truncate -s 5 copy; busybox wc -c <copy; other truncate -s 100000 copy; one wc -c <copy
busybox dd if=/dev/zero of=sparse bs=4096 seek=10 count=1 2>/dev/null; one stat -c %s sparse; one dd if=documents/book of=sparse bs=100 count=3 conv=notrunc status=none; md5sum <sparse

# Compiled in one half, linked and executed in the other.
one make -s -C code; code/program; one code/program; other make -s -C code clean; ls code/*.o 2>/dev/null | wc -l
one gcc -static -o static-answer code/*.c; ./static-answer; one sh -c "$PWD/static-answer"; rm static-answer

# A reader that follows what the other half appends; each line comes once, whole, in order.
follow() { busybox sh -c 'exec 3<log; n=0; while [ $n -lt 60 ]; do if read -r line <&3; then echo "$line"; n=$((n + 1)); else busybox usleep 2000; fi; done'; }
: >log; (for i in 1 2 3; do one bash -c "for k in {1..20}; do echo line $i \$k >>log; sleep 0.002; done"; done) & follow | md5sum; wait
: >log; (for i in $(seq 60); do busybox sh -c "echo line $i >>log"; done) & one bash -c 'exec 3<log; n=0; while [ $n -lt 60 ]; do if read -r line <&3; then echo "$line"; n=$((n + 1)); else sleep 0.002; fi; done' | md5sum; wait
: >log; (one bash -c 'for k in {1..30}; do echo $k >>log; sleep 0.01; done') & other timeout 60 sh -c 'tail -n +1 -f log 2>/dev/null | head -30' | md5sum; wait
: >log; (other bash -c 'for k in {1..30}; do echo $k >>log; sleep 0.01; done') & one timeout 60 sh -c 'tail -n +1 -f log 2>/dev/null | head -30' | md5sum; wait

# flock and record locks exclude who is in the other half: no count is lost.
count() { echo 'read -r n <counter; echo $((n + 1)) >counter'; }
echo 0 >counter; for half in one other env; do
  (for i in $(seq 15); do $half flock lock sh -c "$(count)"; done) &
done; wait; cat counter
one sqlite3 base 'create table t (half text, n integer);'
for half in one other; do (for i in 1 2 3 4 5 6 7 8; do $half sqlite3 -cmd '.timeout 60000' base "insert into t values ('$half', $i);"; done) & done; wait
one sqlite3 base 'select half, count(*), sum(n) from t group by half order by half; pragma integrity_check;'; other sqlite3 base 'select count(*) from t;'; rm base

# Replaced whole: the other half sees the old or the new, and what is open stays.
one sh -c 'for i in $(seq 40); do yes $i | head -2000 >next; mv next current; done' &
n=0; while kill -0 $! 2>/dev/null; do [ ! -e current ] || other sort -u current 2>/dev/null | wc -l | grep -qx 1 || n=$((n + 1)); done; wait; echo "torn: $n"
exec 6<current; one rm current; head -1 <&6; exec 6<&-

# Both write at places of their own in one file, at the same time.
for k in 0 1 2 3; do
  one dd if=large of=woven bs=1000 skip=$k seek=$((2 * k)) count=1 conv=notrunc status=none & busybox dd if=large of=woven bs=1000 seek=$((2 * k + 1)) count=1 conv=notrunc 2>/dev/null &
done; wait; other cksum <woven

# A repository that both work in.
export GIT_AUTHOR_DATE='2004-04-04T04:04:04Z' GIT_COMMITTER_DATE='2004-04-04T04:04:04Z' GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
one git init -q -b main repository; cp documents/book repository; cd repository; one git add book; other git commit -q -m first; echo changed >>book; one git status --short; one git commit -qam second
other git log --format=%s; one git fsck --strict 2>&1; other git diff HEAD~1 --stat; cd ..; rm -rf repository
