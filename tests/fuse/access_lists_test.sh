#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Access control lists with the programs that people use for them: through the mount, preloaded, and
# over a union whose lower has lists already.
# usage: access_lists_test.sh LIBSERVICES PRELOAD_LIBRARY
set -u
source "$(dirname "$0")/private.sh"
setfacl -m u:65534:r "$work" 2>/dev/null && setfacl -b "$work" ||
  skip "the filesystem of /tmp has no access control lists"
half=
# The two halves, in the place of the program's name: `through mount`, `through preloaded`.
through() { if [ "$half" = mount ]; then "$@"; else preloaded "$@"; fi; }
list_of() { through getfacl -cpn "$@" | tr '\n\t' ' '; }
export -f through list_of
export half

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
  [ "$spec" != memory ] || mkdir "$mnt/plain"
  for half in mount preloaded; do
    check "$spec, $half: setfacl and getfacl" bash -c '
      cd "$mnt/plain" && through touch '"$half"' && through chmod 600 '"$half"' &&
      through setfacl -m u:65534:rw,g:4242:r "$mnt/plain/'"$half"'" &&
      equal "$(list_of "$mnt/plain/'"$half"'")" \
        "user::rw- user:65534:rw- group::--- group:4242:r-- mask::rw- other::---  " &&
      equal "$(through stat -c %a "$mnt/plain/'"$half"'")" 660 &&
      through ls -ld "$mnt/plain/'"$half"'" | grep -q "^-rw-rw----+"'
  done
  half=mount
  check "$spec: each half sees the lists of the other" bash -c '
    equal "$(half=preloaded; list_of "$mnt/plain/mount")" "$(list_of "$mnt/plain/preloaded")" &&
    preloaded setfacl -x u:65534 "$mnt/plain/mount" && ! nobody cat "$mnt/plain/mount" &&
    preloaded setfacl -m u:65534:r "$mnt/plain/mount" && nobody cat "$mnt/plain/mount" &&
    preloaded chmod 600 "$mnt/plain/mount" && ! nobody cat "$mnt/plain/mount" &&
    setfacl -m m::rw "$mnt/plain/mount" && nobody cat "$mnt/plain/mount" &&
    preloaded setfacl -b "$mnt/plain/mount" && ! nobody cat "$mnt/plain/mount" &&
    equal "$(list_of "$mnt/plain/mount")" "user::rw- group::--- other::---  "'
  check "$spec: a user sets lists of his own files alone" bash -c '
    mkdir -m 777 "$mnt/plain/his" && nobody touch "$mnt/plain/his/f" &&
    nobody setfacl -m u:4242:r "$mnt/plain/his/f" && ! nobody setfacl -m u:65534:rw "$mnt/plain/his"'
  for half in mount preloaded; do
    check "$spec, $half: what is made inherits, whatever the umask is" bash -c '
      umask 077; d=$mnt/plain/in-'"$half"'
      through mkdir "$d" && through setfacl -d -m u:65534:rwx,g::r,o::- "$d" &&
      through mkdir "$d/d" && through touch "$d/f" &&
      equal "$(list_of "$d/f")" "user::rw- user:65534:rwx #effective:rw- group::r-- mask::rw- other::---  " &&
      through getfacl -cpn "$d/d" | grep -q "default:user:65534:rwx" &&
      equal "$(through stat -c %a "$d/d")" 770'
    check "$spec, $half: cp -a and tar take lists along" bash -c '
      d=$mnt/plain/in-'"$half"'
      through cp -a "$d" "$d-copy" && equal "$(list_of -R "$d-copy" | tr -d "\n")" "$(list_of -R "$d")" &&
      through tar --acls -C "$d" -cf "$mnt/plain/tar-'"$half"'" . && through mkdir "$d-tar" &&
      through tar --acls -C "$d-tar" -xpf "$mnt/plain/tar-'"$half"'" &&
      equal "$(list_of "$d-tar/f")" "$(list_of "$d/f")" && equal "$(list_of "$d-tar/d")" "$(list_of "$d/d")"'
  done
  half=mount
  if [ "${spec#union}" != "$spec" ]; then
    check "$spec: the lists of a lower count" bash -c '
      equal "$(list_of "$mnt/d/file")" "user::rw- user:65534:rw- group::r-- mask::rw- other::---  " &&
      nobody cat "$mnt/d/file"'
    check "$spec: copies have them" bash -c '
      nobody sh -c "echo more >>\"$mnt/d/file\"" && [ -e "$work/upper/d/file" ] &&
      equal "$(list_of "$mnt/d/file")" "$(list_of "$work/lower/d/file")" &&
      equal "$(list_of "$work/upper/d/file")" "$(list_of "$work/lower/d/file")" &&
      nobody touch "$mnt/d/new" && equal "$(stat -c %a "$mnt/d/new")" 660 &&
      equal "$(list_of "$mnt/d")" "$(list_of "$work/lower/d")" &&
      nobody rm "$mnt/d/file" && nobody mkdir "$mnt/d/file" &&
      getfacl -cpn "$mnt/d/file" | grep -q "^default:user:65534:rwx"'
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
  ! nobody cat "$mnt/f" && setfacl -m u:65534:r "$work/upper/f" && nobody cat "$mnt/f" &&
  setfacl -b "$work/upper/f" && chmod 600 "$work/upper/f" && ! nobody cat "$mnt/f"'
ends
finish
