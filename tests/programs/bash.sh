# SPDX-License-Identifier: Apache-2.0
# bash: redirections of every kind, here-documents, process substitution, jobs, coprocesses, read loops, traps, options of files.
set -e
# Redirections: descriptors that are made, moved, closed, duplicated, read and written at one offset.
exec 3>three 4<documents/book 5<>both; echo one >&3; echo two >&3; read -r line <&4; echo "$line" >&5
exec 6>&3-; echo three >&6; exec 6>&-; cat three
head -c 20 <&4 | wc -c; exec 4<&-; echo more >&5; exec 5>&-; cat both; { echo a; echo b >&2; } &>together
cat together; { echo c; echo d >&2; } >>together 2>&1; cat together
exec {number}>numbered; echo "$((number >= 10))" >&"$number"; exec {number}>&-; cat numbered; echo short >|three; cat three
set -C; echo refused >three || echo "status $?"; echo forced >|three; set +C; cat three; : >emptied; wc -c <emptied; >bare; ls -s bare | cut -d' ' -f1
{ read -r a; read -r b; } <documents/old/list; echo "$a $b"; (read -r c; echo "$c"; cat) <documents/old/list
echo first >log; for i in 1 2 3; do (echo "line $i" >>log) & done; wait; sort -o log log; cat log
(exec >inner 2>&1; echo in; ls nothing || true); wc -l <inner
# Here-documents and here-strings, small and larger than a pipe.
cat <<END | tr a-z A-Z
here $(wc -l <documents/old/list) and $((6 * 7))
END
cat <<'END' >quoted
$nothing `here`
END
cat quoted; cat <<-END
	without tabs
	END
big=$(printf 'x%.0s' {1..70000}); cat <<END | wc -c
$big
END
wc -c <<<"$big"; read -r words _ <<<"several words"; echo "$words"
# Process substitution both ways, and what is read beside it.
diff <(sort documents/old/list) <(sort -r documents/old/list | sort) && echo equal
paste <(cut -d' ' -f1 documents/book) <(cut -d' ' -f2 documents/book) | tail -1
tee >(wc -l >lines) >(md5sum >sum) <documents/book >/dev/null
for i in {1..100}; do [ -s lines ] && [ -s sum ] && break; sleep 0.05; done; cat lines sum
while IFS=' ' read -r word n rest; do case $n in 7) echo "$word $n $rest"; break ;; esac; done < <(cat documents/book); mapfile -t all <documents/book; echo "${#all[@]} ${all[199]}"
mapfile -t -s 10 -n 2 some <documents/book; echo "${some[*]}"; readarray -d ' ' words <documents/old/list
echo "${#words[@]}"; echo "$(<documents/old/list)"; printf -v formatted '%05d' 42; echo "$formatted"
n=0; while read -r -n 1 character; do n=$((n + 1)); done <documents/old/list; echo $n
read -r -N 5 five <documents/book; echo "$five"; read -r -d o until <documents/book || true; echo "$until"
# Jobs, coprocesses, pipes with their states, subshells that inherit what is open.
sleep 0.1 & sleep 0.1 & wait -n; wait; (exit 3) & wait $! || echo "status $?"; true | false | true; echo "${PIPESTATUS[*]}"
coproc WORKER { while read -r x; do echo "got $x" | tee -a worker.log; done; }
echo hello >&"${WORKER[1]}"; read -r answer <&"${WORKER[0]}"; echo "$answer"; echo again >&"${WORKER[1]}"
read -r answer <&"${WORKER[0]}"; echo "$answer"
pid=$WORKER_PID; eval "exec ${WORKER[1]}>&-"; wait "$pid"; cat worker.log
exec 7<documents/book; (read -r x <&7; echo "$x"); read -r x <&7; echo "$x"
bash -c 'read -r x <&7; echo "$x"'; sh -c 'head -c 7 <&7 >/dev/null'; exec 7<&-
exec 8>shared; for i in {1..5}; do bash -c "echo $i >&8" & wait; done; exec 8>&-; cat shared
trap 'echo trapped >>traps' EXIT USR1; kill -USR1 $$; trap - EXIT USR1; cat traps
set -o pipefail; cat documents/book | head -1 >/dev/null || echo "pipe $?"; set +o pipefail
seq 100000 >numbers; (sleep 0.1; echo end) >>numbers & tail -1 numbers; wait; tail -1 numbers
# Names: globs, tests, arrays of files, source, exec of what is here, the directory stack, completion of names.
shopt -s nullglob dotglob extglob globstar
echo **/*.c; echo many/file@(1|2)*([0-9]) | wc -w; echo !(many|documents|code|large) | tr ' ' '\n' | sort | head -40; shopt -u dotglob; echo empty/*
for t in -e -f -d -L -r -w -x -s -O -G -h; do [ $t link ] && printf '%s ' $t; done; echo
[ documents/book -ef link ] && echo same; touch -d 2001-01-01 older
[ large -nt older ] && [ older -ot large ] && echo times; [ -u script ] || echo plain
[[ -N large ]] && echo new || echo read; echo 'echo "sourced $1 ${BASH_SOURCE[0]}"' >sourced; . ./sourced a
source sourced b; echo 'PATH=.:$PATH; script by path' >runs; bash runs; PATH=$PWD:$PATH script found; hash -r
type -t ls
pushd documents/old >/dev/null; pushd ../../code >/dev/null; dirs | tr ' ' '\n' | wc -l; popd >/dev/null
basename "$PWD"; popd >/dev/null; cd -P link/.. 2>/dev/null || echo "no directory"; cd documents; cd -
cd ./documents/../code/./include; basename "$(pwd -P)"; cd - >/dev/null
mkdir -p removed/deep; cd removed/deep; rmdir ../deep; pwd | sed 's|.*/removed|removed|'; ls
echo lost 2>/dev/null >here || echo "status $?"; cd ../..; rmdir removed
compgen -f many/file10 | sort; compgen -d do; umask 077; echo private >private; umask 022; stat -c %a private
ulimit -f 8; (trap '' XFSZ; head -c 20000 /dev/zero >limited || echo "limited $?") 2>/dev/null
stat -c %s limited; ulimit -f unlimited 2>/dev/null || true
select choice in many code; do echo "chosen $choice"; break; done <<<2 2>/dev/null; time -p true 2>/dev/null; printf '%s\n' "$(printf 'a\0b' | tr -d '\0')"; enable -n test; [ -f script ] && echo end
