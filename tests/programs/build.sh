# SPDX-License-Identifier: Apache-2.0
# gcc and make -j4 of a small project.
set -e
cd code; make -s -j4; ./program; make -s -j4 && touch include/answer.h; sed -i s/42/43/ answer.c; make -s -j4; ./program; ls
gcc -Iinclude -g -c main.c -o debug.o; ar rc libanswer.a answer.o extra1.o; ar t libanswer.a; gcc -o with_library main.c -L. -lanswer; ./with_library
gcc -shared -fPIC -o libdynamic.so answer.c; gcc -c bad.c 2>/dev/null || echo "status $?"; strip with_library; ./with_library; make -s clean; ls
rm -f with_library libdynamic.so libanswer.a debug.o
