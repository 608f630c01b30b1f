#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks the models of the queues with spin: as they are, with parties that die, and each mutant of mutants.txt, which must
# be found. README.md says what is modelled and how far each search goes.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scratch=${TEST_TMPDIR:-$(mktemp -d)}
failures=0
passes=0
for tool in spin gcc; do
  if ! command -v $tool >/dev/null; then
    echo "SKIPPED: there is no $tool"
    exit 0
  fi
done

# build MODEL DEFINES FLAGS: leaves a program pan
build() {
  rm -rf "$scratch/pan"
  mkdir -p "$scratch/pan"
  cd "$scratch/pan" || exit 1
  # shellcheck disable=SC2086  # lists of options
  if ! spin -a $2 "$here/$1.pml" >spin.log 2>&1 || ! gcc -O1 -w -DSAFETY -DVECTORSZ=2048 $3 -o pan pan.c 2>gcc.log; then
    cat spin.log gcc.log
    exit 1
  fi
}

result() {  # result HOLDS TEXT
  if [ "$1" = yes ]; then
    passes=$((passes + 1))
  else
    failures=$((failures + 1))
    echo "FAILED: $2"
    cat run.log
  fi
}

# Every state.
correct() {  # correct MODEL DEFINES
  build "$1" "$2" -DCOLLAPSE
  ./pan -m100000 -w22 >run.log 2>&1
  holds=no
  grep -q 'errors: 0' run.log && ! grep -q 'Search not completed\|max search depth too small' run.log && holds=yes
  result $holds "$1 $2"
}

# As many states as some seconds allow: where all are too many.
no_error_soon() {  # no_error_soon MODEL DEFINES
  build "$1" "$2" -DBITSTATE
  timeout 8 ./pan -m100000 -w28 >run.log 2>&1
  holds=yes
  grep -q 'pan:1' run.log && holds=no
  result $holds "$1 $2"
}

mutants() {  # mutants MODEL DEFINES
  grep "^$1|" "$here/mutants.txt" >"$scratch/mutants"
  while IFS='|' read -r model number what; do
    build "$model" "$2 -DMUTANT=$number" -DCOLLAPSE
    timeout 60 ./pan -m100000 -w22 >run.log 2>&1
    holds=no
    grep -q 'errors: 1' run.log && holds=yes
    result $holds "mutant $number of $model survives: $what"
  done <"$scratch/mutants"
}

parties() { echo "-DENQUEUERS=$1 -DDEQUEUERS=$2 -DCRASHES=$3 -DLATE=$4"; }

correct bell ""
mutants bell ""
for model in doorbell_queue rcqs rcqb; do
  correct $model "$(parties 3 3 0 0)"
  correct $model "$(parties 2 2 1 1)"
  correct $model "$(parties 2 2 2 1)"
  no_error_soon $model "$(parties 3 3 1 1)"
  no_error_soon $model "$(parties 3 3 2 1)"
done
correct doorbell_queue "$(parties 3 2 0 1)"
mutants doorbell_queue "$(parties 3 2 0 1)"
mutants rcqs "$(parties 2 2 1 1)"
correct rcqb "$(parties 3 2 1 0)"
mutants rcqb "$(parties 3 2 1 0)"

echo "$passes passed, $failures failed, 0 skipped"
[ $failures -eq 0 ]
