# SPDX-License-Identifier: Apache-2.0
# What the scripts of tests/ceph begin with. Sourced behind tests/support/checks.sh.

# take_programs NAME TOOLS_CLUSTER LIBSERVICES PRELOAD_LIBRARY PLUGIN: $cluster, $program, $work, $pool
# (and those whose names begin with it), and what the command looks for in the environment.
take_programs() {
  cluster=$(realpath "$2")
  program=$(realpath "$3")
  LIBSERVICES_PRELOAD=$(realpath "$4")
  LIBSERVICES_CEPH=$(realpath "$5")
  export LIBSERVICES_PRELOAD LIBSERVICES_CEPH
  work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/ceph-$1.XXXXXX")
  export XDG_RUNTIME_DIR=$work
  pool=ceph-$1-$$  # in /run: the path of a socket is short
}

remove_pools() { rm -rf "/run/libservices/$pool"*; }  # of services that were killed

# start_cluster [OPTION]...: of tools/cluster up. In $work/cluster, for as long as the script runs, and
# named in the environment. Without packages the test is skipped, or ends where they are required.
start_cluster() {
  local status
  "$cluster" up "$@" --while $$ "$work/cluster" 2>"$work/err"
  status=$?
  if [ $status = 77 ]; then
    [ -n "${LIBSERVICES_REQUIRE_CEPH-}" ] || skip "$(cat "$work/err")"
    bad 'packages are missing, where they are required'
  fi
  check 'a cluster' [ $status = 0 ]
  [ $failed = 0 ] || { report; exit 1; }
  eval "$("$cluster" env "$work/cluster")"
}
