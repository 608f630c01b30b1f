# SPDX-License-Identifier: Apache-2.0
# Python's own tests of files and processes, in the mount. Left out: what maps files shared, and splice.
set -e
export TMPDIR=$PWD/tmp PYTHONDONTWRITEBYTECODE=1; mkdir tmp work; cd work
for module in test_os test_io test_shutil test_tempfile test_subprocess test_posix test_fileio test_glob test_pathlib test_zipfile test_tarfile test_mailbox test_dbm_dumb test_file test_largefile test_fcntl; do
  case $module in
    test_io) left='-i test_constructor -i *test_buffering* -i *threads_write* -i *test_daemon* -i *interrupt*' ;;
    *) left= ;;
  esac
  # shellcheck disable=SC2086  # a list of words
  python3 -m test --quiet --tempdir "$TMPDIR" -i '*splice*' -i '*mmap*' $left $module 2>&1 | grep -E '^(FAIL|ERROR|test .* (failed|crashed))' | sort | uniq || true; echo $module
done
cd ..; rm -rf tmp work
