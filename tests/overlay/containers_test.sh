#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# podman and buildah with a mount program: images built, run and committed have the trees that they have with the kernel's overlayfs.
# usage: containers_test.sh PROGRAM
#   $LIBSERVICES_OVERLAY  names another program; $KNOWN_FAILURES: names of checks that it is known to fail. As the test is wrong unless
#   it sees those, fuse-overlayfs 1.10 proves it:
#     LIBSERVICES_OVERLAY=/usr/bin/fuse-overlayfs KNOWN_FAILURES='built uidmap' tests/overlay/containers_test.sh x
set -u
source "$(dirname "$0")/../support/checks.sh"
if [ "${1-}" != inside ]; then
  program=$(realpath "${LIBSERVICES_OVERLAY-$1}")
  [ "$(id -u)" = 0 ] || skip 'containers in namespaces of their own take root'
  [ -w /dev/fuse ] || skip 'there is no /dev/fuse'
  for tool in podman buildah runc skopeo setpriv newuidmap; do
    command -v $tool >/dev/null || skip "$tool is not installed (tools/packages-install)"
  done
  [ -x /bin/busybox ] || skip 'busybox is not installed (tools/packages-install)'
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || skip 'this kernel has no overlayfs to compare with'
  # Its mounts and processes end with the test, whatever happens.
  exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$(realpath "$0")" inside "$program"
fi
work=$(mktemp -d /tmp/libservices-containers-test.XXXXXX)
chmod 755 "$work"
# Where every user can run it.
mkdir "$work/bin"
program=$work/bin/$(basename "$2")
install -m 755 "$2" "$program"
known_failures=" ${KNOWN_FAILURES-} "
cgroups_before=$(echo /sys/fs/cgroup/*/libpod_parent)
clean_up() {
  local group
  unmount_all
  rm -rf "$work"
  [ "$cgroups_before" = '/sys/fs/cgroup/*/libpod_parent' ] || return
  for group in /sys/fs/cgroup/libpod_parent /sys/fs/cgroup/*/libpod_parent; do
    [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} +
  done
}
trap clean_up EXIT
cd "$work" || exit 1
# What the tools keep elsewhere is not the machine's.
for place in /run /dev/shm /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$place" || exit 1; done
mkdir -p /var/lib/containers /etc/containers
mount -t tmpfs tmpfs /var/lib/containers && mount -t tmpfs tmpfs /etc/containers || exit 1
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json

# check NAME WHAT COMMAND...: it succeeds, unless failures of that NAME are known, one of which then must come.
declare -A known_seen=()
check() {
  local name=$1 what=$2
  shift 2
  if "$@" >"$work/out" 2>"$work/err" </dev/null; then
    ok
  elif [[ $known_failures == *" $name "* ]]; then
    echo "known failure, $name: $what"
    known_seen[$name]=1
    ok
  else
    bad "$name: $what"
  fi
}

store() {  # store DIRECTORY DRIVER LINE: the configuration of a store there, with a line for its driver
  mkdir -p "$1"
  cat >"$1/storage.conf" <<END
[storage]
driver = "$2"
graphroot = "$1/root"
runroot = "$1/run"
[storage.options.overlay]
$3
END
  cat >"$1/containers.conf" <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
lock_type = "file"
[containers]
netns = "none"
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:20000", "nproc=1024:1024"]
END
  mkdir -p "$1/tmpfiles"
}
in_store() {  # in_store DIRECTORY COMMAND...
  local at=$1
  shift
  env CONTAINERS_STORAGE_CONF="$at/storage.conf" CONTAINERS_CONF="$at/containers.conf" TMPDIR="$at/tmpfiles" timeout 120 "$@"
}
tree() {  # tree DIRECTORY: one line for each object; what the tools put there for a container is not the image's
  cd "$1" || return
  find . -mindepth 1 ! -path './etc/hosts' ! -path './etc/hostname' ! -path './etc/resolv.conf' ! -path './etc/mtab' ! -path './dev*' \
    ! -path './proc' ! -path './sys' ! -path './run*' ! -path ./etc \( -type d -printf '%p %y %m %U:%G\n' -o -type f -printf '%p %y %m %U:%G %s %n\n' -o -printf '%p %y %m %U:%G %l\n' \) | sort
  find data usr -type f -print0 | sort -z | xargs -0 sha256sum
  getfattr -R -h -d -m 'user\.' data 2>/dev/null
}
exported() {  # exported STORE IMAGE INTO: the tree of the image as a container has it
  local container
  container=$(in_store "$1" podman create "$2" true) || return
  mkdir -p "$3" && in_store "$1" podman export "$container" | tar -x --numeric-owner --xattrs --xattrs-include='*' -p -C "$3" || return
  in_store "$1" podman rm "$container" >/dev/null
}

# --- the base image
mkdir -p base/{bin,etc,data/sub/deep,data/kept,usr/lib,tmp,proc,sys,dev,run}
cp /bin/busybox base/bin/
for applet in sh ls cat rm mkdir touch echo mv cp chmod chown ln find stat id sleep true dd head tail sed grep test; do ln -s busybox base/bin/$applet; done
chmod 1777 base/tmp
echo root:x:0:0:root:/:/bin/sh >base/etc/passwd
echo a >base/data/a
echo b >base/data/b
echo c >base/data/sub/c
echo d >base/data/sub/deep/d
echo kept >base/data/kept/file
echo linked >base/data/linked
ln base/data/linked base/data/linked2
ln -s b base/data/symlink
head -c 3000000 /dev/urandom >base/usr/lib/large
for i in $(seq 40); do echo "$i" >base/usr/lib/f$i; done
chown 5:6 base/data/kept/file
chmod 4711 base/usr/lib/f1
chmod 700 base/data/kept
tar -C base --numeric-owner -cf base.tar .
mkdir -p context
cat >context/Containerfile <<'END'
FROM localhost/base:1
RUN rm /data/a && echo l2 >/data/b
RUN rm -r /data/sub && mkdir /data/sub && touch /data/sub/z
RUN mv /usr/lib/f2 /usr/lib/renamed && chmod 640 /usr/lib/f3 && chown 7:8 /usr/lib/f4 && cp /usr/lib/f5 /usr/lib/f5.copy && ln /usr/lib/f5.copy /usr/lib/f5.link && ln -s f6 /usr/lib/f6.link
RUN echo more >>/usr/lib/large && mkdir -p /usr/share/x/y && echo deep >/usr/share/x/y/z && rm /data/symlink && mkdir /data/symlink && echo in >/data/symlink/in
RUN mv /data/kept /data/moved && rm /usr/lib/f7 && echo again >/usr/lib/f7 && rm -r /usr/share/x && echo file >/usr/share/x
END

store "$work/native" overlay ''
store "$work/vfs" vfs ''
store "$work/ours" overlay "mount_program = \"$program\""
if ! in_store "$work/native" podman info >out 2>err; then
  sed 's/^/    /' err
  skip 'podman cannot use the overlayfs of this kernel here'
fi

# --- an image built, in both
for in in native vfs ours; do
  check import "$in: import" in_store "$work/$in" podman import base.tar localhost/base:1
  check build "$in: buildah bud" in_store "$work/$in" buildah bud --isolation chroot --ulimit nofile=1024:1024 --layers -t localhost/built:1 context
  exported "$work/$in" localhost/built:1 "$work/$in.tree" || bad "$in: export"
  (tree "$work/$in.tree") >"$in.list"
done
[ -s native.list ] && [ "$(wc -l <native.list)" -gt 100 ] || bad 'the trees have nothing in them'
check built 'the tree of the image, seen through the program' diff native.list ours.list
check built 'the directory that was made again' test "$(ls ours.tree/data/sub | tr '\n' ' ')" = 'z '

# --- the layers themselves, read by the kernel's overlayfs
check push 'the layers leave the store' in_store "$work/ours" skopeo copy --quiet containers-storage:localhost/built:1 "dir:$work/pushed"
check push 'and come into another' in_store "$work/native" skopeo copy --quiet "dir:$work/pushed" containers-storage:localhost/pushed:1
exported "$work/native" localhost/pushed:1 "$work/pushed.tree"
(tree "$work/pushed.tree") >pushed.list
check built "the tree of the layers, with the kernel's overlayfs" diff native.list pushed.list

# --- a container that runs, and is committed
changes='rm -r /data/sub /usr/lib/f8 && mkdir -p /data/sub/new && touch /data/sub/new/y && echo run >>/data/b && mv /data/moved/file /data/moved/other'
for in in native vfs ours; do
  check run "$in: run" in_store "$work/$in" podman run --name "$in" localhost/built:1 sh -c "$changes"
  in_store "$work/$in" podman diff "$in" 2>err | grep -v ' /\(etc\|run\|dev\|proc\|sys\)' | sort >"$in.diff"
  check commit "$in: commit" in_store "$work/$in" podman commit -q "$in" localhost/committed:1
  check run "$in: rm" in_store "$work/$in" podman rm "$in"
  exported "$work/$in" localhost/committed:1 "$work/$in.tree2" || bad "$in: export"
  (tree "$work/$in.tree2") >"$in.list2"
done
# The kernel's overlayfs is asked for its upper, all others are compared with their parents: D /data/sub, and not D /data/sub/z.
check built 'podman diff' diff vfs.diff ours.diff
check built 'the tree that was committed' diff native.list2 ours.list2
check run 'a container that is removed at its end' in_store "$work/ours" podman run --rm localhost/built:1 sh -c 'echo x >/x && cat /x'
check run 'a container that is read-only' in_store "$work/ours" podman run --rm --read-only localhost/built:1 sh -c '! touch /x'
check run 'a file comes out of a container' in_store "$work/ours" sh -c 'podman create --name copied localhost/built:1 true && podman cp copied:/data/b copied.b && podman rm copied && grep -q l2 copied.b'
check info 'podman info names the program' sh -c "CONTAINERS_STORAGE_CONF=$work/ours/storage.conf CONTAINERS_CONF=$work/ours/containers.conf podman info | grep -q '$(basename "$program"): version'"

# --- containers with other ids
for in in native ours; do
  in_store "$work/$in" podman run --name "ids-$in" --uidmap 0:300000:65536 --gidmap 0:300000:65536 localhost/built:1 \
    sh -c 'id -u && stat -c "%n %u:%g" /data/b /usr/lib/f4 /data/moved/file && touch /made && chown 9:9 /made && stat -c %u:%g /made' >"$in.ids" 2>err </dev/null
  echo "exit status $?" >>"$in.ids"
  check uidmap "$in: commit" in_store "$work/$in" podman commit -q "ids-$in" localhost/ids:1
  exported "$work/$in" localhost/ids:1 "$work/$in.tree3" || bad "$in: export"
  (tree "$work/$in.tree3") >"$in.list3"
done
check uidmap 'owners in what is committed' diff native.list3 ours.list3
check uidmap 'with --uidmap' diff native.ids ours.ids
check uidmap 'it ran' grep -qx 'exit status 0' ours.ids

# --- without root
rootless() {
  unshare --mount --propagation private bash -c '
    work=$1
    shift
    for file in passwd group subuid subgid; do
      cp /etc/$file "$work/rootless/$file" 2>/dev/null || : >"$work/rootless/$file"
    done
    echo "user1500:x:1500:1500::$work/rootless/home:/bin/sh" >>"$work/rootless/passwd"
    echo "user1500:x:1500:" >>"$work/rootless/group"
    echo user1500:400000:65536 >"$work/rootless/subuid"
    cp "$work/rootless/subuid" "$work/rootless/subgid"
    for file in passwd group subuid subgid; do
      [ -e "/etc/$file" ] || : >"/etc/$file"
      mount --bind "$work/rootless/$file" "/etc/$file" || exit 1
    done
    rm -f "$work/rootless/fuse"
    mknod -m 666 "$work/rootless/fuse" c 10 229 && mount --bind "$work/rootless/fuse" /dev/fuse || exit 1
    cd "$work/rootless/home" && exec env -i PATH="$PATH" HOME="$work/rootless/home" USER=user1500 XDG_RUNTIME_DIR="$work/rootless/runtime" \
      CONTAINERS_STORAGE_CONF="$work/rootless/store/storage.conf" CONTAINERS_CONF="$work/rootless/store/containers.conf" TMPDIR="$work/rootless/store/tmpfiles" \
      setpriv --reuid 1500 --regid 1500 --clear-groups --bounding-set +all timeout 300 "$@"' bash "$work" "$@"
}
mkdir -p rootless/home rootless/runtime
store "$work/rootless/store" overlay "mount_program = \"$program\""
cp base.tar rootless/home/
cp -r context rootless/home/
chown -R 1500:1500 rootless
cat >rootless/home/script <<'END'
set -e
trap 'podman unshare sh -c "rm -rf $HOME/../store/root"; pkill -P 1 -u 1500 catatonit || :' EXIT
podman import -q base.tar localhost/base:1
buildah bud -q --isolation chroot --ulimit nofile=1024:1024 --layers -t localhost/built:1 context
podman run --rm localhost/built:1 sh -c 'id -u; touch /made && chown 9:9 /made && stat -c %u:%g /made; ls /data/sub'
container=$(podman create localhost/built:1 true)
podman export "$container" >tree.tar
END
if unshare --mount true && rootless podman info >out 2>err </dev/null; then
  check rootless 'import, build, run and export' rootless bash script
  cp out rootless.out
  check built 'without root, ids and files in the container' sh -c 'test "$(tail -3 rootless.out | tr "\n" " ")" = "0 9:9 z "'
  mkdir rootless.tree
  tar -x --numeric-owner -p -C rootless.tree -f rootless/home/tree.tar
  (tree rootless.tree) >rootless.list
  check built 'without root, the tree of the image' diff native.list rootless.list
else
  skipped=$((skipped + 3))
  sed 's/^/    /' err
  echo 'SKIPPED: podman does not run without root here'
fi

# --- nothing is left
unmount_all
for i in $(seq 500); do
  left=$(pgrep -f -- "^[^ ]*$(basename "$program") .*$work/")
  [ -z "$left" ] && break
  sleep 0.02
done
check end 'no service is left' test -z "$left"
for name in $known_failures; do
  [ -n "${known_seen[$name]-}" ] || { : >out >err; bad "$name: it was known to fail, and does not"; }
done
report
