# SPDX-License-Identifier: Apache-2.0
# The programs of coreutils and findutils that have to do with files, beyond coreutils.sh.
away=$(mktemp -d /dev/shm/libservices-programs.XXXXXX); trap 'rm -rf "$away"' EXIT
# install, mkdir, mkfifo, mknod, mktemp, rmdir, link, unlink
install -d -m 2750 made/a made/b; install -m 600 -p documents/book made/a; install -D -t made/deep/er code/*.c
install -C -m 644 documents/book made/b; install -C -m 644 documents/book made/b
install -b -S .old script made/b/book; install -s -m 755 /bin/true made/true; made/true; ls made made/*
mkdir -m 700 -p p/q/r; mkdir -v p/s; rmdir -v --ignore-fail-on-non-empty p; rmdir -p p/q/r 2>/dev/null || ls p
mkfifo -m 640 pipe; mknod pipe2 p; [ -p pipe ] && stat -c '%F %a' pipe pipe2; rm pipe pipe2
f=$(mktemp -p . t.XXXXXX); stat -c '%a %s' "$f"; rm "$f"; f=$(mktemp -d ./t.XXXXXX); stat -c %a "$f"
rmdir "$f"; f=$(TMPDIR=$PWD mktemp); dirname "$f" | sed 's|.*/||' | wc -l; rm "$f"; link documents/book l1
unlink l1; unlink nothing || echo "status $?"
# shred, truncate, dd, split, csplit
cp large secret; shred -n 2 -z secret; has small_blocks && wc -c secret; cmp -n 300000 secret /dev/zero && echo zeros
shred -u -n 1 secret; truncate -s +10 script2; truncate -s '<5' script2; truncate -s %4096 script2
truncate -r documents/book -c none; truncate -r documents/book ref; has small_blocks && truncate -o -s 2 ref
stat -c '%s %n' script2 ref
dd if=documents/book of=dd1 bs=64 count=3 skip=2 seek=1 status=none
dd if=documents/book of=dd1 bs=16 count=2 conv=notrunc,fsync oflag=append status=none
dd if=documents/book of=dd2 ibs=10 obs=100 conv=ucase,fdatasync status=none
dd if=large of=dd3 bs=1M iflag=fullblock,count_bytes,skip_bytes count=100001 skip=3 oflag=seek_bytes seek=7 status=none
dd if=/dev/zero of=dd4 bs=4k count=4 conv=sparse,excl status=none
dd if=x of=dd4 conv=excl 2>/dev/null || echo "status $?"
dd if=documents/book of=dd1 conv=nocreat,swab status=none
dd if=large of=dd5 bs=7000 iflag=noatime,nofollow oflag=sync,dsync status=none
dd if=large of=dd6 iflag=nocache oflag=nocache,nonblock status=none
dd if=link of=dd7 iflag=nofollow 2>/dev/null || echo "status $?"
dd if=documents iflag=directory 2>/dev/null || echo "status $?"; cksum dd*
split -b 1k -d -a 3 documents/book b.; split -n l/4 documents/book n.; split -n r/3 documents/book r.
split -C 500 --additional-suffix=.x documents/book c.; split -l 90 --filter='wc -l >$FILE' documents/book f.
cat b.* | cmp - documents/book; cat n.* | cmp - documents/book; cat f.*
split -e -n 3 empty/none 2>/dev/null || echo "status $?"
csplit -s -f cs. -b %03d.txt documents/book '/line 50 /' '%line 100 %' '/line 150 /-2' '{0}'; wc -l cs.*
csplit -z -s -n 1 documents/old/list /two/ /three/; cat xx0; ls b.* n.* r.* c.* cs.* | wc -l
rm b.* n.* r.* c.* cs.* xx* f.*
# stat, ls, dir, vdir, du, df, pathchk, test, readlink, realpath, basename
stat -c '%a %A %f %F %h %N %s %u %g %U %b' documents/book link large script | sed 's/ [0-9]*$//'
has directory_sizes && stat -c '%s' empty
stat -L -c '%F %s' link; stat -c '%w' large >/dev/null; stat -f -c %T . >/dev/null
[ "$(stat -c %m documents)" = "$(stat -c %m .)" ] && echo mount; stat -c '%d' documents code | uniq | wc -l
stat --printf='%n|%Y\n' large; stat nothing || echo "status $?"
ls -l documents | tail -n +2 | sed 's/^\([^ ]* *[^ ]*\) .* \(documents\)/\1 \2/' | cut -c1-11
has directory_sizes && ls -1 -S -r documents code | tr '\n' ' '; ls -m many | head -1; ls -R documents; ls -p -F; ls -d */
ls --group-directories-first; ls -1X code; ls -tr | wc -l; ls -Q link; ls -lL link | cut -c1-10
ls -i documents | wc -l; ls -n -s large | cut -d' ' -f2; dir documents
vdir -g documents | tail -n +2 | cut -c1-10; ls -Z large >/dev/null
ls --hyperlink=auto --color=always documents | wc -l; ls --time-style=+%Y -l large | awk '{print $6}'
has directory_sizes && du -b -a documents | sort -k 2; du -s --apparent-size -B1 large; du -c --inodes -s many | tail -1
du -d 1 -b --exclude='m*' . | wc -l; du -L -b link; du -l -0 -b large | tr '\0' '\n'
[ "$(du -k large | cut -f1)" -ge 293 ] && echo used; df -P . | wc -l
df --output=file,itotal documents | wc -l; df -P documents/book large | wc -l; df -a >/dev/null
df -T . >/dev/null
pathchk -p documents/book; realpath --relative-to=code documents/book; realpath -e nothing || echo "status $?"
realpath -m nothing/../x | sed 's|.*/||'; realpath -s link | sed 's|.*/||'; realpath -L link/.. | wc -l
readlink -f dangling | sed 's|.*/||'; readlink -e dangling || echo "status $?"
readlink -m a/b/../c | sed 's|.*/a|a|'; readlink -f link | sed 's|.*/d|d|'; readlink -n link
readlink large || echo "status $?"; basename -s .c code/main.c; dirname code/main.c; ln -s loop2 loop1
ln -s loop1 loop2; readlink -f loop1 || echo "status $?"; cat loop1 || echo "status $?"
realpath loop1 || echo "status $?"
# ln, cp, mv, rm
ln documents/book many; ln -s ../large empty/to; ln -sr documents/book empty/relative; readlink empty/*
ln -sf large link; ln -sfn code dirlink; ln -sfn documents dirlink; readlink dirlink; ln -b -s script link
ls link*; ln -L link hardlarge; ln -P dirlink hardlink; stat -c '%F %h' hardlarge hardlink
ln -T script code 2>&1 || echo "status $?"; ln documents d2 2>&1 || echo "status $?"
ln -i -s x link </dev/null || true
cp --reflink=auto large c1; truncate -s 5M holes
printf data | dd of=holes bs=1 seek=2000000 conv=notrunc status=none; cp --sparse=always holes c2
cp --sparse=never holes c3; cp --reflink=always large c4 2>/dev/null || rm -f c4; cmp holes c2; cmp holes c3
cmp large c1; cp -a --sparse=auto holes c5; cmp holes c5; cp -l large c6; cp -s large c7; cp -u large c1
cp -n script c1; cp -b script c1; cp --backup=numbered script c1; cp -p -t empty script documents/book
cp --parents documents/old/list empty; cp -rH dirlink cH; cp -rL empty cL; cp -d link cd
cp --attributes-only --preserve=mode script ca; cp -x -r code cx; cp --remove-destination script c6
cp -f script c1; cp -T code cT -r; cp --preserve=links,timestamps -r many cm
has directory_sizes && stat -c '%s %h %a %F' c? c1~ c1.~* cm/book cH/book cL/to; stat -c %Y cm/file1
cp nothing x 2>&1 || echo "status $?"; cp code y 2>&1 || echo "status $?"
cp large large 2>&1 || echo "status $?"; cp -r code code/in 2>&1 || echo "status $?"
rm -rf code/in holes c2 c3 c5
mv -n script ca; mv -b script ca; mv -t empty ca; mv -T cT cT2; mv -u large c1 -v; mv documents "$away"
cp -a "$away/documents" .; mv "$away/documents" second; diff -r documents second && echo same; mv c1 large
ln many/file7 seven; mv many seven "$away"; mv "$away/many" "$away/seven" .; stat -c '%h %Y' seven many/file1
mv large code/main.c/x 2>&1 || echo "status $?"; mv code code/x 2>&1 || echo "status $?"
mv nothing x 2>&1 || echo "status $?"; mv large .; mv -f second documents/; ls documents/second
mv -T documents code 2>&1 || echo "status $?"; mv code . 2>&1 || echo "status $?"
rm -rf documents/second; rm code 2>&1 || echo "status $?"; rm -d empty 2>&1 || echo "status $?"; rm -v seven
rm -I cL/* </dev/null; rm -rfv cL | wc -l; rm -r --one-file-system cH; rm . 2>&1 || echo "status $?"
rm -f -- -x; (umask 0; touch all; mkdir alls; ln -s all allink); stat -c '%a %n' all*
# touch, chmod, chown, chgrp
touch -r documents/book ref; touch -a -d '1999-01-01 00:00:00.123456789' ref; touch -m -t 200001010101.01 ref
stat -c '%x %y' ref; touch -h -d '1998-01-01' link; stat -c %y link; touch -c never; test ! -e never
touch -d @0 ref; stat -c %Y ref; touch -d '2100-01-01' future; stat -c %y future
touch -d '2001-01-01 +1 hour' ref; stat -c %y ref; touch nothing/x 2>&1 || echo "status $?"; touch documents
chmod -R g+w,o-r,u=rwX documents; chmod -R -v a+x code | wc -l; chmod +t,u+s,g+s alls
chmod --reference=script? all 2>/dev/null || chmod --reference=empty/script all; chmod =rw,+X all
chmod 4711 all; chmod u-s all; chmod -c 644 all; chmod 0000 ref
stat -c '%A %n' documents documents/* code/* all* ref; chown -R 1:2 documents; chown -h 3:4 link; chown :5 all
chown --from=:5 6 all; chown --from=9 7 all; chgrp -R 8 code; chown -RL 9 dirlink; chown --reference=all ref
stat -c '%u %g %n' documents documents/* link code code/* all ref; chmod 6755 all; chown 1 all; stat -c %a all
chown -R 0:0 documents code link all ref; chmod 9 all 2>&1 || echo "status $?"
# Contents: tac, sort, comm, join, paste, nl, fold, fmt, pr, ptx, expand, od, wc, sums, base64, tsort, shuf, tee, head, tail
tac documents/book | tail -1; tac -s ' ' documents/old/list | wc -c
sort -T . -S 32K --batch-size=2 large documents/book -o sorted; head -c 20 sorted
sort -m documents/old/list documents/old/list | uniq -d; sort -u -k3,3n -k1 documents/book | md5sum
sort -c documents/old/list || echo "status $?"; shuf --random-source=large documents/book -o shuffled
sort -R --random-source=large documents/book | md5sum; sort shuffled | cmp - <(sort documents/book)
seq 200000 | shuf --random-source=large | sort -n -T "$PWD" -S 100K --compress-program=gzip --parallel=2 | md5sum
sort --files0-from=<(printf 'documents/book\0documents/old/list\0') | md5sum
sort documents/old/list >s1; seq 3 | paste s1 - >s2; comm -12 s1 documents/old/list; join s1 s2
nl documents/old/list; fold -w 10 documents/book | head -2; fmt -w 30 documents/book | head -1
pr -h x -D x documents/old/list | wc -l; ptx documents/old/list | wc -l; expand -t 4 s2; unexpand -a s2
od -A d -t x1z -j 3 -N 20 documents/book; wc documents/book many/file1 large; wc -L documents/book
wc --files0-from=<(printf 'large\0'); cut -c 3-5 documents/old/list; tr -s x <large
rev documents/old/list 2>/dev/null; uniq -f 1 -c documents/book u1; tail -1 u1; tsort <<<'a b b c'
numfmt --to=iec <<<300000; factor <many; true
cksum large; sum large; sum -s large; b2sum large; md5sum many/file? >sums; md5sum -c --quiet sums
sha1sum large; sha224sum script? 2>/dev/null; sha256sum large; sha384sum large
sha512sum --tag large | cut -c1-30; cksum -a sm3 large; base64 documents/old/list | base64 -d
base32 documents/old/list; basenc --z85 -w 0 many/file1? 2>/dev/null; tee -a s1 <documents/old/list >/dev/null
tee -p s3 s4 <s1 | wc -l; wc -l s1; head -c -100000 large | wc -c; head -n -190 documents/book | wc -l
tail -c 10 large; tail -n +199 documents/book; tail -q -n 1 documents/book s1; tail -c +299990 large
: >growing; : >followed; timeout 30 tail -f -n +1 --pid=$$ growing >followed 2>/dev/null & tail=$!
for i in 1 2 3; do echo $i >>growing; done
for i in {1..200}; do [ "$(wc -l <followed)" = 3 ] && break; sleep 0.05; done; kill $tail
wait $tail || cat followed; rm followed
timeout 5 sort large | wc -c; timeout -s INT 0.2 sleep 5 || echo "status $?"
timeout 0.2 tail -f large >/dev/null 2>&1 || echo "status $?"; nohup ls documents 2>/dev/null
nice -n 1 cat many/file1; env -C documents ls; stdbuf -oL cat many/file2; chroot / true; printenv LC_ALL; sync
sync -d large; sync -f documents; sync documents; sync nothing || echo "status $?"
runcon true 2>/dev/null || true; yes | head -100000 >yes; wc -c yes; seq 5 | tee >(cat >teed) >/dev/null
mktemp -u -p code XXXX | cut -c1-5; dircolors - </dev/null | wc -l; cat -A documents/old/list
cat documents/old/list - many/file1 </dev/null; cat large >>large 2>&1 || echo "status $?"
cat <yes >>yes 2>&1 || echo "status $?"
# findutils
find . -name 'file1*' -newer large -print | wc -l; find many -size -2c | wc -l
find . -maxdepth 1 -type l -printf '%p %l %y %Y\n' | sort; find -L . -xtype l | sort | head
find . -links +1 -type f -printf '%f %n\n' | sort | head -4
find many -name 'file2?' -exec cat {} + | sort -n | tail -1
find many -name 'file3?' -execdir echo {} \; | sort | head -3
find many -name 'file4?' -ok rm {} \; </dev/null 2>/dev/null; find . -perm -u+x -type f | sort | head -9
find . -empty | sort | head -9; find many -regex '.*/file[0-9]' | wc -l
find documents -depth -print | tail -1; find . -path ./many -prune -o -name '*.c' -print | sort
find many -samefile many/file7; find . -inum "$(stat -c %i large)"
has directory_sizes && find documents -printf '%d %m %s %P\n' | sort; find many -mmin -1000000 | wc -l
find . -user 0 -group 0 | wc -l | wc -l; find many -name 'file5?' -fprint printed; wc -l printed
find many -type f -name 'file6*' -delete; find many | wc -l; find many -type f -quit | wc -l
find nothing || echo "status $?"; find . -fstype nothing; find documents -ls | wc -l
find code -type f -readable -writable | wc -l; find . -noleaf -lname '*book' | sort
find many -print0 | xargs -0 -n 10 -P 2 cat 2>/dev/null | sort -n | md5sum
xargs -a documents/old/list -I{} echo "<{}>"; ls many | xargs -t -n 50 echo 2>/dev/null | wc -l
xargs -a documents/old/list -n 1 sh -c 'exit 1' || echo "status $?"; printf 'documents/book' | xargs -o wc -l
touch -d 2001-01-01 .; rm -f sums printed; echo end
