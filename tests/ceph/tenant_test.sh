#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# libservices ceph-tenant: a tenant's key serves its directory, and reaches neither the files nor
# the objects of others; adding and removing can be done again, and what is wrong is said.
# usage: tenant_test.sh TOOLS_CLUSTER LIBSERVICES PRELOAD_LIBRARY PLUGIN
set -u
source "$(dirname "$0")/../support/checks.sh"
source "$(dirname "$0")/start_cluster.sh"
take_programs tenant "$@"
service=
clean_up() {
  [ -z "$service" ] || kill -9 "$service" 2>/dev/null
  "$cluster" down "$work/cluster" 2>/dev/null
  remove_pools
  rm -rf "$work"
}
trap clean_up EXIT

start_cluster
umask 022

# All that the command says is kept, to look for keys in it.
tenant() {
  timeout 60 "$program" ceph-tenant "$@" 2>&1 | tee -a "$work/all_said"
  return "${PIPESTATUS[0]}"
}
refused() {  # refused TEXT ARGUMENT...: with status 125, and that is said, with a remedy
  local text=$1 got
  shift
  tenant "$@" >"$work/said"
  got=$?
  cat "$work/said"
  [ $got = 125 ] && grep -qE '^libservices: .*: .* \(.*\)$' "$work/said" &&
    grep -qF -- "$text" "$work/said"
}
with() {  # with SPEC SCRIPT
  timeout 100 "$program" with --mount "$work/x=$1" -- sh -e -c "cd $work/x; $2"
}
cannot() {  # cannot TEXT SPEC: the service does not start, and says that
  ! with "$2" : >"$work/said" 2>&1 && cat "$work/said" && grep -qF -- "$1" "$work/said"
}
spec_of() { echo "ceph:/$1(root=/$1, client=$1, key=$work/$1.keyring)"; }
tenant_key() {
  timeout 60 ceph --keyring "$work/cluster/keyring" auth get-key "client.$1" 2>/dev/null
}
key_of() { awk '$1 == "key" { print $3 }' "$1"; }
# listed NAME FIELD: of `list --json`
listed() {
  tenant list --json | python3 -c 'import json, sys
for one in json.load(sys.stdin):
    if one["name"] == sys.argv[1]: print(one[sys.argv[2]])' "$1" "$2"
}
# objects CLIENT KEYRING NAMESPACE ACTION [OBJECT]: with librados, past all services. Ends with
# status 13 where the cluster refuses it.
objects() {
  timeout 60 /usr/bin/python3 - "$@" <<'END'
import os, sys, rados
client, keyring, space, action, *rest = sys.argv[1:]
try:
    with rados.Rados(conffile=os.environ["CEPH_CONF"], rados_id=client,
                     conf={"keyring": keyring}) as cluster:
        if action == "ask":
            status, answer, said = cluster.mon_command(rest[0], b"")
            if status in (-1, -13): sys.exit(13)
            sys.exit(f"{status} {said}" if status else None)
        pool = cluster.open_ioctx("cephfs.data")
        pool.set_namespace(rados.LIBRADOS_ALL_NSPACES if space == "ALL" else space)
        if action == "list":
            print(*(one.key for one in pool.list_objects()))
        elif action == "read":
            print(pool.read(rest[0]).decode(errors="replace"))
        elif action == "write":
            pool.write_full(rest[0], b"x")
except (rados.PermissionError, rados.PermissionDeniedError) as error:
    print(error)
    sys.exit(13)
END
}
# attribute CLIENT KEYRING ROOT PATH NAME [VALUE]: set, or shown, by libcephfs, past all services.
attribute() {
  timeout 60 /usr/bin/python3 - "$@" <<'END'
import ctypes, os, sys
client, keyring, root, path, name, *value = (word.encode() for word in sys.argv[1:])
cephfs = ctypes.CDLL("libcephfs.so.2")
mount = ctypes.c_void_p()
assert cephfs.ceph_create(ctypes.byref(mount), client) == 0
assert cephfs.ceph_conf_read_file(mount, os.environ["CEPH_CONF"].encode()) == 0
assert cephfs.ceph_conf_set(mount, b"keyring", keyring) == 0
assert cephfs.ceph_mount(mount, root) == 0
if value:
    status = cephfs.ceph_setxattr(mount, path, name, value[0], len(value[0]), 0)
else:
    text = ctypes.create_string_buffer(512)
    status = cephfs.ceph_getxattr(mount, path, name, text, 512)
    if status >= 0: print(text.raw[:status].decode())
cephfs.ceph_unmount(mount)
sys.exit(0 if status >= 0 else 13 if status in (-1, -13) else 61 if status == -61 else 1)
END
}
ends() {  # ends STATUS COMMAND...
  local wanted=$1
  shift
  "$@"
  [ $? = "$wanted" ]
}
shut_out() {  # shut_out ARGUMENT...: objects is refused
  objects "$@"
  [ $? = 13 ]
}
admin=$work/cluster/keyring

check 'no tenants at first' equal "$(tenant list --json)" '[]'
check 'one tenant' tenant add one --size 64M --keyring "$work/one.keyring"
check 'another one, whose name begins so' tenant add one2 --keyring "$work/one2.keyring" \
  --owner 1000:1001 --mode 0750
check 'a third one, deeper' tenant add deep --directory /srv//tenants/deep/ \
  --keyring "$work/deep.keyring"
same 'keys are their owner'\''s alone' '600 600' "$(stat -c %a "$work"/one*.keyring | xargs)"
same 'nothing else is left beside them' 3 "$(ls -A "$work" | grep -c keyring)"
same 'each is one client'\''s' '[client.one]' "$(head -1 "$work/one.keyring")"
same 'directories' '/one /srv/tenants/deep' "$(listed one directory) $(listed deep directory)"
same 'quotas' '67108864 0' "$(listed one quota_bytes) $(listed one2 quota_bytes)"
same 'nothing is wrong with them' '' "$(listed one problem)$(listed one2 problem)"
one=$(listed one namespace)
two=$(listed one2 namespace)
check 'each has a namespace' [ -n "$one" -a -n "$two" -a "$one" != "$two" ]
same 'owner and mode' '0:0 755 1000:1001 750' "$(with ceph:/ 'stat -c "%u:%g %a" one one2' | xargs)"
check 'the table' grep -qE '^one +/one +one\.[0-9a-f]+ +67108864 +0$' <(tenant list)

check 'a service with the one key' with "$(spec_of one)" '
  echo secret of one >file
  mkdir directory
  head -c 100000 /dev/zero >directory/large
  sync file directory/large
  test "$(cat file)" = "secret of one"'
check 'and with the other' with "$(spec_of one2)" 'echo secret of two >file; sync file; ls'
check 'all of them, for the one who may' with ceph:/ '
  test "$(cat one/file)" = "secret of one"
  test "$(cat one2/file)" = "secret of two"
  echo nobody in particular >outside
  sync outside'
more_than_allowed() {
  with "$(spec_of one)" 'head -c 80000000 /dev/zero >big' 2>&1 | grep -i quota
}
check 'the quota counts' more_than_allowed
check 'and is no more than that' with "$(spec_of one)" 'rm -f big; cat file'

for other in / /one2 /srv /srv/tenants/deep; do
  check "the key does not mount $other" cannot 'not permitted' \
    "ceph:$other(root=$other, client=one, key=$work/one.keyring)"
done
check 'nor by a way around' cannot 'No such file' \
  "ceph:/one/one2(root=/one, client=one, key=$work/one.keyring)"
sed 's/client.one/client.one2/' "$work/one.keyring" >"$work/wrong.keyring"
check 'another'\''s name is no help' cannot 'client.one2: ' \
  "ceph:/one2(root=/one2, client=one2, key=$work/wrong.keyring)"

# The cluster removes objects when it comes to it.
purged() {
  local _
  for _ in {1..300}; do
    [ "$(objects admin "$admin" "$one" list | wc -w)" -ne 2 ] || return 0
    sleep 0.1
  done
  return 1
}
check 'what was removed has no objects any more' purged
mine=$(objects admin "$admin" "$one" list)
others=$(objects admin "$admin" "$two" list | awk '{ print $1 }')
outside=$(objects admin "$admin" '' list | awk '{ print $1 }')
check 'all have objects' [ -n "$mine" -a -n "$others" -a -n "$outside" ]
same 'the other'\''s holds what it wrote' 'secret of two' \
  "$(objects admin "$admin" "$two" read "$others")"
key=$work/one.keyring
check 'the key lists its objects' equal "$(objects one "$key" "$one" list)" "$mine"
check 'and reads them' objects one "$key" "$one" read "${mine%% *}"
# Python's librados ends a list where it is refused.
same 'not the other'\''s' '' "$(objects one "$key" "$two" list)"
same 'nor those without namespace' '' "$(objects one "$key" '' list)"
same 'nor those of all' '' "$(objects one "$key" ALL list)"
check 'nor reads the other'\''s' shut_out one "$key" "$two" read "$others"
check 'nor those without namespace' shut_out one "$key" '' read "$outside"
check 'nor by the namespace of its own' shut_out one "$key" '' read "${mine%% *}"
check 'nor writes the other'\''s' shut_out one "$key" "$two" write "$others"
check 'nor without namespace' shut_out one "$key" '' write new
check 'it is not told keys' shut_out one "$key" '' ask '{"prefix": "auth ls"}'
check 'nor gives itself rights' shut_out one "$key" '' ask \
  '{"prefix": "auth caps", "entity": "client.one", "caps": ["osd", "allow *"]}'
check 'nor leaves its namespace' ends 13 attribute one "$key" /one / \
  ceph.dir.layout.pool_namespace "$two"
check 'nor its quota' ends 13 attribute one "$key" /one / ceph.quota.max_bytes 0

# Again.
before=$(md5sum "$work/one.keyring")
check 'again' tenant add one --keyring "$work/one.keyring"
same 'the key is as it was' "$before" "$(md5sum "$work/one.keyring")"
same 'so are quota and namespace' "67108864 $one" \
  "$(listed one quota_bytes) $(listed one namespace)"
rm "$work/one.keyring"
check 'a keyring that is gone' tenant add one --keyring "$work/one.keyring"
same 'is as it was' "$before" "$(md5sum "$work/one.keyring")"
check 'without one' tenant add one
check 'no quota any more, and another mode' tenant add one --size 0 --mode 700 --owner 7
same 'these' '0 7:0 700' "$(listed one quota_bytes) $(with ceph:/ 'stat -c "%u:%g %a" one')"
with ceph:/ 'mkdir begun && chown 5 begun' || bad 'a directory'
check 'one that was begun is completed' tenant add begun
same 'as it is' 5:0 "$(with ceph:/ 'stat -c %u:%g begun')"
check 'a directory that was removed' with ceph:/ 'rmdir begun'
check 'is told' grep -q 'No such file' <(listed begun problem)
check 'and is made anew' tenant add begun
same 'with a namespace of its own' '' "$(listed begun problem)"

# What is wrong.
echo other >"$work/occupied"
check 'a keyring that is there' refused 'it is there already' add four --keyring "$work/occupied"
same 'is left alone' other "$(cat "$work/occupied")"
ln -s nowhere "$work/link"
check 'so is a link' refused 'it is there already' add four --keyring "$work/link"
check 'another tenant'\''s keyring' refused 'it is there already' add one --keyring \
  "$work/one2.keyring"
check 'a keyring nowhere' refused 'No such file' add four --keyring "$work/none/keyring"
same 'nothing has been made' '' "$(with ceph:/ 'ls -d four' 2>/dev/null)$(listed four name)"
with ceph:/ 'mkdir full && echo x >full/file' || bad 'a directory with a file'
check 'a directory with files' refused 'has files' add four --directory /full
check 'which has no namespace then' ends 61 attribute admin "$admin" / /full \
  ceph.dir.layout.pool_namespace
with ceph:/ 'ln -s one2 symbolic; mkdir shared' || bad 'a link'
check 'a namespace' attribute admin "$admin" / /shared ceph.dir.layout.pool_namespace shared
check 'a link' refused 'links are not followed' add four --directory /symbolic/four
check 'a namespace that may be another'\''s' refused "the namespace 'shared'" add four \
  --directory /shared
for inside in /one /one/inner /srv; do
  check "$inside, which is not apart" refused 'is not apart from' add four --directory $inside
done
check 'another directory for a tenant' refused 'it has /one of' add one --directory /other
check 'a client with other rights' refused 'with other rights' add admin
check 'which is not removed either' refused 'other rights' remove admin
for name in '' a/b 'a b' .. 'a*' "$(printf '%065d' 0)"; do
  check "the name '$name'" refused 'it is no name' add "$name"
done
for path in / one /a/../b '/a b' /.snap/x; do
  check "the directory '$path'" refused "directory " add four --directory "$path"
done
check 'a mode' refused "--mode '9'" add four --mode 9
check 'an owner' refused "--owner 'me'" add four --owner me
check 'an owner'\''s group' refused "--owner '1:'" add four --owner 1:
check 'a size' refused '--size' add four --size many
check 'no name' refused 'name is required' add
check 'no action' refused 'subcommand' ''
check 'a filesystem that there is not' refused 'has cephfs only' add four --filesystem none
check 'a tenant that there is not' refused 'no such tenant' remove four
check 'nor its data' refused 'no such tenant' remove four --data
check 'another'\''s data' refused "is tenant one's" remove four --data --directory /one
check 'data that is no tenant'\''s' refused 'not made for this tenant' remove four --data \
  --directory /full
check 'they are all there' with ceph:/ 'test -e full/file && test -e one/file'
for verb in "add four" "remove one" list; do
  # shellcheck disable=SC2086
  check "$verb, by one who may not" refused "'auth ls': " $verb --client one2 --key \
    "$work/one2.keyring" --filesystem cephfs
done
check 'no configuration' refused '--conf FILE' list --conf "$work/none"
check 'no key' refused '--key FILE' list --key "$work/none"
check 'a client without a key' refused 'client.nobody: connecting' list --client nobody
sed 's/^mon_host = .*/mon_host = [v2:127.0.0.1:1\/0]/' "$CEPH_CONF" >"$work/away.conf"
check 'no cluster' refused 'is the cluster up?' list --conf "$work/away.conf"
LIBSERVICES_CEPH=$work/none check 'no plug-in' refused 'none' list

# Removed, while a service has its key.
LIBSERVICES_PRELOAD= "$program" serve --pool "$pool" --mount "$work/one=$(spec_of one)" --ready 3 \
  3>"$work/ready" 2>"$work/served" &
service=$!
until [ -s "$work/ready" ]; do
  kill -0 $service 2>/dev/null || break
  sleep 0.01
done
reads() { timeout 60 "$program" run --pool "$pool" -- cat "$work/one/file"; }
check 'a service runs' reads
secret=$(key_of "$work/one.keyring")
check 'there is a key to look for' [ ${#secret} -ge 40 ]
timeout 60 "$program" status --pool "$pool" --json >"$work/all_said.status"
ps -ww -e -o args= >"$work/all_said.ps"
check 'it is removed' tenant remove one
check 'where its files are is said' grep -qF 'its files are in /one' "$work/all_said"
no_longer() { ! reads; }
check 'who had the key is out' no_longer
kill $service
wait $service
service=
check 'the key serves nothing' cannot 'client.one: ' "$(spec_of one)"
same 'it is not listed' '' "$(listed one name)"
check 'its files are there' with ceph:/ 'test "$(cat one/file)" = "secret of one"'
check 'twice is told' refused 'no such tenant' remove one
check 'it comes back with its files' tenant add one --keyring "$work/again.keyring"
same 'and its namespace' "$one" "$(listed one namespace)"
check 'but with another key' [ "$(key_of "$work/again.keyring")" != "$secret" ]
mv "$work/again.keyring" "$work/one.keyring"
check 'which serves them' with "$(spec_of one)" 'test "$(cat file)" = "secret of one"'
check 'removed with its files' tenant remove one --data
check 'they are gone' with ceph:/ 'test ! -e one && test -e one2/file'
# The key went, and then the machine.
timeout 60 ceph auth rm client.one2 2>/dev/null
check 'files whose key is gone already' tenant remove one2 --data
check 'are gone too' with ceph:/ 'test ! -e one2'
check 'the next of that name' tenant add one --keyring "$work/next.keyring"
check 'has another namespace' [ "$(listed one namespace)" != "$one" ]
# Without an MDS the key goes all the same, and what is left to do is said.
"$cluster" pause "$work/cluster" mds
check 'no MDS' refused 'its key is taken away, but' remove one --data
check 'the key is gone' equal "$(tenant_key one)" ""
"$cluster" resume "$work/cluster" mds
check 'the rest, later' tenant remove one --data
check 'all of it' with ceph:/ 'test ! -e one'

for keyring in "$work"/*.keyring; do
  secret=$(key_of "$keyring")
  check "no key is said: $(basename "$keyring")" \
    [ -n "$secret" -a -z "$(grep -lF -- "$secret" "$work"/all_said* "$work/served")" ]
done
report
