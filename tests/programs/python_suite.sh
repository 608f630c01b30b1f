# SPDX-License-Identifier: Apache-2.0
# Python's own tests of files, mappings and processes, in the mount. MODULES=test_subprocess and other modules by hand: a minute
# or more each.
set -e
export TMPDIR=$PWD/tmp PYTHONDONTWRITEBYTECODE=1; mkdir tmp work; cd work
for module in ${MODULES-test_os test_io test_shutil test_tempfile test_posix test_fileio test_glob test_file test_mmap}; do
  case $module in
    test_io) left='-i test_constructor -i *test_buffering* -i *threads_write* -i *test_daemon* -i *interrupt*' ;;
    *) left= ;;
  esac
  # shellcheck disable=SC2086  # a list of words
python3 -m test --quiet --tempdir "$TMPDIR" $left $module 2>&1 | grep -E '^(FAIL|ERROR|test .* (failed|crashed))' | sort | uniq || true
echo $module
done
cd ..; rm -rf tmp work
