# SPDX-License-Identifier: Apache-2.0
# tar, gzip, xz: a tree packed and unpacked is the tree.
set -e
mkdir linked; echo linked >linked/1; ln linked/1 linked/2
tar cf all.tar linked documents code many link dangling script empty; tar tf all.tar | sort | md5sum; mkdir out; tar xpf all.tar -C out
diff -r documents out/documents; diff -r code out/code; diff -r many out/many; stat -c '%a %h %n' out/documents/* out/linked/* out/script out/empty
tar czf code.tgz -C code .; tar tzf code.tgz | sort; gzip -k documents/book; gunzip -c documents/book.gz | cmp - documents/book
rm documents/book.gz code.tgz; xz -k large; xz -dc large.xz | cmp - large; rm large.xz all.tar; rm -r out/many; tar c documents | tar x -C out; ls out
set +e
# tar's other forms: incremental, append, update, delete, holes, transform, members by name, attributes, checks, several volumes.
tar cf t.tar -C documents book; tar rf t.tar -C documents old/list; touch -d 2010-01-01 documents/book
tar uf t.tar -C documents book; tar tf t.tar; tar --delete -f t.tar old/list; tar tf t.tar
tar df t.tar -C documents && echo no difference; echo more >>documents/book
tar df t.tar -C documents 2>&1 || echo "status $?"
tar cf inc0.tar -g snar documents; echo change >documents/changed; rm documents/old/list
tar cf inc1.tar -g snar documents; mkdir restored; tar xf inc0.tar -g /dev/null -C restored
tar xf inc1.tar -g /dev/null -C restored; diff -r documents restored/documents && echo restored
truncate -s 3M holes; echo data | dd of=holes bs=1 seek=1500000 conv=notrunc status=none; tar cSf s.tar holes
has holes && [ "$(stat -c %s s.tar)" -lt 100000 ] && echo sparse; mkdir sparse; tar xSf s.tar -C sparse
cmp holes sparse/holes; setfattr -n user.a -v b script; tar cf x.tar --xattrs --acls script linked; mkdir x
tar xf x.tar --xattrs --acls -C x; getfattr -d x/script; stat -c %h x/linked/*
mkdir to
tar c code | tar x -C to --strip-components=1 --exclude='*.h' --transform='s/extra/more/' --no-same-permissions
ls -R to; tar xf x.tar -C x --keep-old-files 2>&1 || echo "status $?"; tar xf x.tar -C x --skip-old-files
tar xf x.tar -C x --unlink-first; tar xf x.tar -C x --overwrite; tar cf - --remove-files to | tar t | wc -l
test ! -e to; tar cMf v1.tar -f v2.tar -L 200 large </dev/null; mkdir vol
tar xMf v1.tar -f v2.tar -C vol </dev/null; cmp large vol/large; tar caf a.tar.xz code; tar caf a.tar.zst code
tar caf a.tar.bz2 code; for a in a.tar.*; do tar xOf "$a" code/main.c | md5sum; done
tar xf nothing 2>&1 || echo "status $?"
# cpio in and out, and as a copy.
find documents code linked link | LC_ALL=C sort | cpio -o -H newc --quiet >c.cpio
cpio -t --quiet <c.cpio | wc -l; mkdir ci; (cd ci && cpio -idm --quiet <../c.cpio)
diff -r documents ci/documents; stat -c '%h %Y' ci/linked/1 ci/code/main.c | sed 's/ 1[0-9]*$//'
find code | cpio -pdlm --quiet passed; stat -c %h passed/code/main.c
(cd ci && cpio -idu --quiet 'link*' <../c.cpio); printf 'documents/book\0' | cpio -o0 -H ustar --quiet | tar t
rm -rf ci passed c.cpio
# Compressors in place.
cp large l; gzip l; gzip -t l.gz; gunzip l.gz; bzip2 l; bunzip2 l.bz2; xz l; unxz l.xz; zstd -q --rm l
unzstd -q --rm l.zst; cmp l large; gzip -r vol; ls vol; zcat vol/large.gz | cmp - large; rm -rf vol l
# rsync of local trees.
mkdir s; cp -a documents code linked link script s; setfattr -n user.k -v v s/script
setfacl -m u:5:r s/script; rsync -aHAX s/ d; diff -r s d; stat -c %h d/linked/*; getfattr -d d/script
getfacl -n d/script | grep user:5; rsync -aHAX --delete -i s/ d; echo new >s/new; rm s/code/extra1.c
chmod 600 s/script; ln s/new s/new2; mv s/documents/book s/documents/book2
rsync -aHAX --delete -i s/ d | grep -v '^\.d' | sort; diff -r s d && echo synchronised
rsync -aHAXn --delete -i s/ d
head -c 100000 s/documents/book2 >/dev/null; cp large s/big; rsync -a --inplace --no-whole-file s/big d/
printf changed | dd of=s/big bs=1 seek=150000 conv=notrunc status=none
rsync -a --inplace --no-whole-file --checksum s/big d/; cmp s/big d/big
printf again | dd of=s/big bs=1 seek=5000 conv=notrunc status=none
rsync -a --no-whole-file --checksum --partial --partial-dir=.part s/big d/; cmp s/big d/big; cp -a holes s
rsync -aS s/holes d/; cmp s/holes d/holes; rsync -a --append-verify s/big d/
rsync -a --backup --suffix=.b --checksum script d/big; ls d; mkdir e; rsync -a --link-dest="$PWD/d" d/ e
stat -c %h e/code/main.c; rsync -r --files-from=<(printf 'script\ncode/main.c\n') s f; find f | sort
rsync -a --remove-source-files f/ g; find f g | sort
rsync -a --include='*/' --include='*.c' --exclude='*' -m s/ h; find h | sort
rsync -a nothing d 2>&1 | head -1 | cut -d: -f1,2
rsync --list-only s/code/ | awk '{print $1, $NF}' | tail -n +2
(rsync -a --bwlimit=100 --partial large p & sleep 0.3; kill %1; wait) 2>/dev/null || true; rsync -a large p
cmp large p; rsync -a --temp-dir="$PWD/g" --delay-updates s/ i; diff -r s i && echo delayed
rm -rf s d e f g h i p holes sparse x.tar s.tar
# Packages of Debian.
mkdir -p pack/DEBIAN pack/usr/share/ours
printf 'Package: ours\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: d\n' >pack/DEBIAN/control
cp documents/book pack/usr/share/ours; printf '#!/bin/sh\n' >pack/DEBIAN/postinst
chmod 755 pack/DEBIAN/postinst
SOURCE_DATE_EPOCH=1 dpkg-deb --root-owner-group -Zgzip -b pack ours.deb | sed 's/.*: //'
dpkg-deb -f ours.deb Package Version; dpkg-deb -c ours.deb | awk '{print $1, $NF}'
dpkg-deb -R ours.deb unpacked; diff -r pack unpacked && echo unpacked; dpkg-deb -x ours.deb extracted
find extracted | sort; mkdir db db/info db/updates; touch db/status; mkdir root
dpkg --admindir=db --instdir=root --log=/dev/null --force-not-root,script-chrootless -i ours.deb 2>&1 | grep -c ours
cat root/usr/share/ours/book | cmp - documents/book
dpkg --admindir=db --instdir=root --log=/dev/null --force-script-chrootless -P ours >/dev/null 2>&1
find root | sort; dpkg --admindir=db -l ours 2>/dev/null | tail -1 | cut -c1-8; ar t ours.deb
(mkdir arx; cd arx; ar x ../ours.deb; ls)
rm -rf pack unpacked extracted db root ours.deb arx a.tar.* t.tar inc?.tar snar v?.tar
