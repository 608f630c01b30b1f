# SPDX-License-Identifier: Apache-2.0
#
# What the lower directory begins with; run in it.
set -e
mkdir -p documents/old code/include empty many
for i in $(seq 1 200); do echo "line $i of the book: $((i * i % 97))"; done >documents/book
printf 'one\ntwo\nthree\n' >documents/old/list
printf '#include "include/answer.h"\n#include <stdio.h>\nint main(void) {\n  printf("%%d\\n", answer());\n  return 0;\n}\n' >code/main.c
printf '#include "include/answer.h"\nint answer(void) { return 42; }\n' >code/answer.c
printf 'int answer(void);\n' >code/include/answer.h
printf 'all: program\nprogram: main.o answer.o extra1.o extra2.o\n\t$(CC) -o $@ $^\n%%.o: %%.c include/answer.h\n\t@$(CC) -c -o $@ $<\nclean:\n\trm -f *.o program\n' >code/Makefile
printf 'int extra1(void) { return 1; }\n' >code/extra1.c
printf 'int extra2(void) { return 2; }\n' >code/extra2.c
for i in $(seq 1 100); do echo "$i" >many/file$i; done
ln -s documents/book link
ln -s nowhere dangling
head -c 300000 /dev/zero | tr '\0' x >large
printf '#!/bin/sh\necho "script: $*"\n' >script
chmod 755 script
chmod 600 documents/old/list
chmod 1777 empty
find . -type f -exec touch -d '2001-02-03 04:05:06' {} +
