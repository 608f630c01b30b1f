#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# git, sqlite and tar work on a union whose service is killed again and again at random moments, and
# started anew. Nothing hangs; whatever says that it succeeded has; what fails says so; and what was
# acknowledged is there in the end. With --mount they are not preloaded: they come through the kernel,
# and what they have open is lost with the service.
# usage: kill_programs_test.sh LIBSERVICES PRELOAD_LIBRARY [--mount] [git|sqlite|tar]...     ($SEED, $KILLS)
set -u
source "$(dirname "$0")/../support/checks.sh"
way=preload
if [ "${3-}" = --mount ]; then
  way=mount
  { [ "$(id -u)" = 0 ] && [ -w /dev/fuse ]; } || skip 'there are no mounts for this user'
  # In namespaces of its own, so that no mount is left whatever happens.
  [ -n "${INSIDE-}" ] || INSIDE=1 exec unshare --mount --propagation private --pid --fork --kill-child \
    --mount-proc bash "$(realpath "$0")" "$@"
fi
libservices=$(realpath "$1")
LIBSERVICES_PRELOAD=$(realpath "$2")
shift 2
[ $way = preload ] || shift
programs=("$@")
[ $# != 0 ] || programs=(git sqlite tar)
kills=${KILLS-20}
most=$((120 + 4 * kills))  # seconds
seed=${SEED-$(($(date +%s) % 32768))}
echo "seed $seed, $kills kills for each program"
RANDOM=$seed
mnt=/mnt/libservices-kill-programs-$way
work=$(mktemp -d)
service=0
[ -z "${KEEP-}" ] || keep=echo
trap '[ $service = 0 ] || kill -9 $service 2>/dev/null; ${keep-} rm -rf "$work"' EXIT
options=()
if [ $way = mount ]; then
  options=(--fuse)
  # Between a dead mount and the next one programs see the directory below, where nobody shall write.
  mount -t tmpfs none /mnt
  mkdir "$mnt"
  mount -t tmpfs -o ro none "$mnt"
fi
export LIBSERVICES_PRELOAD LC_ALL=C TZ=UTC HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 work mnt
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

serve() {  # a service that answers
  local ready=
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$libservices" serve --run-directory "$work/run" --ready 3 --restart-wait 30 "${options[@]}" \
    --mount "$mnt=union(local:$work/upper, local:$work/lower)" 3>"$work/ready" 2>>"$work/serve.err" &
  service=$!
  disown $service
  read -r ready <"$work/ready"
}
on_mount() {
  if [ $way = mount ]; then
    timeout "$most" "$@"
  else
    timeout "$most" "$libservices" run --run-directory "$work/run" -- "$@"
  fi
}

# Each works until $work/stop exists. What it says is wrong goes to $work/wrong, what was acknowledged
# to $work/done, and an error that a program reported to $work/reported.
git() {  # a directory that fails it asks again without end, and says so: until nobody listens any more
  command git "$@" 2> >(head -c 100000 >>"$work/said")
}
work_git() {
  export GIT_AUTHOR_DATE='2001-01-01T00:00:00Z' GIT_COMMITTER_DATE='2001-01-01T00:00:00Z'
  local i
  for ((i = 0; ; i++)); do
    [ ! -e "$work/stop" ] || break
    # What a program that failed could not take away.
    find "$mnt/repository/.git" -name '*.lock' -delete 2>/dev/null
    rm -rf "$mnt/clone" 2>/dev/null
    if (cd "$mnt/repository" && echo "change $i" >"file$((i % 7))" && git add -A && git commit -qm "commit $i") 2>>"$work/said"; then echo "commit $i" >>"$work/done"; else echo "commit $i" >>"$work/reported"; fi
    # All objects in one pack, and the loose ones away; then everything is looked at where it lies.
    if [ $((i % 6)) = 5 ]; then
      if git -C "$mnt/repository" gc -q --force --prune=now; then echo gc >>"$work/checked"; else echo "gc $i" >>"$work/reported"; fi
      if git -C "$mnt/repository" fsck --full >/dev/null; then echo fsck >>"$work/checked"; else echo "fsck $i" >>"$work/reported"; fi
    fi
    [ $((i % 4)) = 0 ] || continue
    if git clone -q --no-hardlinks "$mnt/repository" "$mnt/clone"; then
      # Everything committed until now, by what the clone itself says.
      if git -C "$mnt/clone" log --format=%s >"$work/log" && git -C "$mnt/clone" status --porcelain >"$work/status"; then
        [ -s "$work/status" ] && { echo "clone $i is not clean"; cat "$work/status"; } >>"$work/wrong"
        sort "$work/log" >"$work/log.sorted"
        sort "$work/done" | comm -23 - "$work/log.sorted" | sed "s/^/clone $i lacks /" >>"$work/wrong"
        echo clone >>"$work/checked"
      else echo "log of clone $i" >>"$work/reported"; fi
      if git -C "$mnt/clone" fsck --strict >/dev/null; then echo fsck >>"$work/checked"; else echo "fsck of clone $i" >>"$work/reported"; fi
    else echo "clone $i" >>"$work/reported"; fi
  done
}
begin_git() { git init -q -b main "$work/lower/repository" && git -C "$work/lower/repository" config gc.auto 0 && (cd "$work/lower/repository" && mkdir many && for i in $(seq 60); do echo "$i" >"many/$i"; done && git add -A && git commit -qm first); }
end_git() {
  find "$mnt/repository/.git" -name '*.lock' -delete
  command git -C "$mnt/repository" fsck --strict --full 2>&1 | grep -v '^dangling' | sed 's/^/fsck at the end: /' >>"$work/wrong"
  git -C "$mnt/repository" log --format=%s | sort >"$work/log"
  sort "$work/done" | comm -23 - "$work/log" | sed 's/^/in the end there is no /' >>"$work/wrong"
  sort "$work/log" | uniq -d | sed 's/^/done twice: /' >>"$work/wrong"
}

work_sqlite() { python3 -c "$database" work; }
begin_sqlite() { (cd "$work/lower" && python3 -c "$database" begin); }
end_sqlite() { python3 -c "$database" end; }
database='
import os, random, sqlite3, sys, time
work, path = os.environ["work"], os.environ["mnt"] + "/base.db"
def say(where, what):
    with open(work + "/" + where, "a") as f:
        f.write(str(what) + "\n")
def connect(path):
    c = sqlite3.connect(path, timeout=30, isolation_level=None)
    c.execute("pragma journal_mode=delete"); c.execute("pragma synchronous=full"); c.execute("pragma cache_size=10")
    return c
def check(c):
    found = c.execute("pragma integrity_check").fetchall()
    if "error code=8458" in str(found):  # SQLITE_IOERR_CORRUPTFS
        raise sqlite3.OperationalError("integrity_check: EIO")
    if found != [("ok",)]:
        say("wrong", found)
    rows = set(n for (n,) in c.execute("select n from t"))
    for n in sorted(done - rows):
        say("wrong", "there is no row %d, which was acknowledged" % n)
    for n in sorted(n for n in rows - done if n not in unknown):
        say("wrong", "there is a row %d, which nobody wrote or which was rolled back" % n)
    if c.execute("select count(*) from t where length(b) != 100 + n % 3000").fetchone() != (0,):
        say("wrong", "other content")
    say("checked", len(rows))
if sys.argv[1] == "begin":
    c = connect("base.db"); c.execute("create table t(n integer primary key, b blob)"); c.execute("create index i on t(b)"); c.close(); sys.exit()
done, unknown, n, c, suspect = set(), set(), 0, None, False
if sys.argv[1] == "end":
    done = set(int(x) for x in open(work + "/done")); unknown = set(int(x) for x in open(work + "/unknown")) if os.path.exists(work + "/unknown") else set()
    check(connect(path)); sys.exit()
while not os.path.exists(work + "/stop"):
    first = n
    try:
        if c is None:
            c = connect(path)
        if suspect or random.random() < 0.1:
            check(c)
            suspect = False
        c.execute("begin immediate")
        for n in range(first, first + random.randrange(1, 40)):
            c.execute("insert into t values(?, ?)", (n, random.randbytes(100 + n % 3000)))
        n += 1
        if random.random() < 0.1:
            c.execute("rollback")
        else:
            unknown.update(range(first, n))
            c.execute("commit")
            done.update(range(first, n)); unknown.difference_update(range(first, n))
            say("done", "\n".join(str(i) for i in range(first, n)))
    except sqlite3.DatabaseError as e:
        # EIO of a read is SQLITE_CORRUPT, too (SQLITE_IOERR_CORRUPTFS): what is true, the next checks tell.
        say("reported", "%r %s" % (e, getattr(e, "sqlite_errorname", "")))
        for i in sorted(unknown.intersection(range(first, n))):
            say("unknown", i)
        n += 1
        suspect = True
        time.sleep(0.005)
        try:
            if c is not None:
                c.close()
        except sqlite3.Error as e:
            say("reported", e)
        c = None
'
export database

work_tar() {
  local i
  for ((i = 0; ; i++)); do
    [ ! -e "$work/stop" ] || break
    rm -rf "$mnt/unpacked" "$mnt/packed" 2>>"$work/said"
    if ! tar -C "$mnt" --sort=name -cf "$mnt/packed" tree 2>>"$work/said"; then echo "tar c" >>"$work/reported"; continue; fi
    cp "$mnt/packed" "$work/copy" 2>>"$work/said" && { cmp -s "$work/copy" "$work/expected.tar" || echo "archive $i" >>"$work/wrong"; echo packed >>"$work/checked"; }
    mkdir "$mnt/unpacked" 2>>"$work/said" || { echo mkdir >>"$work/reported"; continue; }
    if tar -C "$mnt/unpacked" -xf "$mnt/packed" 2>>"$work/said"; then
      diff -r --no-dereference "$work/lower/tree" "$mnt/unpacked/tree" >"$work/differs" 2>>"$work/said"
      case $? in
        0) echo "$i" >>"$work/done" ;;
        1) { echo "unpacked $i"; head -5 "$work/differs"; } >>"$work/wrong" ;;
        *) echo diff >>"$work/reported" ;;
      esac
    else echo "tar x" >>"$work/reported"; fi
  done
}
begin_tar() { (cd "$work/lower" && for d in a a/b c; do mkdir -p "tree/$d"; for i in $(seq 40); do head -c $((RANDOM % 20000)) /dev/urandom >"tree/$d/$i"; done; ln -s ../x "tree/$d/link"; done; ln tree/a/1 tree/linked; head -c 3000000 /dev/urandom >tree/large; tar --sort=name -cf "$work/expected.tar" tree); }
end_tar() { diff -r --no-dereference "$work/lower/tree" "$mnt/tree" | head -5 >>"$work/wrong"; }
export -f git work_git work_sqlite work_tar end_git end_sqlite end_tar

for program in "${programs[@]}"; do
  rm -rf "$work"/*
  mkdir "$work/upper" "$work/lower"
  for list in 'done' wrong reported checked said; do : >"$work/$list"; done
  "begin_$program" || bad "$program: the beginning"
  serve
  on_mount bash -c "work_$program" >"$work/out" 2>"$work/err" &
  worker=$!
  for kill in $(seq "$kills"); do
    # Often in the middle of something, sometimes after a while of work, sometimes just after the start.
    case $((RANDOM % 4)) in
      0) pause=0.0$((RANDOM % 90 + 10)) ;;
      1) pause=0.$((RANDOM % 50 + 50)) ;;
      *) pause=0.$((RANDOM % 30 + 10)) ;;
    esac
    sleep "$pause"
    kill -9 $service
    while kill -0 $service 2>/dev/null; do sleep 0.002; done
    serve
  done
  sleep 1
  : >"$work/stop"
  ( sleep 100; kill -9 $worker 2>/dev/null ) 2>/dev/null & watchdog=$!
  if wait $worker; then ok; else bad "$program: it hangs, or failed as a whole (status $?)"; fi
  kill $watchdog 2>/dev/null
  wait $watchdog 2>/dev/null
  check "$program: the end" on_mount bash -c "end_$program"
  echo "$program: $(wc -l <"$work/done") done, $(wc -l <"$work/checked") compared, $(wc -l <"$work/reported") errors reported"
  [ ! -s "$work/wrong" ] || { cp "$work/wrong" "$work/err"; bad "$program: wrong results"; }
  if [ -s "$work/done" ] && [ -s "$work/checked" ]; then ok; else cp "$work/said" "$work/err"; bad "$program: nothing was done"; fi
  kill $service
  while kill -0 $service 2>/dev/null; do sleep 0.01; done
  service=0
done
report
