# SPDX-License-Identifier: Apache-2.0
# gcc and make -j4 of a small project.
set -e
cd code; make -s -j4; ./program; make -s -j4 && touch include/answer.h; sed -i s/42/43/ answer.c; make -s -j4; ./program; ls
gcc -Iinclude -g -c main.c -o debug.o; ar rc libanswer.a answer.o extra1.o; ar t libanswer.a; gcc -o with_library main.c -L. -lanswer; ./with_library
gcc -shared -fPIC -o libdynamic.so answer.c; gcc -c bad.c 2>/dev/null || echo "status $?"; strip with_library; ./with_library; make -s clean; ls
rm -f with_library libdynamic.so libanswer.a debug.o
set +e
# cmake, with ninja and with make: a library, programs, headers made on the way, tests, an installation; rebuilt after changes.
cd ..; mkdir -p project/lib; cp code/*.c project; cp -r code/include project; rm -f project/extra*
mv project/answer.c project/lib; sed -i 's|include/answer.h|answer.h|' project/main.c project/lib/answer.c
cat >project/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.20)
project(ours C)
configure_file(made.h.in made.h)
add_custom_command(OUTPUT generated.c COMMAND sh -c "echo int generated = 7\\; >generated.c" VERBATIM DEPENDS CMakeLists.txt)
add_library(answer STATIC lib/answer.c ${CMAKE_CURRENT_BINARY_DIR}/generated.c)
target_include_directories(answer PUBLIC include)
foreach(i RANGE 1 12)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/part${i}.c "int part${i}(void) { return ${i}; }\n")
  list(APPEND parts ${CMAKE_CURRENT_BINARY_DIR}/part${i}.c)
endforeach()
add_library(parts STATIC ${parts})
add_executable(main main.c)
target_include_directories(main PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
target_link_libraries(main answer parts)
enable_testing()
add_test(NAME prints COMMAND main)
install(TARGETS main answer)
install(FILES include/answer.h DESTINATION include)
END
echo '#define VERSION "@PROJECT_NAME@"' >project/made.h.in
for generator in Ninja 'Unix Makefiles'; do
cmake -G "$generator" -S project -B "out $generator" >log 2>&1 || { cat log; break; }
cmake --build "out $generator" -j 3 >log 2>&1 || { cat log; break; }; "out $generator/main"
touch -d '2100-01-01' project/lib/answer.c; cmake --build "out $generator" 2>&1 | grep -c answer.c
touch -d '2001-01-01' project/lib/answer.c
(cd "out $generator" && ctest 2>&1 | grep 'tests passed')
DESTDIR=$PWD/installed cmake --install "out $generator" >/dev/null; find installed -type f | sort
installed/usr/local/bin/main; cat "out $generator/made.h"
cmake --build "out $generator" --target clean >/dev/null; rm -rf installed
done; ninja -C 'out Ninja' -t recompact 2>&1 | wc -l; ninja -C 'out Ninja' 2>&1 | tail -1 | cut -d/ -f1; ninja -C 'out Ninja' | tail -1
cd project; gcc -c -ffunction-sections -flto -MMD -MP -Iinclude lib/answer.c -o a.o -save-temps 2>/dev/null
ls; cat a.d | head -1; gcc -E -Iinclude lib/answer.c | tail -1; echo 'int x;' | gcc -x c -c - -o piped.o
objcopy --strip-debug piped.o stripped.o; nm piped.o; ar rcs libx.a piped.o a.o; ranlib libx.a
ld -r -o whole.o piped.o; size whole.o | wc -l
gcc -fprofile-arcs -ftest-coverage -Iinclude main.c lib/answer.c -o covered; ./covered; ls *.gcda
gcov -n main.c covered-main.gcda 2>/dev/null | head -2; cd ..
rm -rf project "out Ninja" 'out Unix Makefiles' log
