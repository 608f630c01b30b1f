# SPDX-License-Identifier: Apache-2.0
# tar, gzip, xz: a tree packed and unpacked is the tree.
set -e
mkdir linked; echo linked >linked/1; ln linked/1 linked/2
tar cf all.tar linked documents code many link dangling script empty; tar tf all.tar | sort | md5sum; mkdir out; tar xpf all.tar -C out
diff -r documents out/documents; diff -r code out/code; diff -r many out/many; stat -c '%a %h %n' out/documents/* out/linked/* out/script out/empty
tar czf code.tgz -C code .; tar tzf code.tgz | sort; gzip -k documents/book; gunzip -c documents/book.gz | cmp - documents/book
rm documents/book.gz code.tgz; xz -k large; xz -dc large.xz | cmp - large; rm large.xz all.tar; rm -r out/many; tar c documents | tar x -C out; ls out
