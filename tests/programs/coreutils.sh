# SPDX-License-Identifier: Apache-2.0
# Coreutils and bash: names, modes, copies, redirections.
set -e
ls; ls -A many | wc -l; cat documents/book | wc -c; head -2 documents/book; tail -n 1 documents/book
stat -c '%A %h %s %n' documents/book link script; readlink link; realpath link; pwd
mkdir linked; echo linked >linked/1; ln linked/1 linked/2; cp -a linked linked2; stat -c "%h %n" linked2/*
cp documents/book copy; cmp copy documents/book; cp -a documents kept; cp -r code code2
mv copy moved; mv moved documents/old/; mv many several; mkdir -p a/b/c; rmdir a/b/c
echo more >>documents/old/list; cat documents/old/list
ln documents/book hard; ln -s hard soft; cat soft | md5sum
chmod 640 large; truncate -s 1000 large; touch -d '2002-03-04 05:06:07' large; du -b large
dd if=/dev/zero of=zeros bs=4096 count=300 status=none; wc -c zeros; dd if=zeros of=part bs=1 count=10 skip=5 status=none
sort -rn several/file* | head -3; uniq -c documents/old/list; cut -d' ' -f2 documents/book | tail -1
tee t1 t2 <documents/old/list >/dev/null; paste t1 t2; split -l 50 documents/book piece.; ls piece.*
install -m 4755 script installed; ./script one two; (cd a/b && pwd && ls ..); mktemp -u x.XXXX | wc -c
rm -r several; rm link; rm -f nothing; ls -a; test -e several || echo gone
mkdir several; ls several; echo new >several/file1; cat several/*
exec 7<>both; echo through >&7; exec 7>&-; cat both; while read -r word rest; do echo "$word"; done <documents/old/list
for f in code/*.c; do echo "$f"; done; shopt -s globstar; echo **/*.h; cat <<END
here $(cat documents/old/list | wc -l)
END
{ echo out; echo err >&2; } >o 2>e; cat o e; [ -x script ] && [ -d a ] && [ ! -s empty/none ] && echo tests
cat nothing || echo "status $?"; mkdir a || echo "status $?"; rmdir documents || echo "status $?"
mv dangling renamed; readlink renamed; cp -P renamed again; shred -u part; sync zeros; df . >/dev/null; echo end
