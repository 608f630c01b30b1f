#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# One script of common programs, run in a plain directory and in a union of two directories through
# the preload library or the kernel's mount: what is printed, the exit status and the tree left behind
# are the same. A directory's link count is not compared: a union has none of its own.
# With `halves` the script comes through the mount; what it runs by `one` is preloaded, and what it runs
# by `other` is not. With `reversed` it is the other way round. With `ceph` it is preloaded, in a
# directory of the CephFS that $CEPH_CONF leads to, and with `ceph-union` in a union of two of those.
# usage: programs_test.sh LIBSERVICES PRELOAD_LIBRARY SCRIPT WAY
#   WAY: preload, mount, halves, reversed, ceph or ceph-union
set -u
preload=$(realpath "$2")
libservices=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
script=$(realpath "$3")
way=$4
export LC_ALL=C TZ=UTC HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
mount=/mnt/libservices-programs-$way-$(basename "$script" .sh)

work=$(mktemp -d)
# Some programs are run as another user.
chmod 755 "$work"
install -m 755 "$preload" "$work/preload.so"
export LIBSERVICES_PRELOAD=$work/preload.so
trap 'rm -rf "$work"' EXIT
mkdir "$work/plain" "$work/lower" "$work/upper"
(umask 022 && cd "$work/lower" && bash "$here/lower.sh") || exit 1
cp -a "$work/lower/." "$work/plain"
cp -a "$work/lower" "$work/lower.before"

spec="union(local:$work/upper, local:$work/lower)"
case $way in
  ceph)
    at=/$(basename "$work")
    spec=ceph:$at/lower
    ;;
  ceph-union)
    at=/$(basename "$work")
    spec="union(ceph:$at/upper, ceph:$at/lower)"
    ;;
esac
case $way in
  preload | ceph*) mounts=no ;;
  *) mounts=yes ;;
esac
if [ $mounts = yes ] && { [ "$(id -u)" != 0 ] || [ ! -w /dev/fuse ]; }; then
  echo "SKIPPED: there are no mounts for this user"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
mkdir "$work/bin"
printf '#!/bin/sh\nexec "$@"\n' >"$work/bin/one"
cp "$work/bin/one" "$work/bin/other"
chmod 755 "$work/bin/one" "$work/bin/other"
# Not what lies in the working directory, which has a `script` of its own.
PATH=:$PATH:
PATH=${PATH//:.:/:}
PATH=${PATH#:}
PATH=$work/bin:${PATH%:}
serve() {
  case $way in
    halves | reversed)
      serve_halves "$@"
      return
      ;;
  esac
  if [ "$way" = mount ]; then
    serve_mount "$@"
    return
  fi
  with "$mount=$spec" "$@"
}
with() { timeout 120 "$libservices" with --mount "$1" -- "${@:2}"; }
serve_mount() {  # the program is not preloaded: it comes through the kernel
  local ready service status
  mkfifo "$work/ready"
  "$libservices" serve --fuse --run-directory "$work/run" --ready 3 \
    --mount "$mount=$spec" 3>"$work/ready" &
  service=$!
  read -r ready <"$work/ready"
  rm "$work/ready"
  "$@"
  status=$?
  kill $service
  wait $service || echo "the service ended with status $?"
  return $status
}
serve_halves() {
  local half=one status
  [ "$way" = halves ] || half=other
  # It goes to the working directory itself, else the kernel would find relative names. What a preloaded
  # program starts is preloaded already.
  cat >"$work/bin/$half" <<END
#!/bin/sh
[ -z "\${LIBSERVICES_POOL-}" ] || exec "\$@"
exec "$libservices" run --pool "$mount" -- env -C "\$PWD" "\$@"
END
  timeout 60 "$libservices" mount "$spec" "$mount" || return
  "$@"
  status=$?
  timeout 60 "$libservices" umount "$mount" || timeout 60 "$libservices" umount --lazy "$mount"
  return $status
}
run() {  # run DIRECTORY: in it, the script; what it prints has no trace of where it ran
  cd "$1" && umask 022 && timeout 120 bash "$script" 2>&1 </dev/null
}
# has WHAT: whether the script's filesystem has it. What a CephFS has not, and why: docs/semantics.md.
#   small_blocks: st_blksize is a page's size, not 4 MiB, to which shred and truncate -o round
#   directory_sizes: they are what a host's filesystem says, not the number of entries
#   holes: SEEK_DATA and SEEK_HOLE find them
#   shared_mappings: MAP_SHARED can be written through, as SQLite does for a write-ahead log
has() {
  case $1 in
    small_blocks | directory_sizes | holes | shared_mappings) [ "${way#ceph}" = "$way" ] ;;
    *) exit 2 ;;
  esac
}
snapshot() {  # snapshot DIRECTORY: its tree, one line for each object; times that were set only
  cd "$1" || return
  find . -mindepth 1 -type d -printf '%y %m - - %p\n' -o \
    ! -path '*/.git/*' -type l -printf '%y %m %n - - %p %l\n' -o \
    ! -path '*/.git/*' -type f -newermt 2019-01-01 -printf '%y %m %n %s - %p\n' -o \
    ! -path '*/.git/*' -printf '%y %m %n %s %Ts %p\n' | grep -v '/\.git/' | sort -k 6
  find . -type f ! -path '*/.git/*' -print0 | sort -z | xargs -0 -r sha256sum
}
export -f has run snapshot
export script way

if [ "${way#ceph}" != "$way" ]; then
  with "$mount=ceph:/" sh -ec 'mkdir -p "$2/upper" && cp -a "$1" "$2/lower"' sh \
    "$work/lower" "$mount$at" || exit 1
fi
(run "$work/plain") >"$work/plain.output"
echo "exit status $?" >>"$work/plain.output"
(snapshot "$work/plain") >"$work/plain.tree" 2>&1

serve bash -c "run $mount" >"$work/mount.output" 2>&1
echo "exit status $?" >>"$work/mount.output"
# By another service: what is compared was stored.
serve bash -c "snapshot $mount" >"$work/mount.tree" 2>&1

failed=0
[ -s "$work/plain.tree" ] || failed=1
sed -i "s|$work/plain|DIRECTORY|g" "$work/plain.output"
sed -i "s|$mount|DIRECTORY|g" "$work/mount.output"
diff -u "$work/plain.output" "$work/mount.output" || failed=1
diff -u "$work/plain.tree" "$work/mount.tree" || failed=1
if ! tail -1 "$work/plain.output" | grep -qx 'exit status 0'; then
  echo "the script itself fails in a plain directory:"
  cat "$work/plain.output"
  failed=1
fi
if [ "$way" = ceph-union ]; then
  rm -r "$work/lower"
  with "$mount=ceph:$at/lower" cp -a "$mount" "$work/lower" || failed=1
fi
if ! diff -r --no-dereference "$work/lower.before" "$work/lower"; then
  echo "the lower directory was changed"
  failed=1
fi
[ $failed = 0 ] && echo "1 passed, 0 failed, 0 skipped"
exit $failed
