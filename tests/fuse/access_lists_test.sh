#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Access control lists with the programs that people use for them: through the mount, preloaded, and
# over a union whose lower has lists already.
# usage: access_lists_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
skip() {
  echo "SKIPPED: $1"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
}
if [ "$(id -u)" != 0 ] || [ ! -w /dev/fuse ]; then skip "there are no mounts for this user"; fi
work=$(mktemp -d /tmp/libservices-access-lists-test.XXXXXX)
service=0
cleanup() {
  [ $service = 0 ] || kill -9 $service 2>/dev/null
  umount -l "$work/mount" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
chmod 755 "$work"
setfacl -m u:65534:r "$work" 2>/dev/null && setfacl -b "$work" ||
  skip "the filesystem of /tmp has no access control lists"
cp "$1" "$work/libservices" || exit 1
cp "$2" "$work/preload.so" || exit 1
libservices=$work/libservices
export LIBSERVICES_PRELOAD=$work/preload.so LC_ALL=C
mount=$work/mount
passed=0
failed=0
cd / || exit 1

check() {  # check WHAT COMMAND...
  local what=$1
  shift
  if timeout 30 "$@" >"$work/out" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$what"
    sed 's/^/    /' "$work/out"
  fi
}
same() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'"; return 1; }; }
preloaded() { "$libservices" run --run-directory "$work/run" -- "$@"; }
# The two halves, in the place of the program's name: `through mount`, `through preloaded`.
through() { if [ "$half" = mount ]; then "$@"; else preloaded "$@"; fi; }
list_of() { through getfacl -cpn "$@" | tr '\n\t' ' '; }
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
export -f same preloaded through list_of nobody
export libservices work mount half
serve() {  # serve SPEC: in the background, ready when it returns
  local ready=
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$libservices" serve --fuse --run-directory "$work/run" --ready 3 --mount "$mount=$1" \
    3>"$work/ready" 2>"$work/serve.err" &
  service=$!
  read -r ready <"$work/ready" || true
}
ends() {
  kill $service
  wait $service 2>/dev/null
  service=0
}

mkdir -p "$work/upper" "$work/lower/d/sub" "$work/lower/plain"
echo lower >"$work/lower/d/file"
chmod 640 "$work/lower/d/file"
setfacl -m u:65534:rw "$work/lower/d/file"
setfacl -m u:65534:rwx,d:u:65534:rwx,d:o::- "$work/lower/d"

for spec in "memory" "local:$work/upper" "local:$work/upper(exclusive=true)" \
            "union(local:$work/upper, local:$work/lower)"; do
  rm -rf "$work/upper" "$work/upper.work"
  mkdir -p "$work/upper/plain"
  serve "$spec"
  [ "$spec" != memory ] || mkdir "$mount/plain"
  for half in mount preloaded; do
    check "$spec, $half: setfacl and getfacl" bash -c '
      cd "$mount/plain" && through touch '"$half"' && through chmod 600 '"$half"' &&
      through setfacl -m u:65534:rw,g:4242:r "$mount/plain/'"$half"'" &&
      same "$(list_of "$mount/plain/'"$half"'")" \
        "user::rw- user:65534:rw- group::--- group:4242:r-- mask::rw- other::---  " &&
      same "$(through stat -c %a "$mount/plain/'"$half"'")" 660 &&
      through ls -ld "$mount/plain/'"$half"'" | grep -q "^-rw-rw----+"'
  done
  half=mount
  check "$spec: each half sees the lists of the other" bash -c '
    same "$(half=preloaded; list_of "$mount/plain/mount")" "$(list_of "$mount/plain/preloaded")" &&
    preloaded setfacl -x u:65534 "$mount/plain/mount" && ! nobody cat "$mount/plain/mount" &&
    preloaded setfacl -m u:65534:r "$mount/plain/mount" && nobody cat "$mount/plain/mount" &&
    preloaded chmod 600 "$mount/plain/mount" && ! nobody cat "$mount/plain/mount" &&
    setfacl -m m::rw "$mount/plain/mount" && nobody cat "$mount/plain/mount" &&
    preloaded setfacl -b "$mount/plain/mount" && ! nobody cat "$mount/plain/mount" &&
    same "$(list_of "$mount/plain/mount")" "user::rw- group::--- other::---  "'
  check "$spec: a user sets lists of his own files alone" bash -c '
    mkdir -m 777 "$mount/plain/his" && nobody touch "$mount/plain/his/f" &&
    nobody setfacl -m u:4242:r "$mount/plain/his/f" && ! nobody setfacl -m u:65534:rw "$mount/plain/his"'
  for half in mount preloaded; do
    check "$spec, $half: what is made inherits, whatever the umask is" bash -c '
      umask 077; d=$mount/plain/in-'"$half"'
      through mkdir "$d" && through setfacl -d -m u:65534:rwx,g::r,o::- "$d" &&
      through mkdir "$d/d" && through touch "$d/f" &&
      same "$(list_of "$d/f")" "user::rw- user:65534:rwx #effective:rw- group::r-- mask::rw- other::---  " &&
      through getfacl -cpn "$d/d" | grep -q "default:user:65534:rwx" &&
      same "$(through stat -c %a "$d/d")" 770'
    check "$spec, $half: cp -a and tar take lists along" bash -c '
      d=$mount/plain/in-'"$half"'
      through cp -a "$d" "$d-copy" && same "$(list_of -R "$d-copy" | tr -d "\n")" "$(list_of -R "$d")" &&
      through tar --acls -C "$d" -cf "$mount/plain/tar-'"$half"'" . && through mkdir "$d-tar" &&
      through tar --acls -C "$d-tar" -xpf "$mount/plain/tar-'"$half"'" &&
      same "$(list_of "$d-tar/f")" "$(list_of "$d/f")" && same "$(list_of "$d-tar/d")" "$(list_of "$d/d")"'
  done
  half=mount
  if [ "${spec#union}" != "$spec" ]; then
    check "$spec: the lists of a lower count" bash -c '
      same "$(list_of "$mount/d/file")" "user::rw- user:65534:rw- group::r-- mask::rw- other::---  " &&
      nobody cat "$mount/d/file"'
    check "$spec: copies have them" bash -c '
      nobody sh -c "echo more >>\"$mount/d/file\"" && [ -e "$work/upper/d/file" ] &&
      same "$(list_of "$mount/d/file")" "$(list_of "$work/lower/d/file")" &&
      same "$(list_of "$work/upper/d/file")" "$(list_of "$work/lower/d/file")" &&
      nobody touch "$mount/d/new" && same "$(stat -c %a "$mount/d/new")" 660 &&
      same "$(list_of "$mount/d")" "$(list_of "$work/lower/d")" &&
      nobody rm "$mount/d/file" && nobody mkdir "$mount/d/file" &&
      getfacl -cpn "$mount/d/file" | grep -q "^default:user:65534:rwx"'
  fi
  ends
done

# A branch that somebody else changes.
rm -rf "$work/upper"
mkdir "$work/upper"
echo text >"$work/upper/f"
chmod 600 "$work/upper/f"
serve "local:$work/upper"
check "a list that was set behind the service is obeyed" bash -c '
  ! nobody cat "$mount/f" && setfacl -m u:65534:r "$work/upper/f" && nobody cat "$mount/f" &&
  setfacl -b "$work/upper/f" && chmod 600 "$work/upper/f" && ! nobody cat "$mount/f"'
ends

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
