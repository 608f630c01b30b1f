#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Files that a preloaded program has mapped, seen through the mount at the kernel: with passthrough
# the kernel goes to the same pages, and without it no page of its own stands between.
# usage: mapping_test.sh LIBSERVICES PRELOAD_LIBRARY device|io_uring
set -u
source "$(dirname "$0")/private.sh"
always=(-o noio_uring)
[ "$transport" != io_uring ] || always=(-o io_uring)

# A program that has a file mapped: `say "write AT TEXT"` or `say "read AT LENGTH"` answers with the text that is there.
cat >"$work/mapper.py" <<'PYTHON'
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(file, 0)
print("mapped", flush=True)
for line in sys.stdin:
    word, at, what = line.split()
    at = int(at)
    if word == "again":  # of the descriptor that it had open all the time
        mapped = mmap.mmap(file, 0)
    if word == "write":
        mapped[at:at + len(what)] = what.encode()
    print(mapped[at:at + (len(what) if word == "write" else int(what))].decode(), flush=True)
PYTHON
begin() {  # begin FILE: it is mapped when this returns
  local answer
  coproc MAPPER { exec "$libservices" run --run-directory "$work/run" -- python3 "$work/mapper.py" "$1" 2>"$work/mapper.err"; }
  read -r answer <&"${MAPPER[0]}"
  [ "$answer" = mapped ] || { cat "$work/mapper.err" >&2; return 1; }
}
say() {
  local answer
  echo "$*" >&"${MAPPER[1]}"
  read -r answer <&"${MAPPER[0]}"
  echo "$answer"
}
end() {
  local pid=$MAPPER_PID
  eval "exec ${MAPPER[1]}>&-"
  wait "$pid"
}
part() { dd if="$1" bs=1 skip="$2" count="$3" status=none; }

both() {  # both SPEC OPTION...: of a service over SPEC
  local spec=$1 i stay
  serve "$@"
  head -c 20000 /dev/zero | tr '\0' . >"$mnt/f"
  same "what the mount has read before ($*)" .... "$(part "$mnt/f" 0 4)"
  exec 5<"$mnt/f"
  begin "$mnt/f" || bad "it cannot be mapped"
  for i in 1 2 3; do
    say "write $((i * 4000)) word$i" >/dev/null
    same "a store is seen through the mount at once ($*), $i" "word$i" "$(part "$mnt/f" $((i * 4000)) 5)"
    say "write $((i * 4000)) again" >/dev/null
    same "and the next one at the same place ($*), $i" again "$(part "$mnt/f" $((i * 4000)) 5)"
    printf 'mount%s' $i | dd of="$mnt/f" bs=1 seek=$((i * 4000 + 100)) conv=notrunc status=none
    same "a write through the mount is seen in the mapping ($*), $i" "mount$i" "$(say "read $((i * 4000 + 100)) 6")"
  done
  same "what was open through the mount before goes on ($*)" again "$(dd bs=1 skip=4000 count=5 status=none <&5)"
  exec 5<&-
  same "the size ($*)" 20000 "$(stat -c %s "$mnt/f")"
  preloaded truncate -s 30000 "$mnt/f"
  same "the new size ($*)" 30000 "$(stat -c %s "$mnt/f")"
  truncate -s 25000 "$mnt/f"
  same "a size that was changed through the mount ($*)" 25000 "$(preloaded stat -c %s "$mnt/f")"
  check "both halves map it ($*)" python3 - "$mnt/f" <<'PYTHON'
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    assert mapped[4000:4005] == b"again", mapped[4000:4005]
PYTHON
  end || bad "the program with the mapping failed"
  same "and what was stored stays ($*)" again "$(part "$mnt/f" 4000 5)"
  rm "$mnt/f"
  check 'the service ends' ends
}
for stack in memory "local:$work/one" "local:$work/one(exclusive=true)" "union(local:$work/upper, local:$work/lower)"; do
  mkdir -p "$work/one" "$work/upper" "$work/lower"
  both "$stack"
  both "$stack" -o nopassthrough
done

# ---- a service that is killed
mkdir "$work/kept"
serve "local:$work/kept(exclusive=true)" -o nopassthrough
head -c 20000 /dev/zero | tr '\0' . >"$work/kept/f"
begin "$mnt/f" || bad "it cannot be mapped"
ends KILL
same 'a mapping outlives its service' store "$(say 'write 100 store')"
same 'and what is stored then is in the file' store "$(part "$work/kept/f" 100 5)"
serve "local:$work/kept(exclusive=true)" -o nopassthrough
same 'the next service has it' store "$(part "$mnt/f" 100 5)"
say 'write 100 newer' >/dev/null
same 'and knows that it is mapped' newer "$(part "$mnt/f" 100 5)"
same 'the same process maps it again' newer "$(say 'again 100 5')"
say 'write 200 later' >/dev/null
same 'and what is stored after that' later "$(preloaded dd if="$mnt/f" bs=1 skip=200 count=5 status=none)"
end || bad "the program with the mapping failed"
check 'the service ends' ends
finish
