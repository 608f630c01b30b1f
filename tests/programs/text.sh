# SPDX-License-Identifier: Apache-2.0
# grep, find, sed, awk, diff, xargs, perl.
set -e
grep -rn 42 code | sort; grep -c line documents/book; grep -rl answer . | sort; grep -q nothing documents/book || echo none
find . -name '*.c' | sort; find . -type l | sort; find many -newermt 2010-01-01 | wc -l; find . -perm 600; find empty -maxdepth 1
find many -name 'file1*' -delete; ls many | wc -l; find code -type f -print0 | sort -z | xargs -0 wc -l
sed -i 's/line/LINE/' documents/book; head -1 documents/book; sed -n 3p documents/book
sed -i.bak 's/one/eins/' documents/old/list; cat documents/old/list documents/old/list.bak; stat -c %a documents/old/list
awk '{s += $NF} END {print s}' documents/book | tee sum; awk '{print > "split_" NR % 3}' documents/book; wc -l split_*
cp -a code code2; diff -r code code2 && echo same; echo change >>code2/answer.c; diff -r code code2 || echo "status $?"
perl -pi -e 's/answer/reply/' code2/main.c; cat code2/main.c
perl -e 'opendir(D, "many"); my @a = sort grep {!/^\./} readdir D; print scalar(@a), " $a[0]\n"; open(F, "+<", "sum"); seek(F, 0, 2); print F "more\n"; close F;'
cat sum; tr a-z A-Z <documents/old/list; printf 'b\na\n' | sort -o sorted; cat sorted; sort -o sorted -r sorted; cat sorted
